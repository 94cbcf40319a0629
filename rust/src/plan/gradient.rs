//! The gradient by the method that the planner chooses.

use std::time::Instant;

use super::decide::check;
use super::decision::Decision;
use super::execute::{Start, of_seen};
use super::forecast::{Forecast, forecast, observe};
use super::guard::foresee;
use super::request::Request;
use super::solution::{Gradient, Solution};
use super::stages::Stages;
use super::stronger::borrowed;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::problem::{Problem, Shape, Wrt};
use crate::runtime::pool::Watch;

/// L and dL/d(input) for each input in `wrt` by the method that [`super::decide()`] chooses, each with its certificate.
///
/// Where a tolerance is asked for and the certificate misses it, more rows are drawn, then the next degree is tried; in
/// the end `auto` computes the exact gradient, while a method that was named returns its best with `reached` false.
///
/// Time: that of [`crate::polynomial_gradient`] and 8 r m d for r exact rows, or that of
/// [`crate::exact::loss_gradient`].
///
/// # Errors
/// [`Error::Option`] for an invalid request or start, a start prepared for other keys, values or weights, an output
/// that the problem does not have, and too many features; those of both methods.
pub fn solve<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    start: Start<'_>,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    compiled!(
        T,
        solve_in::<T>
            as fn(&Problem<'_, T>, &[Wrt], &Request, Start<'_>, Option<Watch<'_>>) -> Result<Solution<T>, Error>
    )(problem, wrt, request, start, watch)
}

fn solve_in<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    start: Start<'_>,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    let (begin, options) = (Instant::now(), &request.options);
    check(problem, wrt, request)?;
    let seen = problem.admitted()?;
    let mut stages = Stages::new(options, watch);
    let entries = request.admit(&seen, &mut stages)?;
    let run = if request.borrows() { borrowed } else { of_seen };
    let mut planned = run(&seen, wrt, request, start, options, &mut stages).map_err(|error| seen.blame(error))?;
    planned.entries = entries;
    for Gradient { wrt, value, .. } in &mut planned.gradients {
        *value = problem.whole(*wrt, std::mem::take(value))?;
    }
    // A call with prepared moments is cheaper than its forecast.
    if !matches!(start, Start::Prepared(_)) {
        let seconds = begin.elapsed().as_secs_f64();
        observe::<T>(&Shape::of(problem), wrt, problem.is_causal, &planned.decision, options, seconds)?;
    }
    Ok(planned)
}

/// L and dL/d(input) for each input in `wrt`, each with its certificate: [`solve`] from a fresh start, without a watch.
///
/// With `Request::default().atol(ε).norm(Norm::Largest)` it is the problem AAttLGC(n, d, ε) of Alman and Song (arXiv
/// 2402.04497, Definition 1.4; docs/math.md, section 12): every entry of dL/dX within ε. [`Request::bound()`] is its B.
///
/// ```
/// use attngrad::plan::Method;
/// use attngrad::{Problem, Request, Weights, Wrt, loss_gradient};
/// use ndarray::Array2;
///
/// let matrix = |n, a: f64| Array2::from_shape_fn((n, 4), |(j, i)| (a * (4 * j + i + 1).pow(2) as f64).sin());
/// let (A1, A2, A3, E) = (matrix(20_000, 0.3), matrix(20_000, 0.5), matrix(20_000, 0.7), matrix(20_000, 0.9));
/// let one = Array2::eye(4);
/// let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(one.view()), one.view(), E.view())?;
///
/// let exact = loss_gradient(&problem, &[Wrt::X], &Request::default())?;
/// let near = loss_gradient(&problem, &[Wrt::X], &Request::default().rtol(1e-2))?;
/// assert_eq!((exact.decision.method, near.decision.method), (Method::Exact, Method::Polynomial));
/// let (exact, near) = (&exact.gradients[0], &near.gradients[0]);
/// assert_eq!(near.certificate.reached, Some(true));
/// let error = (&near.value - &exact.value).mapv(|x| x * x).sum().sqrt();
/// assert!(error <= near.certificate.absolute);
/// # Ok::<(), attngrad::Error>(())
/// ```
///
/// # Errors
/// Those of [`solve`].
pub fn loss_gradient<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Solution<T>, Error> {
    solve(problem, wrt, request, Start::Fresh, None)
}

/// A decision, and its expected cost.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The method, its size, and why.
    pub decision: Decision,
    /// Operations, seconds and memory.
    pub forecast: Forecast,
}

/// The plan of [`loss_gradient`], from all that is known before anything big is computed. Time O((n + m) d²), and none
/// where the exact passes are requested.
///
/// ```
/// use attngrad::{Problem, Request, Weights, Wrt, plan_loss_gradient};
/// use ndarray::Array2;
///
/// let A = Array2::<f32>::zeros((1000, 8));
/// let one = Array2::eye(8);
/// let problem = Problem::new(A.view(), A.view(), A.view(), Weights::Product(one.view()), one.view(), A.view())?;
/// let plan = plan_loss_gradient(&problem, &[Wrt::X], &Request::default())?;
/// assert_eq!(plan.decision.reason, "rtol is None: nothing but rounding is allowed");
/// assert!(plan.forecast.peak_bytes > 0);
/// # Ok::<(), attngrad::Error>(())
/// ```
///
/// # Errors
/// Those of [`foresee`].
pub fn plan_loss_gradient<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Plan, Error> {
    compiled!(T, plan_loss_gradient_in::<T> as fn(&Problem<'_, T>, &[Wrt], &Request) -> Result<Plan, Error>)(
        problem, wrt, request,
    )
}

fn plan_loss_gradient_in<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Plan, Error> {
    let decision = foresee(problem, wrt, request, None)?;
    let forecast = forecast::<T>(&Shape::of(problem), wrt, problem.is_causal, &decision, &request.options)?;
    Ok(Plan { decision, forecast })
}
