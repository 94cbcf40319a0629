//! The bounds that come with the passes of the polynomial method, against dense f64 with the exact exponential.

use attngrad::polynomial::{Interval, Kind, Polynomial as Exponential};
use attngrad::reference::Reference;
use attngrad::{Approximation, Error, Float, Options, Polynomial, PolynomialGradients, Wrt, polynomial_gradient};
use ndarray::{Array2, Axis};

use super::cases::{Case, approximation, norm};
use super::{DEEP, normal, seeds};
use crate::data::Rng;
use crate::ratio::absolute;

/// Problems of the test.
const PROBLEMS: u64 = 2_000;

/// Rounding of the dense computation, in units of the sums over absolute values.
const REFERENCE: f64 = 1e-14;

/// Some of the problems have an error of this much of its bound.
const NEAR: f64 = 0.5;

/// At least this share of the problems has weights that moments of both sides are enough for.
const CONTRACTED: f64 = 0.05;

/// Room for the width of a bucket and for rounding, points to look at P at, and how many problems have one of both
/// signs.
const WIDER: f64 = 1.15;
const GRID: u32 = 2000;
const SIGNED: usize = 20;

/// Bounds are useless beyond this many times the error.
const USEFUL: f64 = 3e4;

/// Statistics of the bounds of a problem.
#[derive(Default)]
struct Found {
    finite: usize,
    count: usize,
    /// The largest error over its bound.
    nearest: f64,
    /// Gradients of the weights that came from the moments of both sides.
    contracted: usize,
}

/// Asserts every bound.
fn check<T: Float>(seed: u64, given: bool) -> Found {
    let mut rng = Rng::new(seed);
    let mut case = Case::<T>::random(&mut rng);
    if given {
        case = case.with_incoming(&mut rng);
    }
    let approximation = approximation(&mut rng, &case.samples());
    let all = case.inputs();
    let what = format!("{} of seed {seed}", T::NAME);
    let result = match polynomial_gradient(&case.problem(), &all, &approximation, &Options::default(), None) {
        // A result is refused where it does not fit the precision.
        Err(Error::Range { .. }) => return Found::default(),
        result => result.unwrap_or_else(|error| panic!("{what}: {error}")),
    };
    // Alone, the first one, of the weights, comes from the moments of both sides where it can.
    let alone = polynomial_gradient(&case.problem(), &all[..1], &approximation, &Options::default(), None);
    let alone = alone.unwrap_or_else(|error| panic!("{what}: {error}"));
    let safe = case.without(&result.unsafe_rows);
    let truth = Reference::new(&safe.problem());
    let sums = absolute(&truth);
    let mut found = Found { count: all.len() + 1, ..Found::default() };
    let mut held = |name: &str, error: f64, slack: f64, bound: f64| {
        assert!(bound >= 0.0, "{name} of {what}: bound {bound}");
        assert!(error - REFERENCE * slack <= bound, "{name} of {what}: error {error:e}, bound {bound:e}");
        found.finite += usize::from(bound.is_finite());
        found.nearest = found.nearest.max((error - REFERENCE * slack) / bound);
    };
    held("the loss", (result.loss - truth.loss).abs(), sums.loss, result.loss_bound.absolute());
    let gradients = result.gradients.iter().zip(&result.bounds).chain(alone.gradients.iter().zip(&alone.bounds));
    for ((wrt, value), bound) in gradients {
        let mut value = value.mapv(T::widen);
        if *wrt == Wrt::A && !result.unsafe_rows.is_empty() {
            continue;
        }
        if *wrt == Wrt::A1 {
            let kept: Vec<usize> = (0..case.E.nrows()).filter(|row| !result.unsafe_rows.contains(row)).collect();
            value = value.select(Axis(0), &kept);
        }
        let want = truth.gradient(*wrt).expect("the reference has it");
        let slack = sums.gradient(*wrt).expect("the reference has it");
        held(&format!("dL/d{}", wrt.name()), norm(&(value - want)), norm(&slack), bound.absolute());
    }
    found.contracted = usize::from(alone.gradients[0].1 != result.gradients[0].1);
    found
}

fn never_below_the_truth(problems: u64, given: bool) {
    let mut all = Found::default();
    for seed in seeds(if given { "bounds, c given" } else { "bounds" }, problems) {
        let found = if seed % 2 == 0 { check::<f32>(seed, given) } else { check::<f64>(seed, given) };
        all.finite += found.finite;
        all.count += found.count;
        all.nearest = all.nearest.max(found.nearest);
        all.contracted += found.contracted;
    }
    let Found { finite, count, nearest, contracted } = all;
    // Where logits are beyond P's range there is no bound; the test is of those that are.
    assert!(2 * finite > count, "only {finite} of {count} bounds are finite");
    // Small problems come near their bound.
    assert!(nearest >= NEAR, "the largest error / bound is {nearest}");
    assert!(contracted as f64 >= CONTRACTED * problems as f64, "{contracted} were contracted");
}

