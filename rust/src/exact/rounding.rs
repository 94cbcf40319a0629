//! The rounding estimate of the exact gradient (docs/math.md, section 5).
//!
//! Rounding errors of different rows are taken as independent (squares add up), each step's own error by its size: the
//! statistical law that holds in practice, times [`ROUNDING_SAFETY`]. Equal rows err equally, so theirs add up plainly.

use std::cell::RefCell;

use ndarray::ArrayView2;

use super::engine::{Engine, Forward, Values};
use super::residual::Row;
use crate::buffer;
use crate::constants::{KEY_BLOCK, KEY_SIDE_QUERIES, PRODUCT_ROWS, ROUNDING_SAFETY};
use crate::error::Error;
use crate::float::Float;
use crate::norms::norm;
use crate::tile::Rows;

/// Roundings of one weight besides its logit: shift, exponential, normaliser.
const WEIGHT_ROUNDINGS: f64 = 4.0;

/// What the products before the passes lost, in units of u.
pub struct Inherited {
    /// Of each row's logits, in natural units: scale · ‖a1_j‖ ‖W‖_F max ‖key‖ and the like.
    pub logits: Vec<f64>,
    /// Of a value: max ‖a3‖ ‖Y‖_F.
    pub values: f64,
}

/// Row by row, what rounding does to o and to p.
#[derive(Default)]
pub struct RowErrors {
    u: f64,
    /// Of o_j and c_j.
    c: Vec<f64>,
    /// Of f_j.
    f: Vec<f64>,
    /// Of p_j, entries independent of one another.
    p: Vec<f64>,
    /// Of p_j, the same multiple of f_j in every entry.
    drift: Vec<f64>,
    /// √Σ_i f_ji².
    spread: Vec<f64>,
    /// ‖c_j‖.
    c_norms: Vec<f64>,
    /// What the sums over the keys of a block lose, in roundings of the whole sum.
    block: f64,
    /// Rows with equal queries, and rows with equal f (taken by the norms of query and output), by the number of their
    /// class.
    classes: [Vec<usize>; 2],
    /// How much of the largest value is left in o_j: near one where the values have a common part.
    left: Vec<f64>,
    /// √ of the most keys that are equal.
    repeats: f64,
    /// Rows to each different f.
    rows_alike: f64,
    /// Width of the values.
    width: usize,
    /// Room for a sum over the rows of each class, of which there are no more than rows.
    sums: RefCell<Vec<f64>>,
}

impl RowErrors {
    /// After pass 1: all but the part of p that only pass 2 can measure.
    pub fn new<T: Float>(
        engine: &Engine<T>,
        values: &Values<T>,
        forward: &Forward<T>,
        rows: &[Row],
        inherited: &Inherited,
    ) -> Result<Self, Error> {
        let n = engine.count;
        let u = T::UNIT_ROUNDOFF;
        let keys = engine.keys.count as f64;
        let block = keys.min(KEY_BLOCK as f64);
        let blocks = (keys / KEY_BLOCK as f64).max(1.0);
        // Equal keys give equal terms, whose roundings in a sum all go the same way.
        let repeats = most_repeats(&engine.key_norms)?;
        let block = ((block / blocks).sqrt() * repeats.min(block).sqrt()).max(1.0);
        let repeats = repeats.sqrt();
        let value_repeats = most_repeats(&values.norms)?.sqrt();
        let classes = [equal_numbers(engine.bound.iter().copied())?, equal_numbers(rows.iter().map(|row| row.output))?];
        let distinct = classes[1].iter().max().map_or(1, |last| last + 1);
        let mut errors = RowErrors {
            u,
            c: buffer::with_capacity(n)?,
            f: buffer::with_capacity(n)?,
            p: buffer::with_capacity(n)?,
            drift: buffer::with_capacity(n)?,
            spread: buffer::with_capacity(n)?,
            c_norms: buffer::with_capacity(n)?,
            block,
            rows_alike: classes[1].len() as f64 / distinct as f64,
            classes,
            left: buffer::with_capacity(n)?,
            repeats,
            width: values.rows.width,
            sums: RefCell::new(buffer::with_capacity(n)?),
        };
        let h = values.largest;
        let dimension = (engine.keys.width as f64).sqrt().max(1.0);
        let one_direction = errors.isotropic(values.rows.width);
        let isotropic = 1.0 / engine.keys.width.min(values.rows.width).max(1) as f64;
        for (j, row) in rows.iter().enumerate() {
            let logit = engine.bound[j] * std::f64::consts::LN_2 + inherited.logits[j] / dimension;
            let weight = u * (WEIGHT_ROUNDINGS + logit);
            // Equal keys err equally: the spread of f over the different ones is what counts.
            let spread = (repeats * forward.squares[j].sqrt()).min(1.0);
            let Row { r, norm: c, output: o } = *row;
            let c_error = weight * spread * h + u * (inherited.values * spread + block * o + 2.0 * c);
            errors.c.push(c_error);
            errors.f.push(weight * spread);
            let value_spread = (value_repeats * spread).min(1.0);
            errors.p.push(u * value_spread * c * (2.0 * h + one_direction * inherited.values));
            // An error of c moves w by Cov_f(k, h), which for independent or isotropic keys and values is this share of
            // the product of their sizes.
            let share = (one_direction * spread + isotropic).min(1.0);
            // An error of r moves w by the mean key, which may be as large as any.
            let r_error = 2.0 * u * (r.abs() + one_direction * c * o);
            errors.drift.push(c_error * h * share + r_error);
            errors.left.push(if h > 0.0 { (spread + o / h).min(1.0) } else { 1.0 });
            errors.spread.push(spread);
            errors.c_norms.push(c);
        }
        Ok(errors)
    }

