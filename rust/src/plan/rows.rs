//! Sampled rows, exact and approximate, and what they say of each output (docs/math.md, equations 88 to 93).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};

use super::stages::Stages;
use crate::certificate::estimated::{Factors, TokenError};
use crate::constants::SAMPLE_ROWS;
use crate::error::Error;
use crate::exact::rows::{RowValues, ascending, exact_rows, selected};
use crate::float::Float;
use crate::moments::{Approximation, Polynomial};
use crate::problem::{Problem, Weights, Wrt};

/// What exact rows may lose to rounding over one rounding of a typical term: logits and normalisers carry some of their
/// own, and those of equal keys line up. With one coordinate a third of it has been seen.
const LINED_UP: f64 = 40.0;

/// Some query rows: their inputs, and how far the approximation is off in them.
pub struct Sample {
    /// The rows.
    pub indices: Vec<usize>,
    /// s A1, (rows, d1).
    pub left: Array2<f64>,
    /// w − w̃, (rows, d).
    pub difference: Array2<f64>,
    /// w, (rows, d).
    pub exact: Array2<f64>,
    /// c and c̃, (rows, dv).
    pub residuals: [Array2<f64>; 2],
    /// f A3 and f̃ A3, (rows, d3), where dL/dY is wanted.
    pub mixed: Option<[Array2<f64>; 2]>,
}

impl Sample {
    /// Computes both for the rows `indices`. Time 8 r m d exactly, and as much again for dL/dY.
    pub fn new<T: Float>(
        problem: &Problem<'_, T>,
        polynomial: &Polynomial,
        approximation: &Approximation,
        indices: Vec<usize>,
        with_values: bool,
        stages: &mut Stages<'_>,
    ) -> Result<Self, Error> {
        let share = if with_values { 0.5 } else { 0.9 };
        let both = compared(problem, polynomial, &indices, share, stages)?;
        let target = wide(selected(problem.E, &indices)?.view());
        let [exact, approximate] = both;
        let mixed = if with_values {
            // With the identity in the place of Y the output is f A3.
            let (identity, nothing) =
                (Array2::eye(problem.A3.ncols()), Array2::zeros((problem.A1.nrows(), problem.A3.ncols())));
            let values = Problem { Y: identity.view(), E: nothing.view(), ..problem.reborrow() };
            let fitted = stages.run(0.5, |options, watch| Polynomial::fit(&values, approximation, options, watch))?;
            let [exact, approximate] = compared(&values, &fitted, &indices, 0.9, stages)?;
            Some([wide(exact.output.view()), wide(approximate.output.view())])
        } else {
            None
        };
        let exact_w = wide(exact.w.view());
        Ok(Sample {
            left: problem.scale * wide(selected(problem.A1, &indices)?.view()),
            difference: &exact_w - &wide(approximate.w.view()),
            exact: exact_w,
            residuals: [exact, approximate].map(|rows| match problem.is_target {
                true => wide(rows.output.view()) - &target,
                false => target.clone(),
            }),
            mixed,
            indices,
        })
    }

    /// The rows of both in the order of their indices.
    pub fn merged(&self, other: &Sample) -> Result<Self, Error> {
        let indices: Vec<usize> = self.indices.iter().chain(&other.indices).copied().collect();
        let (places, indices) = ascending(&indices)?;
        let both = |one: &Array2<f64>, other: &Array2<f64>| {
            let all = concatenate(Axis(0), &[one.view(), other.view()]);
            all.map(|all| all.select(Axis(0), &places)).map_err(|error| Error::Internal(format!("rows: {error}")))
        };
        let pairs = |[a, b]: &[Array2<f64>; 2], [c, d]: &[Array2<f64>; 2]| Ok([both(a, c)?, both(b, d)?]);
        Ok(Sample {
            left: both(&self.left, &other.left)?,
            difference: both(&self.difference, &other.difference)?,
            exact: both(&self.exact, &other.exact)?,
            residuals: pairs(&self.residuals, &other.residuals)?,
            mixed: self.mixed.as_ref().zip(other.mixed.as_ref()).map(|(one, other)| pairs(one, other)).transpose()?,
            indices,
        })
    }

