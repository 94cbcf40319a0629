//! Fits the weight of the logits by gradient descent: the paper's optimisation problem, in twenty lines.
//!
//! `cargo run --release --example loss_gradient`; examples/loss_gradient.py is the same in Python.
#![allow(clippy::print_stdout, reason = "an example shows its results")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use attngrad::{Error, Options, Problem, Request, Weights, Wrt, attention, loss_gradient};
use ndarray::Array2;

const TOKENS: usize = 512;
const WIDTH: usize = 8;
const STEPS: usize = 20;
/// Half of the longest step from which the loss still falls: the curvature at the solution sets it.
const STEP: f64 = 0.01;
/// The loss must fall to this part of the first: the exit code says whether the example works.
const FALLS_TO: f64 = 1e-6;

/// Some smooth numbers in [−1, 1].
fn matrix(rows: usize, columns: usize, seed: f64) -> Array2<f64> {
    Array2::from_shape_fn((rows, columns), |(j, i)| (seed * (j * columns + i + 1) as f64).sin())
}

fn main() -> Result<(), Error> {
    let A = matrix(TOKENS, WIDTH, 0.7);
    let Y = Array2::eye(WIDTH);
    // The target is what some other weight gives, so a loss of zero can be reached.
    let queries = A.dot(&(4.0 * matrix(WIDTH, WIDTH, 1.9)));
    let heads = attngrad::Heads::new(queries.view(), A.view(), A.view())?.with_scale(1.0 / WIDTH as f64);
    let E = attention(&heads, &Options::default(), None)?;

    let mut X = Array2::<f64>::zeros((WIDTH, WIDTH));
    let mut losses = Vec::with_capacity(STEPS);
    for step in 0..STEPS {
        let problem = Problem::new(A.view(), A.view(), A.view(), Weights::Product(X.view()), Y.view(), E.view())?;
        let result = loss_gradient(&problem, &[Wrt::X], &Request::default())?;
        let [gradient] = &result.gradients[..] else { unreachable!("one was asked for") };
        println!("step {step:2}  loss {:.6}  rounding of dL/dX {:.1e}", result.loss, gradient.certificate.rounding);
        losses.push(result.loss);
        X.scaled_add(-STEP, &gradient.value);
    }
    // NaN fails too.
    assert!(
        losses[STEPS - 1] <= FALLS_TO * losses[0],
        "the loss did not fall to {FALLS_TO:e} of the first: {losses:?}"
    );
    Ok(())
}
