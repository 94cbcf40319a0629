//! The moment form under a causal mask, against the dense formula with exp on the diagonal chunks and P beside them.

use attngrad::exact::loss_gradient;
use attngrad::{Float, Level, Options, Polynomial, Wrt, exact_rows, polynomial_gradient};
use ndarray::{Array2, Axis, s};

use crate::data::{Case, Family, Shape};
use crate::moments::{BLOCK, check, small, taylor};

fn causal<T: Float>(shape: Shape, family: Family, seed: u64) -> Case<T> {
    Case { is_causal: true, ..small(shape, family, seed) }
}

fn check_both(shape: Shape, family: Family, degree: usize, level: Level, seed: u64) {
    let what = format!("causal {shape:?}, {family:?}, seed {seed}");
    let (single, double) = (causal::<f32>(shape, family, seed), causal::<f64>(shape, family, seed));
    let all = single.inputs();
    check(&single, &all, degree, level, &what);
    check(&double, &all, degree, level, &what);
}

/// Relative in the Frobenius norm.
fn distance<T: Float>(got: &Array2<T>, want: &Array2<f64>) -> f64 {
    let norm = |sum: f64| sum.sqrt();
    let error: f64 = got.iter().zip(want).map(|(got, want)| (got.widen() - want).powi(2)).sum();
    norm(error) / norm(want.iter().map(|x| x * x).sum())
}

#[test]
fn every_level_and_degree() {
    let shape = Shape { n: 2 * BLOCK + 37, m: 2 * BLOCK + 53, d1: 3, d2: 4, d3: 3, dv: 2, pair: None };
    for (seed, level) in Level::available().into_iter().enumerate() {
        for degree in 0..=3 {
            for family in [Family::Uniform, Family::LargeUnits] {
                check_both(shape, family, degree, level, seed as u64);
            }
            check_both(Shape { pair: Some(2), ..shape }, Family::Uniform, degree, level, seed as u64);
        }
    }
}

#[test]
fn every_size_and_width() {
    for level in Level::available() {
        let sizes = [
            (1, 1),
            (1, 40),
            (40, 1),
            (17, 23),
            (BLOCK, BLOCK),
            (BLOCK + 1, BLOCK - 1),
            (3 * BLOCK + 9, 70),
            (70, 3 * BLOCK + 9),
            (BLOCK + 7, 3 * BLOCK),
        ];
        for (seed, (n, m)) in sizes.into_iter().enumerate() {
            let shape = Shape { n, m, d1: 2, d2: 3, d3: 2, dv: 3, pair: None };
            check_both(shape, Family::Uniform, 2, level, seed as u64);
        }
        for (d, dv) in [(1, 1), (0, 2), (2, 0), (17, 1), (5, 33)] {
            let shape = Shape { n: BLOCK + 20, m: BLOCK + 23, d1: d, d2: d, d3: 4, dv, pair: None };
            check_both(shape, Family::Uniform, 1, level, d as u64);
        }
    }
}

/// A gradient asked for alone has the bits that it has among others, and no others are needed.
#[test]
fn every_input_alone() {
    let case = causal::<f32>(Shape::square(BLOCK + 90, BLOCK + 90, 3), Family::Uniform, 5);
    let gradient = |wrt: &[Wrt]| {
        let result = polynomial_gradient(&case.problem(), wrt, &taylor(2), &Options::default(), None);
        result.expect("a regular problem")
    };
    let all = case.inputs();
    let together = gradient(&all);
    for wrt in all {
        assert_eq!(gradient(&[wrt]).get(wrt), together.get(wrt), "dL/d{}", wrt.name());
    }
    assert_eq!(gradient(&[]).loss, together.loss);
}

/// A wave holds 64 chunks at most, so that this is more than one.
#[test]
fn bits_do_not_depend_on_the_threads_and_the_length_costs_no_accuracy() {
    let case = causal::<f32>(Shape::square(70 * BLOCK + 3, 70 * BLOCK + 3, 2), Family::Uniform, 1);
    let all = case.inputs();
    let run = |threads| {
        let options = Options { threads: std::num::NonZeroUsize::new(threads), ..Options::default() };
        polynomial_gradient(&case.problem(), &all, &taylor(3), &options, None).expect("a regular problem")
    };
    let first = run(1);
    for threads in [2, 3] {
        let again = run(threads);
        assert_eq!(again.loss, first.loss, "{threads} threads");
        assert_eq!(again.largest_key, first.largest_key, "{threads} threads");
        assert_eq!(again.gradients, first.gradients, "{threads} threads");
    }
    let widened = |array: &Array2<f32>| array.mapv(f64::from);
    let double = Case::<f64> {
        A1: widened(&case.A1),
        A2: widened(&case.A2),
        A3: widened(&case.A3),
        X: widened(&case.X),
        pair: None,
        Y: widened(&case.Y),
        E: widened(&case.E),
        scale: case.scale,
        is_causal: true,
    };
    let want = polynomial_gradient(&double.problem(), &all, &taylor(3), &Options::default(), None);
    let want = want.expect("a regular problem");
    for ((wrt, got), (_, want)) in first.gradients.iter().zip(&want.gradients) {
        let error = distance(got, want);
        assert!(error < 3e-6, "dL/d{}: {error:e}", wrt.name());
    }
}

