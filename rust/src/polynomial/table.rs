//! Enclosures of P(t) e^−t for many ranges |t| ≤ b at once.

use super::bounds::{Deviation, Enclosure, Known};
use super::remez::Measure;
use super::{Interval, Polynomial};
use crate::error::Error;
use crate::runtime::buffer;

/// Most steps: 1 MiB, and a resolution far below what the bounds have.
pub const MAX_STEPS: usize = 1 << 16;

/// Bounds of P(t) e^−t for |t| ≤ b, for each of equally spaced b.
#[derive(Debug, Clone)]
pub struct RatioTable {
    max_range: f64,
    /// Step i holds for |t| ≤ edge(i).
    ratios: Vec<(f64, f64)>,
}

impl RatioTable {
    /// The table for b up to `max_range`, eq. (7.13). Time O(steps · degree²).
    ///
    /// # Errors
    /// [`Error::Option`] unless 0 ≤ max_range ≤ 256 and 1 ≤ steps ≤ [`MAX_STEPS`].
    pub fn new(polynomial: &Polynomial, max_range: f64, steps: usize) -> Result<Self, Error> {
        Interval::symmetric(max_range)?;
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Error::Option {
                option: "steps",
                found: format!("{steps}"),
                wanted: format!("1 to {MAX_STEPS}"),
            });
        }
        let mut widening = Widening::new(polynomial, Measure::Relative, max_range);
        let mut ratios = buffer::with_capacity(steps + 1)?;
        ratios.extend((0..=steps).map(|i| widening.reach(edge(max_range, steps, i)).ratio()));
        Ok(RatioTable { max_range, ratios })
    }

    /// (lo, hi) with lo ≤ P(t) e^−t ≤ hi for |t| ≤ b: those of the next step. (−∞, ∞) beyond the table and for NaN.
    pub fn lookup(&self, b: f64) -> (f64, f64) {
        let everything = (Enclosure::EVERYTHING.low, Enclosure::EVERYTHING.high);
        if !(0.0 <= b && b <= self.max_range) {
            return everything;
        }
        let steps = self.ratios.len() - 1;
        let guess = if b == 0.0 { 0 } else { (b / self.max_range * steps as f64) as usize };
        // The division rounds: the step is the first whose edge is not below b.
        let step = (guess.saturating_sub(1)..=steps).find(|&i| b <= edge(self.max_range, steps, i));
        step.and_then(|i| self.ratios.get(i)).copied().unwrap_or(everything)
    }
}

/// The enclosure of the error over |t| ≤ b for b that grows.
pub(crate) struct Widening {
    deviation: Deviation,
    known: Known,
    reached: f64,
}

impl Widening {
    /// At b = 0; b will not exceed `max_range`, which is at most 256.
    pub fn new(polynomial: &Polynomial, measure: Measure, max_range: f64) -> Self {
        let deviation = Deviation::new(polynomial, measure, -max_range, max_range);
        let known = deviation.explore(&[0.0], Known::NOTHING);
        Widening { deviation, known, reached: 0.0 }
    }

    /// For |t| ≤ `b`, or for the largest b so far, eq. (7.13).
    pub fn reach(&mut self, b: f64) -> Enclosure {
        if b > self.reached {
            self.known = self.deviation.explore(&[-b, -self.reached], self.known);
            self.known = self.deviation.explore(&[self.reached, b], self.known);
            self.reached = b;
        }
        self.known.bounds
    }
}

/// The range that step i holds for.
fn edge(max_range: f64, steps: usize, i: usize) -> f64 {
    if i == steps { max_range } else { max_range * (i as f64 / steps as f64) }
}
