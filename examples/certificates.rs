//! Kinds of certificates: a bound that always holds, one at a stated confidence, and an estimate; and one that is
//! missed.
//!
//! `cargo run --release --example certificates`
#![allow(clippy::print_stdout, reason = "an example shows its results")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use attngrad::ndarray::Array2;
use attngrad::plan::{Asked, Wanted};
use attngrad::{Error, Problem, Request, Weights, Wrt, loss_gradient};

const TOKENS: usize = 4096;
const WIDTH: usize = 4;
const DEGREE: usize = 4;

/// Some numbers in [−1, 1].
fn matrix(rows: usize, seed: f64) -> Array2<f64> {
    Array2::from_shape_fn((rows, WIDTH), |(j, i)| (seed * (j * WIDTH + i + 1).pow(2) as f64).sin())
}

fn norm(array: &Array2<f64>) -> f64 {
    array.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn main() -> Result<(), Error> {
    let (A1, A2, A3, E) = (matrix(TOKENS, 0.3), matrix(TOKENS, 0.5), matrix(TOKENS, 0.7), matrix(TOKENS, 0.9));
    let one = Array2::eye(WIDTH);
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(one.view()), one.view(), E.view())?;
    let exact = loss_gradient(&problem, &[Wrt::X], &Request::default())?;
    let exact = &exact.gradients[0];

    for asked in [Asked::Rigorous, Asked::Statistical, Asked::Estimated] {
        let request = Request::default().degree(DEGREE).certificate(asked).seed(1);
        let solution = loss_gradient(&problem, &[Wrt::X], &request)?;
        let near = &solution.gradients[0];
        let error = norm(&(&near.value - &exact.value));
        let certificate = &near.certificate;
        println!("{:12} error at most {:.1e}, and truly {error:.1e}", certificate.kind.name(), certificate.absolute);
        assert!(error <= certificate.absolute + exact.certificate.absolute, "{asked:?}");
    }

    // A method that is named and misses its tolerance says so, and by how much.
    let request = Request::default().method(Wanted::Polynomial(Some(1))).rtol(1e-9);
    let missed = loss_gradient(&problem, &[Wrt::X], &request)?;
    let certificate = &missed.gradients[0].certificate;
    println!("{}", certificate.message(&request));
    assert_eq!(certificate.reached, Some(false));
    assert!(certificate.best_rtol > 1e-9);
    Ok(())
}
