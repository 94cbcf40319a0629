//! The rounding estimate of the exact gradient (docs/math.md, section 5).
//!
//! Each step's error is taken by its size, row by row. Rounding errors of different rows cancel like independent ones,
//! and those of rows that are alike add up: both sums are taken, the second of what lines up in the data.

use std::f64::consts::LN_2;

use ndarray::ArrayView2;

use super::alike::{Keys, LinedUp, Trace, alike, both, largest, outer};
use super::residual::Row;
use crate::buffer;
use crate::constants::{KEY_SIDE_QUERIES, LINED_UP_SAFETY, PRODUCT_ROWS, ROUNDING_SAFETY};
use crate::error::Error;
use crate::float::Float;
use crate::norms::{norm, spectral_bound};

/// Roundings of one weight besides its logit: shift, exponential, normaliser.
const WEIGHT_ROUNDINGS: f64 = 4.0;

/// Roundings of a sum of k terms in a row, over √k and the size of the largest partial sum: each is uniform within half
/// a unit of its partial sum, which is half of the largest in the mean.
const SUM_ROUNDINGS: f64 = 0.25;

/// What the products before the passes lost, in units of u.
pub struct Inherited {
    /// Of each row's logits, by its own query, in natural units: scale · ‖a1_j‖ ‖W‖_F max ‖key‖.
    pub logits: Vec<f64>,
    /// Of a key, the same for all rows: max ‖a2‖ ‖W_K‖_F.
    pub keys: f64,
    /// Of a value: max ‖a3‖ ‖Y‖_F.
    pub values: f64,
}

/// What is known before the passes.
pub struct Before {
    /// The queries times scale · log2 e.
    pub queries: Vec<Trace>,
    /// ‖query‖ · max ‖key‖ of the keys that it sees.
    pub bound: Vec<f64>,
    /// max ‖key‖.
    pub largest_key: f64,
    /// How much keys and values are alike.
    pub keys: Keys,
    pub inherited: Inherited,
    /// Columns of the keys and of the values.
    pub widths: [usize; 2],
    /// The keys, and how many are summed in working precision at a time.
    pub count: usize,
    pub block: usize,
    /// Whether c = o − E, and not given.
    pub is_target: bool,
}

/// What rounding does to o and to p, row by row.
pub struct RowErrors {
    u: f64,
    before: Before,
    /// What is known of c.
    rows: Vec<Row>,
    /// Σ_i f_ji².
    squares: Vec<f64>,
    /// ‖p_j‖, after pass 2.
    p: Vec<f64>,
    /// What tags of queries and of rows of c differ by that are rounded alike.
    query_cell: f64,
    c_cell: f64,
    /// What a sum over keys loses, in roundings of the whole sum.
    block: f64,
    /// Rows to each that differs in query or c, and to each that differs in c.
    rows_alike: [f64; 2],
}

/// The errors of one row, in absolute size.
struct Errors {
    /// √Σ_i f_ji², and ‖c_j‖.
    spread: f64,
    c: f64,
    /// Of f_j by its own logits, and by what all rows share.
    f: f64,
    f_shared: f64,
    /// Of o_j by its own weights and sums, by what all rows share; and of c_j itself.
    o: f64,
    o_shared: f64,
    own: f64,
    /// Of p_j by its logits, by its own products, and by what all rows share: entries independent of one another.
    p: f64,
    p_own: f64,
    p_shared: f64,
    /// Of r_j: the same multiple of f_j in every entry of p_j.
    r: f64,
    /// What an error of c_j of size one makes of p_j K, over max ‖key‖.
    share: f64,
    /// Of a logit, and of the normaliser: what w_j is multiplied by.
    logit: f64,
    /// What the sums of o_j lose, and those of p_j K over max ‖key‖.
    sums: f64,
    p_sums: f64,
    /// How much of the largest value is left in o_j: near one where the values have a common part.
    left: f64,
}

/// An error of a row by what it hangs on: the row's own logits and c_j; the last bits of c_j; c_j and what all rows
/// share; and not on c_j, but its own logits, or what all rows share.
struct Parts {
    logits: f64,
    own: f64,
    shared: f64,
    output: f64,
    output_shared: f64,
}

impl Parts {
    fn total(&self) -> f64 {
        self.logits + self.own + self.shared + self.output + self.output_shared
    }
}

