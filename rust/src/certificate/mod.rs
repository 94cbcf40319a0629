//! How far an approximate gradient may be from the truth (docs/math.md, section 9).
//!
//! | module | content |
//! |---|---|
//! | [`rigorous`] | upper bounds of every step of a row from an enclosure of P(t) e^−t, and of the gradients |
//! | [`rounding`] | a-priori bounds of the rounding errors of the sums of the polynomial path |
//! | [`moments`] | bounds of every gradient and caps of every row, from the passes of the moment form |
//! | [`statistical`] | a bound at a stated confidence, from rows drawn in proportion to a rigorous cap |
//! | [`estimated`] | the sampled correction, its standard error, and bounds with a safety factor |
//! | [`outliers`] | which rows or keys stand out and are to be computed exactly |
//!
//! Pure functions of numbers in f64. An unknown quantity is infinite: never NaN, and never a zero without evidence.

pub mod estimated;
pub mod moments;
pub mod outliers;
pub mod rigorous;
pub mod rounding;
pub mod statistical;
mod terms;

pub use crate::linalg::outward::{gamma, root_total, total};
