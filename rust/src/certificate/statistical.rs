//! A bound at a stated confidence from rows drawn in proportion to a rigorous cap (docs/math.md, Theorems 9.30
//! to 9.36, equations 9.51 to 9.54, 9.57).
//!
//! The error Δ = Σ_j x_j is a sum over rows of which each cap M_j ≥ ‖x_j‖ is known. Rows are drawn with replacement
//! with probability p_j = M_j / M, M = Σ M_j; the number of draws is fixed before looking. Each draw gives an unbiased
//! estimate x_j / p_j of Δ, of norm at most M. A call that looks again draws other rows, and spends less of its
//! confidence.

use crate::error::Error;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward, total};
use crate::runtime::buffer;
use crate::runtime::rng::Rng;

/// A statement of kind statistical fails in at most this part of all calls, however often a call looks.
pub const MISS: f64 = 0.01;

/// Part of the miss probability that all looks but the first have together; all but the second have this part of that,
/// and so on: most calls look once, and the second look costs no more than a fifth of its bound.
const LATER: f64 = 0.25;

/// Miss probability of the look with this number, from 1 on: Σ over all looks is [`MISS`].
pub fn allowance(look: u32) -> f64 {
    MISS * (1.0 - LATER) * LATER.powi(look.max(1) as i32 - 1)
}

/// The random numbers of the look with this number: no look sees those of another.
pub fn stream(seed: u64, look: u32) -> Rng {
    let mut looks = Rng::new(seed);
    // A sequence whose start is random, for every look but the first, which has the seed's own.
    let start = (1..look).map(|_| looks.bits()).last();
    Rng::new(start.unwrap_or(seed))
}

/// How often the bound is put into its own right-hand side: each time it falls, and the first few take most of it.
const REFINEMENTS: usize = 20;

/// Halvings of [0, 1] that find a number to double precision, down to the smallest shares that matter.
const HALVINGS: usize = 100;

/// Roundings of a divergence, relative to the sum of its parts.
const DIVERGENCE_ROUNDING: f64 = 32.0 * f64::EPSILON;

/// Caps are rounded up to multiples of 2^−52 of their sum, about: probabilities are then exact fractions.
const CAP_BITS: i32 = 52;

/// Room for the rounding errors of a norm and its difference in double precision.
const SUMMED: f64 = 1e-12;

/// Rows to be drawn by their caps.
#[derive(Debug, Clone, PartialEq)]
pub struct Capped {
    /// Sums of the caps up to and including each row, in units.
    sums: Vec<u64>,
    /// The unit, a power of two.
    unit: f64,
}

/// One row that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Draw {
    /// The row.
    pub row: usize,
    /// The probability with which a draw takes it.
    pub probability: f64,
    /// Its cap.
    pub cap: f64,
}

impl Capped {
    /// Rows with these caps; a cap that is negative or not finite is an [`Error::Internal`]: such rows are to be
    /// computed exactly.
    pub fn new(caps: &[f64]) -> Result<Self, Error> {
        let sum = total(caps.iter().copied());
        if let Some(row) = caps.iter().position(|cap| !(0.0..=f64::MAX).contains(cap)) {
            return Err(Error::Internal(format!(
                "the cap of row {row}: found {}; expected a finite number",
                caps[row]
            )));
        }
        if sum == f64::INFINITY {
            return Err(Error::Internal("the caps of the rows: their sum overflows; use smaller units".to_string()));
        }
        // Where the sum is zero or subnormal, the smallest normal number is fine enough.
        let unit = ((sum.log2().floor() - f64::from(CAP_BITS)).exp2()).max(f64::MIN_POSITIVE);
        let mut sums = buffer::with_capacity(caps.len())?;
        let mut units = 0;
        for cap in caps {
            units += (cap / unit).ceil() as u64;
            sums.push(units);
        }
        Ok(Capped { sums, unit })
    }

    /// M = Σ caps, rounded up: the whole error is at most this.
    pub fn total(&self) -> f64 {
        if self.units() == 0 { 0.0 } else { outward(self.units() as f64 * self.unit) }
    }

    /// `count` independent draws, in the order in which they were drawn; none if all caps are zero.
    pub fn draw(&self, rng: &mut Rng, count: usize) -> Result<Vec<Draw>, Error> {
        let units = self.units();
        if units == 0 {
            return Ok(Vec::new());
        }
        let mut draws = buffer::with_capacity(count)?;
        for _ in 0..count {
            let point = rng.below(units);
            // The first row whose sum exceeds the point: never one of cap zero.
            let row = self.sums.partition_point(|&up_to| up_to <= point);
            let own = self.sums[row] - if row == 0 { 0 } else { self.sums[row - 1] };
            draws.push(Draw { row, probability: own as f64 / units as f64, cap: own as f64 * self.unit });
        }
        Ok(draws)
    }

