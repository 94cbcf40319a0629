//! Sampled rows, exact and approximate, and what they say of each output (docs/math.md, equations 88 to 93).

use ndarray::{Array2, ArrayView2, Axis};

use super::stages::Stages;
use crate::certificate::estimated::{Correction, Drawing, Factors, TokenError};
use crate::error::Error;
use crate::exact::rows::{RowValues, exact_rows, selected};
use crate::float::Float;
use crate::moments::{Approximation, Polynomial};
use crate::problem::{Problem, Weights, Wrt};

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
            residuals: [wide(exact.output.view()) - &target, wide(approximate.output.view()) - &target],
            mixed,
            indices,
        })
    }

    /// The sampled correction of an output that is a sum over rows.
    pub fn correction<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        pair: Option<(ArrayView2<'_, T>, ArrayView2<'_, T>)>,
        wrt: Wrt,
        drawing: Drawing<'_>,
    ) -> Result<Option<Correction>, Error> {
        let product = matches!(problem.weights, Weights::Product(_));
        let of = |factors: &[Factors<'_>]| Correction::new(factors, drawing).map(Some);
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

    /// That of the loss, a 1 × 1 matrix.
    pub fn loss(&self, drawing: Drawing<'_>) -> Result<Correction, Error> {
        let [exact, approximate] = self.residuals.each_ref().map(half_squares);
        let ones = Array2::ones(exact.dim());
        Correction::new(&[((exact - approximate).view(), ones.view())], drawing)
    }

    /// The rows of dL/dA1 exactly, and the error of all rows once these are in their place.
    pub fn by_token<T: Float>(&self, problem: &Problem<'_, T>, population: usize) -> (Array2<f64>, TokenError) {
        let back = match problem.weights {
            Weights::Product(X) => wide(X),
            Weights::Pair(W_Q, _) => wide(W_Q),
        };
        let back = problem.scale * back.reversed_axes();
        let errors = self.difference.dot(&back).map_axis(Axis(1), |row| row.dot(&row)).to_vec();
        (self.exact.dot(&back), TokenError::new(&errors, population))
    }

    /// s ‖a_j‖ ‖w_j − w̃_j‖ of each row.
    pub fn norms(&self) -> Vec<f64> {
        let norms = |matrix: &Array2<f64>| matrix.map_axis(Axis(1), |row| row.dot(&row).sqrt());
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
    let approximate = stages.run(0.5, |options, watch| polynomial.rows(problem, indices, options, watch))?;
    Ok([exact, approximate])
}

/// ½ ‖row‖², (rows, 1).
fn half_squares(matrix: &Array2<f64>) -> Array2<f64> {
    matrix.map_axis(Axis(1), |row| 0.5 * row.dot(&row)).insert_axis(Axis(1))
}

fn wide<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    array.mapv(T::widen)
}
