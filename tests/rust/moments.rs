//! The moment form against the dense formula with P in the place of exp, at every level, precision, degree and shape
//! class.

use attngrad::exact::loss_gradient;
use attngrad::reference::Reference;
use attngrad::{Approximation, Float, Level, Options, Polynomial, Problem, Wrt, exact_rows, polynomial_gradient};
use ndarray::Array2;

use crate::data::{Case, Family, Shape};
use crate::ratio::absolute;

/// Roundings in units of eps (1 + log2 n) Σ, Σ the sums over absolute values: monomials cancel within P(t), and
/// a degree more costs about twice as many of them.
const SLACK: f64 = 60.0;

/// Rows of a block of the kernels, which the shapes below go around.
pub const BLOCK: usize = attngrad::constants::MOMENT_ROWS;

pub fn taylor(degree: usize) -> Approximation {
    let mut coefficients = vec![1.0];
    for a in 1..=degree {
        coefficients.push(coefficients[a - 1] / a as f64);
    }
    Approximation { coefficients, integers: false, exact_keys: vec![] }
}

/// The largest error of an array in units of its rounding.
pub fn assert_close<T: Float>(got: &Array2<T>, want: &Array2<f64>, sums: &Array2<f64>, what: &str) {
    assert_eq!(got.dim(), want.dim(), "{what}");
    let growth = 2.0 * T::UNIT_ROUNDOFF * SLACK;
    // Sums that are zero in exact arithmetic leave the roundings of their neighbours.
    let floor = sums.iter().fold(0.0, |max: f64, x| max.max(*x));
    for ((got, want), sum) in got.iter().zip(want).zip(sums) {
        let bar = growth * (sum + floor / 4.0);
        assert!((got.widen() - want).abs() <= bar, "{what}: {got} for {want}, at most {bar:e} off");
    }
}

pub fn check<T: Float>(case: &Case<T>, wrt: &[Wrt], degree: usize, level: Level, what: &str) {
    check_problem(&case.problem(), wrt, &taylor(degree), level, what);
}

