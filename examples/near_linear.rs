//! The gradient to the accuracy asked for: exact, and by a polynomial in near-linear time, with its error bar.
//!
//! `cargo run --release --example near_linear`
#![allow(clippy::print_stdout, reason = "an example shows its results")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use std::time::Instant;

use attngrad::ndarray::Array2;
use attngrad::{Error, Problem, Request, Weights, Wrt, loss_gradient, plan_loss_gradient};

const TOKENS: usize = 16_384;
const WIDTH: usize = 8;
const RTOL: f64 = 1e-2;

/// Some numbers in [−1, 1].
fn matrix(rows: usize, seed: f64) -> Array2<f32> {
    Array2::from_shape_fn((rows, WIDTH), |(j, i)| (seed * (j * WIDTH + i + 1).pow(2) as f64).sin() as f32)
}

fn norm(array: &Array2<f32>) -> f64 {
    array.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn main() -> Result<(), Error> {
    let (A1, A2, A3, E) = (matrix(TOKENS, 0.3), matrix(TOKENS, 0.5), matrix(TOKENS, 0.7), matrix(TOKENS, 0.9));
    let one = Array2::eye(WIDTH);
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(one.view()), one.view(), E.view())?;

    let request = Request::default().rtol(RTOL);
    let plan = plan_loss_gradient(&problem, &[Wrt::X], &request)?;
    println!("planned: {}, because {}", plan.decision.method, plan.decision.reason);

    let mut found = Vec::new();
    for (name, request) in [("exact", Request::default()), ("to 1e-2", request)] {
        let start = Instant::now();
        let solution = loss_gradient(&problem, &[Wrt::X], &request)?;
        let [gradient] = &solution.gradients[..] else { unreachable!("one was asked for") };
        let certificate = &gradient.certificate;
        println!(
            "{name:8} {:9.1} ms  {:10}  {} error <= {:.1e}: {}",
            1e3 * start.elapsed().as_secs_f64(),
            solution.decision.method.name(),
            certificate.kind,
            certificate.relative,
            certificate.message(&request),
        );
        found.push((gradient.value.clone(), certificate.absolute));
    }
    let error = norm(&(&found[1].0 - &found[0].0));
    println!("true error {:.1e} of the gradient", error / norm(&found[0].0));
    assert!(error <= found[0].1 + found[1].1, "the error bar must hold: {error:e}");
    Ok(())
}
