//! A look at a few rows with all of their keys, before anything is spent on moments: by how much an error of o moves c
//! (docs/math.md, equation 11.7).
//!
//! Logits alone say how far the weights are off. Where o is near its target, c is small compared with the terms of o,
//! and the same error of o is a larger relative error of c, hence of every gradient.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, Axis};

use super::logits::queries;
use super::stages::Stages;
use crate::constants::MOMENT_ROWS as CHUNK;
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{row_major, rows, wide};
use crate::linalg::products::view;
use crate::linalg::some_rows::some_rows_but;
use crate::polynomial::horner;
use crate::probe::weighed::{Looks, Sums, Weighed};
use crate::problem::Approximation;
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::runtime::rng::Rng;

/// Most rows looked at, whole strips of every tile: the mean square of as many is right to two fifths; and fewest,
/// which are right to a factor of two.
pub const ROWS: usize = 12;
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
        let indices: Vec<usize> = (0..count).map(|_| rng.below(n as u64) as usize).collect();
        let queries = queries(problem, &problem.A1.select(Axis(0), &indices).mapv(T::widen));
        let some = some_rows_but(problem.A2, &approximation.exact_keys);
        let mean = some.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(some.ncols()));
        let (keys, inputs) = (row_major(problem.A2)?, row_major(problem.A3)?);
        let centres = queries.dot(&mean);
        let narrow = |x: &f64| T::narrow(*x);
        let ends = indices.iter().map(|&row| match problem.is_causal {
            // Under a mask the keys of its own chunk have their weights as they are.
            true => [row + 1, row / CHUNK * CHUNK],
            false => [m, m],
        });
        let looks = Looks {
            queries: queries.iter().map(narrow).collect(),
            centres: centres.iter().map(narrow).collect(),
            coefficients: approximation.coefficients.iter().map(narrow).collect(),
            ends: ends.collect(),
            exact_keys: approximation.exact_keys.clone(),
        };
        let look = Look {
            problem,
            approximation,
            weighed: Weighed::new(looks, options.isa()?)?,
            keys: rows(&keys)?,
            inputs: rows(&inputs)?,
            queries,
            centres,
            indices,
        };
        let each = m.div_ceil(PARTS).next_multiple_of(PRODUCT_ROWS);
        let width = problem.A3.ncols();
        let mut parts = buffer::with_capacity(m.div_ceil(each))?;
        for _ in 0..m.div_ceil(each) {
            parts.push(Sums::new(count, width)?);
        }
        run.for_each(parts.iter_mut().enumerate(), |(part, sums), cancel| {
            for first in (part * each..m.min((part + 1) * each)).step_by(PRODUCT_ROWS) {
                cancel.check()?;
                look.add(first..m.min(first + PRODUCT_ROWS), sums)?;
            }
            Ok(())
        })?;
        let mut all = Sums::new(count, width)?;
        parts.iter().for_each(|part| all.add(part));
        look.moved(&all)
    })
}

struct Look<'a, 'b, T> {
    problem: &'a Problem<'b, T>,
    approximation: &'a Approximation,
    weighed: Weighed<T>,
    /// A2 and A3.
    keys: Rows<'a, T>,
    inputs: Rows<'a, T>,
    indices: Vec<usize>,
    queries: Array2<f64>,
    /// ⟨q_j, mean key⟩.
    centres: Array1<f64>,
}

impl<'a, T: Float> Look<'a, '_, T> {
    /// Adds the contribution of a block of keys.
    fn add(&self, block: Range<usize>, sums: &mut Sums) -> Result<(), Error> {
        let of = |all: Rows<'a, T>| {
            let data = &all.data[block.start * all.width..block.end * all.width];
            Rows { data, count: block.len(), width: all.width }
        };
        let (keys, inputs) = (of(self.keys), of(self.inputs));
        if !self.weighed.add(block.start, keys, inputs, sums)? {
            self.weigh(block.start, keys, inputs, sums)?;
        }
        Ok(())
    }

    /// The same pair by pair, where logits are large.
    fn weigh(&self, first: usize, keys: Rows<'_, T>, inputs: Rows<'_, T>, sums: &mut Sums) -> Result<(), Error> {
        let Approximation { coefficients, exact_keys, .. } = self.approximation;
        let of = |rows: Rows<'_, T>| Ok(wide(view(rows.data, rows.count, rows.width)?));
        let (keys, width, inputs) = (of(keys)?, inputs.width, of(inputs)?);
        let logits = self.queries.dot(&keys.t());
        for (place, logits) in logits.rows().into_iter().enumerate() {
            let [seen, fitted] = self.weighed.ends(place);
            for ((key, logit), inputs) in (first..seen).zip(logits).zip(inputs.rows()) {
                let t = logit - self.centres[place];
                let weight = t.exp();
                let is_exact = key >= fitted || exact_keys.binary_search(&key).is_ok();
                let difference = if is_exact { 0.0 } else { horner(coefficients, t) - weight };
                for (part, weight) in [weight, difference].into_iter().enumerate() {
                    sums.totals[part][place] += weight;
                    let values = &mut sums.values[part][place * width..][..width];
                    values.iter_mut().zip(inputs).for_each(|(value, x)| *value += weight * x);
                }
            }
        }
        Ok(())
    }

    /// ‖õ − o‖ over ‖c‖ from the sums over all keys.
    fn moved(&self, sums: &Sums) -> Result<f64, Error> {
        let (count, Y) = (self.indices.len(), wide(self.problem.Y));
        let [exact, off] = &sums.values;
        let [exact, off] = [view(exact, count, Y.nrows())?, view(off, count, Y.nrows())?];
        let square = |row: ArrayView1<'_, f64>| row.dot(&row);
        let (mut error, mut residual) = (0.0, 0.0);
        for (place, &row) in self.indices.iter().enumerate() {
            let [total, total_off] = [0, 1].map(|part: usize| sums.totals[part][place]);
            let output = &exact.row(place) / total;
            // õ − o = Σ (f̃ − f) h = (Σ off h − o Σ off) / Σ P.
            let moved = (&off.row(place) - &(&output * total_off)) / (total + total_off);
            error += square(moved.dot(&Y).view());
            residual += square((output.dot(&Y) - self.problem.E.row(row).mapv(T::widen)).view());
        }
        // NaN, and an error of what is zero, are not known.
        let moved = if error == 0.0 { 0.0 } else { (error / residual).sqrt() };
        Ok(if moved.is_nan() { f64::INFINITY } else { moved })
    }
}