#[test]
fn a_bound_is_never_below_the_truth() {
    never_below_the_truth(PROBLEMS, false);
}

#[test]
fn a_bound_for_a_given_c_is_never_below_the_truth() {
    never_below_the_truth(PROBLEMS, true);
}

#[test]
#[ignore = "deep: minutes"]
fn a_bound_is_never_below_the_truth_of_many() {
    never_below_the_truth(DEEP, false);
}

#[test]
#[ignore = "deep: minutes"]
fn a_bound_for_a_given_c_is_never_below_the_truth_of_many() {
    never_below_the_truth(DEEP, true);
}

/// Where |P − e^t| m is less than the normaliser of every row, no bound is infinite, whatever the signs of P; tells
/// whether that is so, and whether P has both.
fn finite_by_difference(seed: u64, given: bool) -> Option<[bool; 2]> {
    let mut rng = Rng::new(seed);
    let mut case = Case::<f64>::random(&mut rng);
    if given {
        case = case.with_incoming(&mut rng);
    }
    let approximation = approximation(&mut rng, &case.samples());
    let (all, options) = (case.inputs(), Options::default());
    let result = polynomial_gradient(&case.problem(), &all, &approximation, &options, None).ok()?;
    let fit = Polynomial::fit(&case.problem(), &approximation, &options, None).ok()?;
    let safe = case.without(&result.unsafe_rows);
    let range = WIDER * result.largest_query * result.largest_key;
    if range > 200.0 || safe.E.is_empty() {
        return None;
    }
    // The same polynomial in another basis.
    let value = |t: f64| approximation.coefficients.iter().rev().fold(0.0, |sum, p| sum * t + p);
    let steps = (0..=GRID).map(|i| range * (2.0 * f64::from(i) / f64::from(GRID) - 1.0));
    let off = steps.clone().map(|t| (value(t) - t.exp()).abs()).fold(0.0, f64::max);
    let truth = Reference::new(&safe.problem());
    let keys = &truth.A2 - &fit.mean().view().insert_axis(Axis(0));
    let logits = case.scale * truth.A1.dot(&truth.X).dot(&keys.t());
    let least = logits.mapv(value).sum_axis(Axis(1)).iter().copied().fold(f64::INFINITY, f64::min);
    let wanted = WIDER * off * (keys.nrows() as f64) < least;
    let finite = result.bounds.iter().chain([&result.loss_bound]).all(|bound| bound.absolute().is_finite());
    assert!(finite || !wanted, "seed {seed}: off by {off}, least normaliser {least}: {:?}", result.bounds);
    Some([wanted, wanted && steps.clone().any(|t| value(t) <= 0.0)])
}

#[test]
fn a_bound_is_finite_where_the_difference_is_small() {
    let found: Vec<_> = (0..2 * PROBLEMS).filter_map(|seed| finite_by_difference(seed, seed % 2 == 0)).collect();
    let count = |which: usize| found.iter().filter(|found| found[which]).count();
    let (wanted, signed) = (count(0), count(1));
    assert!(wanted > PROBLEMS as usize && signed >= SIGNED, "{wanted} wanted, {signed} of both signs");
}