/// Entries in [−1, 1] and s = 1/d.
#[test]
fn near_the_exact_gradient_at_small_entries() {
    let mut case = Case::<f64>::new(Shape::square(5 * BLOCK + 11, 5 * BLOCK + 11, 16), Family::Uniform, true, 3);
    (case.X, case.Y) = (Array2::eye(16), Array2::eye(16));
    let all = case.inputs();
    let exact = loss_gradient(&case.problem(), &all, &Options::default(), None).expect("a regular problem");
    let result = polynomial_gradient(&case.problem(), &all, &taylor(2), &Options::default(), None);
    let result = result.expect("a regular problem");
    assert!(result.unsafe_rows.is_empty());
    for (wrt, value) in &result.gradients {
        let error = distance(value, exact.get(*wrt).expect("it was asked for"));
        assert!(error < 1e-3, "dL/d{}: {error:e}", wrt.name());
    }
}

/// One chunk is exact at any degree, and what comes later does not change what was before.
#[test]
fn one_chunk_is_exact() {
    let case = causal::<f64>(Shape::square(BLOCK - 5, BLOCK - 5, 4), Family::Uniform, 6);
    let all = case.inputs();
    let exact = loss_gradient(&case.problem(), &all, &Options::default(), None).expect("a regular problem");
    let result = polynomial_gradient(&case.problem(), &all, &taylor(0), &Options::default(), None);
    let result = result.expect("a regular problem");
    assert!((result.loss - exact.loss).abs() <= 1e-13 * exact.loss);
    for (wrt, value) in &result.gradients {
        let error = distance(value, exact.get(*wrt).expect("it was asked for"));
        assert!(error < 1e-12, "dL/d{}: {error:e}", wrt.name());
    }
}

/// Rows whose polynomial is not positive, or whose diagonal needs a shift, are named, and count for nothing; rows
/// before them are as without them.
#[test]
fn unsafe_rows_are_named_and_left_out() {
    let shape = Shape::square(2 * BLOCK + 60, 2 * BLOCK + 50, 2);
    let case = causal::<f32>(shape, Family::Uniform, 3);
    let all = case.inputs();
    let gradient = |case: &Case<f32>, coefficients: Vec<f64>| {
        let approximation = attngrad::Approximation { coefficients, integers: true, exact_keys: vec![] };
        polynomial_gradient(&case.problem(), &all, &approximation, &Options::default(), None).expect("named rows")
    };
    assert!(gradient(&case, taylor(3).coefficients).unsafe_rows.is_empty());
    let bad = [BLOCK - 1, BLOCK + 4, 2 * BLOCK + 59];
    for size in [1e4, 1e30] {
        let mut large = case.clone();
        for row in bad {
            large.A1.row_mut(row).mapv_inplace(|x| x.signum() * size);
        }
        let result = gradient(&large, taylor(3).coefficients);
        assert!(bad.iter().all(|row| result.unsafe_rows.contains(row)), "{size:e}: {:?}", result.unsafe_rows);
        assert!(result.gradients.iter().all(|(_, value)| value.iter().all(|x| x.is_finite())));
        let A1 = result.get(Wrt::A1).expect("it was asked for");
        assert!(result.unsafe_rows.iter().all(|&row| A1.row(row).iter().all(|x| *x == 0.0)));
    }
    // A polynomial that is negative leaves the first chunk alone.
    let negative = gradient(&case, vec![-1.0, 1.0]);
    assert_eq!(negative.unsafe_rows, (BLOCK..2 * BLOCK + 60).collect::<Vec<_>>());
    let first = Case {
        A1: case.A1.slice(s![..BLOCK, ..]).to_owned(),
        E: case.E.slice(s![..BLOCK, ..]).to_owned(),
        ..case.clone()
    };
    let exact = loss_gradient(&first.problem(), &[Wrt::X, Wrt::A2], &Options::default(), None).expect("regular");
    for gradient in &exact.gradients {
        let want = gradient.value.mapv(f64::from);
        let error = distance(negative.get(gradient.wrt).expect("it was asked for"), &want);
        assert!(error < 1e-5, "dL/d{}: {error:e}", gradient.wrt.name());
    }
    // A key and a value beyond the precision spoil no row that does not see them.
    for (side, size) in [(0, 3e38), (1, f32::INFINITY)] {
        let mut large = case.clone();
        let rows = if side == 0 { &mut large.A2 } else { &mut large.A3 };
        rows.row_mut(BLOCK + 8).fill(size);
        let result = gradient(&large, taylor(2).coefficients);
        assert!((BLOCK..2 * BLOCK + 60).all(|row| result.unsafe_rows.contains(&row)), "{:?}", result.unsafe_rows);
        assert!(result.gradients.iter().all(|(_, value)| value.iter().all(|x| x.is_finite())));
    }
}

