//! The rounding estimates of the gradients, from those of the rows (docs/math.md, section 5).

use ndarray::{Array2, ArrayView2};

use super::{Passes, rows};
use crate::error::Error;
use crate::exact::alike::{Trace, alike, is_exact, longest, traces};
use crate::exact::measures::{Keys, Place};
use crate::exact::rounding::{Inherited, Mixed, isotropic};
use crate::float::Float;
use crate::linalg::norms::{frobenius, largest_row, row_norms, spectral_bound};
use crate::problem::{Problem, Weights, Wrt};
use crate::runtime::pool::Run;

impl<T: Float> Passes<T> {
    /// The rounding estimate of one gradient.
    pub(super) fn rounding(
        &self,
        problem: &Problem<'_, T>,
        wrt: Wrt,
        value: &Array2<T>,
        run: &mut Run<'_>,
    ) -> Result<f64, Error> {
        let (query_weights, key_weights) = match problem.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let scale = problem.scale.abs();
        let (sums, factor) = match wrt {
            Wrt::X | Wrt::WQ => {
                let left = traces(rows(&problem.A1)?, run)?;
                (scale * self.errors.query_side(&left, &self.w_norms, run)?, 1.0)
            }
            Wrt::A1 => (scale * self.errors.query_rows(&self.w_norms, run)?, stretch(query_weights)),
            Wrt::WK => {
                let place = Place::new(rows(&problem.A2)?, run)?;
                let sums = self.errors.key_weights(&place, problem.A2.view(), &self.w_norms, run)?;
                (sums + self.over_keys(&problem.A2, &self.keys, run)?, 1.0)
            }
            Wrt::A2 => (self.errors.key_side(run)?, key_weights.map_or(1.0, stretch)),
            Wrt::A3 => (self.errors.value_side(run)?, stretch(problem.Y)),
            Wrt::Y => {
                let sums = self.errors.mixed(&Place::new(rows(&problem.A3)?, run)?, run)?;
                let values = if self.mixed.is_none() { &self.values } else { &None };
                (sums + self.over_keys(&problem.A3, values, run)?, 1.0)
            }
            Wrt::A => {
                let mut sum = 0.0;
                for part in [Wrt::A1, Wrt::A2, Wrt::A3] {
                    sum += self.rounding(problem, part, value, run)?;
                }
                (sum, 1.0)
            }
        };
        Ok(self.errors.finish::<T>(sums, factor, frobenius(value.view()), value.len()))
    }
}

impl<T: Float> Passes<T> {
    /// Rounding error of the last product over the keys: that of `inputs` with sums over rows, if those were made.
    fn over_keys(&self, inputs: &ArrayView2<'_, T>, sums: &Option<Array2<T>>, run: &mut Run<'_>) -> Result<f64, Error> {
        let Some(sums) = sums else { return Ok(0.0) };
        let size = frobenius(sums.view());
        let (inputs, sums) = (traces(rows(inputs)?, run)?, traces(rows(sums)?, run)?);
        self.errors.over_keys(&inputs, &sums, size)
    }
}

impl<T: Float> Problem<'_, T> {
    /// Rounding errors of the products before the passes.
    pub(super) fn inherited(&self, largest_key: f64, run: &mut Run<'_>) -> Result<Inherited, Error> {
        let (query_weights, key_weights) = match self.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let mut logits = row_norms(rows(&self.A1)?, run)?;
        let per_row = self.scale.abs() * lost(query_weights) * largest_key;
        for logit in &mut logits {
            *logit *= per_row;
        }
        let keys = match key_weights {
            None => 0.0,
            Some(W_K) => largest_row(rows(&self.A2)?, run)? * lost(W_K),
        };
        Ok(Inherited { logits, keys, values: largest_row(rows(&self.A3)?, run)? * lost(self.Y) })
    }
}

impl Mixed {
    /// From the statistics of A3 as values, the rows of f A3, and Y.
    pub(super) fn new<T: Float>(keys: Keys, outputs: Vec<Trace>, Y: ArrayView2<'_, T>) -> Self {
        let cell = alike(longest(&outputs), T::UNIT_ROUNDOFF, Y.nrows() as f64);
        Mixed { keys, outputs, cell, stretch: stretch(Y), lost: lost(Y) }
    }
}

/// Rounding error of a product with these weights, in roundings, for a row of norm one.
fn lost<T: Float>(weights: ArrayView2<'_, T>) -> f64 {
    if is_exact(weights) { 0.0 } else { frobenius(weights) }
}

/// Factor by which a product with `matrix` can stretch an error that is independent of it.
fn stretch<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    let share = isotropic(matrix.nrows().min(matrix.ncols()));
    (share * frobenius(matrix)).min(spectral_bound(matrix))
}
