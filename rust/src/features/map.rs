//! The map φ from rows to features whose inner products are P (docs/math.md, equation 10.5).

use ndarray::{Array1, Array2, ArrayView2};

use super::balance::Balance;
use super::index_set::IndexSet;
use super::rows::{LANES, Lane, Lanes};
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{row_major, rows};
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::blame;
use crate::runtime::buffer;
use crate::runtime::pool::{Cancel, Run, Watch};

/// Features that are written to one row before the next: a cache line of each of the rows side by side.
const STRIP: usize = 16;

/// One side of U Vᵀ = P, in some precision: x → factor(x) · weights_β x′^β with the coordinates x′ of x.
pub(crate) struct FeatureMap<'a, T> {
    set: &'a IndexSet,
    lanes: Lanes<T>,
    weights: Vec<T>,
    /// The direction and the offset of the logarithm of a factor of the whole row; 1 without them.
    exponent: Option<(Array1<f64>, f64)>,
}

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Query,
    Key,
}

impl Side {
    /// Its name in the Python API.
    pub fn argument(self) -> &'static str {
        match self {
            Side::Query => "query",
            Side::Key => "key",
        }
    }
}

impl IndexSet {
    /// x^β for the rows x of `array`, (n, d), and all members, (n, N), in the order of the set. Time n (N + d²), no
    /// memory beside the result.
    ///
    /// # Errors
    /// [`Error::Shape`] unless rows have a number for each coordinate; [`Error::NonFinite`] with the first that is not
    /// finite; [`Error::Range`] where a power leaves the range of the precision; [`Error::OutOfMemory`],
    /// [`Error::Deadline`], [`Error::Cancelled`].
    pub fn monomials<T: Float>(
        &self,
        array: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        options.isa()?;
        if array.ncols() != self.dimension {
            let wanted = format!("{} columns, one for each coordinate", self.dimension);
            return Err(Error::Shape { argument: "array", found: array.shape().to_vec(), wanted });
        }
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let given = row_major(array)?;
        let (powers, finite) = FeatureMap::powers(self)?.apply(rows(&given)?, &mut run)?;
        if finite {
            return Ok(powers);
        }
        let remedy = "scale the rows down, or use float64";
        let error = Error::Range { quantity: "a power of a coordinate".into(), precision: T::NAME, remedy };
        Err(blame(error, [("array", &array)]))
    }
}

impl<'a, T: Float> FeatureMap<'a, T> {
    /// The monomials themselves, of the rows themselves.
    fn powers(set: &'a IndexSet) -> Result<Self, Error> {
        let d = set.dimension();
        let (mean, map) = (Array1::zeros(d), Array2::eye(d));
        let weights = buffer::filled(set.count(), T::one())?;
        Ok(FeatureMap { set, lanes: Lanes::new(&mean, &map)?, weights, exponent: None })
    }

    /// For the coefficients P_0, …, P_g of the powers of the logit; `factors` for exp(s q kᵀ), without them for e^t.
    pub fn new(balance: &Balance, set: &'a IndexSet, power: &[f64], side: Side, factors: bool) -> Result<Self, Error> {
        let (mean, map) = match side {
            Side::Query => (&balance.query_mean, &balance.query_map),
            Side::Key => (&balance.key_mean, &balance.key_map),
        };
        let exponent = match side {
            _ if !factors => None,
            Side::Query => Some(balance.query_exponent()),
            Side::Key => Some(balance.key_exponent()),
        };
        // The query side has the signs of P and of the scale.
        let sign = |grade: usize| match side {
            Side::Query if grade % 2 == 1 => balance.sign(),
            _ => 1.0,
        };
        let root = |grade: usize, multinomial: f64| {
            let coefficient = power.get(grade).copied().unwrap_or(0.0);
            let root = (coefficient.abs() * multinomial).sqrt();
            if side == Side::Query { root * coefficient.signum() * sign(grade) } else { root }
        };
        let mut weights = buffer::with_capacity(set.count())?;
        for grade in 0..=set.degree() {
            weights.extend(set.grade(grade).map(|index| T::narrow(root(grade, set.multinomials()[index]))));
        }
        Ok(FeatureMap { set, lanes: Lanes::new(mean, map)?, weights, exponent })
    }

    /// N, the number of features.
    pub fn count(&self) -> usize {
        self.set.count()
    }

