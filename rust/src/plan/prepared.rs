//! Reusable parts of a call: the polynomial and the moments of the keys.

use std::sync::OnceLock;

use super::decision::{Backing, Decision};
use super::request::Request;
use super::stages::Stages;
use super::unfold::{unfolded, with_product};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::moments::Polynomial;
use crate::options::Options;
use crate::problem::Approximation;
use crate::problem::{Problem, Wrt};
use crate::runtime::pool::Watch;

/// Parts of a call that others with the same keys, values and weights can reuse: the polynomial and the moments of the
/// keys.
pub struct Prepared {
    pub(super) approximation: Approximation,
    pub(super) moments: Polynomial,
    pub(super) decision: Decision,
    /// Moments of A3 itself for the rows of f̃ A3, once they were wanted.
    inputs: OnceLock<Polynomial>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Prepared").field("decision", &self.decision).finish_non_exhaustive()
    }
}

impl Prepared {
    /// The polynomial with its moments, for a decision.
    pub(super) fn new(approximation: Approximation, moments: Polynomial, decision: Decision) -> Self {
        Prepared { approximation, moments, decision, inputs: OnceLock::new() }
    }

    /// The polynomial with the moments of A3 itself. `problem` has the identity for Y.
    pub(super) fn of_inputs<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        stages: &mut Stages<'_>,
    ) -> Result<&Polynomial, Error> {
        if let Some(known) = self.inputs.get() {
            return Ok(known);
        }
        let fit = |options: &Options, watch: Option<Watch<'_>>| {
            Polynomial::fit_to(problem, &self.approximation, false, options, watch)
        };
        let fitted = stages.run(0.5, fit)?;
        Ok(self.inputs.get_or_init(|| fitted))
    }

    /// Whether it was made from these keys, values and weights, so that it can be used again.
    ///
    /// # Errors
    /// [`Error::Option`] for a scale that is no finite number; [`Error::OutOfMemory`], [`Error::Deadline`].
    pub fn fits<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        request: &Request,
        options: &Options,
    ) -> Result<bool, Error> {
        compiled!(
            T,
            Prepared::fits_in::<T> as fn(&Prepared, &Problem<'_, T>, &[Wrt], &Request, &Options) -> Result<bool, Error>
        )(self, problem, wrt, request, options)
    }

    fn fits_in<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        request: &Request,
        options: &Options,
    ) -> Result<bool, Error> {
        let seen = problem.admitted()?;
        // A stronger kind leaves the parts of the estimate whose gradient it returns.
        let backing = if request.borrows() { Backing::Estimated } else { Backing::of(request) };
        let product = unfolded(&seen, wrt, backing);
        match self.moments.require(&with_product(&seen, &product), options) {
            Err(Error::Option { .. }) => Ok(false),
            found => found.map(|()| true),
        }
    }

    /// The decision for the problem that it was made from.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}
