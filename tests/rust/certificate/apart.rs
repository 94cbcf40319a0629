//! Rigorous certificates of whole results, rows that are computed apart included, against dense f64.

use attngrad::plan::{Asked, Kind, Norm, Request, Start, Wanted, solve};
use attngrad::reference::Reference;
use attngrad::{Error, Float};

use super::cases::{Case, norm};
use super::{DEEP, seeds};
use crate::data::Rng;
use crate::ratio::absolute;

/// Problems of the test.
const PROBLEMS: u64 = 2_000;

/// Rounding of the dense computation, in units of the sums over absolute values and of the largest logit.
const REFERENCE: f64 = 1e-14;

/// So many of the problems have a finite bound and a row that was computed apart.
const APART: f64 = 0.01;

/// Whether rows were apart and every bound is finite; nothing where the result is exact or does not fit.
fn check<T: Float>(seed: u64) -> Option<bool> {
    let mut rng = Rng::new(seed);
    let mut case = Case::<T>::random(&mut rng);
    if seed.is_multiple_of(3) {
        case = case.with_incoming(&mut rng);
    }
    if seed.is_multiple_of(2) || seed.is_multiple_of(5) {
        // One query whose logits are beyond any polynomial.
        let row = rng.next() as usize % case.E.nrows();
        let factor = T::narrow([300.0, 3e4][rng.next() as usize % 2]);
        case.inputs[0].row_mut(row).mapv_inplace(|x| factor * x);
    }
    let degree = 1 + rng.next() as usize % 4;
    let request = Request {
        wanted: Wanted::Polynomial(Some(degree)),
        rtol: None,
        atol: 0.0,
        norm: Norm::Frobenius,
        asked: Asked::Rigorous,
        seed: Some(seed),
        ..Request::default()
    };
    let (problem, all) = (case.problem(), case.inputs());
    let what = format!("{} of seed {seed}", T::NAME);
    let got = match solve(&problem, &all, &request, Start::Fresh, None) {
        Err(Error::Range { .. }) => return None,
        got => got.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    if got.gradients.iter().any(|one| one.certificate.kind == Kind::Exact) {
        return None;
    }
    let truth = Reference::new(&problem);
    let sums = absolute(&truth);
    let reach = 1.0 + truth.S.iter().fold(0.0, |most: f64, t| most.max(t.abs()));
    let held = |name: &str, error: f64, slack: f64, bound: f64| {
        let error = error - REFERENCE * reach * slack;
        assert!(error <= bound, "{name} of {what}: error {error:e}, bound {bound:e}");
        bound.is_finite()
    };
    let mut finite = held("the loss", (got.loss - truth.loss).abs(), sums.loss, got.loss_certificate.absolute);
    for one in &got.gradients {
        assert_eq!(one.certificate.kind, Kind::Rigorous, "{what}");
        let want = truth.gradient(one.wrt).expect("the reference has it");
        let slack = sums.gradient(one.wrt).expect("the reference has it");
        let error = norm(&(one.value.mapv(T::widen) - want));
        finite &= held(one.wrt.name(), error, norm(&slack), one.certificate.absolute);
    }
    Some(finite && got.decision.apart > 0)
}

fn never_below_the_truth(problems: u64) {
    let of = |seed| if seed % 2 == 0 { check::<f32>(seed) } else { check::<f64>(seed) };
    let found: Vec<bool> = seeds("certificates", problems).filter_map(of).collect();
    let apart = found.iter().filter(|apart| **apart).count();
    assert!(2 * found.len() as u64 > problems, "{} of {problems} are approximate", found.len());
    assert!(apart as f64 >= APART * problems as f64, "{apart} with rows apart and finite bounds");
}

#[test]
fn a_rigorous_certificate_is_never_below_the_truth() {
    never_below_the_truth(PROBLEMS);
}

#[test]
#[ignore = "deep: minutes"]
fn a_rigorous_certificate_is_never_below_the_truth_of_many() {
    never_below_the_truth(DEEP);
}

/// dL/dW_K of this one comes from W_Q W_Kᵀ, in which numbers meet that hardly fit float32: an error, or no bound.
#[test]
fn what_does_not_fit_is_an_error_and_no_number() {
    assert_ne!(check::<f32>(43_978), Some(true));
}
