//! The sampled correction and the error estimate from its own spread (docs/math.md, Proposition 9.42, equations 9.60 to
//! 9.65).
//!
//! The error of an approximate gradient is Δ = G − G̃ = Σ_j x_j over the n query rows, x_j = a_j ⊗ (w_j − w̃_j) or a
//! sum of a few such products. From m rows computed exactly follow an unbiased estimate Δ̂, its standard error, and
//! bounds with a safety factor for Δ and for what is left of it after Δ̂, or a part of it, has been added.

use ndarray::Array2;

pub use super::terms::{Drawing, Factors};
use super::terms::{Spectrum, Terms, square};
use crate::error::Error;

/// Standard errors that a deviation in one direction may amount to: the normal law exceeds 2.58 five times in a
/// thousand on one side. The bounds rest on two such events, that of the norm of Δ̂ − Δ, 1 + 2.58 √(λ₁/trace), and that
/// of ‖Δ̂‖², which together are missed once in a hundred times.
const DEVIATION: f64 = 2.58;

/// Correction of a spread that is estimated from few rows: with ν = m − 1 degrees of freedom, deviations are multiplied
/// by 1 + 5 / ν + 30 / ν². For normal terms 1 + 18 / ν² would do (3.58 times that is above the 0.995 quantile of
/// Student's t), the rest is for skewed ones, such as products a ⊗ a.
const FEW_ROWS: [f64; 2] = [5.0, 30.0];

/// Rows like the largest that was drawn, for each share of the others that the sample stands for: squares of errors
/// have long tails, and the half that was not seen may hold the larger end.
const UNSEEN: f64 = 5.0;

/// A spread that is less than this share of the squares is rounding, and says nothing.
const SPREAD_FLOOR: f64 = 64.0 * f64::EPSILON;

/// Estimate of Δ from m rows, with its error.
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// Δ̂, unbiased, of shape (p, d).
    pub value: Array2<f64>,
    /// ‖Δ̂‖_F.
    pub norm: f64,
    /// √E‖Δ̂ − Δ‖²_F as estimated; infinite where nothing is known, 0 where every row was computed.
    pub standard_error: f64,
    /// λ₁ / trace of the covariance of the terms: 1 if they err in one direction, 1/(p d) if in all alike.
    pub concentration: f64,
    /// Σ λ² / trace² of it: between the square of the concentration and the concentration itself.
    pub square_concentration: f64,
    /// χ₁: ‖Δ̂ − Δ‖ is taken to be at most χ₁ standard errors.
    pub safety: f64,
    /// λ = max(0, 1 − SE² / ‖Δ̂‖²), the part of Δ̂ that is worth adding.
    pub shrinkage: f64,
}