    /// After pass 2, from Σ_i p_i² of each row.
    pub fn add_second_pass(&mut self, squares: &[f64], unit: f64) {
        for (j, square) in squares.iter().enumerate() {
            // f / spread is the relative error of a weight.
            let weight = if self.spread[j] > 0.0 { self.f[j] / self.spread[j] } else { 0.0 };
            self.p[j] += weight * unit * self.repeats * square.sqrt();
        }
    }

    /// Of the loss.
    pub fn loss(&self, loss: f64) -> f64 {
        let rows = self.c.iter().zip(&self.c_norms).map(|(error, c)| error * (c + error));
        // Twice the share of one direction: the loss has no other direction for an excess to hide in.
        let share = (2.0 * self.isotropic(self.width)).min(1.0);
        ROUNDING_SAFETY * share * self.over_rows(rows) + 4.0 * self.u * loss
    }

    /// Of s Σ_j a_j ⊗ w_j, where w = p K: `left` ‖a_j‖, `keys` max ‖k‖, `w` the norms of w.
    pub fn query_side(&self, left: &[f64], keys: f64, w: &[f64]) -> f64 {
        ROUNDING_SAFETY
            * self.over_rows((0..left.len()).map(|j| {
                left[j]
                    * ((self.p[j] + self.drift[j]) * keys + self.u * self.block.max(self.summed(PRODUCT_ROWS)) * w[j])
            }))
    }

    /// Of Σ_j p_j ⊗ q_j: `right` ‖q_j‖.
    pub fn key_side(&self, right: &[f64]) -> f64 {
        ROUNDING_SAFETY
            * self.over_rows((0..right.len()).map(|j| right[j] * (2.0 * self.p[j] + self.drift[j] * self.spread[j])))
    }

    /// Of Σ_j f_j ⊗ c_j.
    pub fn value_side(&self) -> f64 {
        ROUNDING_SAFETY
            * self.over_rows((0..self.c.len()).map(|j| {
                self.f[j] * self.c_norms[j]
                    + self.spread[j] * (self.c[j] + self.u * self.summed(KEY_SIDE_QUERIES) * self.c_norms[j])
            }))
    }

    /// Of Σ_j (f A3)_j ⊗ c_j: `inputs` max ‖a3‖.
    pub fn mixed(&self, inputs: f64) -> f64 {
        ROUNDING_SAFETY
            * inputs
            * self.over_rows((0..self.c.len()).map(|j| {
                self.f[j] * self.c_norms[j]
                    + self.left[j] * (self.c[j] + self.u * self.block.max(self.summed(PRODUCT_ROWS)) * self.c_norms[j])
            }))
    }

    /// The same for the transpose of the inputs of the keys, whose `largest` row this is: errors of different keys are
    /// independent.
    pub fn stretch_rows<T: Float>(&self, largest: f64, inputs: ArrayView2<'_, T>) -> f64 {
        (2.0 * largest * self.repeats).min(spectral_bound(inputs))
    }

