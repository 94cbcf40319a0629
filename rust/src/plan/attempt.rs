//! What a search tries: the gradients of a problem, or the output of attention.

use super::decide::Law;
use super::decision::{Backing, Decision};
use super::setting::Setting;
use super::stages::Stages;
use super::tries::Tried;
use crate::error::Error;
use crate::float::Float;
use crate::problem::Problem;

/// One degree of the polynomial for all rows, and the results that are made of it.
pub(super) trait Attempt<T: Float>: Sized {
    /// Results with certificates.
    type Found: Tried;

    /// The passes; nothing where too many rows are beyond the polynomial, those that are known to be among them.
    fn run(
        setting: &Setting<'_, T>,
        backing: Backing,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Self>, Error>;

    /// Number of rows that are computed exactly.
    fn apart(&self) -> usize;

    /// Rows that a uniform sample must hold to see enough of those that the error is made of.
    fn least_samples(&self) -> usize;

    /// Results with certificates from `decision.samples` rows, where the backing wants rows.
    fn certified(
        &mut self,
        setting: &Setting<'_, T>,
        backing: Backing,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Self::Found, Error>;

    /// The exact results in their place; `zero` says which gradients are zero by structure.
    fn exact(
        problem: &Problem<'_, T>,
        law: &Law<'_>,
        zero: &[bool],
        decision: Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Self::Found, Error>;
}