pub fn check_problem<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    approximation: &Approximation,
    level: Level,
    what: &str,
) {
    let options = Options { level: Some(level), ..Options::default() };
    let degree = approximation.coefficients.len() - 1;
    let what = format!("{what}, degree {degree}, {}, {}, {wrt:?}", T::NAME, level.name());
    let fit = Polynomial::fit(problem, approximation, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let reference = Reference::polynomial(problem, approximation, fit.mean(), BLOCK);
    let result = polynomial_gradient(problem, wrt, approximation, &options, None)
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
pub fn small<T: Float>(shape: Shape, family: Family, seed: u64) -> Case<T> {
    let case = Case::<T>::new(shape, family, false, seed);
    Case { scale: 0.3 / (shape.d1 * shape.d2).max(1) as f64, ..case }
}

fn check_both(shape: Shape, family: Family, degree: usize, level: Level, seed: u64) {
    let what = format!("{shape:?}, {family:?}, seed {seed}");
    let (single, double) = (small::<f32>(shape, family, seed), small::<f64>(shape, family, seed));
    let all = single.inputs();
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

/// The first bits of everything that a call returns.
fn bits<T: Float>(case: &Case<T>, threads: usize, level: Level) -> Vec<u64> {
    let options = Options { threads: std::num::NonZeroUsize::new(threads), level: Some(level), ..Options::default() };
    let result =
        polynomial_gradient(&case.problem(), &case.inputs(), &taylor(2), &options, None).expect("a regular problem");
    let numbers = [result.loss, result.largest_query, result.largest_key].map(f64::to_bits).to_vec();
    let gradients = result.gradients.iter().flat_map(|(_, value)| value.iter().map(|x| x.widen().to_bits()));
    let bounds = result.bounds.iter().chain([&result.loss_bound]).map(|bound| bound.absolute().to_bits());
    numbers.into_iter().chain(gradients).chain(bounds).collect()
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let shape = Shape { n: 9 * BLOCK + 3, m: 5 * BLOCK + 70, d1: 4, d2: 4, d3: 3, dv: 2, pair: None };
    let (single, double) = (small::<f32>(shape, Family::Uniform, 1), small::<f64>(shape, Family::Uniform, 1));
    for level in Level::available() {
        let (first_single, first_double) = (bits(&single, 1, level), bits(&double, 1, level));
        for threads in [2, 3, 7, 16] {
            assert_eq!(bits(&single, threads, level), first_single, "{threads} threads, {}", level.name());
            assert_eq!(bits(&double, threads, level), first_double, "{threads} threads, {}", level.name());
        }
    }
}

/// Logits up to about 1: the error falls by the degree + 1 over the range at least, down to rounding.
#[test]
fn converges_to_the_exact_gradient() {
    let mut case = Case::<f64>::new(Shape::square(150, 170, 3), Family::Uniform, false, 7);
    case.scale *= 0.5;
    let problem = case.problem();
    let all = case.inputs();
    let exact = loss_gradient(&problem, &all, &Options::default(), None).expect("a regular problem");
    let norm = |array: &Array2<f64>| array.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut before = vec![1.0; all.len()];
    for degree in 1..=12 {
        let result =
            polynomial_gradient(&problem, &all, &taylor(degree), &Options::default(), None).expect("few monomials");
        for (k, (wrt, value)) in result.gradients.iter().enumerate() {
            let want = exact.get(*wrt).expect("it was asked for");
            let error = norm(&(value - want)) / norm(want);
            assert!(error <= f64::max(before[k] / 2.0, 1e-12), "dL/d{}: {error:e} at degree {degree}", wrt.name());
            before[k] = error;
        }
    }
    assert!(before.iter().all(|error| *error < 1e-10), "{before:?}");
}

/// A problem without keys or queries is exact at any degree.
#[test]
fn nothing_to_approximate() {
    for (n, m) in [(0, 0), (0, 5), (5, 0)] {
        let case = Case::<f32>::new(Shape::square(n, m, 3), Family::Uniform, false, 1);
        let problem = case.problem();
        let all = case.inputs();
        let exact = loss_gradient(&problem, &all, &Options::default(), None).expect("a regular problem");
        let result =
            polynomial_gradient(&problem, &all, &taylor(2), &Options::default(), None).expect("a regular problem");
        assert_eq!(result.loss, exact.loss);
        assert!(result.unsafe_rows.is_empty());
        for (wrt, value) in &result.gradients {
            assert_eq!(Some(value), exact.get(*wrt));
        }
    }
}

/// Rows where P is not positive, or drowned in rounding, are named, and count for nothing.
#[test]
fn unsafe_rows_are_named_and_left_out() {
    let case = small::<f32>(Shape::square(60, 50, 2), Family::Uniform, 3);
    for size in [1e4, 1e30] {
        let mut large = case.clone();
        for row in [7, 41] {
            large.A1.row_mut(row).mapv_inplace(|x| x.signum() * size);
        }
        let result = polynomial_gradient(&large.problem(), &case.inputs(), &taylor(3), &Options::default(), None);
        let result = result.expect("named rows");
        assert!([7, 41].iter().all(|row| result.unsafe_rows.contains(row)), "{size:e}: {:?}", result.unsafe_rows);
        // No row is safe with a polynomial that is negative.
        let negative = Approximation { coefficients: vec![-1.0, 1.0], integers: true, exact_keys: vec![] };
        let all = polynomial_gradient(&large.problem(), &case.inputs(), &negative, &Options::default(), None);
        let all = all.expect("named rows");
        assert_eq!(all.unsafe_rows, (0..60).collect::<Vec<_>>());
        assert_eq!(all.loss, 0.0);
        assert!(all.gradients.iter().all(|(_, value)| value.iter().all(|x| *x == 0.0)));
    }
    let clean = polynomial_gradient(&case.problem(), &[Wrt::X], &taylor(3), &Options::default(), None);
    assert!(clean.expect("a regular problem").unsafe_rows.is_empty());
}

/// The rows that a gradient is made of: s A1ᵀ w is dL/dX, for all rows, for either method.
#[test]
fn rows_add_up_to_the_gradient() {
    for pair in [None, Some(3)] {
        let shape = Shape { n: 3 * BLOCK + 5, m: 77, d1: 4, d2: 5, d3: 3, dv: 6, pair };
        let case = small::<f64>(shape, Family::Uniform, 4);
        let problem = case.problem();
        let options = Options::default();
        let wrt = if pair.is_some() { Wrt::WQ } else { Wrt::X };
        let all: Vec<usize> = (0..shape.n).collect();
        let fit = Polynomial::fit(&problem, &taylor(2), &options, None).expect("few monomials");
        let rows = fit.rows(&problem, &all, &options, None).expect("a regular problem");
        let exact = exact_rows(&problem, &all, &options, None).expect("a regular problem");
        let gradient = fit.gradient(&problem, &[wrt], &options, None).expect("a regular problem");
        let reference = loss_gradient(&problem, &[wrt], &options, None).expect("a regular problem");
        let sum = |w: &Array2<f64>| case.scale * case.A1.t().dot(w);
        let near = |a: &Array2<f64>, b: &Array2<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-11);
        assert!(near(&sum(&rows.w), gradient.get(wrt).expect("it was asked for")));
        assert!(near(&sum(&exact.w), reference.get(wrt).expect("it was asked for")));
        assert!(rows.output.iter().zip(&exact.output).all(|(a, b)| (a - b).abs() <= 1e-2));
        let some = [5, 0, 200, 5];
        let few = fit.rows(&problem, &some, &options, None).expect("a regular problem");
        assert_eq!(few.w, rows.w.select(ndarray::Axis(0), &some));
        assert_eq!(few.output, rows.output.select(ndarray::Axis(0), &some));
        let error = fit.rows(&problem, &[shape.n], &options, None).expect_err("there is no such row").to_string();
        assert!(error.contains(&shape.n.to_string()), "{error}");
    }
}

/// Weights that are far from singular: their gradient alone comes from the moments of both sides, without slopes of
/// rows.
fn regular<T: Float>(shape: Shape, family: Family, seed: u64) -> Case<T> {
    let mut case = small::<T>(shape, family, seed);
    let near_one = |mut weights: Array2<T>| {
        let size = 0.3 / weights.nrows() as f64;
        weights.mapv_inplace(|x| T::narrow(size * x.widen()));
        weights.diag_mut().mapv_inplace(|x| T::narrow(1.0 + x.widen()));
        weights
    };
    match &mut case.pair {
        Some((W_Q, _)) => *W_Q = near_one(W_Q.clone()),
        None => case.X = near_one(case.X.clone()),
    }
    case
}

fn check_contraction<T: Float>(shape: Shape, family: Family, degree: usize, level: Level) {
    let case = regular::<T>(shape, family, 5);
    let what = format!("{shape:?}, {family:?}");
    let weights = case.inputs()[0];
    check(&case, &[weights], degree, level, &what);
    check(&case, &[weights, Wrt::Y, Wrt::A2], degree, level, &what);
    let options = Options { level: Some(level), ..Options::default() };
    let gradient = |wrt: &[Wrt]| {
        let result = polynomial_gradient(&case.problem(), wrt, &taylor(degree), &options, None);
        result.expect("a regular problem").get(weights).expect("it was asked for").clone()
    };
    // The slopes are there where dL/dA1 is wanted as well; the last digits tell which way it was. Keys that do not
    // differ, or rows that do not reach every direction, cannot be balanced.
    let (alone, beside) = (gradient(&[weights]), gradient(&[weights, Wrt::A1]));
    let rounds = family != Family::EqualKeys && degree > 0 && shape.d1 > 2 && shape.n.min(shape.m) > 2 * shape.d1;
    assert!(!rounds || alone != beside, "{what}: no contraction");
}

#[test]
fn of_weights_alone_from_the_moments_of_both_sides() {
    for level in Level::available() {
        for degree in 0..=4 {
            for family in [Family::Uniform, Family::EqualKeys, Family::LargeUnits, Family::SmallUnits] {
                let shape = Shape { n: 37, m: 53, d1: 5, d2: 5, d3: 3, dv: 6, pair: None };
                check_contraction::<f32>(shape, family, degree, level);
                check_contraction::<f64>(shape, family, degree, level);
                check_contraction::<f64>(Shape { d2: 7, pair: Some(5), ..shape }, family, degree, level);
            }
        }
        for (n, m) in [(1, 1), (16, BLOCK + 1), (BLOCK - 1, 1), (2 * BLOCK + 5, BLOCK)] {
            for d in [1, 2, 3, 16, 17] {
                check_contraction::<f32>(Shape::square(n, m, d), Family::Uniform, 2, level);
            }
        }
    }
}

/// Beyond what moments of either side can hold there are slopes, and beyond those, unsafe rows.
#[test]
fn moments_beyond_the_precision_are_done_without() {
    let shape = Shape::square(2000, 40, 2);
    let case = regular::<f32>(shape, Family::Uniform, 5);
    let gradient = |case: &Case<f32>, wrt: &[Wrt]| {
        polynomial_gradient(&case.problem(), wrt, &taylor(2), &Options::default(), None).expect("a regular problem")
    };
    let mut spike = Case { scale: 1.0, ..case.clone() };
    spike.A1.mapv_inplace(|x| x * 1e-13);
    spike.A2.mapv_inplace(|x| x * 1e-13);
    // Not among the rows that coordinates are chosen by; its third power is infinite, and its logits are not large.
    spike.A1.row_mut(1).fill(1e13);
    let (alone, beside) = (gradient(&spike, &[Wrt::X]), gradient(&spike, &[Wrt::X, Wrt::A1]));
    assert!(alone.unsafe_rows.is_empty());
    assert_eq!(alone.get(Wrt::X), beside.get(Wrt::X));
    let mut huge = case;
    huge.A2.mapv_inplace(|x| x * 1e30);
    let huge = gradient(&huge, &[Wrt::X]);
    assert_eq!(huge.unsafe_rows.len(), shape.n);
    assert!(huge.get(Wrt::X).expect("it was asked for").iter().all(|x| *x == 0.0));
}

#[test]
fn what_cannot_be_is_refused() {
    let case = small::<f64>(Shape::square(9, 9, 64), Family::Uniform, 1);
    let refuse = |approximation: &Approximation, wrt: &[Wrt]| {
        let result = polynomial_gradient(&case.problem(), wrt, approximation, &Options::default(), None);
        result.expect_err("it cannot be").to_string()
    };
    assert!(refuse(&taylor(9), &[Wrt::X]).contains("718406958841 monomials of 64 coordinates up to grade 10"));
    assert!(
        refuse(&Approximation { coefficients: vec![], integers: true, exact_keys: vec![] }, &[Wrt::X])
            .contains("coefficient")
    );
    assert!(
        refuse(&Approximation { coefficients: vec![1.0, f64::NAN], integers: true, exact_keys: vec![] }, &[Wrt::X])
            .contains("NaN")
    );
    assert!(refuse(&taylor(1), &[Wrt::WQ]).contains("W_Q"));
}
