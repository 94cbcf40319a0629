//! Keys that are left to exp beside the moments of all others, against the dense formula with both.

use attngrad::exact::loss_gradient;
use attngrad::reference::Reference;
use attngrad::{Approximation, Error, Float, Level, Options, Polynomial, Wrt, polynomial_gradient};
use ndarray::Array2;

use crate::data::{Case, Family, Shape};
use crate::moments::{BLOCK, assert_close, check_problem, small, taylor};
use crate::ratio::absolute;

fn with_exact(degree: usize, exact_keys: &[usize]) -> Approximation {
    Approximation { exact_keys: exact_keys.to_vec(), ..taylor(degree) }
}

/// Some keys that are `length` times as long as the others.
fn needles<T: Float>(shape: Shape, keys: &[usize], length: f64, seed: u64) -> Case<T> {
    let mut case = small::<T>(shape, Family::Uniform, seed);
    for &key in keys {
        case.A2.row_mut(key).mapv_inplace(|x| T::narrow(length * x.widen()));
    }
    case
}

fn check_both(shape: Shape, keys: &[usize], degree: usize, level: Level, seed: u64) {
    let (single, double) = (needles::<f32>(shape, keys, 20.0, seed), needles::<f64>(shape, keys, 20.0, seed));
    let what = format!("{shape:?}, exact keys {keys:?}, seed {seed}");
    let (all, approximation) = (single.inputs(), with_exact(degree, keys));
    check_problem(&single.problem(), &all, &approximation, level, &what);
    check_problem(&double.problem(), &all, &approximation, level, &what);
    for wrt in all {
        check_problem(&double.problem(), &[wrt], &approximation, level, &what);
    }
}

#[test]
fn every_level_degree_and_number_of_keys() {
    let shape = Shape { n: 45, m: 2 * BLOCK + 9, d1: 4, d2: 3, d3: 3, dv: 5, pair: None };
    let many: Vec<usize> = (0..64).map(|key| 3 + 7 * key).collect();
    let last: Vec<usize> = (shape.m - 13..shape.m).collect();
    for (seed, level) in Level::available().into_iter().enumerate() {
        for keys in [&[0][..], &[BLOCK - 1, BLOCK], &many, &last] {
            for degree in 0..=3 {
                check_both(shape, keys, degree, level, seed as u64);
            }
            check_both(Shape { pair: Some(2), ..shape }, keys, 2, level, seed as u64);
        }
        // No key is left to the moments.
        let few = Shape { m: 13, ..shape };
        check_both(few, &(0..13).collect::<Vec<_>>(), 2, level, 1);
    }
}

/// The polynomial misses a key that is long for most queries by all of its weight; left to exp it costs nothing.
#[test]
fn a_needle_is_as_exact_as_its_exp() {
    let shape = Shape { n: 300, m: 400, d1: 3, d2: 3, d3: 2, dv: 2, pair: None };
    let mut case = needles::<f64>(shape, &[77], 1.0, 5);
    case.scale *= 0.3;
    let long = 8.0 / (case.scale * 2.0);
    case.A2.row_mut(77).assign(&ndarray::array![long, -long, long]);
    let problem = case.problem();
    let all = case.inputs();
    let exact = loss_gradient(&problem, &all, &Options::default(), None).expect("a regular problem");
    let norm = |array: &Array2<f64>| array.iter().map(|x| x * x).sum::<f64>().sqrt();
    let errors = |approximation: &Approximation| -> Vec<f64> {
        let result = polynomial_gradient(&problem, &all, approximation, &Options::default(), None).expect("a result");
        assert!(result.unsafe_rows.is_empty());
        let pairs = result.gradients.iter().zip(&exact.gradients);
        pairs.map(|((_, value), exact)| norm(&(value - &exact.value)) / norm(&exact.value)).collect()
    };
    let [without, with] = [&[][..], &[77]].map(|keys| errors(&with_exact(4, keys)));
    assert!(without.iter().all(|error| *error > 1e-2), "{without:?}");
    assert!(with.iter().all(|error| *error < 1e-4), "{with:?}");
}

#[test]
fn rows_are_those_of_the_gradient() {
    let shape = Shape { n: 70, m: 90, d1: 3, d2: 3, d3: 2, dv: 2, pair: None };
    let case = needles::<f64>(shape, &[4, 50], 20.0, 8);
    let (problem, approximation) = (case.problem(), with_exact(2, &[4, 50]));
    let fit = Polynomial::fit(&problem, &approximation, &Options::default(), None).expect("a regular problem");
    let all: Vec<usize> = (0..shape.n).collect();
    let rows = fit.rows(&problem, &all, &Options::default(), None).expect("a regular problem");
    let want = Reference::polynomial(&problem, &approximation, fit.mean(), BLOCK);
    let centred = &want.A2 - fit.mean();
    let sums = absolute(&want).p.dot(&centred.mapv(f64::abs));
    assert_close(&rows.w, &want.p.dot(&centred), &sums, "w");
    assert_close(&rows.output, &want.o, &want.o.mapv(|x| x.abs() + 1.0), "o");
}

/// Weights that no number of the precision holds belong to rows that are named.
#[test]
fn a_row_whose_weights_need_a_shift_is_unsafe() {
    let shape = Shape { n: 60, m: 50, d1: 2, d2: 2, d3: 2, dv: 2, pair: None };
    let mut case = needles::<f32>(shape, &[9], 1.0, 4);
    case.A1.row_mut(7).mapv_inplace(|x| 30.0 * x.signum());
    case.A2.row_mut(9).mapv_inplace(|x| (50.0 / (60.0 * case.scale)) as f32 * x.signum());
    let problem = case.problem();
    let result = polynomial_gradient(&problem, &[Wrt::X, Wrt::A1], &with_exact(2, &[9]), &Options::default(), None);
    let result = result.expect("the others are regular");
    assert_eq!(result.unsafe_rows, [7]);
    assert!(result.gradients.iter().all(|(_, value)| value.iter().all(|x| x.is_finite())));
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let shape = Shape { n: 9 * BLOCK + 3, m: 5 * BLOCK + 70, d1: 4, d2: 4, d3: 3, dv: 2, pair: None };
    let keys = [1, 300, 301, 999];
    let case = needles::<f32>(shape, &keys, 20.0, 1);
    let of = |threads| {
        let options = Options { threads: std::num::NonZeroUsize::new(threads), ..Options::default() };
        let result = polynomial_gradient(&case.problem(), &case.inputs(), &with_exact(2, &keys), &options, None);
        result.expect("a regular problem").gradients
    };
    let first = of(1);
    assert!([2, 3, 7].into_iter().all(|threads| of(threads) == first));
}

#[test]
fn keys_that_make_no_sense_are_refused() {
    let case = small::<f64>(Shape::square(300, 300, 2), Family::Uniform, 1);
    let refused = |case: &Case<f64>, keys: &[usize]| {
        let result = polynomial_gradient(&case.problem(), &[Wrt::X], &with_exact(1, keys), &Options::default(), None);
        matches!(result, Err(Error::Option { option: "exact_keys", .. }))
    };
    assert!(!refused(&case, &[1, 2]));
    for keys in [&[2, 1][..], &[1, 1], &[300], &(0..BLOCK + 1).collect::<Vec<_>>()] {
        assert!(refused(&case, keys), "{keys:?}");
    }
    assert!(refused(&Case { is_causal: true, ..case.clone() }, &[1]));
}
