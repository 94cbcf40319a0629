//! A-priori bounds of the error of each kind of polynomial (docs/math.md, Theorem 7.5).

use super::{Interval, Kind, MAX_DEGREE, Polynomial};
use crate::error::Error;

/// Bounds of an error, rounding not included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// The error is at least this.
    pub lower: f64,
    /// The error is at most this.
    pub upper: f64,
}

/// The law of a kind, eq. (7.12). With r the half-width, m the middle and g the degree, of
///
/// | kind | what | lower | upper |
/// |---|---|---|---|
/// | taylor | sup \|P − e^t\| | e^m r^(g+1)/(g+1)! | e^(m+r) r^(g+1)/(g+1)! |
/// | chebyshev | sup \|P − e^t\| | 2 e^m (r/2)^(g+1)/(g+1)! | 2 e^(m+r) (r/2)^(g+1)/(g+1)! |
/// | minimax | sup \|P − e^t\| | the same | the same |
/// | minimax_relative | sup \|P e^−t − 1\| | 2 (r/2)^(g+1)/(g+1)! / Ī | min(1, 2 e^(2r) (r/2)^(g+1)/(g+1)!) |
/// | least_squares | (Σ w (P − e^t)² / Σ w)^½ | 0 | 2 e^(m+r) (r/2)^(g+1)/(g+1)! |
///
/// Ī is the mean of e^(t − m) over the extrema of T_(g+1), the two ends counted half.
pub fn law(kind: Kind, degree: usize, interval: Interval) -> Law {
    let half = interval.half();
    let over_factorial = |x: f64| (1..=degree + 1).fold(1.0, |product, j| product * x / j as f64);
    let (taylor, best) = (over_factorial(half), 2.0 * over_factorial(0.5 * half));
    let (middle, high) = (interval.middle().exp(), (interval.middle() + half).exp());
    match kind {
        Kind::Taylor => Law { lower: middle * taylor, upper: high * taylor },
        Kind::Chebyshev | Kind::Minimax => Law { lower: middle * best, upper: high * best },
        Kind::MinimaxRelative => {
            Law { lower: best / mean_over_extrema(degree, half), upper: (best * (2.0 * half).exp()).min(1.0) }
        }
        Kind::LeastSquares => Law { lower: 0.0, upper: high * best },
    }
}

/// (1/(g+1)) Σ'' e^(half cos(kπ/(g+1))).
fn mean_over_extrema(degree: usize, half: f64) -> f64 {
    let last = degree + 1;
    let term = |k: usize| {
        let share = if k == 0 || k == last { 0.5 } else { 1.0 };
        share * (half * (std::f64::consts::PI * k as f64 / last as f64).cos()).exp()
    };
    (0..=last).map(term).sum::<f64>() / last as f64
}

/// The smallest degree of that kind with sup |P(t) e^−t − 1| ≤ `error` for |t| ≤ `range`, guaranteed; None if even
/// [`MAX_DEGREE`] does not do.
///
/// # Errors
/// [`Error::Option`] unless error > 0 and 0 ≤ range ≤ 256, and for least squares, whose error is that of its samples.
pub fn degree_for(error: f64, range: f64, kind: Kind) -> Result<Option<usize>, Error> {
    if error.is_nan() || error <= 0.0 {
        return Err(Error::Option {
            option: "error",
            found: format!("{error}"),
            wanted: "a number above 0".to_owned(),
        });
    }
    let interval = Interval::symmetric(range)?;
    for degree in 0..=MAX_DEGREE {
        let polynomial = Polynomial::new(kind, degree, interval)?;
        if polynomial.relative_bound(-range, range)? <= error {
            return Ok(Some(degree));
        }
    }
    Ok(None)
}