    /// The features of all rows, (n, N), and whether they are finite, as they are of rows that are. Time n (N + d²).
    pub fn apply(&self, rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<(Array2<T>, bool), Error> {
        let count = self.count();
        let size = buffer::size(&[rows.count, count])?;
        let mut out = buffer::zeros(size)?;
        let mut finite = buffer::filled(rows.count.div_ceil(PRODUCT_ROWS), false)?;
        let tasks = out.chunks_mut(PRODUCT_ROWS * count).zip(&mut finite).enumerate();
        run.for_each(tasks, |(block, (out, finite)), cancel| {
            *finite = self.block(rows, block * PRODUCT_ROWS, out, cancel)?;
            Ok(())
        })?;
        Ok((matrix(out, rows.count, count)?, finite.into_iter().all(|finite| finite)))
    }

    /// The features of a block of rows from `first` on, and whether they and the rows are finite.
    fn block(&self, rows: Rows<'_, T>, first: usize, out: &mut [T], cancel: &Cancel) -> Result<bool, Error> {
        let (count, d) = (self.count(), self.lanes.width());
        let mut shifted = buffer::filled(d, [T::zero(); LANES])?;
        let mut coordinates = buffer::filled(d, [T::zero(); LANES])?;
        let mut monomials = buffer::filled(count, [T::zero(); LANES])?;
        // Zero times a number is zero, and what is no number stays in a sum.
        let mut zeros = [T::zero(); LANES];
        for (group, out) in out.chunks_mut(LANES * count).enumerate() {
            cancel.check()?;
            let (first, lanes) = (first + group * LANES, out.len() / count);
            let given = &rows.data[first * d..(first + lanes) * d];
            self.lanes.of(given, lanes, &mut shifted, &mut coordinates);
            shifted.iter().for_each(|lane| watch(&mut zeros, lane));
            monomials[0] = [T::one(); LANES];
            if let Some((direction, offset)) = &self.exponent {
                for (lane, factor) in monomials[0].iter_mut().enumerate().take(lanes) {
                    let row = &given[lane * d..(lane + 1) * d];
                    let logit = row.iter().zip(direction).fold(*offset, |sum, (x, y)| sum + x.widen() * y);
                    *factor = T::narrow(logit.exp());
                }
            }
            grow(&mut monomials, self.set.steps(), &coordinates);
            write(&monomials, &self.weights, out, &mut zeros);
        }
        Ok(zeros.iter().all(|zero| *zero == T::zero()))
    }
}

/// Every monomial but the first from its parent by one product.
#[inline(always)]
fn grow<T: Float>(monomials: &mut [Lane<T>], steps: &[(u32, u32)], coordinates: &[Lane<T>]) {
    for (index, &(parent, coordinate)) in steps.iter().enumerate().skip(1) {
        let (above, below) = monomials.split_at_mut(index);
        let (parent, coordinate) = (&above[parent as usize], &coordinates[coordinate as usize]);
        for lane in 0..LANES {
            below[0][lane] = parent[lane] * coordinate[lane];
        }
    }
}

/// Weighted monomials as rows: a strip of features at a time, so that each row is written by cache lines.
#[inline(always)]
fn write<T: Float>(monomials: &[Lane<T>], weights: &[T], out: &mut [T], zeros: &mut Lane<T>) {
    let count = weights.len();
    let mut strip = [[T::zero(); LANES]; STRIP];
    for (place, (monomials, weights)) in monomials.chunks(STRIP).zip(weights.chunks(STRIP)).enumerate() {
        for ((to, monomial), &weight) in strip.iter_mut().zip(monomials).zip(weights) {
            for lane in 0..LANES {
                to[lane] = monomial[lane] * weight;
            }
            watch(zeros, to);
        }
        for (lane, row) in out.chunks_exact_mut(count).enumerate() {
            let row = &mut row[place * STRIP..][..weights.len()];
            row.iter_mut().zip(&strip).for_each(|(to, from)| *to = from[lane]);
        }
    }
}

/// Adds zero times the numbers of a lane.
#[inline(always)]
fn watch<T: Float>(zeros: &mut Lane<T>, numbers: &Lane<T>) {
    for lane in 0..LANES {
        zeros[lane] += numbers[lane] * T::zero();
    }
}
