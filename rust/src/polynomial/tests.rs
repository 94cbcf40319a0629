//! Laws of the polynomials; tests/spec/test_polynomials.py holds the bounds against 60 digits.

use super::double::Double;
use super::laws::{Law, law};
use super::remez::{Measure, minimax};
use super::{Interval, Kind, MAX_DEGREE, Polynomial, RatioTable, degree_for};
use crate::error::Error;
use crate::runtime::rng::Rng;

/// Where an exchange ends, and what an extremum between two points of its search may hide.
const LEVEL_SLACK: f64 = 1e-4;

/// Rounding of an error e of values up to V is about 2^−53 · V times a few dozens; errors below this part of V say
/// nothing of the method.
const ROUNDING: f64 = 1e-13;

/// A bound may be this much above an error found on a fine grid.
const BOUND_SLACK: f64 = 0.01;

/// Points of the grids.
const POINTS: usize = 4000;

const INTERVALS: [(f64, f64); 9] = [
    (-1.0, 1.0),
    (-0.1, 0.1),
    (-3.0, 3.0),
    (-2.0, 0.5),
    (2.0, 5.0),
    (-80.0, 80.0),
    (-256.0, 256.0),
    (0.25, 0.25),
    (1.0, 1.0 + 1e-12),
];

fn interval(low: f64, high: f64) -> Interval {
    Interval::new(low, high).expect("a valid interval")
}

fn grid(low: f64, high: f64) -> impl Iterator<Item = f64> {
    (0..=POINTS).map(move |i| low + (high - low) * i as f64 / POINTS as f64)
}

fn largest(low: f64, high: f64, error: impl Fn(f64) -> f64) -> f64 {
    grid(low, high).map(|t| error(t).abs()).fold(0.0, f64::max)
}

fn measured(polynomial: &Polynomial, measure: Measure, t: f64) -> f64 {
    match measure {
        Measure::Absolute => polynomial.eval(t) - t.exp(),
        Measure::Relative => polynomial.eval(t) * (-t).exp() - 1.0,
    }
}

#[test]
fn names_are_parsed_back() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!(matches!("Taylor".parse::<Kind>(), Err(Error::Option { option: "kind", .. })));
}

#[test]
fn what_is_out_of_range_is_refused() {
    for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-257.0, 0.0)] {
        assert!(matches!(Interval::new(low, high), Err(Error::Option { option: "interval", .. })));
    }
    let unit = interval(-1.0, 1.0);
    for kind in Kind::ALL {
        assert!(matches!(Polynomial::new(kind, MAX_DEGREE + 1, unit), Err(Error::Option { .. })), "{kind:?}");
    }
    assert!(matches!(Polynomial::from_chebyshev(unit, Vec::new()), Err(Error::Option { option: "degree", .. })));
    assert!(Polynomial::from_chebyshev(unit, vec![1.0, f64::NAN]).is_err());
    let fit = |t: &[f64], w: &[f64]| Polynomial::least_squares(2, unit, t, w);
    assert!(matches!(fit(&[0.0, 0.5], &[1.0]), Err(Error::Shape { argument: "weights", .. })));
    assert!(matches!(fit(&[f64::NAN], &[1.0]), Err(Error::Option { option: "samples", .. })));
    assert!(matches!(fit(&[0.5], &[-1.0]), Err(Error::Option { option: "weights", .. })));
    let exp = Polynomial::taylor(2, unit).expect("a polynomial");
    assert!(RatioTable::new(&exp, 1.0, 0).is_err());
    assert!(RatioTable::new(&exp, f64::NAN, 4).is_err());
    assert!(exp.ratio_bounds(0.5, 0.0).is_err());
    assert!(degree_for(0.0, 1.0, Kind::Taylor).is_err());
    assert!(degree_for(f64::NAN, 1.0, Kind::Taylor).is_err());
}