    /// Upper bound of ‖Δ‖ at the confidence 1 − `miss`, the smallest that the caps and `draws` give: `norms` are the
    /// ‖x_j‖ of the drawn rows and `lost` the error bound of each x_j, `mean` is ‖Δ̂‖ for Δ̂ = (1/m) Σ x_j / p_j over
    /// the draws, in the same order.
    ///
    /// A norm above its cap voids the statement: nothing is known then.
    pub fn bound(&self, draws: &[Draw], norms: &[f64], lost: &[f64], mean: f64, miss: f64) -> f64 {
        let (cap, count) = (self.total(), draws.len() as f64);
        let rows = || draws.iter().zip(norms).zip(lost);
        let fits = |((draw, &norm), &lost): ((&Draw, &f64), &f64)| (norm - lost) * (1.0 - SUMMED) <= draw.cap;
        let sound = draws.len() == norms.len() && norms.len() == lost.len() && rows().all(fits);
        if !(sound && miss > 0.0 && miss < 1.0 && mean.is_finite()) {
            return f64::INFINITY;
        }
        if draws.is_empty() {
            return cap;
        }
        // ‖x_j‖ / p_j in units of M, which none of them exceeds.
        let sizes = || {
            rows().map(|((draw, norm), lost)| {
                let most = outward((norm + lost) * (1.0 + SUMMED)).min(draw.cap);
                outward(outward(most / draw.probability) / cap).min(1.0)
            })
        };
        let squares = total(sizes().map(|size| outward(size * size)));
        // Error of Δ̂ as computed; its own sums are in double precision.
        let sums = gamma(count + 64.0, FOLD_UNIT);
        let lost = total(rows().map(|((draw, norm), lost)| (lost + sums * norm) / (draw.probability * count)));
        // Half of the miss probability for each.
        let radius = bernstein(squares, draws.len(), 1.0, (outward(mean / cap), outward(lost / cap)), 0.5 * miss);
        let lengths = mean_at_most(total(sizes()) / count, draws.len(), (2.0 / miss).ln());
        // The caps bound Δ itself, whatever was drawn.
        outward(mean + lost + radius * cap).min(outward(lengths * cap)).min(cap)
    }

    fn units(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }
}

/// With probability 1 − `miss`, ‖Δ̂ − Δ‖ is at most this, for the mean Δ̂ of `count` independent vectors of
/// norm ≤ `cap` and mean Δ, `squares` the sum of their squared norms and `mean` = ‖Δ̂‖ but for `lost` (equation 9.54).
pub fn bernstein(squares: f64, count: usize, cap: f64, (mean, lost): (f64, f64), miss: f64) -> f64 {
    if count == 0 {
        return f64::INFINITY;
    }
    let (draws, count) = (count, count as f64);
    // Two thirds of the misses for the two-sided deviation of the mean, one for the second moment: ln 3/miss for both.
    let level = (3.0 / miss).ln();
    let moment = cap * mean_at_most(outward(squares / count / cap / cap), draws, level).sqrt();
    let mut radius = outward(mean + lost + cap);
    for _ in 0..REFINEMENTS {
        // ‖Δ‖ lies between ‖Δ̂‖ ± radius and below the cap.
        let least = (mean - lost - radius).max(0.0);
        let largest = cap + (mean + lost + radius).min(cap);
        // The difference may cancel: what its rounding took is given back.
        let variance = (moment * moment * (1.0 + 4.0 * f64::EPSILON) - least * least).max(0.0);
        let tail = largest * level / (3.0 * count);
        let next = tail + (tail * tail + 2.0 * variance * level / count).sqrt();
        radius = radius.min(outward(next));
    }
    radius
}

/// With probability 1 − e^−`level`, the mean of numbers in [0, 1] is at most this, where that of `count` of them, drawn
/// independently, is `mean`: the largest μ with count · KL(mean ‖ μ) ≤ level (Chernoff; equation 9.53).
pub fn mean_at_most(mean: f64, count: usize, level: f64) -> f64 {
    let limit = level / count as f64;
    // NaN is not known.
    if !(mean < 1.0 && limit < f64::INFINITY) {
        return 1.0;
    }
    let mean = mean.max(0.0);
    // KL as computed, less more than its rounding.
    let divergence = |larger: f64| {
        let fewer = if mean > 0.0 { mean * (larger.ln() - mean.ln()) } else { 0.0 };
        let [own, other] = [mean, larger].map(|part| -(-part).ln_1p() * (1.0 - mean));
        other - own - fewer - DIVERGENCE_ROUNDING * (own + other + fewer)
    };
    let (mut below, mut above) = (mean, 1.0);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (below + above);
        if divergence(middle) > limit { above = middle } else { below = middle }
    }
    outward(above).min(1.0)
}