/// Jensen's inequality is about the keys that are seen, whose mean drifts here: rows with much smaller and much larger
/// sums than the number of keys are safe where P is near exp.
#[test]
fn a_mean_that_drifts_is_safe() {
    let mut case = causal::<f64>(Shape::square(6 * BLOCK, 6 * BLOCK, 1), Family::Uniform, 8);
    (case.X, case.scale) = (Array2::eye(1), 1.0);
    let n = case.A2.nrows() as f64;
    for (i, key) in case.A2.iter_mut().enumerate() {
        *key = 3.0 * (i as f64 / n - 0.5);
    }
    case.A1.fill(1.5);
    let result = polynomial_gradient(&case.problem(), &[Wrt::X], &taylor(10), &Options::default(), None);
    let result = result.expect("a regular problem");
    assert!(result.unsafe_rows.is_empty(), "{:?}", result.unsafe_rows);
    let exact = loss_gradient(&case.problem(), &[Wrt::X], &Options::default(), None).expect("a regular problem");
    let want = exact.get(Wrt::X).expect("it was asked for");
    assert!(distance(result.get(Wrt::X).expect("it was asked for"), want) < 1e-4);
}

/// The rows that a gradient is made of: s A1ᵀ w is dL/dX, for all rows, for either method.
#[test]
fn rows_add_up_to_the_gradient() {
    for (n, m, pair) in [(3 * BLOCK + 5, 2 * BLOCK + 7, None), (BLOCK + 30, 3 * BLOCK, Some(3))] {
        let shape = Shape { n, m, d1: 4, d2: 5, d3: 3, dv: 6, pair };
        let case = causal::<f64>(shape, Family::Uniform, 4);
        let problem = case.problem();
        let options = Options::default();
        let wrt = if pair.is_some() { Wrt::WQ } else { Wrt::X };
        let all: Vec<usize> = (0..n).collect();
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
        let some = [n - 1, 5, 0, BLOCK + 20, 5, 1];
        let few = fit.rows(&problem, &some, &options, None).expect("a regular problem");
        assert!(near(&few.w, &rows.w.select(Axis(0), &some)));
        assert!(near(&few.output, &rows.output.select(Axis(0), &some)));
        let few = exact_rows(&problem, &some, &options, None).expect("a regular problem");
        assert!(near(&few.w, &exact.w.select(Axis(0), &some)));
        assert!(near(&few.output, &exact.output.select(Axis(0), &some)));
        assert!(fit.rows(&problem, &[], &options, None).expect("no rows").unsafe_rows.is_empty());
        let error = fit.rows(&problem, &[n], &options, None).expect_err("there is no such row").to_string();
        assert!(error.contains(&n.to_string()), "{error}");
        let open = problem.with_causal(false);
        let error = fit.gradient(&open, &[wrt], &options, None).expect_err("another mask").to_string();
        assert!(error.contains("is_causal"), "{error}");
    }
}

/// Rows that are unsafe are named by their place in the list.
#[test]
fn unsafe_rows_of_a_list() {
    let mut case = causal::<f64>(Shape::square(2 * BLOCK, 2 * BLOCK, 2), Family::Uniform, 9);
    case.A1.row_mut(BLOCK + 9).fill(1e9);
    let problem = case.problem();
    let fit = Polynomial::fit(&problem, &taylor(2), &Options::default(), None).expect("few monomials");
    let rows = fit.rows(&problem, &[BLOCK + 9, 7, BLOCK + 8, BLOCK + 9], &Options::default(), None);
    let rows = rows.expect("named rows");
    assert_eq!(rows.unsafe_rows, [0, 3]);
    assert!([0, 3].iter().all(|&row| rows.w.row(row).iter().chain(rows.output.row(row)).all(|x| *x == 0.0)));
}
