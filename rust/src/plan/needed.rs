//! How many rows a certificate is expected to take (docs/math.md, equations 11.3 and 11.4).

use super::decide::Law;
use super::decision::Backing;
use super::logits::Logits;
use super::request::Wanted;
use super::sizes::LEAST_SEEN;
use crate::problem::Wrt;

/// Fewest sampled rows: the safety factor of fewer is large, and rows that err alone are more easily missed.
const LEAST_ROWS: usize = 128;

/// At most so many rows where no tolerance says how many.
const USUAL_ROWS: usize = 512;

/// One row in so many is the most that is computed to certify: with more, the exact method would do ...
const MOST_SAMPLES: f64 = 2.0;

/// ... and for a method that was named, whose last try must not take much longer than the exact method.
const MOST_NAMED_SAMPLES: f64 = 4.0;

/// The bound from m sampled rows over √(n/m − 1) times the error that a sample of logits predicts, a + b/d in d
/// dimensions: errors of few dimensions line up, and their norm has few degrees of freedom ...
const SAMPLED: [f64; 2] = [0.28, 10.0];

/// ... and √m times what m rows make of that by chance: their own covariance is more concentrated than that of all
/// rows. With it most samples of uniform data do at once; more rows are drawn where they do not.
const CHANCE: f64 = 9.0;

/// The bound of the output from sampled rows over the error that a sample of logits predicts: rows are known one by one,
/// and rarely differ by more.
const BY_ROW: f64 = 1.5;

/// Ratio of a rigorous bound to √(n m) times its value for the weights of a row: caps add up where errors cancel. The
/// median over uniform data of 4 to 32 dimensions, degrees 1 to 3 and 2048 and 8192 rows; four of five are between 0.3
/// and 0.9.
const RIGOROUS: f64 = 0.45;

/// A statistical bound at m rows over the rigorous one at 1/m, on the same data: ln(2 / 0.75 %) and what was seen of
/// the errors, with caps that are half of what rows of a bucket are charged.
const STATISTICAL: f64 = 4.0;

/// Room in a sample of a causal problem for rows of different sizes.
const UNEVEN: f64 = 2.0;

/// Ratio of the rounding error that is allowed for to that of rows of independent terms: rows that are alike, or whose
/// residual is small, make it several times as large.
const ROUNDING_ROOM: f64 = 4.0;

impl Law<'_> {
    /// Rows where no tolerance says how many.
    pub(super) fn usual(&self) -> usize {
        self.bounded(self.most_samples().min(USUAL_ROWS as f64))
    }

    /// Rows that are expected to certify `rtol`; nothing where no number does.
    pub(super) fn samples(&self, degree: usize, logits: &Logits, error: f64, rtol: f64) -> Option<usize> {
        let n = self.cost.queries();
        // Of the gradient itself, which may be smaller than what is returned by all of its error.
        let allowed = rtol / (1.0 + rtol);
        let allowed =
            if self.backing == Backing::Estimated { allowed - ROUNDING_ROOM * self.rounding(logits) } else { allowed };
        if allowed <= 0.0 {
            return None;
        }
        let needed = match self.backing {
            Backing::Rigorous => {
                let bound = RIGOROUS * self.cost.added_up() * logits.excess(degree);
                return (bound <= allowed).then_some(0);
            }
            Backing::Statistical => STATISTICAL * RIGOROUS * self.cost.added_up() * logits.excess(degree) / allowed,
            Backing::Estimated if self.wrt.iter().all(|&wrt| wrt == Wrt::A1) => {
                let bound = if self.is_output { BY_ROW } else { self.sampled() };
                if bound * error > allowed { f64::INFINITY } else { 0.0 }
            }
            Backing::Estimated => {
                let rows = |bound: f64| enough(n, (allowed / (bound * error)).powi(2));
                let bound = self.sampled();
                // √m of m rows by chance with the m₀ of none: x = √m₀ (1 + CHANCE / x).
                let certain = rows(bound).sqrt();
                let root = 0.5 * (certain + (certain * (certain + 4.0 * CHANCE)).sqrt());
                rows(bound * (1.0 + CHANCE / root.max((LEAST_ROWS as f64).sqrt())))
            }
        };
        (needed <= self.most_samples()).then(|| self.bounded(needed))
    }

    /// Assumed rounding error of exact rows, relative to the gradient: rows of dL/dA1 are bounded by the norm of X.
    fn rounding(&self, logits: &Logits) -> f64 {
        let by_token = self.wrt.contains(&Wrt::A1);
        logits.rounding * if by_token { (self.cost.dimension() as f64).sqrt() } else { 1.0 }
    }

    /// Rows that are expected to certify the goal for weights that are off by `error`; nothing where no number does.
    pub fn needed(&self, degree: usize, logits: &Logits, error: f64) -> Option<usize> {
        self.samples(degree, logits, error, self.goal)
    }

    fn sampled(&self) -> f64 {
        let [always, narrow] = SAMPLED;
        always + narrow / self.cost.dimension().max(1) as f64
    }

    /// The most rows that a decision takes, and those of the last try of a named method: every tolerance ends with the
    /// same.
    pub fn most_samples(&self) -> f64 {
        self.cost.queries() / if self.request.wanted == Wanted::Auto { MOST_SAMPLES } else { MOST_NAMED_SAMPLES }
    }

    fn bounded(&self, rows: f64) -> usize {
        (rows.ceil() as usize).max(self.least_rows()).min(self.cost.queries() as usize)
    }

    /// With fewer a sample says nothing: under a mask it must see enough of the first rows.
    pub(super) fn least_rows(&self) -> usize {
        let seen = self.cost.masked().map_or(0.0, |rows| UNEVEN * LEAST_SEEN * self.cost.queries() / rows);
        LEAST_ROWS.max(seen.ceil() as usize)
    }
}

/// Rows m of n with n/m − 1 = `ratio`.
pub(super) fn enough(n: f64, ratio: f64) -> f64 {
    n / (1.0 + ratio)
}
