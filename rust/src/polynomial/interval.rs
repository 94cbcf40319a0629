//! The interval that a polynomial lives on.

use crate::error::Error;

/// Largest |t| of an interval: the ratio e^(2·256) and sums around it stay far within double precision.
pub const MAX_RANGE: f64 = 256.0;

/// Least half-width of the basis, √u: on a shorter interval exp is a line to rounding, and half^−30 stays finite.
const MIN_HALF: f64 = 1.0 / (1u64 << 26) as f64;

/// [low, high], and the middle and half-width of the Chebyshev basis on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    low: f64,
    high: f64,
    middle: f64,
    half: f64,
}

impl Interval {
    /// The interval from `low` to `high`; both may be equal.
    ///
    /// # Errors
    /// [`Error::Option`] unless −`MAX_RANGE` ≤ low ≤ high ≤ `MAX_RANGE`.
    pub fn new(low: f64, high: f64) -> Result<Self, Error> {
        if !(-MAX_RANGE <= low && low <= high && high <= MAX_RANGE) {
            return Err(Error::Option {
                option: "interval",
                found: format!("[{low}, {high}]"),
                wanted: format!("low <= high, both finite and within ±{MAX_RANGE}"),
            });
        }
        let middle = 0.5 * low + 0.5 * high;
        let half = (high - middle).max(middle - low).max(MIN_HALF);
        Ok(Interval { low, high, middle, half })
    }

    /// [−range, range].
    ///
    /// # Errors
    /// [`Error::Option`] unless 0 ≤ range ≤ `MAX_RANGE`.
    pub fn symmetric(range: f64) -> Result<Self, Error> {
        Interval::new(-range, range)
    }

    /// Its lower end.
    pub fn low(self) -> f64 {
        self.low
    }

    /// Its upper end.
    pub fn high(self) -> f64 {
        self.high
    }

    /// The middle of the basis.
    pub fn middle(self) -> f64 {
        self.middle
    }

    /// The half-width of the basis, above zero also where the interval is a point.
    pub fn half(self) -> f64 {
        self.half
    }

    /// Where t is in the basis: [−1, 1] for t inside.
    pub(super) fn coordinate(self, t: f64) -> f64 {
        (t - self.middle) / self.half
    }

    /// The t at x of the basis.
    pub(super) fn point(self, x: f64) -> f64 {
        self.middle + self.half * x
    }
}
