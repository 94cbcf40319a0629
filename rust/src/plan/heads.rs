//! Several heads of attention as one result: the decision for all of them, and the certificate of all.

use std::time::Instant;

use ndarray::{Array2, ArrayView2};

use super::decide::decide;
use super::decision::{Decision, Method};
use super::execute::Start;
use super::forecast::{check_memory, observe};
use super::gradient::solve;
use super::request::{Certificate, Kind, Norm, Request};
use super::solution::{Gradient, Solution};
use super::stages::Stages;
use crate::certificate::rigorous::Steps;
use crate::error::Error;
use crate::exact::attention::{attention, attention_vjp as pulled_back};
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::options::{Isa, Options};
use crate::problem::{Heads, Shape};
use crate::problem::{Problem, Weights, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Watch;

/// The inputs that a vector-Jacobian product is with respect to: query, key and value, by their names in the problem
/// with unit weights.
pub const HEAD_INPUTS: [Wrt; 3] = [Wrt::A1, Wrt::A2, Wrt::A3];

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

/// The decision for all heads: one degree and one number of rows. `auto` is exact, as dk and dv are certified by
/// nothing cheaper.
///
/// # Errors
/// Those of [`super::decide()`], for the first head that has one.
pub fn decide_heads<T: Float>(heads: &[Pulled<'_, T>], request: &Request) -> Result<Decision, Error> {
    request.check_in::<T>()?;
    request.check_for_heads()?;
    if let Some(decision) = request.settled_for_heads() {
        return Ok(decision);
    }
    let each = heads.iter().map(|head| Unit::of(head).with(head, |problem| decide(problem, &HEAD_INPUTS, request)));
    let each: Vec<Decision> = each.collect::<Result<_, Error>>()?;
    let samples = each.iter().map(|one| one.samples).max().unwrap_or(0);
    let costliest = each.into_iter().reduce(|best, one| {
        let dearer = (one.degree, one.operations) > (best.degree, best.operations);
        if dearer { one } else { best }
    });
    Ok(match costliest {
        Some(decision) => Decision { samples, ..decision },
        // Without a head nothing is decided.
        None => Decision::new(Method::Polynomial, 0, 0),
    })
}

/// dq, dk and dv of all heads, rows of one head after those of the one before, as gradients with respect to A1, A2 and
/// A3, each with one certificate for all heads; L is 0. The decision is that of [`decide_heads`].
///
/// Time: that of each head by the method that is run for it, one after the other.
///
/// # Errors
/// [`Error::Shape`] for heads of different shapes, and those of [`crate::exact::attention_vjp`] and [`solve`].
pub fn solve_heads<T: Float>(
    heads: &[Pulled<'_, T>],
    decision: Decision,
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    request.check_in::<T>()?;
    request.check_for_heads()?;
    let (begin, options) = (Instant::now(), &request.options);
    let shape = heads.first().map(|(head, _)| shape_of(head));
    if let (Some(shape), Some((head, _))) = (&shape, heads.first()) {
        check_memory::<T>(shape, &HEAD_INPUTS, head.is_causal, &decision, options)?;
    }
    let mut stages = Stages::new(options, watch);
    let mut found: Vec<Solution<T>> = Vec::with_capacity(heads.len());
    for (number, head) in heads.iter().enumerate() {
        let share = 1.0 / (heads.len() - number) as f64;
        found.push(stages.run(share, |options, watch| one_head(head, &decision, request, options, watch))?);
    }
    let planned = together(found, decision, request, options)?;
    if let (Some(shape), Some((head, _))) = (&shape, heads.first()) {
        let seconds = begin.elapsed().as_secs_f64() / heads.len() as f64;
        observe::<T>(shape, &HEAD_INPUTS, head.is_causal, &planned.decision, options, seconds)?;
    }
    Ok(planned)
}

fn shape_of<T: Float>(head: &Heads<'_, T>) -> Shape {
    let ((n, width), (m, dv)) = (head.query.dim(), head.value.dim());
    Shape::of_head(n, m, width, dv)
}

/// The output of all heads, rows of one head after those of the one before.
///
/// # Errors
/// Those of [`crate::attention`].
pub fn attend_heads<T: Float>(
    heads: &[Heads<'_, T>],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Array2<T>, Error> {
    let mut stages = Stages::new(options, watch);
    let mut found = Vec::with_capacity(heads.len());
    for (number, head) in heads.iter().enumerate() {
        let share = 1.0 / (heads.len() - number) as f64;
        found.push(stages.run(share, |options, watch| attention(head, options, watch))?);
    }
    stacked(&found.iter().map(|one| one.view()).collect::<Vec<_>>())
}

/// Rows of one after those of the one before.
fn stacked<T: Float>(parts: &[ArrayView2<'_, T>]) -> Result<Array2<T>, Error> {
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
    if decision.method == Method::Exact {
        let found = pulled_back(&head.0, head.1, options, watch)?;
        let gradients = HEAD_INPUTS.into_iter().zip([found.query, found.key, found.value]);
        let certified = |(wrt, (value, rounding)): (Wrt, (Array2<T>, f64))| {
            let certificate = Certificate::exact(request, rounding, request.norm.of(&value));
            Gradient { wrt, value, certificate }
        };
        return Ok(Solution {
            loss: 0.0,
            loss_certificate: Certificate::exact(&request.without_tolerance(), 0.0, 0.0),
            gradients: gradients.map(certified).collect(),
            steps: None,
            decision: decision.clone(),
            prepared: None,
            entries: None,
            level: found.level,
        });
    }
    let start = Start::Sized { degree: decision.degree, samples: decision.samples };
    let run = |problem: &Problem<'_, T>| solve(problem, &HEAD_INPUTS, &request.options(*options), start, watch);
    Ok(Solution { prepared: None, ..Unit::of(head).with(head, run)? })
}

/// A head as a problem with unit weights whose c is the incoming gradient (docs/math.md, equation 6.2).
struct Unit<T> {
    X: Array2<T>,
    Y: Array2<T>,
}

impl<T: Float> Unit<T> {
    fn of((head, _): &Pulled<'_, T>) -> Self {
        Unit { X: Array2::eye(head.query.ncols()), Y: Array2::eye(head.value.ncols()) }
    }

    fn with<R>(
        &self,
        (head, dout): &Pulled<'_, T>,
        run: impl FnOnce(&Problem<'_, T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (X, Y) = (Weights::Product(self.X.view()), self.Y.view());
        let problem = Problem::new(head.query, head.key, head.value, X, Y, dout.reborrow())?;
        run(&problem.with_incoming().with_scale(head.scale).with_causal(head.is_causal))
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
    let decision = run_in_one(asked, &found);
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
fn run_in_one<T>(asked: Decision, found: &[Solution<T>]) -> Decision {
    let Some(first) = found.first().filter(|_| asked.method != Method::Exact) else { return asked };
    let others = || found.iter().map(|one| &one.decision).filter(|one| one.method != Method::Exact);
    let apart = others().map(|one| one.apart).sum();
    match others().max_by(|a, b| a.operations.total_cmp(&b.operations)) {
        Some(costliest) => Decision { apart, ..costliest.clone() },
        None => first.decision.clone(),
    }
}

/// The error of all heads, of the weakest kind: those of separate heads add in squares.
fn of_all(each: &[Certificate], request: &Request, size: f64) -> Certificate {
    let all = |part: fn(&Certificate) -> f64| {
        each.iter().map(part).fold(0.0_f64, |all, one| match (request.norm, one.is_nan()) {
            (_, true) => f64::INFINITY,
            (Norm::Largest, _) => all.max(one),
            (Norm::Frobenius, _) => all.hypot(one),
        })
    };
    let kind = each.iter().map(|one| one.kind).max().unwrap_or(Kind::Exact);
    Certificate::new(request, kind, [all(|one| one.truncation), all(|one| one.sampling), all(|one| one.rounding)], size)
}