impl RowErrors {
    /// After pass 1: all but the part of p that only pass 2 can measure.
    pub fn new<T: Float>(before: Before, rows: Vec<Row>, squares: Vec<f64>) -> Self {
        let u = T::UNIT_ROUNDOFF;
        let query = largest(&before.queries);
        let c = rows.iter().fold(0.0, |max: f64, row| max.max(row.c.norm));
        let length = before.block.min(before.count).max(1) as f64;
        let blocks = (before.count as f64 / length).max(1.0);
        let repeats = before.keys.key_repeats_in_block.min(length).max(1.0);
        let mut errors = RowErrors {
            u,
            // Logits that differ by less than a rounding of a weight give weights that are alike.
            query_cell: alike(query.max(before.largest_key.recip()), u, 1.0),
            c_cell: alike(c, u, 1.0),
            block: (SUM_ROUNDINGS * (length / blocks).sqrt() * repeats.sqrt()).max(1.0),
            before,
            rows,
            squares,
            p: Vec::new(),
            rows_alike: [1.0; 2],
        };
        let mut alike = [LinedUp::new(), LinedUp::new()];
        for j in 0..errors.rows.len() {
            let c = errors.c_cell(j);
            alike[0].add(1.0, both(errors.query_cell(j), c), &[1.0]);
            alike[1].add(1.0, c, &[1.0]);
        }
        let rows = errors.rows.len().max(1) as f64;
        errors.rows_alike = alike.map(|alike| (alike.total().powi(2) / rows).max(1.0));
        errors
    }

    /// After pass 2, from Σ_i p_i² of each row, which it turns into ‖p‖.
    pub fn add_second_pass(&mut self, mut squares: Vec<f64>, unit: f64) {
        for square in &mut squares {
            *square = unit * square.sqrt();
        }
        self.p = squares;
    }

