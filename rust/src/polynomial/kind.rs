//! The ways to choose a polynomial.

use super::interval::Interval;
use super::remez::{Measure, minimax};
use super::series::Polynomial;
use crate::error::Error;
use crate::names::named;

/// The criterion by which a polynomial of a given degree is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Derivatives at the middle of the interval.
    Taylor,
    /// Equality at the zeros of T_(g+1).
    Chebyshev,
    /// Least sup |P − e^t|.
    Minimax,
    /// Least sup |P e^−t − 1|.
    MinimaxRelative,
    /// Least Σ w_i (P(t_i) − e^(t_i))² over samples.
    LeastSquares,
}

named!(Kind, "kind":
    Taylor = "taylor", Chebyshev = "chebyshev", Minimax = "minimax", MinimaxRelative = "minimax_relative",
    LeastSquares = "least_squares");

impl Polynomial {
    /// The polynomial of a kind that needs no samples.
    ///
    /// # Errors
    /// [`Error::Option`] for a degree above [`super::MAX_DEGREE`], and for [`Kind::LeastSquares`].
    pub fn new(kind: Kind, degree: usize, interval: Interval) -> Result<Self, Error> {
        match kind {
            Kind::Taylor => Self::taylor(degree, interval),
            Kind::Chebyshev => Self::chebyshev(degree, interval),
            Kind::Minimax => Ok(minimax(degree, interval, Measure::Absolute)?.polynomial),
            Kind::MinimaxRelative => Ok(minimax(degree, interval, Measure::Relative)?.polynomial),
            Kind::LeastSquares => Err(Error::Option {
                option: "kind",
                found: format!("{:?} without samples", kind.name()),
                wanted: "samples, or a kind that needs none".to_owned(),
            }),
        }
    }
}
