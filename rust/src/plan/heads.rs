//! Several heads of attention as one result: the decision for all of them, and the certificate of all.

use std::time::Instant;

use ndarray::{Array2, ArrayView2};

use super::decide::{Law, decide};
use super::decision::{Decision, Method};
use super::execute::Start;
use super::forecast::{check_memory, forecast_heads, observe};
use super::gradient::solve;
use super::request::{Certificate, Kind, Norm, Request, Wanted};
use super::solution::{Gradient, Solution};
use super::stages::Stages;
use crate::certificate::rigorous::Steps;
use crate::constants::FINE_ROWS;
use crate::error::Error;
use crate::exact::{Incoming, attention_stack_vjp, check_finite};
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::options::{Isa, Options};
use crate::problem::{HEAD_INPUTS, Heads, Problem, Stack, StackSizes, Weights};
use crate::runtime::buffer;
use crate::runtime::pool::Watch;

/// One head and the gradient of its output.
pub type Pulled<'a, T> = (Heads<'a, T>, ArrayView2<'a, T>);

/// dq, dk and dv of all heads with one certificate each, by the method that the request leads to: [`decide_heads`] and
/// [`solve_heads`].
///
/// ```
/// use attngrad::{Heads, Request, attention_vjp};
/// use ndarray::Array2;
///
/// let matrix = |a: f64| Array2::from_shape_fn((50, 4), |(j, i)| (a * (4 * j + i + 1).pow(2) as f64).sin());
/// let (q, k, v, dout) = (matrix(0.3), matrix(0.5), matrix(0.7), matrix(0.9));
/// let head = || Ok::<_, attngrad::Error>((Heads::new(q.view(), k.view(), v.view())?, dout.view()));
/// let solution = attention_vjp(&[head()?, head()?], &Request::default())?;
/// let [dq, dk, dv] = &solution.gradients[..] else { unreachable!("there are three") };
/// assert_eq!([dq, dk, dv].map(|one| one.value.dim()), [(100, 4); 3]);
/// assert_eq!(dq.certificate.reached, Some(true));
/// # Ok::<(), attngrad::Error>(())
/// ```
///
/// # Errors
/// Those of both.
pub fn attention_vjp<T: Float>(heads: &[Pulled<'_, T>], request: &Request) -> Result<Solution<T>, Error> {
    solve_heads(heads, decide_heads(heads, request)?, request, None)
}

/// The reason for the exact method where masks are given that no other has.
pub(super) const WITH_MASK: &str = "of the masks the polynomial method knows is_causal alone";

/// What comes with heads, as far as it settles the method.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside {
    /// Whether they are causal.
    pub is_causal: bool,
    /// Whether they have another mask.
    pub has_mask: bool,
    /// Whether results of the forward pass are given.
    pub has_saved: bool,
}

/// The decision for the gradients of heads where it needs no look at their numbers.
pub fn settled_heads<T: Float>(sizes: &StackSizes, beside: Beside, request: &Request) -> Option<Decision> {
    let because = |reason: &str| Some(Decision::exact(reason.into()));
    if let Some(reason) = request.exact_because() {
        return because(reason);
    }
    if request.wanted != Wanted::Auto {
        return None;
    }
    for (is_so, reason) in [
        (sizes.heads == 0, "there is no head"),
        (beside.has_mask, WITH_MASK),
        (beside.has_saved, "the forward pass is done, of which no other method has a use"),
        (sizes.group > 1, "heads share keys"),
    ] {
        if is_so {
            return because(reason);
        }
    }
    let law = Law::of_shape::<T>(sizes.head, beside.is_causal, &HEAD_INPUTS, request);
    law.settled(beside.is_causal, &[]).map(Decision::exact)
}

