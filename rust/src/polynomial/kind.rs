//! The ways to choose a polynomial.

use super::interval::Interval;
use super::remez::{Measure, minimax};
use super::series::Polynomial;
use crate::error::Error;

/// What a polynomial of a given degree is best at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] =
        [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative, Kind::LeastSquares];

    /// Its name in the Python API.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Taylor => "taylor",
            Kind::Chebyshev => "chebyshev",
            Kind::Minimax => "minimax",
            Kind::MinimaxRelative => "minimax_relative",
            Kind::LeastSquares => "least_squares",
        }
    }

    /// The kind of that name.
    ///
    /// # Errors
    /// [`Error::Option`] with the names there are.
    pub fn parse(name: &str) -> Result<Kind, Error> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| Error::Option {
            option: "kind",
            found: format!("{name:?}"),
            wanted: format!("one of {}", Kind::ALL.map(Kind::name).join(", ")),
        })
    }
}

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
