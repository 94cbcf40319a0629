//! A look at a few rows with all of their keys, before anything is spent on moments: by how much an error of o moves c
//! (docs/math.md, equation 165).
//!
//! Logits alone say how far the weights are off. Where o is near its target, c is small beside what o is made of, and the same
//! error of o is a larger one of c, hence of every gradient.

use std::f64::consts::LN_2;
use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayViewMut1, Axis, s};

use super::logits::queries;
use super::rows::wide;
use super::stages::Stages;
use crate::buffer;
use crate::certificate::rng::Rng;
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::moments::compared::compared;
use crate::moments::{Approximation, CHUNK};
use crate::options::Level;
use crate::polynomial::horner;
use crate::pool::Run;
use crate::problem::Problem;
use crate::some_rows::some_rows_but;

/// Most rows looked at: the mean square of as many is right to a third; and fewest, which are right to a factor of two.
pub const ROWS: usize = 16;
pub const FEWEST: usize = 4;

/// Seed of them.
const SEED: u64 = 0x5EED_10C3;

/// Parts of the keys, each with sums of its own.
const PARTS: usize = 16;

/// ‖õ − o‖ over ‖c‖, of root mean squares over `count` rows; zero where c is given. Time O(count m (d + d3)).
pub fn moved<T: Float>(
    problem: &Problem<'_, T>,
    approximation: &Approximation,
    count: usize,
    stages: &mut Stages<'_>,
) -> Result<f64, Error> {
    let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
    if !problem.is_target || n == 0 {
        return Ok(0.0);
    }
    stages.run(0.02, |options, watch| {
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let mut rng = Rng::new(SEED);
        let rows: Vec<usize> = (0..count).map(|_| rng.below(n as u64) as usize).collect();
        let queries = queries(problem, &problem.A1.select(Axis(0), &rows).mapv(T::widen));
        let keys = some_rows_but(problem.A2, &approximation.exact_keys);
        let mean = keys.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(keys.ncols()));
        let look = Look {
            problem,
            approximation,
            centres: queries.dot(&mean),
            queries: queries.mapv(T::narrow),
            rows,
            coefficients: approximation.coefficients.iter().map(|p| T::narrow(*p)).collect(),
            level: options.level()?,
        };
        let each = m.div_ceil(PARTS).next_multiple_of(PRODUCT_ROWS);
        let mut parts = buffer::collected((0..m.div_ceil(each)).map(|_| Sums::new(count, problem.A3.ncols())))?;
        run.for_each(parts.iter_mut().enumerate(), |(part, sums), cancel| {
            for first in (part * each..m.min((part + 1) * each)).step_by(PRODUCT_ROWS) {
                cancel.check()?;
                look.add(first..m.min(first + PRODUCT_ROWS), sums);
            }
            Ok(())
        })?;
        let mut all = Sums::new(count, problem.A3.ncols());
        for part in &parts {
            all.values += &part.values;
            all.totals += &part.totals;
        }
        Ok(look.moved(all))
    })
}

struct Look<'a, 'b, T> {
    problem: &'a Problem<'b, T>,
    approximation: &'a Approximation,
    rows: Vec<usize>,
    queries: Array2<T>,
    /// ⟨q_j, mean key⟩.
    centres: Array1<f64>,
    /// P_0, …, P_g in working precision.
    coefficients: Vec<T>,
    level: Level,
}

/// Of the weights of each row, then of what P differs from them by.
struct Sums {
    /// Times the rows of A3, (2 rows, d3).
    values: Array2<f64>,
    /// (2 rows).
    totals: Array1<f64>,
}

impl Sums {
    fn new(count: usize, width: usize) -> Self {
        Sums { values: Array2::zeros((2 * count, width)), totals: Array1::zeros(2 * count) }
    }
}

