//! The feature map and the paper's factors: U Vᵀ near exp(s q kᵀ), U1 V1ᵀ near f, and the gradient from the factors.
//!
//! `cargo run --release --example features_and_factors`
#![allow(clippy::print_stdout, reason = "an example shows its results")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use attngrad::features::FeatureOptions;
use attngrad::ndarray::Array2;
use attngrad::{Error, ExpFeatures, Options, Problem, Request, Weights, Wrt, factors, loss_gradient};

const TOKENS: usize = 1000;
const WIDTH: usize = 4;
const RTOL: f64 = 1e-3;

/// Some numbers in [−1, 1].
fn matrix(rows: usize, seed: f64) -> Array2<f32> {
    Array2::from_shape_fn((rows, WIDTH), |(j, i)| (seed * (j * WIDTH + i + 1).pow(2) as f64).sin() as f32)
}

fn norm(array: &Array2<f32>) -> f64 {
    array.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn main() -> Result<(), Error> {
    let (options, wanted) = (Options::default(), FeatureOptions { rtol: Some(RTOL), ..FeatureOptions::default() });
    let (q, k, v, E) = (matrix(TOKENS, 0.3), matrix(TOKENS, 0.5), matrix(TOKENS, 0.7), matrix(TOKENS, 0.9));
    let features = ExpFeatures::fit(q.view(), k.view(), &wanted, &options, None)?;
    let U = features.transform_query(q.view(), &options, None)?;
    println!(
        "degree {} with {} features: error {:.1e}, at most {:.1e} in any entry; U is {:?}",
        features.degree(),
        features.count(),
        features.error(),
        features.bound(),
        U.dim()
    );

    let one = Array2::eye(WIDTH);
    let problem = Problem::new(q.view(), k.view(), v.view(), Weights::Product(one.view()), one.view(), E.view())?;
    let parts = factors(&problem, &wanted, &options, None)?;
    println!("ranks of f, q, p1 and p2: {:?}", parts.ranks());
    for wrt in [Wrt::X, Wrt::Y, Wrt::A2] {
        let near = parts.gradient(wrt, &options, None)?;
        let exact = loss_gradient(&problem, &[wrt], &Request::default())?;
        let exact = &exact.gradients[0].value;
        let error = norm(&(&near - exact)) / norm(exact);
        println!("dL/d{wrt}: relative error {error:.1e}");
        assert!(error <= 10.0 * RTOL, "an error of the features is about one of the gradient: {error:e}");
    }
    Ok(())
}
