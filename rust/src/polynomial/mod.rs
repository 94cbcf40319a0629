//! Polynomials for exp on an interval, with guaranteed bounds of their error (docs/math.md, section 7).
//!
//! | module | content |
//! |---|---|
//! | `interval`, `kind` | [`Interval`], [`Kind`]: checked once, at the door |
//! | `taylor`, `interpolation`, `remez`, `least_squares` | one way to choose the polynomial each |
//! | `evaluation`, `power` | values by Clenshaw's recurrence; coefficients of the powers of t |
//! | [`bounds`], [`table`] | enclosures of P(t) e^−t and of P(t) − e^t over an interval, and for many intervals at once |
//! | [`laws`] | the error that each kind must have, before anything is computed |
//! | `double`, `triangle` | arithmetic of 106 bits; a small least-squares solver |

pub mod bounds;
mod double;
mod evaluation;
mod interpolation;
mod interval;
mod kind;
pub mod laws;
mod least_squares;
mod power;
pub mod remez;
pub mod table;
mod taylor;
#[cfg(test)]
mod tests;
mod triangle;

pub use interval::{Interval, MAX_RANGE};
pub use kind::Kind;
pub use laws::degree_for;
pub(crate) use power::horner;
pub use table::RatioTable;
pub(crate) use table::Widening;

use crate::error::Error;

/// Largest degree: C(d + 30, 30) features are out of reach for any d > 3, and power coefficients of higher degrees
/// lose all digits to cancellation.
pub const MAX_DEGREE: usize = 30;

/// What is below this part of the largest coefficient is rounding: a coefficient is a sum of up to 31 values with
/// half an ulp of error each, and the errors of a sum of cosines mostly cancel.
const NOISE: f64 = 4.0 * f64::EPSILON / 2.0;

/// A polynomial of t for exp(t) on an interval, P(t) = Σ_k c_k T_k((t − middle) / half), eq. (40).
///
/// The double-precision c_k are the polynomial: bounds are of the exact P that they define.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    interval: Interval,
    coefficients: Vec<f64>,
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

    /// The polynomial of a kind that needs no samples.
    ///
    /// # Errors
    /// [`Error::Option`] for a degree above [`MAX_DEGREE`], and for [`Kind::LeastSquares`].
    pub fn new(kind: Kind, degree: usize, interval: Interval) -> Result<Self, Error> {
        match kind {
            Kind::Taylor => Self::taylor(degree, interval),
            Kind::Chebyshev => Self::chebyshev(degree, interval),
            Kind::Minimax => Ok(remez::minimax(degree, interval, remez::Measure::Absolute)?.polynomial),
            Kind::MinimaxRelative => Ok(remez::minimax(degree, interval, remez::Measure::Relative)?.polynomial),
            Kind::LeastSquares => Err(Error::Option {
                option: "kind",
                found: format!("{:?} without samples", kind.name()),
                wanted: "samples, or a kind that needs none".to_owned(),
            }),
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
    fn without_noise(interval: Interval, mut coefficients: Vec<f64>) -> Self {
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
fn check_degree(degree: usize) -> Result<(), Error> {
    if degree <= MAX_DEGREE {
        return Ok(());
    }
    Err(Error::Option { option: "degree", found: format!("{degree}"), wanted: format!("0 to {MAX_DEGREE}") })
}
