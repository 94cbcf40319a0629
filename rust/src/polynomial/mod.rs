//! Polynomials for exp on an interval, with guaranteed bounds of their error (docs/math.md, section 7).
//!
//! | module | content |
//! |---|---|
//! | `series`, `interval` | [`Polynomial`], a Chebyshev series on an [`Interval`]: checked once, at the door |
//! | `kind` | [`Kind`], and the polynomial of each |
//! | `taylor`, `interpolation`, `remez`, `least_squares` | one way to choose the polynomial each |
//! | `evaluation`, `power` | values by Clenshaw's recurrence; coefficients of the powers of t |
//! | [`bounds`], [`table`] | enclosures of P(t) e^−t and of P(t) − e^t over one interval, and over many at once |
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
mod series;
pub mod table;
mod taylor;
#[cfg(test)]
mod tests;
mod triangle;

pub use interval::{Interval, MAX_RANGE};
pub use kind::Kind;
pub use laws::degree_for;
pub(crate) use power::{horner, reach};
pub use series::{MAX_DEGREE, Polynomial};
pub use table::RatioTable;
pub(crate) use table::Widening;
