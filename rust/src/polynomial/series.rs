//! A polynomial as a Chebyshev series.

use super::interval::Interval;
use crate::error::Error;

/// Largest degree: C(d + 30, 30) features are out of reach for any d > 3, and power coefficients of higher degrees
/// lose all digits to cancellation.
pub const MAX_DEGREE: usize = 30;

/// Part of the largest coefficient below which others are rounding: a coefficient is a sum of up to 31 values with half
/// an ulp of error each, and the errors of a sum of cosines mostly cancel.
const NOISE: f64 = 4.0 * f64::EPSILON / 2.0;

/// A polynomial of t for exp(t) on an interval, P(t) = Σ_k c_k T_k((t − middle) / half), eq. (7.1).
///
/// The double-precision c_k are the polynomial: bounds are of the exact P that they define.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    pub(super) interval: Interval,
    pub(super) coefficients: Vec<f64>,
}

impl Polynomial {
    /// The polynomial with these coefficients of T_0, T_1, … on `interval`.
    ///
    /// # Errors
    /// [`Error::Option`] for no coefficient, more than [`MAX_DEGREE`] + 1, or one that is not finite.
    pub fn from_chebyshev(interval: Interval, coefficients: Vec<f64>) -> Result<Self, Error> {
        check_degree(coefficients.len().wrapping_sub(1))?;
        match coefficients.iter().find(|c| !c.is_finite()) {
            Some(c) => Err(Error::Option {
                option: "coefficients",
                found: format!("{c}"),
                wanted: "finite numbers".to_owned(),
            }),
            None => Ok(Polynomial { interval, coefficients }),
        }
    }

    /// Its degree g, as it was asked for; leading coefficients may be zero.
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The interval it was made for.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// The coefficients of T_0 … T_g.
    pub fn chebyshev_coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// With trailing coefficients that are only rounding set to zero: as powers of t they would grow like half^−k.
    pub(super) fn without_noise(interval: Interval, mut coefficients: Vec<f64>) -> Self {
        let largest = coefficients.iter().fold(0.0, |max: f64, c| max.max(c.abs()));
        for c in coefficients.iter_mut().rev() {
            if c.abs() > NOISE * largest {
                break;
            }
            *c = 0.0;
        }
        Polynomial { interval, coefficients }
    }
}

/// Refuses degrees that are too large.
pub(super) fn check_degree(degree: usize) -> Result<(), Error> {
    if degree <= MAX_DEGREE {
        return Ok(());
    }
    Err(Error::Option { option: "degree", found: format!("{degree}"), wanted: format!("0 to {MAX_DEGREE}") })
}
