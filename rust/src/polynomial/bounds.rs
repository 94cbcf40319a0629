//! Guaranteed bounds of the error of a polynomial (docs/math.md, Lemma 7.4): every number here is on the safe side of
//! the exact one.
//!
//! The error D, either P e^−t − 1 or P − e^t, is enclosed on [low, high] by halving. On a cell of width w, eq. (7.10),
//!
//! ```text
//! D ≤ max(D(left), D(right)) + w²/8 · sup |D″|
//! ```
//!
//! and sup |D″| comes from the Taylor coefficients of P at the middle of the cell (7.11). A cell is halved until its
//! bound is no further from the largest D met so far than [`TIGHTNESS`]. Values are computed in 106 bits, and
//! `VALUE_ERROR` and `OUTWARD` cover their rounding errors.

use super::double::Double;
use super::evaluation::{clenshaw, derivative, magnitude};
use super::remez::Measure;
use super::{Interval, Polynomial};
use crate::error::Error;

/// How much further than the true extremum a bound may be, relative to it.
pub const TIGHTNESS: f64 = 1.0 / 512.0;

/// Errors below this part of the smallest value, 1 or e^low, need no tight bound: half an ulp.
const RESOLUTION: f64 = f64::EPSILON / 2.0;

/// Error of a value by [`clenshaw`], of a coefficient of a derivative, and of [`Double::exp`], relative to Σ |c_k| T_k:
/// 2^−102 per step, amplified by at most (31 + 2)³, and 2^−88 for exp.
const VALUE_ERROR: f64 = 1.0 / (1u128 << 80) as f64;

/// Covers the rounding of what is computed of non-negative numbers in double precision: fewer than 2^10 operations of
/// 2^−53 each, and f64::exp, which is within a few ulp on every platform.
const OUTWARD: f64 = 1.0 + 1.0 / (1u64 << 40) as f64;

/// Rounds a value in 106 bits to double precision, and widens it by its bound: three operations of 2^−53.
const ROUNDED: f64 = 2.0 * f64::EPSILON;

/// Halvings are for tightness alone, so they may stop: after this many cells bounds stay valid.
const MAX_CELLS: usize = 1 << 16;

/// Numbers that enclose others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Enclosure {
    pub low: f64,
    pub high: f64,
}