impl<T: Float> Look<'_, '_, T> {
    /// Adds what a block of keys has.
    fn add(&self, block: Range<usize>, sums: &mut Sums) {
        let Problem { A2, A3, .. } = self.problem;
        let count = self.rows.len();
        let logits = self.queries.dot(&A2.slice(s![block.clone(), ..]).t());
        let mut weights = Array2::<T>::zeros((2 * count, block.len()));
        let (mut exact, mut off) = weights.view_mut().split_at(Axis(0), count);
        let rows = exact.rows_mut().into_iter().zip(off.rows_mut()).zip(logits.rows());
        for (place, ((mut exact, mut off), logits)) in rows.enumerate() {
            let centre = T::narrow(self.centres[place]);
            exact.zip_mut_with(&logits, |to, &t| *to = t - centre);
            let totals = match (exact.as_slice_mut(), off.as_slice_mut()) {
                (Some(exact), Some(off)) if self.is_plain(&block, exact) => {
                    compared(self.level, exact, off, &self.coefficients)
                }
                _ => self.weigh(place, &block, exact.view_mut(), off.view_mut()),
            };
            sums.totals[place] += totals[0];
            sums.totals[count + place] += totals[1];
        }
        let block = weights.dot(&A3.slice(s![block, ..]));
        sums.values.zip_mut_with(&block, |sum, x| *sum += x.widen());
    }

    /// Whether P stands for every key of a block, and no logit is too large for an exponential alone.
    fn is_plain(&self, block: &Range<usize>, logits: &[T]) -> bool {
        let keys = &self.approximation.exact_keys;
        let first = keys.partition_point(|key| *key < block.start);
        let bound = T::narrow(T::UNSHIFTED_MAX * LN_2);
        // NaN is below no bound.
        !self.problem.is_causal
            && keys.get(first).is_none_or(|key| *key >= block.end)
            && logits.iter().all(|t| t.abs() <= bound)
    }

    /// The same as [`compared`] where some keys are hidden, or have their weights as they are.
    fn weigh(
        &self,
        place: usize,
        block: &Range<usize>,
        exact: ArrayViewMut1<'_, T>,
        off: ArrayViewMut1<'_, T>,
    ) -> [f64; 2] {
        let Approximation { coefficients, exact_keys, .. } = self.approximation;
        let (is_causal, row) = (self.problem.is_causal, self.rows[place]);
        // Under a mask the keys of its own chunk have their weights as they are.
        let near = if is_causal { row / CHUNK * CHUNK } else { self.problem.A2.nrows() };
        let mut totals = [0.0; 2];
        for ((key, exact), off) in block.clone().zip(exact).zip(off) {
            let t = exact.widen();
            let weight = if is_causal && key > row { 0.0 } else { t.exp() };
            let is_exact = key >= near || exact_keys.binary_search(&key).is_ok();
            let difference = if is_exact { 0.0 } else { horner(coefficients, t) - weight };
            (*exact, *off) = (T::narrow(weight), T::narrow(difference));
            totals = [totals[0] + weight, totals[1] + difference];
        }
        totals
    }

    /// ‖õ − o‖ over ‖c‖ from the sums over all keys.
    fn moved(&self, sums: Sums) -> f64 {
        let (count, Y) = (self.rows.len(), wide(self.problem.Y));
        let square = |row: ArrayView1<'_, f64>| row.dot(&row);
        let (mut error, mut residual) = (0.0, 0.0);
        for (place, &row) in self.rows.iter().enumerate() {
            let [exact, off] = [place, count + place].map(|at| (sums.values.row(at), sums.totals[at]));
            let output = &exact.0 / exact.1;
            // õ − o = Σ (f̃ − f) h = (Σ off h − o Σ off) / Σ P.
            let moved = (&off.0 - &(&output * off.1)) / (exact.1 + off.1);
            error += square(moved.dot(&Y).view());
            residual += square((output.dot(&Y) - self.problem.E.row(row).mapv(T::widen)).view());
        }
        // NaN, and an error of what is zero, are not known.
        let moved = if error == 0.0 { 0.0 } else { (error / residual).sqrt() };
        if moved.is_nan() { f64::INFINITY } else { moved }
    }
}