/// The decision for all heads: one degree and one number of rows, or the exact method where `auto` takes that for any
/// of them.
///
/// # Errors
/// Those of [`super::decide()`], for the first head that has one.
pub fn decide_heads<T: Float>(heads: &[Pulled<'_, T>], request: &Request) -> Result<Decision, Error> {
    request.check_in::<T>()?;
    request.check_for_heads()?;
    let has_mask = heads.iter().any(|(head, _)| head.plain().is_none());
    if let Some(reason) = request.exact_because().or((request.wanted == Wanted::Auto && has_mask).then_some(WITH_MASK))
    {
        return Ok(Decision::exact(reason.into()));
    }
    let each = heads.iter().map(|head| Unit::of(&head.0).with(head, |problem| decide(problem, &HEAD_INPUTS, request)));
    let mut best: Option<Decision> = None;
    for one in each {
        let one = one?;
        best = Some(match best {
            Some(best) => best.or_dearer(one),
            None => one,
        });
        if best.as_ref().is_some_and(|best| best.method == Method::Exact) {
            break;
        }
    }
    // Without a head nothing is decided.
    Ok(best.unwrap_or_else(|| Decision::new(Method::Polynomial, 0, 0)))
}

/// dq, dk and dv of all heads, rows of one head after those of the one before, as gradients with respect to A1, A2 and
/// A3, each with one certificate for all heads; L is 0. The decision is that of [`decide_heads`].
///
/// # Errors
/// [`Error::Shape`] for heads of different shapes, and those of [`solve_stack`].
pub fn solve_heads<T: Float>(
    heads: &[Pulled<'_, T>],
    decision: Decision,
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    let stack = Stack::of(heads.iter().map(|(head, _)| *head).collect())?;
    let incoming = Incoming { dout: heads.iter().map(|(_, dout)| dout.reborrow()).collect(), saved: None };
    solve_stack(&stack, &incoming, decision, (request, false), watch)
}

/// The same for heads that may share keys, and whose forward pass may be done. `is_checked`: inputs that are not finite
/// are refused, also where no query sees them.
///
/// Time: that of each head by the method that is run for it; exactly, all heads share the threads.
///
/// # Errors
/// [`Error::Option`] for a polynomial where keys are shared or results of the forward pass are given, and those of
/// [`crate::exact::attention_vjp`] and [`solve`].
pub fn solve_stack<T: Float>(
    stack: &Stack<'_, T>,
    incoming: &Incoming<'_, T>,
    decision: Decision,
    (request, is_checked): (&Request, bool),
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    request.check_in::<T>()?;
    request.check_for_heads()?;
    let (begin, options, shape) = (Instant::now(), &request.options, stack.shape());
    // Another mask hides keys, and takes no more than none.
    let plain = stack.heads().first().map(|head| head.plain());
    if let Some(is_causal) = plain.map(|plain| plain.unwrap_or(false)) {
        check_memory(options, || forecast_heads::<T>(stack.sizes(), is_causal, &decision, options))?;
    }
    let planned = if decision.method == Method::Exact {
        exactly(stack, incoming, decision, (request, is_checked), watch)?
    } else {
        one_by_one(stack, incoming, decision, (request, is_checked), watch)?
    };
    if let Some(Some(is_causal)) = plain {
        let seconds = begin.elapsed().as_secs_f64() / stack.heads().len() as f64;
        observe::<T>(&shape, &HEAD_INPUTS, is_causal, &planned.decision, options, seconds)?;
    }
    Ok(planned)
}

/// All heads as one computation.
fn exactly<T: Float>(
    stack: &Stack<'_, T>,
    incoming: &Incoming<'_, T>,
    decision: Decision,
    (request, is_checked): (&Request, bool),
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    let options = &request.options;
    let level = options.isa()?.level();
    // Without a tolerance nothing hangs on the estimate, and for short heads it takes longer than the gradients.
    let is_short = stack.shape().n.max(stack.shape().m) < FINE_ROWS;
    let is_coarse = !request.tolerates() && (is_short || incoming.saved.is_some());
    let found = attention_stack_vjp(stack, incoming, (is_coarse, is_checked), options, watch)?;
    let made = HEAD_INPUTS.into_iter().zip(found.values).zip(found.estimates);
    let gradients = made.map(|((wrt, value), estimates)| {
        let size = match request.norm {
            Norm::Frobenius => of_each(Norm::Frobenius, estimates.iter().map(|one| one.norm)),
            Norm::Largest => request.norm.of(&value),
        };
        let rounding = of_each(request.norm, estimates.iter().map(|one| one.rounding));
        Gradient { wrt, value, certificate: Certificate::exact(request, rounding, size) }
    });
    Ok(Solution {
        loss: 0.0,
        loss_certificate: Certificate::exact(&request.without_tolerance(), 0.0, 0.0),
        gradients: gradients.collect(),
        steps: None,
        decision,
        prepared: None,
        entries: None,
        level,
    })
}

/// The heads one after the other, each by the planner.
fn one_by_one<T: Float>(
    stack: &Stack<'_, T>,
    incoming: &Incoming<'_, T>,
    decision: Decision,
    (request, is_checked): (&Request, bool),
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    for (option, found, is_found) in [
        ("enable_gqa", "heads that share keys", stack.group() > 1),
        ("output", "results of the forward pass", incoming.saved.is_some()),
    ] {
        if is_found {
            let wanted = "none with the polynomial method: use method=\"exact\"".into();
            return Err(Error::Option { option, found: found.into(), wanted });
        }
    }
    let (options, count) = (&request.options, stack.heads().len());
    let mut stages = Stages::new(options, watch);
    let mut found: Vec<Solution<T>> = Vec::with_capacity(count);
    for (number, (head, dout)) in stack.heads().iter().zip(&incoming.dout).enumerate() {
        let head: Pulled<'_, T> = (head.reborrow(), dout.reborrow());
        if is_checked {
            check_finite(&head.0, Some(head.1), options)?;
        }
        let share = 1.0 / (count - number) as f64;
        found.push(stages.run(share, |options, watch| one_head(&head, &decision, request, options, watch))?);
    }
    together(found, decision, request, options)
}

/// Rows of one after those of the one before.
pub(super) fn stacked<T: Float>(parts: &[ArrayView2<'_, T>]) -> Result<Array2<T>, Error> {
    let Some(first) = parts.first() else { return Ok(Array2::zeros((0, 0))) };
    let rows = parts.iter().map(|part| part.nrows()).sum();
    let mut out = buffer::with_capacity(buffer::size(&[rows, first.ncols()])?)?;
    parts.iter().for_each(|part| out.extend(part.iter().copied()));
    matrix(out, rows, first.ncols())
}

fn one_head<T: Float>(
    head: &Pulled<'_, T>,
    decision: &Decision,
    request: &Request,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    let start = Start::Sized { degree: decision.degree, samples: decision.samples };
    let run = |problem: &Problem<'_, T>| solve(problem, &HEAD_INPUTS, &request.options(*options), start, watch);
    Ok(Solution { prepared: None, ..Unit::of(&head.0).with(head, run)? })
}

/// Whether a head is causal; another mask is refused.
fn of_polynomial<T: Float>(head: &Heads<'_, T>) -> Result<bool, Error> {
    head.plain().ok_or_else(|| Error::Option {
        option: "method",
        found: "'polynomial' for heads with a mask other than is_causal".into(),
        wanted: "'exact' or 'auto'".into(),
    })
}

/// A head as a problem with unit weights whose c is the incoming gradient (docs/math.md, equation 6.2).
pub(super) struct Unit<T> {
    X: Array2<T>,
    Y: Array2<T>,
}

impl<T: Float> Unit<T> {
    pub(super) fn of(head: &Heads<'_, T>) -> Self {
        Unit { X: Array2::eye(head.query.ncols()), Y: Array2::eye(head.value.ncols()) }
    }

    fn with<R>(
        &self,
        (head, dout): &Pulled<'_, T>,
        run: impl FnOnce(&Problem<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (X, Y) = (Weights::Product(self.X.view()), self.Y.view());
        let problem = Problem::new(head.query, head.key, head.value, X, Y, dout.reborrow())?;
        run(&problem.with_incoming().with_scale(head.scale).with_causal(of_polynomial(head)?))
    }

    /// The same with a target of zero, so that c is the output.
    pub(super) fn with_output<R>(
        &self,
        head: &Heads<'_, T>,
        run: impl FnOnce(&Problem<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (n, dv) = (head.query.nrows(), head.value.ncols());
        let nothing = Array2::zeros((1, dv));
        let nothing = nothing.broadcast((n, dv)).ok_or_else(|| Error::Internal("a row of zeros".into()))?;
        let (X, Y) = (Weights::Product(self.X.view()), self.Y.view());
        let problem = Problem::new(head.query, head.key, head.value, X, Y, nothing)?;
        run(&problem.with_scale(head.scale).with_causal(of_polynomial(head)?))
    }
}

fn together<T: Float>(
    mut found: Vec<Solution<T>>,
    asked: Decision,
    request: &Request,
    options: &Options,
) -> Result<Solution<T>, Error> {
    let steps = found.first().and_then(|first| first.steps).is_some().then(|| {
        let of = |part: fn(&Steps) -> f64| {
            let each = found.iter().map(|one| one.steps.as_ref().map_or(f64::INFINITY, part));
            each.fold(0.0, f64::max)
        };
        Steps { f: of(|s| s.f), c: of(|s| s.c), q: of(|s| s.q), p1: of(|s| s.p1), p2: of(|s| s.p2) }
    });
    let decision = costliest(asked, found.iter().map(|one| &one.decision));
    let level = found.first().map_or_else(|| options.isa().map(Isa::level), |first| Ok(first.level))?;
    let mut gradients = Vec::with_capacity(HEAD_INPUTS.len());
    for (place, wrt) in HEAD_INPUTS.into_iter().enumerate() {
        let parts: Vec<&Gradient<T>> = found.iter().map(|one| &one.gradients[place]).collect();
        let views: Vec<ArrayView2<'_, T>> = parts.iter().map(|part| part.value.view()).collect();
        let value = stacked(&views)?;
        let certificates: Vec<Certificate> = parts.iter().map(|part| part.certificate).collect();
        let certificate = of_all(&certificates, request, request.norm.of(&value));
        gradients.push(Gradient { wrt, value, certificate });
        // The copied parts are freed.
        found.iter_mut().for_each(|one| one.gradients[place].value = Array2::zeros((0, 0)));
    }
    let loss_certificate = Certificate::exact(&request.without_tolerance(), 0.0, 0.0);
    Ok(Solution { loss: 0.0, loss_certificate, gradients, steps, decision, prepared: None, entries: None, level })
}

/// One decision for the run of all heads: that of the costliest head that did not end with the exact method.
pub(super) fn costliest<'a>(asked: Decision, found: impl Iterator<Item = &'a Decision> + Clone) -> Decision {
    let Some(first) = found.clone().next().filter(|_| asked.method != Method::Exact) else { return asked };
    let others = || found.clone().filter(|one| one.method != Method::Exact);
    let apart = others().map(|one| one.apart).sum();
    match others().max_by(|a, b| a.operations.total_cmp(&b.operations)) {
        Some(costliest) => Decision { apart, ..costliest.clone() },
        None => first.clone(),
    }
}

/// The error of all heads, of the weakest kind: those of separate heads add in squares.
pub(super) fn of_all(each: &[Certificate], request: &Request, size: f64) -> Certificate {
    let all = |part: fn(&Certificate) -> f64| of_each(request.norm, each.iter().map(part));
    let kind = each.iter().map(|one| one.kind).max().unwrap_or(Kind::Exact);
    let terms = [all(|one| one.truncation), all(|one| one.sampling), all(|one| one.rounding)];
    // One of several statements fails no more often than they do together.
    let missed: f64 = each.iter().filter_map(|one| one.confidence).map(|confidence| 1.0 - confidence).sum();
    let confidence = (kind == Kind::Statistical).then_some((1.0 - missed).max(0.0));
    Certificate { confidence, ..Certificate::new(request, kind, terms, size) }
}

/// The norm of all heads from that of each.
pub(super) fn of_each(norm: Norm, each: impl Iterator<Item = f64>) -> f64 {
    each.fold(0.0_f64, |all, one| match (norm, one.is_nan()) {
        (_, true) => f64::INFINITY,
        (Norm::Largest, _) => all.max(one),
        (Norm::Frobenius, _) => all.hypot(one),
    })
}
