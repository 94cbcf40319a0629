//! A stronger kind of certificate for the gradient of a weaker one: to ask for more proof is to get the same numbers.
//!
//! An estimate has exact keys and rows and a correction from sampled rows, which the bounds of the passes do not cover.
//! These hold for the plain result of the passes, whose distance from the estimate is known (docs/math.md,
//! equation 9.56). The plain result is computed in double precision, so that the bounds are those of the polynomial and
//! not of the arithmetic.

use ndarray::Array2;

use super::decide::Law;
use super::decision::{Decision, Method};
use super::execute::{Start, exact, of_seen};
use super::logits::Logits;
use super::request::{Asked, Certificate, Kind, Request, Wanted};
use super::seed::seed;
use super::solution::{Gradient, Solution};
use super::stages::Stages;
use crate::error::Error;
use crate::exact::structure::zeros;
use crate::float::Float;
use crate::linalg::norms::largest;
use crate::linalg::outward::{outward, root_total};
use crate::linalg::products::mapped;
use crate::options::Options;
use crate::problem::{Problem, Weights, Wrt};

/// The solution of a request that [`Request::borrows`].
pub(super) fn borrowed<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    start: Start<'_>,
    options: &Options,
    stages: &mut Stages<'_>,
) -> Result<Solution<T>, Error> {
    let request = &Request { seed: Some(seed(problem, request)), ..*request };
    let sized = match start {
        Start::Prepared(prepared) => {
            let Decision { degree, samples, .. } = *prepared.decision();
            Start::Sized { degree, samples }
        }
        start => start,
    };
    let plain = {
        let wide = Wide::new(problem)?;
        of_seen(&wide.problem(problem), wrt, request, sized, options, stages)?
    };
    let Decision { method, degree, samples, .. } = plain.decision;
    if method == Method::Exact {
        return exact(problem, wrt, request, &zeros(problem, wrt)?, plain.decision, stages);
    }
    let wanted = Wanted::Polynomial(Some(degree));
    let estimate = Request { asked: Asked::Estimated, wanted, ..request.without_tolerance() };
    let start = match start {
        Start::Prepared(_) => start,
        _ if samples > 0 => Start::Sized { degree, samples },
        _ => {
            let usual = Law::new(problem, wrt, &estimate).named(degree, &Logits::draw(problem, &[]));
            Start::Sized { degree, samples: usual.samples }
        }
    };
    both(request, plain, of_seen(problem, wrt, &estimate, start, options, stages)?)
}

/// A problem in double precision.
struct Wide {
    inputs: [Array2<f64>; 5],
    /// X, or W_Q and W_K.
    weights: (Array2<f64>, Option<Array2<f64>>),
}

impl Wide {
    fn new<T: Float>(problem: &Problem<'_, T>) -> Result<Self, Error> {
        let Problem { A1, A2, A3, weights, Y, E, .. } = problem;
        let (first, second) = match weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let second = second.map(|W_K| mapped(*W_K, T::widen)).transpose()?;
        let [A1, A2, A3, Y, E] = [A1, A2, A3, Y, E].map(|array| mapped(*array, T::widen));
        Ok(Wide { inputs: [A1?, A2?, A3?, Y?, E?], weights: (mapped(*first, T::widen)?, second) })
    }

    fn problem<T: Float>(&self, of: &Problem<'_, T>) -> Problem<'_, f64> {
        let [A1, A2, A3, Y, E] = self.inputs.each_ref().map(|array| array.view());
        let weights = match &self.weights {
            (W_Q, Some(W_K)) => Weights::Pair(W_Q.view(), W_K.view()),
            (X, None) => Weights::Product(X.view()),
        };
        let Problem { scale, is_causal, is_target, .. } = *of;
        Problem { A1, A2, A3, weights, Y, E, scale, is_causal, is_target }
    }
}

/// The results of `estimate` with certificates derived from those of `plain`.
fn both<T: Float>(request: &Request, plain: Solution<f64>, mut estimate: Solution<T>) -> Result<Solution<T>, Error> {
    if estimate.decision.method == Method::Exact {
        for Gradient { certificate, .. } in &mut estimate.gradients {
            *certificate = Certificate::exact(request, certificate.rounding, certificate.size);
        }
        return Ok(estimate);
    }
    estimate.decision = Decision { apart: estimate.decision.apart, ..plain.decision };
    estimate.steps = plain.steps;
    let moved = outward((estimate.loss - plain.loss).abs());
    estimate.loss_certificate =
        with_distance(&plain.loss_certificate, &request.without_tolerance(), moved, estimate.loss);
    for (one, plain) in estimate.gradients.iter_mut().zip(plain.gradients) {
        let of = |value: &Array2<T>| {
            let moved = distance(value, &plain.value);
            with_distance(&plain.certificate, request, moved, request.norm.of(value))
        };
        one.certificate = of(&one.value);
        // A tolerance that is reached stays reached.
        if plain.certificate.reached == Some(true) && one.certificate.reached != Some(true) {
            one.value = mapped(plain.value.view(), T::narrow)?;
            one.certificate = of(&one.value);
        }
    }
    Ok(estimate)
}

/// The certificate of a result of norm `size` at this distance.
fn with_distance(certificate: &Certificate, request: &Request, distance: f64, size: f64) -> Certificate {
    let Certificate { kind, truncation, sampling, rounding, confidence, .. } = *certificate;
    let more = |term: f64| if distance == 0.0 { term } else { outward(term + distance) };
    let terms = match kind {
        Kind::Statistical => [truncation, more(sampling), rounding],
        _ => [more(truncation), sampling, rounding],
    };
    Certificate { confidence, ..Certificate::new(request, kind, terms, size) }
}

/// ‖A − B‖_F, at most.
fn distance<T: Float>(one: &Array2<T>, other: &Array2<f64>) -> f64 {
    let pairs = || one.iter().zip(other).map(|(a, b)| (a.widen() - b).abs());
    let largest = largest(pairs());
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    outward(largest * root_total(pairs().map(|gap| outward(gap / largest))))
}
