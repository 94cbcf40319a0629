//! Which polynomial: on which interval, from which samples (docs/math.md, after equation 10.7).

use std::f64::consts::PI;

use super::sample::{SAMPLES_PER_COEFFICIENT, Sample};
use crate::error::Error;
use crate::polynomial::{Interval, Kind, MAX_RANGE, Polynomial};
use crate::runtime::buffer;

/// Half of the narrowest interval that is fitted: on it degree 3 is right to 1e-13 already, and logits that all but
/// vanish have no spread of their own to fit to.
const NARROWEST: f64 = 1e-3;

/// Outward allowance for the rounding errors of the logits and their bound.
const ROUNDING: f64 = 1e-6;

/// An interval that holds every centred logit of the data: their range, or −bound ... bound.
pub(super) fn logit_interval(sample: &Sample, bound: f64) -> (f64, f64) {
    let (low, high) = if sample.complete { sample.range } else { (-bound, bound) };
    let outward = ROUNDING * low.abs().max(high.abs());
    ((low - outward).min(-NARROWEST), (high + outward).max(NARROWEST))
}

/// P of one kind near exp.
///
/// Least squares takes the sampled logits, weighted so that it makes eq. (10.7) smallest, and the range of these logits
/// for its basis; the other kinds take the interval.
pub(super) fn fit_polynomial(
    kind: Kind,
    degree: usize,
    interval: (f64, f64),
    sample: &Sample,
) -> Result<Polynomial, Error> {
    if kind != Kind::LeastSquares {
        return Polynomial::new(kind, degree, small(interval)?);
    }
    let (low, high) = sample.range;
    let enough = SAMPLES_PER_COEFFICIENT * (degree + 1);
    if high - low < NARROWEST || sample.distinct < enough {
        let interval = small(interval)?;
        // Chebyshev points of the interval, for squares of relative errors.
        let node = |i: usize| (PI * (i as f64 + 0.5) / enough as f64).cos();
        let samples: Vec<f64> = (0..enough).map(|i| interval.middle() + interval.half() * node(i)).collect();
        let samples: Vec<f64> = samples.into_iter().map(|t| t.clamp(interval.low(), interval.high())).collect();
        let weights: Vec<f64> = samples.iter().map(|t| (-2.0 * (t - interval.low())).exp()).collect();
        return Polynomial::least_squares(degree, interval, &samples, &weights);
    }
    let interval = small((low, high))?;
    // Squares of relative errors: weights of eq. (10.7) over e^{2t}; only their ratios matter.
    let weight = |(t, weight): (&f64, &f64)| weight * (-2.0 * (t - low)).exp();
    let weights = buffer::collected(sample.logits.iter().zip(&sample.pair_weights).map(weight))?;
    Polynomial::least_squares(degree, interval, &sample.logits, &weights)
}

/// The interval, where there are polynomials for its logits.
fn small((low, high): (f64, f64)) -> Result<Interval, Error> {
    if low >= -MAX_RANGE && high <= MAX_RANGE {
        return Interval::new(low, high);
    }
    Err(Error::Range {
        quantity: format!("a centred logit of query and key, from {low:.3} to {high:.3},"),
        precision: "polynomials for exp, -256 to 256",
        remedy: "scale the inputs or scale down, or use the exact method",
    })
}
