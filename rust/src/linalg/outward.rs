//! Numbers that are never below the truth: sums and roundings of bounds, rounded outward (docs/math.md, section 9).

/// Unit roundoff of the precision in which blocks are folded.
pub const FOLD_UNIT: f64 = 0.5 * f64::EPSILON;

/// Roundings in one formula of a bound, with room: none has half as many operations.
const FORMULA_ROUNDINGS: f64 = 64.0;

/// A bound made safe against its own rounding; NaN is not known, hence infinite.
pub fn outward(bound: f64) -> f64 {
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

/// γ_k = k u / (1 − k u), which bounds the product of k factors 1 + δ, |δ| ≤ u, less one; infinite from k u = 1 on.
pub fn gamma(roundings: f64, unit: f64) -> f64 {
    let loss = roundings * unit;
    if loss < 1.0 { outward(loss / (1.0 - loss)) } else { f64::INFINITY }
}
