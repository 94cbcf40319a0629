//! Norms that neither overflow nor lose tiny entries.

use std::borrow::Borrow;

use ndarray::ArrayView2;

use crate::error::Error;
use crate::float::Float;
use crate::pool::Run;
use crate::tile::Rows;

/// Where a plain sum of squares in double precision is safe from overflow and from subnormal terms.
const SAFE_SQUARES: std::ops::Range<f64> = 1e-270..1e300;

/// Sums that a slice is added up in side by side: one alone would wait for each addition.
pub const LANES: usize = 8;

/// The sum of side-by-side sums, in one order.
#[inline(always)]
pub fn sum_of(lanes: [f64; LANES]) -> f64 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Euclidean norm; NaN and ∞ in the values come through.
#[inline(always)]
pub fn norm<T: Float>(values: &[T]) -> f64 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut squares = [0.0; LANES];
    for chunk in chunks {
        squares.iter_mut().zip(chunk).for_each(|(sum, x)| *sum += x.widen() * x.widen());
    }
    squares.iter_mut().zip(rest).for_each(|(sum, x)| *sum += x.widen() * x.widen());
    norm_from(sum_of(squares), values.iter().map(|x| x.widen()))
}

/// Euclidean norm of numbers in any place.
fn norm_of(values: impl Iterator<Item = f64> + Clone) -> f64 {
    norm_from(values.clone().map(|x| x * x).sum(), values)
}

/// Euclidean norm from the plain sum of squares, where that is good for it.
#[inline(always)]
pub fn norm_from(plain: f64, values: impl Iterator<Item = f64> + Clone) -> f64 {
    if SAFE_SQUARES.contains(&plain) || plain.is_nan() {
        return plain.sqrt();
    }
    let scale = values.clone().fold(0.0, |max: f64, x| max.max(x.abs()));
    if scale == 0.0 || scale.is_infinite() {
        return scale;
    }
    let sum: f64 = values.map(|x| (x / scale).powi(2)).sum();
    scale * sum.sqrt()
}

/// The norm of each row.
pub fn row_norms<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
    rows.map(run, norm)
}

/// The largest of some numbers that are not negative, NaN if one is.
pub fn largest(numbers: impl IntoIterator<Item = impl Borrow<f64>>) -> f64 {
    let wider = |most: f64, x: f64| if x > most || x.is_nan() { x } else { most };
    numbers.into_iter().fold(0.0, |most, x| wider(most, *x.borrow()))
}

/// An upper bound of the spectral norm: the smaller of the Frobenius norm and √(‖·‖₁ ‖·‖_∞). NaN if an entry is.
pub fn spectral_bound<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    let widest = |lines: ndarray::iter::Lanes<'_, T, ndarray::Ix1>| {
        largest(lines.into_iter().map(|line| line.iter().map(|x| x.widen().abs()).sum::<f64>()))
    };
    let mixed = widest(matrix.rows()).sqrt() * widest(matrix.columns()).sqrt();
    frobenius(matrix).min(mixed)
}

/// The Frobenius norm, the same bits for any layout.
pub fn frobenius<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    match matrix.as_slice() {
        Some(slice) => norm(slice),
        None => norm_of(matrix.iter().map(|x| x.widen())),
    }
}

/// The largest norm of a row.
pub fn largest_row<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<f64, Error> {
    Ok(largest(&row_norms(rows, run)?))
}
