//! The gradient by the method that the planner chooses.

use std::time::Instant;

use super::cost::Shape;
use super::decide::check;
use super::execute::{Start, of_seen};
use super::forecast::observe;
use super::request::Request;
use super::solution::{Certified, Planned};
use super::stages::Stages;
use super::stronger::borrowed;
use crate::error::Error;
use crate::float::Float;
use crate::options::Options;
use crate::problem::{Problem, Wrt};
use crate::runtime::pool::Watch;

/// L and dL/d(input) for each input in `wrt` by the method that [`super::decide()`] chooses, each with its certificate.
///
/// Where a tolerance is asked for and the certificate misses it, more rows are drawn, then the next degree is tried; in the
/// end `auto` computes the exact gradient, while a method that was named returns its best with `reached` false.
///
/// Time: that of [`crate::polynomial_gradient`] and 8 r m d for r exact rows, or that of [`crate::loss_gradient`].
///
/// # Errors
/// [`Error::Option`] for a request or a start that means nothing, what was prepared for other keys, values or weights, an
/// output that the problem does not have, and too many features;
/// those of both methods.
pub fn planned_gradient<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    start: Start<'_>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Planned<T>, Error> {
    let begin = Instant::now();
    check(problem, wrt, request)?;
    let seen = problem.admitted()?;
    let mut stages = Stages::new(options, watch);
    let run = if request.borrows() { borrowed } else { of_seen };
    let mut planned = run(&seen, wrt, request, start, options, &mut stages).map_err(|error| seen.blame(error))?;
    for Certified { wrt, value, .. } in &mut planned.gradients {
        *value = problem.whole(*wrt, std::mem::take(value))?;
    }
    // What was prepared before makes a call cheaper than its forecast.
    if !matches!(start, Start::Prepared(_)) {
        let seconds = begin.elapsed().as_secs_f64();
        observe::<T>(&Shape::of(problem), wrt, problem.is_causal, &planned.decision, options, seconds)?;
    }
    Ok(planned)
}
