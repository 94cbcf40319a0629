//! A stronger certificate is no worse a gradient.

use attngrad::plan::{Asked, Norm, Request, Start, Wanted, planned_gradient};
use attngrad::{Options, Problem, Weights, Wrt, loss_gradient};
use ndarray::Array2;

use super::cases::norm;
use super::normal;
use crate::data::Rng;

/// Queries and keys.
const N: usize = 1200;

/// How much larger the error of one kind may be than that of an estimate, whose correction takes some of it away.
const WORSE: f64 = 2.5;

/// From this dimension on errors of rows hardly line up; below, a correction may take most of them away.
const SPREAD_OUT: usize = 6;

/// Errors of dL/dX for each kind that may be asked for, and their bounds, relative to dL/dX.
fn errors(d: usize, entries: f64, degree: usize, seed: u64) -> Vec<(Asked, f64, f64)> {
    let mut rng = Rng::new(seed);
    let mut uniform = |size: f64| Array2::from_shape_simple_fn((N, d), || size * rng.uniform());
    let (A1, A2, A3) = (uniform(entries), uniform(entries), uniform(1.0));
    let E = Array2::from_shape_simple_fn((N, d), || normal(&mut rng));
    let eye = Array2::eye(d);
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(eye.view()), eye.view(), E.view())
        .expect("fits");
    let exact = loss_gradient(&problem, &[Wrt::X], &Options::default(), None).expect("an exact result");
    let exact = &exact.gradients[0].value;
    [Asked::Any, Asked::Estimated, Asked::Statistical, Asked::Rigorous]
        .into_iter()
        .map(|asked| {
            let wanted = Wanted::Polynomial(Some(degree));
            let request = Request { wanted, rtol: None, atol: 0.0, norm: Norm::Frobenius, asked, seed: Some(seed) };
            let got = planned_gradient(&problem, &[Wrt::X], &request, Start::Fresh, &Options::default(), None);
            let one = got.expect("a result").gradients.remove(0);
            let error = norm(&(&one.value - exact));
            (asked, error / norm(exact), one.certificate.absolute / norm(exact))
        })
        .collect()
}

#[test]
fn a_stronger_certificate_is_no_worse_a_gradient() {
    for (d, entries, highest) in [(2, 0.7, 4), (6, 0.7, 4), (16, 1.0, 3)] {
        for degree in 1..=highest {
            for seed in 0..3 {
                let found = errors(d, entries, degree, seed);
                let what = format!("d {d}, degree {degree}, seed {seed}: {found:?}");
                assert!(found.iter().all(|(_, error, bound)| error <= bound), "{what}");
                // All but the estimate are one gradient.
                assert!([2, 3].iter().all(|&kind| found[kind].1 == found[0].1), "{what}");
                assert!(d < SPREAD_OUT || found[0].1 <= WORSE * found[1].1, "{what}");
            }
        }
    }
}
