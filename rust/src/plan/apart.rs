//! Rows that the polynomial is not trusted with, computed exactly: everything but dL/dA1 is a sum over query rows
//! (docs/math.md, equation 11.8).

use ndarray::{Array2, Axis};

use super::request::Norm;
use super::stages::Stages;
use crate::error::Error;
use crate::exact::gradient::{Gradients, loss_gradient};
use crate::exact::proved::ProvedRounding;
use crate::float::Float;
use crate::linalg::outward::outward;
use crate::linalg::rows::selected;
use crate::problem::{Problem, Wrt};

/// Room for norms that are themselves rounded.
const ADDED: f64 = 1.0 + 1.0 / 1024.0;

/// Contribution of some rows, to be added to the sums over all others.
pub struct Share<T> {
    /// To the loss.
    pub loss: f64,
    /// Estimate of the rounding error of each.
    pub rounding: Vec<f64>,
    /// Bounds of all rounding errors.
    pub proved: ProvedRounding,
    /// To each output, in its order; of dL/dA1 the rows themselves.
    pub gradients: Vec<(Wrt, Array2<T>)>,
}

/// The outputs that `wrt` is made of: A is a sum of three.
pub fn parts(wrt: &[Wrt]) -> Vec<Wrt> {
    let mut parts: Vec<Wrt> = Vec::new();
    for &wrt in wrt {
        let of: &[Wrt] = if wrt == Wrt::A { &[Wrt::A1, Wrt::A2, Wrt::A3] } else { &[wrt] };
        parts.extend(of.iter().filter(|&&part| part != Wrt::A));
    }
    parts.sort_by_key(|part| part.name());
    parts.dedup();
    parts
}

/// Exact contribution of the rows `indices`. Not for causal problems.
pub fn exact_share<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    indices: &[usize],
    stages: &mut Stages<'_>,
) -> Result<Share<T>, Error> {
    let (A1, E) = (selected(problem.A1, indices)?, selected(problem.E, indices)?);
    let some = problem.with_queries(A1.view(), E.view());
    let parts = parts(wrt);
    let Gradients { loss, gradients, .. } =
        stages.run(0.5, |options, watch| loss_gradient(&some, &parts, options, watch))?;
    let proved = stages.run(0.0, |options, _| ProvedRounding::new(&some, options))?;
    let rounding = gradients.iter().map(|gradient| gradient.rounding).collect();
    let gradients = gradients.into_iter().map(|gradient| (gradient.wrt, gradient.value)).collect();
    Ok(Share { loss, rounding, proved, gradients })
}

impl<T: Float> Share<T> {
    /// Adds the share of the rows `indices` to an output.
    pub fn add_to(&self, wrt: Wrt, value: &mut Array2<T>, indices: &[usize]) {
        let add = |sum: &mut T, &term: &T| *sum = T::narrow(sum.widen() + term.widen());
        for (part, share) in &self.gradients {
            let by_row = *part == Wrt::A1;
            if !(*part == wrt || wrt == Wrt::A && matches!(part, Wrt::A1 | Wrt::A2 | Wrt::A3)) {
                continue;
            }
            if by_row {
                for (&index, row) in indices.iter().zip(share.axis_iter(Axis(0))) {
                    value.row_mut(index).zip_mut_with(&row, add);
                }
            } else {
                value.zip_mut_with(share, add);
            }
        }
    }

    /// Frobenius norm of the share in an output, or of its parts together.
    pub fn norm(&self, wrt: Wrt) -> f64 {
        let of = |part: Wrt| part == wrt || wrt == Wrt::A && matches!(part, Wrt::A1 | Wrt::A2 | Wrt::A3);
        self.gradients.iter().filter(|(part, _)| of(*part)).map(|(_, share)| Norm::Frobenius.of(share)).sum()
    }

    /// An upper bound of the error of the share in an output, and of the rounding error of adding it to a result of
    /// norm `size`.
    pub fn bound(&self, wrt: Wrt, size: f64) -> f64 {
        let parts = if wrt == Wrt::A { 3.0 } else { 1.0 };
        outward(self.proved.gradient(wrt) + parts * T::UNIT_ROUNDOFF * (size + self.norm(wrt)) * ADDED)
    }

    /// Estimate of the rounding error of the share in an output.
    pub fn rounding(&self, wrt: Wrt) -> f64 {
        let of = |part: Wrt| part == wrt || wrt == Wrt::A && matches!(part, Wrt::A1 | Wrt::A2 | Wrt::A3);
        self.gradients.iter().zip(&self.rounding).filter(|((part, _), _)| of(*part)).map(|(_, rounding)| rounding).sum()
    }
}
