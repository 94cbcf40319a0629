//! Minimax polynomials by Remez' exchange.

use std::f64::consts::PI;

use super::interpolation::interpolate;
use super::series::check_degree;
use super::{Interval, Polynomial};
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
    /// The levelled error |h| of its reference: no polynomial of that degree has a smaller largest error (7.9).
    pub levelled: f64,
    /// The largest error found.
    pub largest: f64,
    /// The g + 2 points t where the error alternates.
    pub reference: Vec<f64>,
}

/// The best polynomial of that degree in the given measure, eq. (7.7), to `CONVERGED` or to rounding.
///
/// Where 2^−53 e^(high − low) exceeds 1, double-precision coefficients cannot hold a polynomial of small relative
/// error; leading coefficients are then zero, and the error is that of the highest degree which is better than P = 0.
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
    let largest = measure.of(value, low).abs();
    Minimax { polynomial, levelled: largest, largest, reference: vec![low, high] }
}

impl Measure {
    /// The error of the value p at t.
    fn of(self, p: f64, t: f64) -> f64 {
        match self {
            Measure::Absolute => p - t.exp(),
            Measure::Relative => p * (-t).exp() - 1.0,
        }
    }
}

fn exchange(degree: usize, interval: Interval, measure: Measure) -> Minimax {
    let last = degree + 1;
    // The extrema of T_(g+1), from −1 to 1.
    let mut reference: Vec<f64> = (0..=last).map(|i| -(PI * i as f64 / last as f64).cos()).collect();
    let mut best: Option<Minimax> = None;
    for _ in 0..MAX_EXCHANGES {
        let levelled = Levelled::new(&reference, interval, measure);
        let extrema = extrema(degree, |x| measure.of(levelled.eval(x), interval.point(x)));
        let found = levelled.into_minimax(&extrema);
        let alternates = extrema.len() == reference.len();
        let done = !alternates || found.largest <= found.levelled * (1.0 + CONVERGED);
        if best.as_ref().is_none_or(|best| found.largest < best.largest) {
            best = Some(found);
        }
        if done {
            break;
        }
        reference = extrema;
    }
    best.unwrap_or_else(|| constant(interval, measure))
}

/// The polynomial whose error is ±h in turn at the g + 2 points of a reference, by its values there.
struct Levelled<'a> {
    reference: &'a [f64],
    interval: Interval,
    measure: Measure,
    weights: Vec<f64>,
    values: Vec<f64>,
    h: f64,
}

impl<'a> Levelled<'a> {
    /// With barycentric weights w_i, Σ w_i p_i = 0 says that values p_i belong to a polynomial of degree g.
    fn new(reference: &'a [f64], interval: Interval, measure: Measure) -> Self {
        let weight = |i: usize| -> f64 {
            let others = reference.iter().enumerate().filter(|&(j, _)| j != i);
            others.map(|(_, x)| 0.5 / (reference[i] - x)).product()
        };
        let weights: Vec<f64> = (0..reference.len()).map(weight).collect();
        let targets: Vec<f64> = reference.iter().map(|&x| interval.point(x).exp()).collect();
        // Value of one unit of h at each point, with the sign of its turn.
        let unit = |i: usize| {
            let size = if measure == Measure::Relative { targets[i] } else { 1.0 };
            if i.is_multiple_of(2) { size } else { -size }
        };
        let dot = |f: &dyn Fn(usize) -> f64| -> f64 { (0..weights.len()).map(|i| weights[i] * f(i)).sum() };
        let h = -dot(&|i| targets[i]) / dot(&unit);
        let values = (0..targets.len()).map(|i| targets[i] + h * unit(i)).collect();
        Levelled { reference, interval, measure, weights, values, h }
    }

    /// By the barycentric formula: near a point of the reference it is as accurate as the value there, which
    /// coefficients are not where e^t is small.
    fn eval(&self, x: f64) -> f64 {
        let (mut above, mut below) = (0.0, 0.0);
        for ((&point, &weight), &value) in self.reference.iter().zip(&self.weights).zip(&self.values) {
            if x == point {
                return value;
            }
            above += weight / (x - point) * value;
            below += weight / (x - point);
        }
        above / below
    }

    /// Its coefficients, and how large the error is that they have at these points.
    fn into_minimax(self, extrema: &[f64]) -> Minimax {
        let coefficients = interpolate(self.reference.len() - 2, |x| self.eval(x));
        let polynomial = Polynomial::without_noise(self.interval, coefficients);
        let error = |&x: &f64| {
            let t = self.interval.point(x);
            self.measure.of(polynomial.eval(t), t).abs()
        };
        let largest = extrema.iter().map(error).fold(0.0, f64::max);
        let reference = self.reference.iter().map(|&x| self.interval.point(x)).collect();
        Minimax { polynomial, levelled: self.h.abs(), largest, reference }
    }
}

/// Where an error is largest between its changes of sign, from −1 to 1.
fn extrema(degree: usize, error: impl Fn(f64) -> f64) -> Vec<f64> {
    let count = POINTS_PER_EXTREMUM * (degree + 2);
    let x = |position: f64| -(PI * position / count as f64).cos();
    let errors: Vec<f64> = (0..=count).map(|i| error(x(i as f64))).collect();
    let mut peaks = vec![0];
    for i in 1..=count {
        let newest = peaks.len() - 1;
        if errors[i].signum() != errors[peaks[newest]].signum() {
            peaks.push(i);
        } else if errors[i].abs() > errors[peaks[newest]].abs() {
            peaks[newest] = i;
        }
    }
    let refine = |i: usize| {
        let here = x(i as f64);
        if i == 0 || i == count {
            return here;
        }
        // The vertex of the parabola through the peak and its neighbours.
        let (left, middle, right) = (errors[i - 1], errors[i], errors[i + 1]);
        let step = 0.5 * (left - right) / (left - 2.0 * middle + right);
        let vertex = x(i as f64 + step);
        if step.abs() <= 1.0 && error(vertex).abs() >= middle.abs() { vertex } else { here }
    };
    peaks.into_iter().map(refine).collect()
}