/// Asserts the caps of all rows, also of those that P says nothing of, and that they are numbers.
fn check_caps<T: Float>(seed: u64, given: bool) {
    let mut rng = Rng::new(seed);
    let mut case = Case::<T>::random(&mut rng);
    if given {
        case = case.with_incoming(&mut rng);
    }
    let approximation = approximation(&mut rng, &case.samples());
    let (problem, options) = (case.problem(), Options::default());
    let what = format!("{} of seed {seed}", T::NAME);
    let fit =
        Polynomial::fit(&problem, &approximation, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let all: Vec<usize> = (0..case.E.nrows()).collect();
    let approximate = fit.rows(&problem, &all, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let caps = fit.caps(&problem, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let truth = Reference::new(&problem);
    let keys = truth.A2.dot(&case.weights[1].mapv(T::widen));
    let (w, sums) = (truth.p.dot(&keys), absolute(&truth).p.dot(&keys.mapv(f64::abs)));
    for j in all {
        if !approximate.w.row(j).iter().all(|x| x.is_finite()) {
            // Beyond the precision: there is no error to speak of.
            continue;
        }
        let error = super::norm(&(&w.row(j) - &approximate.w.row(j).mapv(T::widen)).to_vec());
        let (cap, slack) = (caps.w[j], REFERENCE * super::norm(&sums.row(j).to_vec()));
        assert!(cap.is_finite() && error - slack <= cap, "row {j} of {what}: error {error:e}, cap {cap:e}");
        let weighted = case.scale.abs() * super::norm(&truth.A1.row(j).to_vec()) * cap;
        let wanted = weighted..=1.001 * weighted + f64::MIN_POSITIVE;
        assert!(wanted.contains(&caps.weighted[j]), "row {j} of {what}: {:e} for {weighted:e}", caps.weighted[j]);
    }
}

#[test]
fn a_cap_is_never_below_the_error_of_a_row() {
    for seed in 0..PROBLEMS {
        for given in [false, true] {
            if seed % 2 == 0 { check_caps::<f32>(seed, given) } else { check_caps::<f64>(seed, given) }
        }
    }
}

/// Entries uniform in [−B, B], d = 16, values uniform, E normal, P relative minimax of degree 2 on the range that the
/// data has.
pub(super) fn entries<T: Float>(n: usize, size: f64, degree: usize) -> (Case<T>, Approximation) {
    let d = 16;
    let mut rng = Rng::new(17);
    let mut uniform = |size: f64| Array2::from_shape_simple_fn((n, d), || size * rng.uniform());
    let inputs = [uniform(size), uniform(size), uniform(1.0)].map(|array| array.mapv(T::narrow));
    let E = Array2::from_shape_simple_fn((n, d), || T::narrow(normal(&mut rng)));
    let case = Case {
        inputs,
        weights: [Array2::eye(d), Array2::eye(d)],
        pair: false,
        Y: Array2::eye(d),
        E,
        given: false,
        scale: 1.0 / d as f64,
    };
    let range = case.samples().iter().fold(0.0, |max: f64, t| max.max(t.abs()));
    let interval = Interval::symmetric(range).expect("a small range");
    let polynomial = Exponential::new(Kind::MinimaxRelative, degree, interval).expect("a small degree");
    (case, Approximation { coefficients: polynomial.power(), integers: true, exact_keys: vec![] })
}

/// Bound over error for each gradient, and for the loss at the end; with the shares of the truncation.
fn tightness<T: Float>(n: usize, size: f64, degree: usize) -> Vec<(&'static str, f64, f64, f64)> {
    let (case, approximation) = entries::<T>(n, size, degree);
    let all = case.inputs();
    let result: PolynomialGradients<T> =
        polynomial_gradient(&case.problem(), &all, &approximation, &Options::default(), None)
            .expect("a regular problem");
    let wide = |array: &Array2<T>| array.mapv(T::widen);
    let double = Case::<f64> {
        inputs: case.inputs.each_ref().map(wide),
        weights: case.weights.each_ref().map(wide),
        pair: case.pair,
        Y: wide(&case.Y),
        E: wide(&case.E),
        given: case.given,
        scale: case.scale,
    };
    let truth =
        attngrad::exact::loss_gradient(&double.problem(), &all, &Options::default(), None).expect("a regular problem");
    let mut found: Vec<_> = result
        .gradients
        .iter()
        .zip(&result.bounds)
        .map(|((wrt, value), bound)| {
            let want = truth.get(*wrt).expect("it was asked for");
            let error = norm(&(wide(value) - want));
            (wrt.name(), bound.absolute() / error, bound.truncation / bound.absolute(), error / norm(want))
        })
        .collect();
    let (error, bound) = ((result.loss - truth.loss).abs(), result.loss_bound);
    found.push(("loss", bound.absolute() / error, bound.truncation / bound.absolute(), error / truth.loss));
    found
}

/// From the other side: not uselessly above. The rows' errors of the loss have either sign and cancel in its sum; in
/// f32 rounding, whose worst case does not happen, is all there is for entries below 1.
#[test]
fn a_bound_is_within_reach_of_the_truth() {
    let single = tightness::<f32>(600, 1.0, 2);
    let double = [0.1, 0.25, 0.5, 1.0].into_iter().flat_map(|size| tightness::<f64>(600, size, 2));
    for (name, ratio, ..) in single.into_iter().chain(double) {
        let useful = if name == "loss" { f64::MAX } else { USEFUL };
        assert!((1.0..=useful).contains(&ratio), "{name}: bound / error = {ratio:e}");
    }
}

#[test]
#[ignore = "deep: prints the tightness at n = 4096"]
fn tightness_of_the_bounds() {
    let mut table = String::new();
    for size in [0.1, 0.25, 0.5, 1.0] {
        for (precision, rows) in [("f32", tightness::<f32>(4096, size, 2)), ("f64", tightness::<f64>(4096, size, 2))] {
            for (name, ratio, truncation, relative) in rows {
                table += &format!(
                    "entries {size} {precision} {name}: bound/error {ratio:.1e}, truncation {truncation:.2} of it, error/result {relative:.1e}\n"
                );
                assert!(ratio >= 1.0, "{table}");
            }
        }
    }
    // Shown with --nocapture; printing is refused elsewhere.
    #[allow(clippy::print_stderr, reason = "what the test is for")]
    {
        eprintln!("{table}");
    }
}
