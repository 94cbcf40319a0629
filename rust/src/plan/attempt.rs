//! What a search tries: the gradients of a problem, or the output of attention.

use super::decide::Law;
use super::decision::{Backing, Decision};
use super::execute::exact;
use super::passes::Passes;
use super::request::{Certificate, Kind};
use super::setting::Setting;
use super::solution::Solution;
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

impl<T: Float> Attempt<T> for Passes<T> {
    type Found = Solution<T>;

    fn run(
        setting: &Setting<'_, T>,
        backing: Backing,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Self>, Error> {
        Passes::of(setting, backing, beyond, stages)
    }

    fn apart(&self) -> usize {
        self.apart.len()
    }

    fn least_samples(&self) -> usize {
        self.least_rows()
    }

    fn certified(
        &mut self,
        setting: &Setting<'_, T>,
        backing: Backing,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Solution<T>, Error> {
        let mut tried = self.solution(setting, backing, decision, stages)?;
        for (one, _) in tried.gradients.iter_mut().zip(setting.zero).filter(|(_, zero)| **zero) {
            one.value.fill(T::narrow(0.0));
            one.certificate = Certificate::new(setting.request, Kind::Rigorous, [0.0; 3], 0.0);
        }
        Ok(tried)
    }

    fn exact(
        problem: &Problem<'_, T>,
        law: &Law<'_>,
        zero: &[bool],
        decision: Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Solution<T>, Error> {
        exact(problem, law.wrt, law.request, zero, decision, stages)
    }
}