impl Enclosure {
    const EMPTY: Enclosure = Enclosure { low: f64::INFINITY, high: f64::NEG_INFINITY };
    pub const EVERYTHING: Enclosure = Enclosure { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// The smallest that holds both; NaN is everything.
    fn with(self, other: Enclosure) -> Enclosure {
        let ordered = other.low <= other.high;
        let other = if ordered { other } else { Enclosure::EVERYTHING };
        Enclosure { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    fn widened(self, by: f64) -> Enclosure {
        Enclosure { low: self.low - by, high: self.high + by }
    }
}

/// Bounds of D on some set, and the extremes that D was seen to reach.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub bounds: Enclosure,
    met: Enclosure,
}

impl Known {
    pub const NOTHING: Known = Known { bounds: Enclosure::EMPTY, met: Enclosure::EMPTY };

    /// Whether a cell's bounds are near enough to what D reaches, or will never be.
    fn suffices(&self, cell: Enclosure, resolution: f64) -> bool {
        let reach = |extreme: f64| TIGHTNESS * extreme.abs() + resolution;
        let hopeless = cell.low.is_nan() || cell.high.is_nan();
        hopeless || cell.high <= self.met.high + reach(self.met.high) && cell.low >= self.met.low - reach(self.met.low)
    }
}

/// The error of a polynomial on an interval, ready to be bounded.
pub(super) struct Deviation {
    interval: Interval,
    measure: Measure,
    /// Size below which an error does not matter.
    resolution: f64,
    values: Series,
    /// S_j / j! for the j-th derivatives of S by x: of P″ − 2 half P′ + half² P, or of P″.
    curvatures: Vec<Series>,
}

/// Coefficients in the Chebyshev basis, and a bound of the values' rounding errors.
struct Series {
    coefficients: Vec<Double>,
    slack: f64,
}

impl Deviation {
    /// For arguments in [low, high].
    pub fn new(polynomial: &Polynomial, measure: Measure, low: f64, high: f64) -> Deviation {
        let interval = polynomial.interval();
        let extent = [low, high].iter().fold(1.0, |max: f64, &t| max.max(interval.coordinate(t).abs())) * OUTWARD;
        let exact: Vec<Double> = polynomial.chebyshev_coefficients().iter().map(|&c| c.into()).collect();
        // The same sums with absolute values, to which rounding errors are relative.
        let sizes: Vec<Double> = exact.iter().map(|c| c.value().abs().into()).collect();
        let slack = |sizes: &[Double]| VALUE_ERROR * magnitude(sizes, extent) * OUTWARD;
        let (curves, curve_sizes) = (curve(&exact, interval, measure, -1.0), curve(&sizes, interval, measure, 1.0));
        let curvatures = derivatives(curves)
            .into_iter()
            .zip(derivatives(curve_sizes))
            .map(|(coefficients, sizes)| Series { coefficients, slack: slack(&sizes) })
            .collect();
        let resolution = RESOLUTION * if measure == Measure::Relative { 1.0 } else { low.exp() };
        let values = Series { coefficients: exact, slack: slack(&sizes) };
        Deviation { interval, measure, resolution, values, curvatures }
    }

    fn basis(&self, t: f64) -> Double {
        (Double::from(t) - self.interval.middle().into()).over(self.interval.half())
    }

    /// D(t).
    fn value(&self, t: f64) -> Enclosure {
        let value = clenshaw(&self.values.coefficients, self.basis(t));
        let (exact, error) = match self.measure {
            Measure::Relative => {
                let shrink = Double::exp(-t);
                let ratio = value * shrink;
                let error = self.values.slack * shrink.value() + VALUE_ERROR * ratio.value().abs();
                (ratio - 1.0.into(), error)
            }
            Measure::Absolute => {
                let exp = Double::exp(t);
                (value - exp, self.values.slack + VALUE_ERROR * exp.value())
            }
        };
        let value = exact.value();
        Enclosure { low: value, high: value }.widened((error + ROUNDED * value.abs()) * OUTWARD)
    }

    /// w²/8 · sup |D″| on the cell from `left` to `right`, eq. (7.11).
    fn bulge(&self, left: f64, right: f64) -> f64 {
        let (middle, half) = (0.5 * left + 0.5 * right, self.interval.half());
        let reach = (right - middle).max(middle - left) * OUTWARD;
        let x = self.basis(middle);
        // The coefficient that P″ is compared with at each power of x: the series of half² e^t.
        let mut rival = match self.measure {
            Measure::Relative => Double::default(),
            Measure::Absolute => Double::exp(middle) * Double::from(half) * half.into(),
        };
        let (mut sum, mut power) = (0.0, 1.0);
        for (j, series) in self.curvatures.iter().enumerate() {
            let coefficient = clenshaw(&series.coefficients, x) - rival;
            sum += (coefficient.value().abs() + series.slack + VALUE_ERROR * rival.value()) * power;
            power *= reach / half;
            rival = (rival * half.into()).over((j + 1) as f64);
        }
        let rest = match self.measure {
            Measure::Relative => sum * (-left).exp(),
            Measure::Absolute => sum + rival.value() * power * reach.exp(),
        };
        let width = (right - left) / half;
        rest * width * width / 8.0 * OUTWARD
    }

    /// Adds what D does between neighbouring `points` to what is known.
    pub fn explore(&self, points: &[f64], mut known: Known) -> Known {
        let values: Vec<Enclosure> = points.iter().map(|&t| self.value(t)).collect();
        for &value in &values {
            known = Known { bounds: known.bounds.with(value), met: known.met.with(value) };
        }
        let ends = |i: usize| (points[i], values[i]);
        let mut cells: Vec<_> = (1..points.len()).map(|i| (ends(i - 1), ends(i))).collect();
        let mut halvings = 0;
        while let Some((left, right)) = cells.pop() {
            let bounds = left.1.with(right.1).widened(self.bulge(left.0, right.0));
            let t = 0.5 * left.0 + 0.5 * right.0;
            let divisible = left.0 < t && t < right.0 && halvings < MAX_CELLS;
            if known.suffices(bounds, self.resolution) || !divisible {
                known.bounds = known.bounds.with(bounds);
                continue;
            }
            halvings += 1;
            let middle = (t, self.value(t));
            known.met = known.met.with(middle.1);
            cells.extend([(left, middle), (middle, right)]);
        }
        known
    }
}

/// P″ − 2 half P′ + half² P (with `sign` for −), or P″: by x, in the Chebyshev basis.
fn curve(coefficients: &[Double], interval: Interval, measure: Measure, sign: f64) -> Vec<Double> {
    let half = Double::from(interval.half());
    let first = derivative(coefficients);
    let second = derivative(&first);
    let at = |series: &[Double], k: usize| series.get(k).copied().unwrap_or_default();
    (0..coefficients.len())
        .map(|k| match measure {
            Measure::Absolute => at(&second, k),
            Measure::Relative => {
                let twice = Double::from(2.0 * sign) * half * at(&first, k);
                at(&second, k) + twice + half * half * at(coefficients, k)
            }
        })
        .collect()
}

/// S, S′, S″/2!, S‴/3!, … until they vanish.
fn derivatives(series: Vec<Double>) -> Vec<Vec<Double>> {
    let mut all = vec![series];
    for j in 1..all[0].len() {
        let next = derivative(&all[j - 1]).into_iter().map(|c| c.over(j as f64)).collect();
        all.push(next);
    }
    all
}

/// As many cells as the error has waves, denser towards the ends as they are.
fn start(polynomial: &Polynomial, low: f64, high: f64) -> Vec<f64> {
    let interior = Interval::new(low, high).map(|part| {
        let count = polynomial.degree() + 2;
        let inside = (1..count).map(move |i| part.point(-(std::f64::consts::PI * i as f64 / count as f64).cos()));
        inside.filter(|&t| low < t && t < high).collect::<Vec<_>>()
    });
    let mut points = vec![low];
    points.extend(interior.unwrap_or_default());
    points.extend((high > low).then_some(high));
    points
}

/// Bounds of D on [low, high].
fn enclose(polynomial: &Polynomial, measure: Measure, low: f64, high: f64) -> Result<Enclosure, Error> {
    Interval::new(low, high)?;
    let deviation = Deviation::new(polynomial, measure, low, high);
    Ok(deviation.explore(&start(polynomial, low, high), Known::NOTHING).bounds)
}

impl Enclosure {
    /// 1 + each end, outward.
    pub fn ratio(self) -> (f64, f64) {
        ((1.0 + self.low).next_down(), (1.0 + self.high).next_up())
    }

    /// The largest absolute value in the enclosure.
    pub fn size(self) -> f64 {
        self.high.max(-self.low)
    }
}

impl Polynomial {
    /// (lo, hi) with lo ≤ P(t) e^−t ≤ hi for all t in [low, high]; |lo − 1| and |hi − 1| exceed the true extrema by at
    /// most [`TIGHTNESS`] of themselves and 2^−50. The interval need not be the polynomial's own.
    ///
    /// # Errors
    /// [`Error::Option`] unless −256 ≤ low ≤ high ≤ 256.
    pub fn ratio_bounds(&self, low: f64, high: f64) -> Result<(f64, f64), Error> {
        Ok(enclose(self, Measure::Relative, low, high)?.ratio())
    }

    /// A number that sup |P(t) − e^t| on [low, high] does not exceed, and comes within [`TIGHTNESS`] of.
    ///
    /// # Errors
    /// [`Error::Option`] unless −256 ≤ low ≤ high ≤ 256.
    pub fn absolute_bound(&self, low: f64, high: f64) -> Result<f64, Error> {
        Ok(enclose(self, Measure::Absolute, low, high)?.size())
    }

    /// A number that sup |P(t) e^−t − 1| on [low, high] does not exceed.
    ///
    /// # Errors
    /// [`Error::Option`] unless −256 ≤ low ≤ high ≤ 256.
    pub fn relative_bound(&self, low: f64, high: f64) -> Result<f64, Error> {
        Ok(enclose(self, Measure::Relative, low, high)?.size())
    }
}
