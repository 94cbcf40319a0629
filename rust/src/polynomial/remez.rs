//! Minimax polynomials by Remez' exchange.

use std::f64::consts::PI;

use super::interpolation::interpolate;
use super::{Interval, Polynomial, check_degree};
use crate::error::Error;

/// The exchange ends when the largest error is this close to the levelled one: far below what a bound resolves.
const CONVERGED: f64 = 1e-6;

/// Exchanges converge quadratically, so more would only move rounding about.
const MAX_EXCHANGES: usize = 30;

/// Points of the search per point of the reference: with a parabola through three of them, an extremum of the error is
/// met to 1e−7 of its value.
const POINTS_PER_EXTREMUM: usize = 32;

/// Which error is levelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// P(t) − e^t.
    Absolute,
    /// P(t) e^−t − 1.
    Relative,
}

/// A minimax polynomial, and how it went.
#[derive(Debug, Clone)]
pub struct Minimax {
    /// The polynomial.
    pub polynomial: Polynomial,
    /// The levelled error |h| of its reference: no polynomial of that degree has a smaller largest error (47).
    pub levelled: f64,
    /// The largest error found.
    pub largest: f64,
    /// The g + 2 points t where the error alternates.
    pub reference: Vec<f64>,
}

/// The best polynomial of that degree in the given measure, eq. (46), to [`CONVERGED`] or to rounding.
///
/// Where 2^−53 e^(high − low) exceeds 1, double-precision coefficients cannot hold a polynomial of small relative error;
/// leading coefficients are then zero, and the error is that of the highest degree which is better than P = 0.
///
/// # Errors
/// [`Error::Option`] for a degree above [`super::MAX_DEGREE`].
pub fn minimax(degree: usize, interval: Interval, measure: Measure) -> Result<Minimax, Error> {
    check_degree(degree)?;
    for lower in (1..=degree).rev() {
        let mut found = exchange(lower, interval, measure);
        if measure == Measure::Absolute || found.largest < 1.0 {
            found.polynomial.coefficients.resize(degree + 1, 0.0);
            return Ok(found);
        }
    }
    let mut constant = constant(interval, measure);
    constant.polynomial.coefficients.resize(degree + 1, 0.0);
    Ok(constant)
}

/// The best constant: its error is largest at both ends, with opposite signs.
fn constant(interval: Interval, measure: Measure) -> Minimax {
    let (low, high) = (interval.point(-1.0), interval.point(1.0));
    let value = match measure {
        Measure::Absolute => 0.5 * (low.exp() + high.exp()),
        Measure::Relative => 2.0 / ((-low).exp() + (-high).exp()),
    };
    let polynomial = Polynomial { interval, coefficients: vec![value] };
    let largest = deviation(&polynomial, measure, low).abs();
    Minimax { polynomial, levelled: largest, largest, reference: vec![low, high] }
}

/// The error at t.
fn deviation(polynomial: &Polynomial, measure: Measure, t: f64) -> f64 {
    match measure {
        Measure::Absolute => polynomial.eval(t) - t.exp(),
        Measure::Relative => polynomial.eval(t) * (-t).exp() - 1.0,
    }
}

fn exchange(degree: usize, interval: Interval, measure: Measure) -> Minimax {
    let last = degree + 1;
    // The extrema of T_(g+1), from −1 to 1.
    let mut reference: Vec<f64> = (0..=last).map(|i| -(PI * i as f64 / last as f64).cos()).collect();
    let mut best: Option<Minimax> = None;
    for _ in 0..MAX_EXCHANGES {
        let (polynomial, levelled) = level(&reference, interval, measure);
        let extrema = extrema(&polynomial, measure, degree);
        let largest = extrema.iter().fold(0.0, |max: f64, &(_, error)| max.max(error.abs()));
        let alternates = extrema.len() == reference.len();
        let done = !alternates || largest <= levelled * (1.0 + CONVERGED);
        if best.as_ref().is_none_or(|best| largest < best.largest) {
            let reference = reference.iter().map(|&x| interval.point(x)).collect();
            best = Some(Minimax { polynomial, levelled, largest, reference });
        }
        if done {
            break;
        }
        reference = extrema.into_iter().map(|(x, _)| x).collect();
    }
    best.unwrap_or_else(|| constant(interval, measure))
}

/// The polynomial whose error is ±h in turn at the g + 2 points of the reference, and |h|: with barycentric weights
/// w_i, Σ w_i p_i = 0 says that values p_i belong to a polynomial of degree g.
fn level(reference: &[f64], interval: Interval, measure: Measure) -> (Polynomial, f64) {
    let weights: Vec<f64> = (0..reference.len())
        .map(|i| {
            let others = reference.iter().enumerate().filter(|&(j, _)| j != i);
            others.map(|(_, x)| 0.5 / (reference[i] - x)).product()
        })
        .collect();
    let targets: Vec<f64> = reference.iter().map(|&x| interval.point(x).exp()).collect();
    // What one unit of h is worth at each point, with the sign of its turn.
    let unit = |i: usize| {
        let size = if measure == Measure::Relative { targets[i] } else { 1.0 };
        if i.is_multiple_of(2) { size } else { -size }
    };
    let dot = |f: &dyn Fn(usize) -> f64| -> f64 { (0..weights.len()).map(|i| weights[i] * f(i)).sum() };
    let h = -dot(&|i| targets[i]) / dot(&unit);
    let values: Vec<f64> = (0..targets.len()).map(|i| targets[i] + h * unit(i)).collect();
    let barycentric = |x: f64| {
        let (mut above, mut below) = (0.0, 0.0);
        for ((&point, &weight), &value) in reference.iter().zip(&weights).zip(&values) {
            if x == point {
                return value;
            }
            above += weight / (x - point) * value;
            below += weight / (x - point);
        }
        above / below
    };
    (Polynomial::without_noise(interval, interpolate(reference.len() - 2, barycentric)), h.abs())
}

/// Where the error is largest between its changes of sign, x and error, from −1 to 1.
fn extrema(polynomial: &Polynomial, measure: Measure, degree: usize) -> Vec<(f64, f64)> {
    let count = POINTS_PER_EXTREMUM * (degree + 2);
    let at = |position: f64| {
        let x = -(PI * position / count as f64).cos();
        (x, deviation(polynomial, measure, polynomial.interval().point(x)))
    };
    let errors: Vec<f64> = (0..=count).map(|i| at(i as f64).1).collect();
    let mut peaks: Vec<usize> = vec![0];
    for i in 1..=count {
        let peak = peaks[peaks.len() - 1];
        if errors[i].signum() != errors[peak].signum() {
            peaks.push(i);
        } else if errors[i].abs() > errors[peak].abs() {
            let newest = peaks.len() - 1;
            peaks[newest] = i;
        }
    }
    let refine = |i: usize| {
        let found = at(i as f64);
        if i == 0 || i == count {
            return found;
        }
        let (left, middle, right) = (errors[i - 1], errors[i], errors[i + 1]);
        let bend = left - 2.0 * middle + right;
        let step = 0.5 * (left - right) / bend;
        let vertex = at(i as f64 + step);
        if step.abs() <= 1.0 && vertex.1.abs() >= found.1.abs() { vertex } else { found }
    };
    peaks.into_iter().map(refine).collect()
}
