//! The moment form against the dense formula with P in the place of exp, at every level, precision, degree and shape class.

use attngrad::reference::Reference;
use attngrad::{Approximation, Float, Level, Options, Polynomial, Wrt, polynomial_gradient};
use ndarray::Array2;

use crate::data::{Case, Family, Shape};
use crate::ratio::absolute;

/// Roundings in units of eps (1 + log2 n) Σ, Σ the sums over absolute values: monomials cancel within P(t), and
/// a degree more costs about twice as many of them.
const SLACK: f64 = 60.0;

/// Rows of a block of the kernels, which the shapes below go around.
const BLOCK: usize = attngrad::constants::MOMENT_ROWS;

fn taylor(degree: usize) -> Approximation {
    let mut coefficients = vec![1.0];
    for a in 1..=degree {
        coefficients.push(coefficients[a - 1] / a as f64);
    }
    Approximation { coefficients }
}

fn inputs<T: Float>(case: &Case<T>) -> Vec<Wrt> {
    let mut all = if case.pair.is_some() { vec![Wrt::WQ, Wrt::WK] } else { vec![Wrt::X] };
    all.extend([Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]);
    if case.A1.dim() == case.A2.dim() && case.A2.dim() == case.A3.dim() {
        all.push(Wrt::A);
    }
    all
}

/// The largest error of an array in units of its rounding.
fn assert_close<T: Float>(got: &Array2<T>, want: &Array2<f64>, sums: &Array2<f64>, what: &str) {
    assert_eq!(got.dim(), want.dim(), "{what}");
    let growth = 2.0 * T::UNIT_ROUNDOFF * SLACK;
    // Sums that are zero in exact arithmetic leave the roundings of their neighbours.
    let floor = sums.iter().fold(0.0, |max: f64, x| max.max(*x));
    for ((got, want), sum) in got.iter().zip(want).zip(sums) {
        let bar = growth * (sum + floor / 4.0);
        assert!((got.widen() - want).abs() <= bar, "{what}: {got} for {want}, at most {bar:e} off");
    }
}

fn check<T: Float>(case: &Case<T>, wrt: &[Wrt], degree: usize, level: Level, what: &str) {
    let problem = case.problem();
    let approximation = taylor(degree);
    let options = Options { level: Some(level), ..Options::default() };
    let what = format!("{what}, degree {degree}, {}, {}, {wrt:?}", T::NAME, level.name());
    let fit =
        Polynomial::fit(&problem, &approximation, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let reference = Reference::polynomial(&problem, &approximation.coefficients, fit.mean(), BLOCK);
    let result = polynomial_gradient(&problem, wrt, &approximation, &options, None)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(result.unsafe_rows.is_empty(), "{what}");
    assert!(result.gradients.iter().map(|(wrt, _)| *wrt).eq(wrt.iter().copied()));
    let absolute = absolute(&reference);
    let bar = 2.0 * T::UNIT_ROUNDOFF * SLACK * absolute.loss;
    assert!((result.loss - reference.loss).abs() <= bar, "the loss of {what}: {} for {}", result.loss, reference.loss);
    for (wrt, value) in &result.gradients {
        let want = reference.gradient(*wrt).expect("the reference has it");
        let sums = absolute.gradient(*wrt).expect("the reference has it");
        assert_close(value, &want, &sums, &format!("dL/d{} of {what}", wrt.name()));
    }
}

/// Small logits, so that every P is positive and close to exp.
fn small<T: Float>(shape: Shape, family: Family, seed: u64) -> Case<T> {
    let case = Case::<T>::new(shape, family, false, seed);
    Case { scale: 0.3 / (shape.d1 * shape.d2).max(1) as f64, ..case }
}

fn check_both(shape: Shape, family: Family, degree: usize, level: Level, seed: u64) {
    let what = format!("{shape:?}, {family:?}, seed {seed}");
    let (single, double) = (small::<f32>(shape, family, seed), small::<f64>(shape, family, seed));
    let all = inputs(&single);
    check(&single, &all, degree, level, &what);
    check(&double, &all, degree, level, &what);
    for wrt in all {
        check(&single, &[wrt], degree, level, &what);
    }
    check(&double, &[], degree, level, &what);
}

#[test]
fn every_level_and_degree() {
    let shape = Shape { n: 37, m: 53, d1: 5, d2: 7, d3: 3, dv: 6, pair: None };
    for (seed, level) in Level::available().into_iter().enumerate() {
        for degree in 0..=4 {
            for family in [Family::Uniform, Family::EqualKeys, Family::LargeUnits, Family::SmallUnits] {
                check_both(shape, family, degree, level, seed as u64);
                check_both(Shape { pair: Some(3), ..shape }, family, degree, level, seed as u64);
            }
        }
    }
}

#[test]
fn every_width() {
    for level in Level::available() {
        for d in [0, 1, 2, 3, 5, 16, 17] {
            check_both(Shape::square(20, 23, d), Family::Uniform, 2, level, d as u64);
        }
        for dv in [0, 1, 3, 16, 17, 33] {
            let shape = Shape { n: 19, m: 30, d1: 2, d2: 3, d3: 4, dv, pair: None };
            check_both(shape, Family::Uniform, 3, level, dv as u64);
        }
    }
}

#[test]
fn every_size_around_blocks_and_lanes() {
    for level in Level::available() {
        let sizes = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5];
        for (seed, n) in sizes.into_iter().enumerate() {
            for m in [1, 16, BLOCK + 3] {
                check_both(
                    Shape { n, m, d1: 2, d2: 3, d3: 2, dv: 2, pair: None },
                    Family::Uniform,
                    2,
                    level,
                    seed as u64,
                );
                check_both(
                    Shape { n: m, m: n.max(1), d1: 2, d2: 2, d3: 3, dv: 1, pair: Some(1) },
                    Family::Uniform,
                    1,
                    level,
                    3,
                );
            }
        }
    }
}