    /// What is known of c.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn query_cell(&self, j: usize) -> u64 {
        self.before.queries[j].cell(self.query_cell)
    }

    fn c_cell(&self, j: usize) -> u64 {
        self.rows[j].c.cell(self.c_cell)
    }

    fn row(&self, j: usize) -> Errors {
        let Before { queries, keys, inherited, widths, count, block, .. } = &self.before;
        let [width, value_width] = *widths;
        let (u, Row { r, c, output }) = (self.u, &self.rows[j]);
        let (c_norm, query) = (c.norm, queries[j].norm * LN_2);
        let dimension = (width as f64).sqrt().max(1.0);
        let logit = self.before.bound[j] * LN_2 + inherited.logits[j] / dimension;
        let logit_shared = query * inherited.keys / dimension;
        let (weight, shared) = (u * (WEIGHT_ROUNDINGS + logit), u * logit_shared);
        let logit = logit + logit_shared;
        // Equal keys err equally: the spread of f over the different ones is what counts.
        let spread = (keys.key_repeats * self.squares[j]).sqrt().min(1.0);
        let value_spread = (keys.value_repeats.sqrt() * spread).min(1.0);
        let one_direction = isotropic(value_width);
        let isotropic = 1.0 / width.min(value_width).max(1) as f64;
        // Sums over a block of keys: their partial sums grow with what lines up in the block, and equal terms round
        // alike.
        let length = (*block).min(*count).max(1) as f64;
        let blocks = (*count as f64 / length).max(1.0);
        let is_flat = logit <= 2.0 * alike(1.0, u, length);
        let repeats = if is_flat { keys.value_repeats_in_block } else { keys.key_repeats_in_block };
        let repeats = repeats.clamp(1.0, length).sqrt();
        let walk = SUM_ROUNDINGS * length.sqrt() * (length.sqrt() * spread).min(1.0);
        let (h, centred) = (keys.largest_value, keys.centred_value);
        let whole = (SUM_ROUNDINGS * (length / blocks).sqrt() * repeats).max(1.0) * output;
        // Weights that are alike, as all are where logits are small, are all rounded the same way in α, in every block;
        // what is lost of logits that only stand in the last bits is no more than they are.
        let alike = if is_flat { 1.0 } else { keys.key_repeats / (*count).max(1) as f64 };
        let total = (u * SUM_ROUNDINGS * length * alike).min(if is_flat { logit } else { f64::INFINITY });
        let sums = u * whole.max(walk * keys.values_line_up * h * repeats) + total * output;
        let (mut o, mut o_shared) = (0.0, 0.0);
        if self.before.is_target {
            // An error of the query is common to all its logits, and moves o by Cov_f(k, h), which does not fall with
            // the number of keys.
            o = weight * spread * centred + sums + u * logit * centred * isotropic;
            o_shared = shared * spread * centred + u * inherited.values * spread;
        }
        let p = keys.key_repeats.sqrt() * self.p.get(j).copied().unwrap_or(0.0);
        Errors {
            spread,
            c: c_norm,
            f: (weight + total) * spread,
            f_shared: shared * spread,
            o,
            o_shared,
            own: 2.0 * u * c_norm,
            p: weight * p,
            p_own: 2.0 * u * value_spread * c_norm * h,
            p_shared: u * value_spread * c_norm * one_direction * inherited.values + shared * p,
            // An error of r moves w by the mean key, which may be as large as any.
            r: 2.0 * ((u + total) * r.abs() + one_direction * c_norm * sums),
            // An error of c moves w by Cov_f(k, h), which for independent or isotropic keys and values is this share of
            // the product of their sizes.
            share: centred * (one_direction * spread + isotropic).min(1.0),
            logit: u * logit + total,
            sums,
            p_sums: u * walk * c_norm * centred * keys.products_line_up,
            left: if h > 0.0 { (spread + output / h).min(1.0) } else { 1.0 },
        }
    }

    /// Of the loss.
    pub fn loss(&self, loss: f64) -> Result<f64, Error> {
        let parts = |e: &Errors| Parts {
            logits: e.o * e.c,
            own: e.own * e.c,
            shared: e.o_shared * e.c,
            output: 0.0,
            output_shared: 0.0,
        };
        let square = |j| {
            let e = self.row(j);
            (e.o + e.o_shared + e.own).powi(2)
        };
        let squares: f64 = (0..self.rows.len()).map(square).sum();
        // Twice the share of one direction: the loss has no other direction for an excess to hide in.
        let [_, width] = self.before.widths;
        let share = (2.0 * isotropic(width)).min(1.0);
        let (apart, together) = self.sums(None, |_, e| parts(e))?;
        // Norms and their sum are taken in double precision.
        let steps = 4.0 * self.u + (width as f64 + 4.0) * f64::UNIT_ROUNDOFF;
        Ok(ROUNDING_SAFETY * share * apart + LINED_UP_SAFETY * (together + squares) + steps * loss)
    }

    /// Of one row of p K: `keys` max ‖k‖, `w` the norm of w_j.
    fn of_w(&self, e: &Errors, keys: f64, w: f64) -> Parts {
        let sum = (self.u * w * self.block.max(self.summed(PRODUCT_ROWS, self.rows_alike[0]))).max(e.p_sums * keys);
        Parts {
            logits: e.p * keys + e.logit * w,
            own: (e.p_own + e.r + e.own * e.share) * keys + sum,
            shared: e.p_shared * keys,
            output: e.o * e.share * keys,
            output_shared: e.o_shared * e.share * keys,
        }
    }

    /// Of s Σ_j a_j ⊗ w_j, where w = p K: `left` the rows a_j, `w` the norms of w.
    pub fn query_side(&self, left: &[Trace], w: &[f64]) -> Result<f64, Error> {
        let keys = self.before.largest_key;
        self.over_rows(Some(left), |j, e| self.of_w(e, keys, w[j]))
    }

    /// Of w, whose rows do not meet: those of `scale` w.
    pub fn query_rows(&self, w: &[f64]) -> Result<f64, Error> {
        let keys = self.before.largest_key;
        let mut terms = buffer::with_capacity(w.len())?;
        terms.extend((0..w.len()).map(|j| self.of_w(&self.row(j), keys, w[j]).total()));
        Ok(ROUNDING_SAFETY * norm(&terms))
    }

    /// Of Σ_j p_j ⊗ s q_j.
    pub fn key_side(&self) -> Result<f64, Error> {
        let left = &self.before.queries;
        let sum = self.over_rows(Some(left), |_, e| Parts {
            logits: 2.0 * e.p,
            own: 2.0 * e.p_own + (e.r + e.own * e.share) * e.spread,
            shared: 2.0 * e.p_shared,
            output: e.o * e.share * e.spread,
            output_shared: e.o_shared * e.share * e.spread,
        })?;
        Ok(LN_2 * sum)
    }

    /// Of the same times the transpose of the inputs of the keys, whose `largest` row this is: errors of different keys
    /// are independent, those of r_j and c_j are not. `w` are the norms of p K.
    pub fn key_weights<T: Float>(&self, largest: f64, inputs: ArrayView2<'_, T>, w: &[f64]) -> Result<f64, Error> {
        let apart = 2.0 * (2.0 * largest * self.before.keys.key_repeats.sqrt()).min(spectral_bound(inputs));
        let key = self.before.largest_key;
        let per_key = if key > 0.0 { largest / key } else { 0.0 };
        let sum = self.over_rows(Some(&self.before.queries), |j, e| Parts {
            logits: apart * e.p + e.logit * w[j] * per_key,
            own: apart * e.p_own + (e.r + e.own * e.share) * largest,
            shared: apart * e.p_shared,
            output: e.o * e.share * largest,
            output_shared: e.o_shared * e.share * largest,
        })?;
        Ok(LN_2 * sum)
    }

    /// Of Σ_j f_j ⊗ c_j.
    pub fn value_side(&self) -> Result<f64, Error> {
        let lost = self.u * self.summed(KEY_SIDE_QUERIES, self.rows_alike[0]);
        self.over_rows(None, |_, e| Parts {
            logits: e.f * e.c,
            own: e.spread * (lost * e.c + e.own),
            shared: e.f_shared * e.c,
            output: e.spread * e.o,
            output_shared: e.spread * e.o_shared,
        })
    }

    /// Of Σ_j (f A3)_j ⊗ c_j: `inputs` max ‖a3‖.
    pub fn mixed(&self, inputs: f64) -> Result<f64, Error> {
        // Equal values make equal rows of f A3 whatever the queries are.
        let lost = self.u * self.block.max(self.summed(PRODUCT_ROWS, self.rows_alike[1]));
        let value = self.before.keys.largest_value;
        let sum = self.over_rows(None, |_, e| {
            let sums = if value > 0.0 { e.sums / value } else { 0.0 };
            Parts {
                logits: e.f * e.c,
                own: e.left * e.own + e.c * (e.left * lost).max(sums),
                shared: e.f_shared * e.c,
                output: e.left * e.o,
                output_shared: e.left * e.o_shared,
            }
        })?;
        Ok(inputs * sum)
    }

    /// The two sums with what each allows for.
    fn over_rows(&self, left: Option<&[Trace]>, parts: impl Fn(usize, &Errors) -> Parts) -> Result<f64, Error> {
        let (apart, together) = self.sums(left, parts)?;
        Ok(ROUNDING_SAFETY * apart + LINED_UP_SAFETY * together)
    }

    /// The error of Σ_j left_j ⊗ (row j): as if rows had nothing to do with one another, and of what lines up.
    ///
    /// An error that hangs on c_j is linear in it, so left_j ⊗ c_j says how much such errors line up: among rows whose
    /// logits round alike, among rows whose c_j are the same but for rounding, or among all for what all rows share, be
    /// it in one direction of the queries or in all. An error of o does not hang on c_j; there left_j says it.
    fn sums(&self, left: Option<&[Trace]>, parts: impl Fn(usize, &Errors) -> Parts) -> Result<(f64, f64), Error> {
        let mut terms = buffer::with_capacity(self.rows.len())?;
        let [mut logits, mut own, mut shared, mut shared_apart] = std::array::from_fn(|_| LinedUp::new());
        let [mut output, mut output_shared, mut output_shared_apart] = std::array::from_fn(|_| LinedUp::new());
        for (j, row) in self.rows.iter().enumerate() {
            let parts = parts(j, &self.row(j));
            let size = left.map_or(1.0, |left| left[j].norm);
            terms.push(size * parts.total());
            let (query, c, direction) = (self.query_cell(j), self.c_cell(j), self.before.queries[j].direction());
            let c_sketch = row.c.sketch.map(f64::from);
            let (outer, alone) = match left {
                Some(left) => (&outer(&left[j].sketch, &row.c.sketch)[..], &left[j].sketch.map(f64::from)[..]),
                None => (&c_sketch[..], &[1.0][..]),
            };
            logits.add(size * parts.logits, query, outer);
            own.add(size * parts.own, c, outer);
            shared.add(size * parts.shared, 0, outer);
            shared_apart.add(size * parts.shared, direction, outer);
            output.add(size * parts.output, query, alone);
            output_shared.add(size * parts.output_shared, 0, alone);
            output_shared_apart.add(size * parts.output_shared, direction, alone);
        }
        let together = logits.total()
            + own.total()
            + shared.total().max(shared_apart.total())
            + output.total()
            + output_shared.total().max(output_shared_apart.total());
        Ok((norm(&terms), together))
    }

    /// What a sum over a block of rows loses, in roundings of the whole sum: terms of either sign lose half of √block,
    /// equal ones a quarter of the block, because their roundings all go the same way.
    fn summed(&self, block: usize, rows_alike: f64) -> f64 {
        (0.5 * (block as f64 * rows_alike).sqrt()).min(0.25 * block as f64)
    }

    /// Of a result of norm `result`: sums of the error `sums`, times a matrix of spectral norm `factor`.
    pub fn finish<T: Float>(&self, sums: f64, factor: f64, result: f64, entries: usize) -> f64 {
        let tiny = (T::MIN_EXP).exp2() * self.u;
        let total = sums * factor + 4.0 * self.u * self.block * result + tiny * (entries as f64).sqrt();
        // NaN must never read as a small error.
        if total.is_nan() { f64::INFINITY } else { total.next_up() }
    }
}

/// The share of an error vector of `width` independent entries that one direction sees, with a factor of two to spare.
pub fn isotropic(width: usize) -> f64 {
    (2.0 / (width.max(1) as f64).sqrt()).min(1.0)
}