#[test]
fn every_degree_and_interval_gives_finite_numbers() {
    for kind in [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative] {
        for (low, high) in INTERVALS {
            for degree in 0..=MAX_DEGREE {
                let what = format!("{kind:?} {degree} on [{low}, {high}]");
                let polynomial = Polynomial::new(kind, degree, interval(low, high)).expect(&what);
                assert_eq!(polynomial.degree(), degree, "{what}");
                assert!(polynomial.power().iter().all(|p| p.is_finite()), "{what}");
                if degree % 10 == 0 {
                    let (lo, hi) = polynomial.ratio_bounds(low, high).expect(&what);
                    assert!(lo.is_finite() && lo <= hi && hi.is_finite(), "{what}: {lo} {hi}");
                    assert!(polynomial.absolute_bound(low, high).expect(&what).is_finite(), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_point_is_met_exactly() {
    for kind in [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative] {
        for t in [0.0, 0.3, -7.0] {
            for degree in 0..=MAX_DEGREE {
                let polynomial = Polynomial::new(kind, degree, interval(t, t)).expect("a polynomial");
                let error = measured(&polynomial, Measure::Relative, t).abs();
                assert!(error <= ROUNDING, "{kind:?} {degree} at {t}: {error:e}");
            }
        }
    }
}

#[test]
fn minimax_errors_alternate_and_are_level() {
    for measure in [Measure::Absolute, Measure::Relative] {
        for (low, high) in [(-1.0, 1.0), (-3.0, 3.0), (2.0, 5.0), (-8.0, 1.0)] {
            for degree in 0..=9 {
                let found = minimax(degree, interval(low, high), measure).expect("a polynomial");
                let what = format!("{measure:?} {degree} on [{low}, {high}]: {found:?}");
                let floor = ROUNDING * if measure == Measure::Absolute { high.exp() } else { (high - low).exp() };
                if found.levelled < floor / LEVEL_SLACK {
                    continue;
                }
                assert_eq!(found.reference.len(), degree + 2, "{what}");
                assert!(found.largest <= found.levelled * (1.0 + LEVEL_SLACK), "{what}");
                let errors: Vec<f64> =
                    found.reference.iter().map(|&t| measured(&found.polynomial, measure, t)).collect();
                for pair in errors.windows(2) {
                    assert!(pair[0] * pair[1] < 0.0, "{what}: {errors:?}");
                }
                for error in &errors {
                    // De la Vallée-Poussin: the least of them is below the best error, and the largest error above.
                    assert!((error.abs() / found.levelled - 1.0).abs() <= LEVEL_SLACK, "{what}: {errors:?}");
                }
                let sup = largest(low, high, |t| measured(&found.polynomial, measure, t));
                assert!(sup <= found.largest * (1.0 + LEVEL_SLACK), "{what}: {sup}");
            }
        }
    }
}

#[test]
fn errors_obey_their_laws() {
    for kind in Kind::ALL {
        for (low, high) in [(-1.0, 1.0), (-0.1, 0.1), (-3.0, 3.0), (-2.0, 0.5), (2.0, 5.0), (-10.0, 10.0)] {
            let samples: Vec<f64> = grid(low, high).collect();
            let weights: Vec<f64> = samples.iter().map(|t| 1.0 + t.sin()).collect();
            for degree in 0..=12 {
                let Law { lower, upper } = law(kind, degree, interval(low, high));
                let made = if kind == Kind::LeastSquares {
                    Polynomial::least_squares(degree, interval(low, high), &samples, &weights)
                } else {
                    Polynomial::new(kind, degree, interval(low, high))
                };
                let polynomial = made.expect("a polynomial");
                let (error, scale) = match kind {
                    Kind::MinimaxRelative => {
                        (polynomial.relative_bound(low, high).expect("a bound"), (high - low).exp())
                    }
                    Kind::LeastSquares => {
                        let square = |(&t, &w): (&f64, &f64)| w * (polynomial.eval(t) - t.exp()).powi(2);
                        let sum: f64 = samples.iter().zip(&weights).map(square).sum();
                        ((sum / weights.iter().sum::<f64>()).sqrt(), high.exp())
                    }
                    _ => (polynomial.absolute_bound(low, high).expect("a bound"), high.exp()),
                };
                let what = format!("{kind:?} {degree} on [{low}, {high}]: {lower:e} <= {error:e} <= {upper:e}");
                assert!(lower <= error + ROUNDING * scale, "{what}");
                assert!(error <= upper * (1.0 + BOUND_SLACK) + ROUNDING * scale, "{what}");
            }
        }
    }
}

#[test]
fn bounds_hold_and_are_tight() {
    for kind in [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative] {
        for degree in 0..=8 {
            let polynomial = Polynomial::new(kind, degree, interval(-3.0, 3.0)).expect("a polynomial");
            // Parts of the interval, and a wider one.
            for (low, high) in [(-3.0, 3.0), (-0.5, 0.5), (1.0, 3.0), (-3.0, -2.5), (0.0, 0.0), (-5.0, 5.0)] {
                let what = format!("{kind:?} {degree} on [{low}, {high}]");
                let (lo, hi) = polynomial.ratio_bounds(low, high).expect("bounds");
                let error = |t: f64| measured(&polynomial, Measure::Relative, t);
                let rounding = ROUNDING * (high - low).exp();
                let (least, most) =
                    grid(low, high).map(error).fold((f64::MAX, f64::MIN), |(a, b), e| (a.min(e), b.max(e)));
                assert!(lo - 1.0 <= least + rounding && most - rounding <= hi - 1.0, "{what}");
                assert!(least - (lo - 1.0) <= BOUND_SLACK * least.abs() + rounding, "{what}: {least} {lo}");
                assert!((hi - 1.0) - most <= BOUND_SLACK * most.abs() + rounding, "{what}: {most} {hi}");
                let sup = largest(low, high, |t| measured(&polynomial, Measure::Absolute, t));
                let bound = polynomial.absolute_bound(low, high).expect("a bound");
                let rounding = ROUNDING * high.exp();
                assert!(
                    sup <= bound + rounding && bound <= sup * (1.0 + BOUND_SLACK) + rounding,
                    "{what}: {sup} {bound}"
                );
            }
        }
    }
}

#[test]
fn a_table_holds_for_every_range() {
    const STEPS: usize = 64;
    for (kind, degree, range) in [(Kind::MinimaxRelative, 2, 1.0), (Kind::Taylor, 3, 2.0), (Kind::Minimax, 5, 7.3)] {
        let polynomial = Polynomial::new(kind, degree, interval(-range, range)).expect("a polynomial");
        let table = RatioTable::new(&polynomial, range, STEPS).expect("a table");
        let mut inner = table.lookup(0.0);
        for i in 0..=10 * STEPS {
            let b = (range * i as f64 / (10 * STEPS) as f64).min(range);
            let (lo, hi) = table.lookup(b);
            assert!(lo <= inner.0 && inner.1 <= hi, "not monotone at {b}");
            inner = (lo, hi);
            let here = polynomial.ratio_bounds(-b, b).expect("bounds");
            // The table may have closed a gap that the direct bound leaves open.
            let slack = |end: f64| BOUND_SLACK * (end - 1.0).abs() + ROUNDING;
            assert!(lo <= here.0 + slack(here.0) && here.1 - slack(here.1) <= hi, "not an enclosure at {b}");
            let step = (b / range * STEPS as f64).ceil().min(STEPS as f64) / STEPS as f64 * range;
            let next = polynomial.ratio_bounds(-step, step).expect("bounds");
            assert!(
                next.0 - slack(next.0) <= lo && hi <= next.1 + slack(next.1),
                "too wide at {b}: {lo} {hi} {next:?}"
            );
        }
        for b in [range.next_up(), f64::NAN, -1.0, f64::INFINITY] {
            assert_eq!(table.lookup(b), (f64::NEG_INFINITY, f64::INFINITY));
        }
    }
    let taylor = Polynomial::taylor(4, interval(0.0, 0.0)).expect("a polynomial");
    let (lo, hi) = RatioTable::new(&taylor, 0.0, 3).expect("a table").lookup(0.0);
    assert!(lo <= 1.0 && 1.0 <= hi && hi - lo <= ROUNDING);
}

#[test]
fn the_degree_for_an_error_is_the_smallest() {
    for kind in [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative] {
        for (error, range) in [(0.5, 1.0), (1e-3, 0.3), (1e-6, 2.0), (1e-2, 5.0)] {
            let degree = degree_for(error, range, kind).expect("an answer").expect("a degree");
            let reached = |degree| {
                let polynomial = Polynomial::new(kind, degree, interval(-range, range)).expect("a polynomial");
                polynomial.relative_bound(-range, range).expect("a bound")
            };
            assert!(reached(degree) <= error);
            assert!(degree == 0 || reached(degree - 1) > error);
        }
        assert_eq!(degree_for(1e-9, 80.0, kind), Ok(None));
    }
    assert!(degree_for(0.1, 1.0, Kind::LeastSquares).is_err());
}

#[test]
fn least_squares_is_orthogonal_to_its_residual() {
    let samples: Vec<f64> = (0..500).map(|i| 1.9 * (1.7 * i as f64).sin()).collect();
    let weights: Vec<f64> = samples.iter().map(|t| (0.5 * t).exp()).collect();
    for degree in 0..=8 {
        let fit = Polynomial::least_squares(degree, interval(-2.0, 2.0), &samples, &weights).expect("a polynomial");
        for k in 0..=degree {
            let term = |(&t, &w): (&f64, &f64)| w * (fit.eval(t) - t.exp()) * (k as f64 * (t / 2.0).acos()).cos();
            let moment: f64 = samples.iter().zip(&weights).map(term).sum();
            assert!(moment.abs() <= ROUNDING * 500.0 * 20.0, "degree {degree}, T_{k}: {moment:e}");
        }
    }
}

#[test]
fn few_samples_leave_the_interpolant_alone_where_they_are_not() {
    let whole = interval(-1.5, 1.5);
    let start = Polynomial::chebyshev(6, whole).expect("a polynomial");
    let cases: [(&[f64], &[f64]); 4] = [
        (&[], &[]),
        (&[0.4; 7], &[1.0; 7]),
        (&[-1.0, 0.2, 1.0, 0.3], &[1.0, 0.0, 3.0, 1e-300]),
        (&[-1.0, -0.5, 0.0, 0.5, 1.0], &[1e300, 1.0, 1.0, 1.0, 1.0]),
    ];
    let sup = start.absolute_bound(-1.5, 1.5).expect("a bound");
    for (samples, weights) in cases {
        let fit = Polynomial::least_squares(6, whole, samples, weights).expect("a polynomial");
        for (&t, &w) in samples.iter().zip(weights) {
            let heavy = w > 0.0 && w * 1e20 > weights.iter().fold(0.0, |max: f64, &w| max.max(w));
            assert!(!heavy || measured(&fit, Measure::Absolute, t).abs() <= ROUNDING, "{samples:?} {weights:?} at {t}");
        }
        // The change is as small as the interpolant's own error, times the number of coefficients.
        assert!(fit.absolute_bound(-1.5, 1.5).expect("a bound") <= 8.0 * sup);
    }
}

#[test]
fn samples_that_are_equal_to_rounding_count_as_equal() {
    let mut rng = Rng::new(1);
    for (low, high) in [(-0.0486, 0.0414), (0.0, 0.09), (-0.5, 0.5)] {
        for jitter in [0.0, 1e-17, 1e-16, 1e-15, 1e-13, 1e-10] {
            let mut sample = || [low, high][rng.below(2) as usize] + jitter * (rng.unit() - 0.5);
            let samples: Vec<f64> = (0..32).map(|_| sample()).collect();
            for degree in 2..=8 {
                let whole = interval(-0.6, 0.6);
                let start = Polynomial::chebyshev(degree, whole).expect("a polynomial");
                let fit = Polynomial::least_squares(degree, whole, &samples, &[1.0; 32]).expect("a polynomial");
                let sup = |one: &Polynomial| one.absolute_bound(-0.6, 0.6).expect("a bound");
                // Values at two points change two coefficients' worth of it; rounding of data that are so alike tells
                // of slopes to ε/jitter, beside signals that are above it.
                let allowed = 10.0 * sup(&start) + 1e-12;
                assert!(sup(&fit) <= allowed, "degree {degree}, {low}, {high}, {jitter:e}: {:e}", sup(&fit));
            }
        }
    }
}

#[test]
fn powers_are_those_of_the_definition() {
    let mut factorial = 1.0;
    for (a, power) in Polynomial::taylor(12, interval(-2.0, 2.0)).expect("a polynomial").power().iter().enumerate() {
        factorial *= a.max(1) as f64;
        // The small coefficients of high powers carry the rounding of the large ones of low.
        assert!((power * factorial - 1.0).abs() <= 1e-9, "{a}: {power}");
    }
    let shifted = Polynomial::from_chebyshev(interval(1.0, 5.0), vec![0.0, 0.0, 1.0]).expect("a polynomial");
    // T_2((t − 3)/2) = (t − 3)²/2 − 1.
    assert_eq!(shifted.power(), [3.5, -3.0, 0.5]);
}

#[test]
fn double_words_hold_twice_the_digits() {
    for t in [0.0, 1e-9, 0.5, 1.0, -3.7, 80.0, -256.0, 256.0] {
        let error = (Double::exp(t) * Double::exp(-t) - Double::from(1.0)).value();
        assert!(error.abs() <= 2f64.powi(-86), "e^{t}: {error:e}");
        assert!((Double::exp(t).value() / t.exp() - 1.0).abs() <= 4.0 * f64::EPSILON);
    }
    let third = Double::from(1.0).over(3.0);
    assert!((third + third + third - Double::from(1.0)).value().abs() <= 2f64.powi(-104));
}