/// Σ_t x_t of rows that are all known: no estimate. O(m p d) time.
pub fn total(factors: &[Factors<'_>]) -> Result<Array2<f64>, Error> {
    let count = factors.first().map_or(0, |(left, _)| left.nrows());
    let terms = Terms::new(factors, Drawing::Uniform { population: count })?;
    terms.sum(&terms.weights)
}

/// Σ_t ω_t x_t. O(m p d) time.
pub fn weighted(factors: &[Factors<'_>], weights: &[f64]) -> Result<Array2<f64>, Error> {
    Terms::new(factors, Drawing::Weighted(weights))?.sum(weights)
}

impl Correction {
    /// From the `factors` of the drawn rows. O(m p d) time a step of at most thirty.
    pub fn new(factors: &[Factors<'_>], drawing: Drawing<'_>) -> Result<Self, Error> {
        let terms = Terms::new(factors, drawing)?;
        let value = terms.sum(&terms.weights)?;
        let squared_norm = square(&value);
        if matches!(drawing, Drawing::Uniform { population } if population == terms.count) {
            return Ok(Correction::of(value, squared_norm.sqrt(), 0.0, Spectrum::UNKNOWN, terms.count));
        }
        let norms = terms.squares()?;
        let squares: f64 = norms.iter().sum();
        let deviations = squares - terms.count as f64 * squared_norm;
        // False for NaN, which gives infinity.
        let spread_known = deviations > SPREAD_FLOOR * squares;
        if terms.count < 2 || !spread_known {
            return Ok(Correction::of(value, squared_norm.sqrt(), f64::INFINITY, Spectrum::UNKNOWN, terms.count));
        }
        let count = terms.count as f64;
        let trace = deviations / (count - 1.0);
        let left = match drawing {
            Drawing::Uniform { population } => 1.0 - count / population as f64,
            Drawing::Weighted(_) => 1.0,
        };
        let spectrum = Spectrum::new(&terms, &value, &norms, trace)?;
        Ok(Correction::of(value, squared_norm.sqrt(), (left * trace / count).sqrt(), spectrum, terms.count))
    }

    fn of(value: Array2<f64>, norm: f64, standard_error: f64, spectrum: Spectrum, count: usize) -> Self {
        let Spectrum { concentration, square_concentration } = spectrum;
        let safety = (1.0 + DEVIATION * concentration.sqrt()) * few_rows(count);
        let share = 1.0 - (standard_error / norm).powi(2);
        // Nothing is worth adding of what is zero or not known.
        let shrinkage = if share > 0.0 { share } else { 0.0 };
        Correction { value, norm, standard_error, concentration, square_concentration, safety, shrinkage }
    }

    /// Error of G̃ + Δ̂ (equation 9.63).
    pub fn corrected(&self) -> f64 {
        self.unless_settled(0.0, || self.safety * self.standard_error)
    }

    /// Error of G̃ (equation 9.64).
    pub fn uncorrected(&self) -> f64 {
        self.unless_settled(self.norm, || {
            let variance = self.standard_error.powi(2);
            let excess = (self.norm * self.norm - variance).max(0.0);
            let part = self.square_deviation().powi(2);
            let half = excess + 2.0 * part * self.concentration * variance;
            let spread = 2.0 * part * self.square_concentration * variance * variance;
            let square = half + (half * half - excess * excess + spread).sqrt();
            (self.norm + self.corrected()).min(square.sqrt())
        })
    }

    /// Error of G̃ + λΔ̂, λ the shrinkage (equation 9.65).
    pub fn shrunk(&self) -> f64 {
        self.unless_settled(0.0, || {
            let rest = 1.0 - self.shrinkage;
            let left = 1.0 - 2.0 * rest;
            let variance = self.standard_error.powi(2);
            let uncorrected = 2.0 * rest * self.uncorrected();
            let part = self.square_deviation() * self.standard_error;
            let square = if left >= 0.0 {
                let along = part * self.concentration.sqrt() * uncorrected;
                left * self.corrected().powi(2) + along + (rest * self.norm).powi(2)
            } else {
                let expected = left * variance + (rest * self.norm).powi(2);
                let spread = 2.0 * left * left * self.square_concentration * variance;
                expected.max(0.0) + part * (spread + self.concentration * uncorrected * uncorrected).sqrt()
            };
            (self.corrected() + rest * self.norm).min(square.sqrt())
        })
    }

    /// `exact` where all rows were computed, infinity where nothing is known, and `bound` in between.
    fn unless_settled(&self, exact: f64, bound: impl Fn() -> f64) -> f64 {
        match self.standard_error {
            0.0 => exact,
            error if error.is_finite() && self.norm.is_finite() => bound(),
            _ => f64::INFINITY,
        }
    }

    /// Standard deviations of ‖Δ̂‖² that are allowed for, with the correction for few rows.
    fn square_deviation(&self) -> f64 {
        DEVIATION * self.safety / (1.0 + DEVIATION * self.concentration.sqrt())
    }
}

/// Estimate of the squared error of an output by token, from the errors of m rows drawn uniformly without replacement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenError {
    /// Σ of the squared errors of the drawn rows: known.
    pub drawn: f64,
    /// The same of all others, as estimated.
    pub others: f64,
    /// Standard error of `others`; infinite where nothing is known.
    pub standard_error: f64,
    safety: f64,
    /// Allowance for unseen rows like the largest that was drawn.
    unseen: f64,
}

impl TokenError {
    /// From ‖error‖² of each drawn row, such as ‖(w_j − w̃_j) Xᵀ‖², of `population` rows.
    pub fn new(squares: &[f64], population: usize) -> Self {
        let count = squares.len() as f64;
        let rest = population.saturating_sub(squares.len()) as f64;
        let drawn: f64 = squares.iter().sum();
        let safety = (1.0 + DEVIATION) * few_rows(squares.len());
        if rest == 0.0 {
            return TokenError { drawn, others: 0.0, standard_error: 0.0, safety, unseen: 0.0 };
        }
        let mean = drawn / count;
        let deviations: f64 = squares.iter().map(|x| (x - mean).powi(2)).sum();
        // False for NaN, which gives infinity.
        let spread_known = deviations > (SPREAD_FLOOR * drawn).powi(2);
        if squares.len() < 2 || !spread_known {
            return TokenError { drawn, others: f64::INFINITY, standard_error: f64::INFINITY, safety, unseen: 0.0 };
        }
        let variance = deviations / (count - 1.0) * rest * population as f64 / count;
        let largest = squares.iter().copied().fold(0.0, f64::max);
        let unseen = UNSEEN * largest * (rest / count).max(1.0);
        TokenError { drawn, others: rest * mean, standard_error: variance.sqrt(), safety, unseen }
    }

    /// The same where caps of all errors are known: `caps` are the squares of those of the drawn rows, `total` their
    /// sum over all rows and `largest` the largest of the others. The others are taken to err in proportion to their
    /// caps, as the drawn ones do together; their deviations from this proportion are the spread, and the row with the
    /// largest cap may err by as much more.
    pub fn by_caps(squares: &[f64], caps: &[f64], total: f64, largest: f64, population: usize) -> Self {
        let plain = TokenError::new(squares, population);
        let (drawn, drawn_caps): (f64, f64) = (squares.iter().sum(), caps.iter().sum());
        let rest = population.saturating_sub(squares.len()) as f64;
        // NaN and a sum of nothing say no more than no caps.
        if !(drawn_caps > 0.0 && total.is_finite() && plain.standard_error.is_finite()) || rest == 0.0 {
            return plain;
        }
        let (count, ratio) = (squares.len() as f64, drawn / drawn_caps);
        let deviations: f64 = squares.iter().zip(caps).map(|(x, cap)| (x - ratio * cap).powi(2)).sum();
        let variance = deviations / (count - 1.0) * rest * population as f64 / count;
        let others = ratio * (total - drawn_caps).max(0.0);
        let above = squares.iter().zip(caps).filter(|(_, cap)| **cap >= drawn_caps / count);
        let most = above.map(|(x, cap)| x / cap).fold(ratio, f64::max);
        let plain = TokenError { unseen: plain.unseen.max(UNSEEN * most * largest), ..plain };
        // A mean over rows that all cap alike may be luck: whichever says more is taken.
        if others > plain.others {
            TokenError { others, standard_error: variance.sqrt().max(plain.standard_error), ..plain }
        } else {
            plain
        }
    }

    /// Frobenius error of the output as approximated.
    pub fn approximated(&self) -> f64 {
        self.bound(self.drawn + self.others)
    }

    /// Frobenius error of the output in which the drawn rows have been replaced by their exact values.
    pub fn replaced(&self) -> f64 {
        self.bound(self.others)
    }

    fn bound(&self, square: f64) -> f64 {
        let deviation = if self.standard_error == 0.0 { 0.0 } else { self.safety * self.standard_error };
        // NaN is not known, hence infinite.
        if square.is_nan() { f64::INFINITY } else { (square + deviation + self.unseen).sqrt() }
    }
}

/// By how much deviations are raised because `count` rows know little of their own spread.
fn few_rows(count: usize) -> f64 {
    let [first, second] = FEW_ROWS;
    if count < 2 { f64::INFINITY } else { 1.0 + (first + second / (count - 1) as f64) / (count - 1) as f64 }
}
