//! To ask for a stronger certificate is to get the same gradient, with a bound that holds for it.

use attngrad::exact::loss_gradient;
use attngrad::plan::{Asked, Norm, Request, Solution, Start, Wanted, solve};
use attngrad::{Options, Problem, Weights, Wrt};
use ndarray::{Array2, s};

use super::cases::norm;
use super::normal;
use crate::data::Rng;

/// Queries and keys.
const N: usize = 1200;

/// Inputs, of which one key is so many times as long as the others.
struct Data {
    inputs: [Array2<f64>; 3],
    E: Array2<f64>,
    weights: [Array2<f64>; 2],
}

impl Data {
    fn new(d: usize, entries: f64, spike: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut uniform = |size: f64| Array2::from_shape_simple_fn((N, d), || size * rng.uniform());
        let mut inputs = [uniform(entries), uniform(entries), uniform(1.0)];
        inputs[1].slice_mut(s![N / 3, ..]).mapv_inplace(|x| spike * x);
        let E = Array2::from_shape_simple_fn((N, d), || normal(&mut rng));
        let skewed =
            |sign: f64| Array2::from_shape_fn((d, d), |(i, j)| f64::from(i == j) + sign * 0.1 * f64::from(i > j));
        Data { inputs, E, weights: [skewed(1.0), skewed(-1.0)] }
    }

    fn problem(&self, pair: bool) -> Problem<'_, f64> {
        let [A1, A2, A3] = self.inputs.each_ref().map(|input| input.view());
        let [W_Q, W_K] = self.weights.each_ref().map(|weights| weights.view());
        let weights = if pair { Weights::Pair(W_Q, W_K) } else { Weights::Product(W_Q) };
        Problem::new(A1, A2, A3, weights, W_K, self.E.view()).expect("fits")
    }
}

fn planned(problem: &Problem<'_, f64>, wrt: &[Wrt], asked: Asked, degree: usize, rtol: Option<f64>) -> Solution<f64> {
    let wanted = Wanted::Polynomial(Some(degree));
    let request =
        Request { wanted, rtol, atol: 0.0, norm: Norm::Frobenius, asked, seed: Some(5), ..Request::default() };
    solve(problem, wrt, &request, Start::Fresh, None).expect("a result")
}

#[test]
fn a_stronger_certificate_has_the_same_gradient() {
    let mut exact_keys = 0;
    for (d, entries, spike, highest) in [(2, 0.7, 1.0, 4), (6, 0.7, 6.0, 3), (16, 1.0, 1.0, 2)] {
        for degree in 1..=highest {
            for pair in [false, true] {
                let data = Data::new(d, entries, spike, degree as u64);
                let problem = data.problem(pair);
                let wrt = if pair { [Wrt::WQ, Wrt::WK, Wrt::A1] } else { [Wrt::X, Wrt::Y, Wrt::A2] };
                let exact = loss_gradient(&problem, &wrt, &Options::default(), None).expect("an exact result");
                let estimate = planned(&problem, &wrt, Asked::Estimated, degree, None);
                for asked in [Asked::Statistical, Asked::Rigorous] {
                    let found = planned(&problem, &wrt, asked, degree, None);
                    let what = format!("d {d}, degree {degree}, pair {pair}, {asked:?}");
                    assert_eq!(found.loss, estimate.loss, "{what}");
                    assert!((found.loss - exact.loss).abs() <= found.loss_certificate.absolute, "{what}");
                    for ((one, other), exact) in found.gradients.iter().zip(&estimate.gradients).zip(&exact.gradients) {
                        assert_eq!(one.value, other.value, "{what}");
                        let error = norm(&(&one.value - &exact.value));
                        assert!(error <= one.certificate.absolute, "{what}: {error} for {:?}", one.certificate);
                    }
                }
                let plain = planned(&problem, &wrt, Asked::Any, degree, None);
                exact_keys += usize::from(spike > 1.0 && plain.gradients[0].value != estimate.gradients[0].value);
            }
        }
    }
    assert!(exact_keys > 0, "no estimate differs from the plain gradient");
}

/// A tolerance that is reached without the change stays reached.
#[test]
fn a_tolerance_that_is_reached_stays_so() {
    let data = Data::new(4, 0.5, 1.0, 3);
    let problem = data.problem(false);
    let free = planned(&problem, &[Wrt::X], Asked::Rigorous, 4, None).gradients.remove(0).certificate;
    for factor in [1.001, 3.0] {
        let found = planned(&problem, &[Wrt::X], Asked::Rigorous, 4, Some(factor * free.relative)).gradients.remove(0);
        assert_eq!(found.certificate.reached, Some(true), "{:?} for {free:?}", found.certificate);
    }
}