    /// Some of its rows.
    pub fn part(&self, range: Range<usize>) -> Self {
        let of = |all: &Array2<f64>| all.slice(s![range.clone(), ..]).to_owned();
        Sample {
            indices: self.indices[range.clone()].to_vec(),
            left: of(&self.left),
            difference: of(&self.difference),
            exact: of(&self.exact),
            residuals: self.residuals.each_ref().map(of),
            mixed: self.mixed.as_ref().map(|both| both.each_ref().map(of)),
        }
    }

    /// What `of` makes of the errors of an output that is a sum over rows, each a sum of products of rows.
    pub fn errors<T: Float, R>(
        &self,
        problem: &Problem<'_, T>,
        pair: Option<(ArrayView2<'_, T>, ArrayView2<'_, T>)>,
        wrt: Wrt,
        of: impl FnOnce(&[Factors<'_>]) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        let product = matches!(problem.weights, Weights::Product(_));
        let of = |factors: &[Factors<'_>]| of(factors).map(Some);
        match (wrt, pair, &self.mixed) {
            (Wrt::X, _, _) => of(&[(self.left.view(), self.difference.view())]),
            // w has the width of the pair already.
            (Wrt::WQ, _, _) if !product => of(&[(self.left.view(), self.difference.view())]),
            (Wrt::WQ, Some((_, W_K)), _) => of(&[(self.left.view(), self.difference.dot(&wide(W_K)).view())]),
            (Wrt::WK, Some((W_Q, _)), _) => of(&[(self.difference.view(), self.left.dot(&wide(W_Q)).view())]),
            (Wrt::Y, _, Some([exact, approximate])) => {
                let negative = -1.0 * approximate;
                let [c, c_approximate] = &self.residuals;
                of(&[(exact.view(), c.view()), (negative.view(), c_approximate.view())])
            }
            _ => Ok(None),
        }
    }

    /// The error of the loss in each row, (rows, 1).
    pub fn losses(&self) -> Array2<f64> {
        let [exact, approximate] = self.residuals.each_ref().map(half_squares);
        exact - approximate
    }

    /// The rows of dL/dA1 exactly.
    pub fn rows<T: Float>(&self, problem: &Problem<'_, T>) -> Array2<f64> {
        self.exact.dot(&back(problem))
    }

    /// The error of all rows of dL/dA1 once these are in their place; `sizes` in proportion to ‖w_j − w̃_j‖ of all rows
    /// tell how much the others may differ from these.
    pub fn by_token<T: Float>(&self, problem: &Problem<'_, T>, population: usize, sizes: &[f64]) -> TokenError {
        let errors = self.difference.dot(&back(problem)).map_axis(Axis(1), |row| row.dot(&row)).to_vec();
        let square = |size: f64| size * size;
        let drawn: Vec<f64> = self.indices.iter().map(|&row| square(sizes[row])).collect();
        let mut rest = sizes.to_vec();
        self.indices.iter().for_each(|&row| rest[row] = 0.0);
        let total = sizes.iter().copied().map(square).sum();
        let largest = square(rest.into_iter().fold(0.0, f64::max));
        TokenError::by_caps(&errors, &drawn, total, largest, population)
    }

    /// An estimate of what an output loses to the rounding of exact rows: that of one term of each row's mean over the
    /// keys, over the root of their number where attention is flat. Logits of size b lose b roundings, and e^b times as
    /// few keys share the mass.
    pub fn rounding<T: Float>(&self, problem: &Problem<'_, T>, wrt: Wrt, population: usize) -> f64 {
        let logit = typical_of(self.left.dot(&query_weights(problem))) * typical_key(problem);
        let flat = (logit.exp() / (problem.A2.nrows().max(1) as f64).sqrt()).min(1.0);
        let of_rows = |factor: Array1<f64>| {
            let c = norms(&self.residuals[0]);
            let mean = (&factor * &c).mapv(|x| x * x).mean().unwrap_or(0.0);
            (population as f64 * mean).sqrt()
        };
        let (keys, inputs) = (typical(problem.A2), typical(problem.A3));
        let values = typical_of(wide(strided(problem.A3)).dot(&wide(problem.Y)));
        let ones = || Array1::ones(self.indices.len());
        let size = match wrt {
            Wrt::Y => inputs * of_rows(ones()),
            Wrt::A1 => {
                let weights = query_weights(problem);
                keys * values * problem.scale.abs() * weights.mapv(|x| x * x).sum().sqrt() * of_rows(ones())
            }
            _ => keys * values * of_rows(norms(&self.left)),
        };
        LINED_UP * T::UNIT_ROUNDOFF * size * (1.0 + logit) * flat
    }

    /// Σ ‖x_j‖ over all rows as these have it: what cancels in a sum of errors has been rounded before.
    pub fn total(&self, population: usize) -> f64 {
        let norms = self.norms();
        norms.iter().sum::<f64>() * population as f64 / norms.len().max(1) as f64
    }

    /// s ‖a_j‖ ‖w_j − w̃_j‖ of each row.
    pub fn norms(&self) -> Vec<f64> {
        (norms(&self.left) * norms(&self.difference)).to_vec()
    }
}

/// Rows of both.
fn compared<T: Float>(
    problem: &Problem<'_, T>,
    polynomial: &Polynomial,
    indices: &[usize],
    share: f64,
    stages: &mut Stages<'_>,
) -> Result<[RowValues<T>; 2], Error> {
    let exact = stages.run(share, |options, watch| exact_rows(problem, indices, options, watch))?;
    let approximate = stages.run(0.5, |options, watch| polynomial.fitted_rows(problem, indices, options, watch))?;
    Ok([exact, approximate])
}

/// From w to rows of dL/dA1.
fn back<T: Float>(problem: &Problem<'_, T>) -> Array2<f64> {
    problem.scale * query_weights(problem).reversed_axes()
}

/// X, or W_Q.
fn query_weights<T: Float>(problem: &Problem<'_, T>) -> Array2<f64> {
    match problem.weights {
        Weights::Product(X) => wide(X),
        Weights::Pair(W_Q, _) => wide(W_Q),
    }
}

/// ‖row‖ of each row.
fn norms(matrix: &Array2<f64>) -> Array1<f64> {
    matrix.map_axis(Axis(1), |row| row.dot(&row).sqrt())
}

/// Root mean square of the norms of the rows.
pub(super) fn typical_of(rows: Array2<f64>) -> f64 {
    (rows.mapv(|x| x * x).sum() / rows.nrows().max(1) as f64).sqrt()
}

/// The same of many rows, from some of them.
pub(super) fn typical<T: Float>(rows: ArrayView2<'_, T>) -> f64 {
    typical_of(wide(strided(rows)))
}

/// Root mean square of the length of keys around their mean.
pub(super) fn typical_key<T: Float>(problem: &Problem<'_, T>) -> f64 {
    let some = wide(strided(problem.A2));
    let Some(mean) = some.mean_axis(Axis(0)) else { return typical(problem.A2) };
    let centred = &some - &mean;
    typical_of(match problem.weights {
        Weights::Product(_) => centred,
        Weights::Pair(_, W_K) => centred.dot(&wide(W_K)),
    })
}

/// At most [`SAMPLE_ROWS`] rows, evenly spaced.
pub(super) fn strided<T>(rows: ArrayView2<'_, T>) -> ArrayView2<'_, T> {
    let step = rows.nrows().div_ceil(SAMPLE_ROWS).max(1);
    rows.slice_move(s![..;step, ..])
}

/// ½ ‖row‖², (rows, 1).
fn half_squares(matrix: &Array2<f64>) -> Array2<f64> {
    matrix.map_axis(Axis(1), |row| 0.5 * row.dot(&row)).insert_axis(Axis(1))
}

pub(super) fn wide<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    array.mapv(T::widen)
}
