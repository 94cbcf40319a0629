//! The ways to choose a polynomial.

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
