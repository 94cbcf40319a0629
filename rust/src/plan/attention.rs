//! The output of several heads of attention as one result: the method for all of them, and the certificate of all.

use ndarray::Array2;

use super::decide::Law;
use super::decision::{Decision, Method};
use super::execute::{Start, found};
use super::forecast::{Forecast, check_memory, forecast_output};
use super::heads::{Unit, WITH_MASK, costliest, of_all, of_each, stacked};
use super::logits::Drawn;
use super::output::{Output, OutputPasses};
use super::request::{Certificate, Request, Wanted};
use super::stages::Stages;
use crate::error::Error;
use crate::exact::{attention_stack_measured, check_finite};
use crate::float::{Float, compiled};
use crate::problem::{Heads, Problem, Stack};
use crate::runtime::pool::Watch;

/// The output of all heads with its certificate.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttentionOutput<T> {
    /// o, (heads · n, dv): rows of one head after those of the one before.
    pub output: Array2<T>,
    /// ln Σ_i exp(logit_i) of each row, (heads, n), where it was wanted; −∞ where a row sees nothing.
    pub lse: Option<Array2<T>>,
    /// The error of the output of all heads together.
    pub certificate: Certificate,
    /// The method that was run, and the reason.
    pub decision: Decision,
    /// What was expected of it before.
    pub forecast: Forecast,
}

const WITH_LSE: &str = "the logarithm of the normaliser is wanted, which the exact method alone has";
const NO_HEAD: &str = "there is no head";

/// o of all heads by the method that the request leads to, with the logarithm of the normaliser if `has_lse`, which the
/// exact method alone has. `is_checked`: inputs that are not finite are refused, also where no query sees them.
///
/// One degree and one number of rows serve for all heads that the polynomial is run for. `auto` runs it where it is
/// expected to cost less for every head; a head that it turns out not to do for is computed exactly.
///
/// Time that of [`crate::exact::attention_stack`], or 4 (n + m) N (dv + 1) a head with N = C(d + g, g) features for the
/// degree g, and 4 r m d for r sampled rows.
///
/// ```
/// use attngrad::plan::{Method, certified_attention};
/// use attngrad::{Heads, Request, Stack};
/// use ndarray::Array2;
///
/// let matrix = |a: f64| Array2::from_shape_fn((20_000, 4), |(j, i)| 0.5 * (a * (4 * j + i + 1).pow(2) as f64).sin());
/// let (q, k, v) = (matrix(0.3), matrix(0.5), matrix(0.7));
/// let stack = Stack::of(vec![Heads::new(q.view(), k.view(), v.view())?])?;
/// let found = certified_attention(&stack, (false, true), &Request::default().degree(2), None)?;
/// assert_eq!(found.decision.method, Method::Polynomial);
/// let exact = certified_attention(&stack, (false, true), &Request::default(), None)?;
/// let error = (&found.output - &exact.output).mapv(|x| x * x).sum().sqrt();
/// assert!(error <= found.certificate.absolute && found.certificate.absolute.is_finite());
/// # Ok::<(), attngrad::Error>(())
/// ```
///
/// # Errors
/// [`Error::Option`] for an invalid request, and for a polynomial by name where `has_lse` or a head has another mask
/// than the causal one; those of [`crate::exact::attention_stack`].
pub fn certified_attention<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<AttentionOutput<T>, Error> {
    type Found<T> = Result<AttentionOutput<T>, Error>;
    compiled!(T, attend::<T> as fn(&Stack<'_, T>, (bool, bool), &Request, Option<Watch<'_>>) -> Found<T>)(
        stack,
        (has_lse, is_checked),
        request,
        watch,
    )
}

fn attend<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<AttentionOutput<T>, Error> {
    request.check_in::<T>()?;
    request.check_for_heads()?;
    let decision = decide(stack, has_lse, request)?;
    let (options, is_causal) = (&request.options, stack.heads().first().and_then(Heads::plain).unwrap_or(false));
    let forecast = forecast_output::<T>(stack.sizes(), is_causal, &decision, options)?;
    check_memory(options, || Ok(forecast))?;
    if decision.method == Method::Exact {
        let (found, estimates) = attention_stack_measured(stack, (has_lse, is_checked), options, watch)?;
        let rounding = of_each(request.norm, estimates.iter().map(|one| one.rounding));
        let certificate = Certificate::exact(request, rounding, request.norm.of(&found.output));
        return Ok(AttentionOutput { output: found.output, lse: found.lse, certificate, decision, forecast });
    }
    let count = stack.heads().len();
    let mut stages = Stages::new(options, watch);
    let mut all: Vec<Output<T>> = Vec::with_capacity(count);
    for (number, head) in stack.heads().iter().enumerate() {
        if is_checked {
            check_finite(head, None, options)?;
        }
        let share = 1.0 / (count - number) as f64;
        let start = Start::Sized { degree: decision.degree, samples: decision.samples };
        all.push(stages.run(share, |options, watch| {
            let one = |problem: &Problem<'_, T>| of_head(problem, &request.options(*options), start, watch);
            Unit::of(head).with_output(head, one)
        })?);
    }
    let views: Vec<_> = all.iter().map(|one| one.value.view()).collect();
    let output = stacked(&views)?;
    let certificates: Vec<Certificate> = all.iter().map(|one| one.certificate).collect();
    let certificate = of_all(&certificates, request, request.norm.of(&output));
    let decision = costliest(decision, all.iter().map(|one| &one.decision));
    Ok(AttentionOutput { output, lse: None, certificate, decision, forecast })
}

/// The output of one head.
fn of_head<T: Float>(
    problem: &Problem<'_, T>,
    request: &Request,
    start: Start<'_>,
    watch: Option<Watch<'_>>,
) -> Result<Output<T>, Error> {
    let seen = problem.admitted()?;
    let law = Law::of_output(&seen, request);
    let result =
        found::<T, OutputPasses<T>>(&seen, law, start, &request.options, &mut Stages::new(&request.options, watch));
    result.map_err(|error| seen.blame(error))
}

/// The decision for all heads: one degree and one number of rows, or the exact method.
fn decide<T: Float>(stack: &Stack<'_, T>, has_lse: bool, request: &Request) -> Result<Decision, Error> {
    if let Some(reason) = request.exact_because() {
        return Ok(Decision::exact(reason.into()));
    }
    let is_auto = request.wanted == Wanted::Auto;
    if has_lse && !is_auto {
        let wanted = "False for method 'polynomial': the exact method alone has it".into();
        return Err(Error::Option { option: "return_lse", found: "True".into(), wanted });
    }
    let has_mask = stack.heads().iter().any(|head| head.plain().is_none());
    let Some(first) = stack.heads().first() else { return Ok(Decision::exact(NO_HEAD.into())) };
    for (is_so, reason) in [(has_lse, WITH_LSE), (has_mask && is_auto, WITH_MASK)] {
        if is_so {
            return Ok(Decision::exact(reason.into()));
        }
    }
    let of = |head: &Heads<'_, T>| {
        Unit::of(head).with_output(head, |problem| {
            let problem = problem.admitted()?;
            Law::of_output(&problem, request).decide(&problem, &[], &Drawn::new())
        })
    };
    let mut best = of(first)?;
    for head in &stack.heads()[1..] {
        if best.method == Method::Exact {
            break;
        }
        best = best.or_dearer(of(head)?);
    }
    Ok(best)
}
