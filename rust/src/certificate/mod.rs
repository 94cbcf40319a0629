//! How far an approximate gradient may be from the truth (docs/math.md, section 9).
//!
//! | module | content |
//! |---|---|
//! | [`rigorous`] | bounds of every step of a row from an enclosure of P(t) e^−t, and of the gradients: never below the truth |
//! | [`rounding`] | a-priori bounds of what rounding adds to the sums of the polynomial path |
//! | `spectral` | norms of small matrices, never below the truth |
//! | [`statistical`] | a bound at a stated confidence, from rows drawn in proportion to a rigorous cap |
//! | [`estimated`] | the sampled correction, its standard error, and bounds with a safety factor |
//! | [`outliers`] | which rows or keys stand out and are to be computed exactly |
//!
//! Pure functions of numbers in f64. What is not known is infinite: no NaN, and no zero that nothing backs.

pub mod estimated;
pub mod outliers;
pub mod rigorous;
pub mod rounding;
pub(crate) mod spectral;
pub mod statistical;

/// Roundings in one formula of this module, with room: none has half as many operations.
const FORMULA_ROUNDINGS: f64 = 64.0;

/// A bound made safe against its own rounding; NaN is not known, hence infinite.
pub(crate) fn outward(bound: f64) -> f64 {
    if bound.is_nan() { f64::INFINITY } else { (bound * (1.0 + FORMULA_ROUNDINGS * f64::EPSILON)).next_up() }
}

/// Σ of bounds, never below the exact sum.
pub fn total(bounds: impl IntoIterator<Item = f64>) -> f64 {
    let (count, sum) = bounds.into_iter().fold((0.0, 0.0), |(count, sum), bound| (count + 1.0, sum + bound));
    if count == 0.0 { 0.0 } else { outward(sum * (1.0 + count * f64::EPSILON)) }
}

/// √Σ of squared bounds, never below the exact root: the Frobenius norm from bounds of the rows.
pub fn root_total(bounds: impl IntoIterator<Item = f64>) -> f64 {
    let sum = total(bounds.into_iter().map(|bound| bound * bound));
    if sum == 0.0 { 0.0 } else { outward(sum.sqrt()) }
}