    /// √Σ over the classes of (Σ over its rows)², by the coarser classes.
    fn over_rows(&self, terms: impl Iterator<Item = f64> + Clone) -> f64 {
        let by = |classes: &[usize]| {
            let mut sums = self.sums.borrow_mut();
            sums.clear();
            sums.resize(classes.iter().max().map_or(0, |last| last + 1), 0.0);
            for (class, term) in classes.iter().zip(terms.clone()) {
                sums[*class] += term;
            }
            root_sum(sums.iter().copied())
        };
        by(&self.classes[0]).max(by(&self.classes[1]))
    }

    /// What a sum over a block of rows loses, in roundings of the whole sum: terms of either sign lose half of √block,
    /// equal ones a quarter of the block, because their roundings all go the same way.
    fn summed(&self, block: usize) -> f64 {
        (0.5 * (block as f64 * self.rows_alike).sqrt()).min(0.25 * block as f64)
    }

    /// The share of an error vector of `width` independent entries that one direction sees, with a factor of two to spare.
    fn isotropic(&self, width: usize) -> f64 {
        (2.0 / (width.max(1) as f64).sqrt()).min(1.0)
    }

    /// By how much a product with `matrix` can stretch an error that knows nothing of it.
    pub fn stretch<T: Float>(&self, matrix: ArrayView2<'_, T>) -> f64 {
        let share = self.isotropic(matrix.nrows().min(matrix.ncols()));
        (share * frobenius(matrix)).min(spectral_bound(matrix))
    }

    /// Of a result of norm `result`: sums of the error `sums`, times a matrix of spectral norm `factor`.
    pub fn finish<T: Float>(&self, sums: f64, factor: f64, result: f64, entries: usize) -> f64 {
        let tiny = (T::MIN_EXP).exp2() * self.u;
        let total = sums * factor + 4.0 * self.u * self.block * result + tiny * (entries as f64).sqrt();
        // NaN must never read as a small error.
        if total.is_nan() { f64::INFINITY } else { total.next_up() }
    }
}

/// The classes of equal numbers.
fn equal_numbers(numbers: impl ExactSizeIterator<Item = f64>) -> Result<Vec<usize>, Error> {
    let mut bits = buffer::with_capacity(numbers.len())?;
    bits.extend(numbers.map(f64::to_bits));
    classes(&bits)
}

/// The class of each item, equal items having the same.
fn classes<K: Ord>(items: &[K]) -> Result<Vec<usize>, Error> {
    let mut order = buffer::with_capacity(items.len())?;
    order.extend(0..items.len());
    order.sort_unstable_by_key(|&i| &items[i]);
    let mut classes = buffer::zeros(items.len())?;
    let mut class = 0;
    for pair in order.windows(2) {
        class += usize::from(items[pair[0]] != items[pair[1]]);
        classes[pair[1]] = class;
    }
    Ok(classes)
}

/// How many times the most frequent number occurs.
fn most_repeats(numbers: &[f64]) -> Result<f64, Error> {
    let mut counts = buffer::zeros::<usize>(numbers.len())?;
    for class in equal_numbers(numbers.iter().copied())? {
        counts[class] += 1;
    }
    Ok(counts.into_iter().max().unwrap_or(1) as f64)
}

/// √Σ x², scaled so that neither end of the range spoils it.
fn root_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(0.0, |max: f64, x| if x > max || x.is_nan() { x } else { max });
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * terms.map(|x| (x / largest).powi(2)).sum::<f64>().sqrt()
}

/// An upper bound of the spectral norm: the smaller of the Frobenius norm and √(‖·‖₁ ‖·‖_∞).
fn spectral_bound<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    let frobenius = root_sum(matrix.iter().map(|x| x.widen().abs()));
    let widest = |lines: ndarray::iter::Lanes<'_, T, ndarray::Ix1>| {
        lines.into_iter().map(|line| line.iter().map(|x| x.widen().abs()).sum::<f64>()).fold(0.0, f64::max)
    };
    let mixed = widest(matrix.rows()).sqrt() * widest(matrix.columns()).sqrt();
    frobenius.min(mixed)
}

/// The Frobenius norm.
pub fn frobenius<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    match matrix.as_slice() {
        Some(slice) => norm(slice),
        None => root_sum(matrix.iter().map(|x| x.widen().abs())),
    }
}

/// ‖row‖ of each row, and the largest.
pub fn measured<T: Float>(rows: Rows<'_, T>) -> Result<(Vec<f64>, f64), Error> {
    let norms = crate::norms::row_norms(rows)?;
    let largest = crate::norms::largest(&norms);
    Ok((norms, largest))
}
