//! The levels of this machine beside each other on the near-linear gradient.
//!
//! `cargo bench --bench levels [-- ROUNDS [N [DEGREE]]]` runs every level in turn, again and again, and prints the
//! medians of their times and of their ratios to the first: what a machine does at a time then counts for all levels
//! alike.
#![allow(missing_docs, reason = "a program")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]
#![allow(clippy::print_stdout, reason = "its result")]

use std::time::Instant;

use attngrad::{Approximation, Level, Options, Problem, Weights, Wrt, polynomial_gradient};
use ndarray::Array2;

/// Coordinates and value columns.
const D: usize = 16;

/// Rounds, tokens and degree unless given: the near-linear headline, and enough for a median that holds to a percent.
const DEFAULTS: [usize; 3] = [21, 1 << 17, 2];

/// The same under `cargo test`: that it runs.
const SMOKE: [usize; 3] = [1, 1 << 10, 2];

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    // Whatever is no number is a flag of Cargo's.
    let given: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let defaults = if is_bench { DEFAULTS } else { SMOKE };
    let [rounds, n, degree] = std::array::from_fn(|i| given.get(i).copied().unwrap_or(defaults[i]));
    // Of squares: sines of multiples would leave all columns in a plane.
    let entry = |k: f64, index: usize| (k * (index as f64).powi(2)).sin() as f32;
    let array = |k: f64| Array2::from_shape_fn((n, D), |(j, i)| entry(k, j * D + i));
    let [A1, A2, A3, E] = [0.7, 0.9, 1.1, 1.3].map(array);
    let weight = Array2::<f32>::eye(D);
    let weights = Weights::Product(weight.view());
    let problem =
        Problem::new(A1.view(), A2.view(), A3.view(), weights, weight.view(), E.view()).expect("the shapes fit");
    let taylor = (0..=degree).map(|k| (1..=k).map(|i| i as f64).product::<f64>().recip());
    let mut approximation = Approximation { coefficients: taylor.collect(), integers: true, exact_keys: vec![] };
    let cases: Vec<_> = Level::available().into_iter().flat_map(|level| [(level, false), (level, true)]).collect();
    let mut seconds = vec![Vec::new(); cases.len()];
    for round in 0..=rounds {
        for (&(level, integers), seconds) in cases.iter().zip(&mut seconds) {
            approximation.integers = integers;
            let options = Options { level: Some(level), ..Options::default() };
            let start = Instant::now();
            polynomial_gradient(&problem, &[Wrt::X], &approximation, &options, None).expect("a regular problem");
            // The first round warms up.
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    println!("near-linear dL/dX, float32, n = {n}, d = {D}, degree {degree}, {rounds} rounds");
    for ((level, integers), times) in cases.iter().zip(&seconds) {
        let kind = if *integers { "16-bit" } else { "floats" };
        let ratio = |other: &[f64]| median(times.iter().zip(other).map(|(mine, other)| other / mine));
        let ratios: Vec<_> = seconds.iter().map(|other| format!("{:.3}", ratio(other))).collect();
        println!(
            "{level:?} {kind}: {:.1} ms, {} times as fast",
            1e3 * median(times.iter().copied()),
            ratios.join(" / ")
        );
    }
}
