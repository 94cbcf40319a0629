//! Norms that neither overflow nor lose tiny entries.

use std::borrow::Borrow;

use ndarray::{ArrayView1, ArrayView2, Axis};

use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::runtime::pool::Run;

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

/// The inner product of two rows, the same bits for any layout; NaN and ∞ in the values come through.
pub fn inner<T: Float>(a: ArrayView1<'_, T>, b: ArrayView1<'_, T>) -> f64 {
    let mut sums = [0.0; LANES];
    let add = |sum: &mut f64, a: &T, b: &T| *sum += a.widen() * b.widen();
    match (a.as_slice(), b.as_slice()) {
        (Some(a), Some(b)) => {
            let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            for (a, b) in a.iter().zip(b) {
                sums.iter_mut().zip(a).zip(b).for_each(|((sum, a), b)| add(sum, a, b));
            }
            sums.iter_mut().zip(a_rest).zip(b_rest).for_each(|((sum, a), b)| add(sum, a, b));
        }
        _ => a.iter().zip(b).enumerate().for_each(|(place, (a, b))| add(&mut sums[place % LANES], a, b)),
    }
    sum_of(sums)
}

/// Euclidean norm of numbers in any place: the bits of [`norm`].
fn norm_of(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let mut squares = [0.0; LANES];
    values.clone().enumerate().for_each(|(place, x)| squares[place % LANES] += x * x);
    norm_from(sum_of(squares), values)
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

/// The norm of each row of `width` numbers; zero where that is none.
#[inline(always)]
pub fn each<T: Float>(rows: &[T], width: usize, norms: &mut [f64]) {
    if width == 0 {
        norms.fill(0.0);
        return;
    }
    for (to, row) in norms.iter_mut().zip(rows.chunks_exact(width)) {
        *to = norm(row);
    }
}

/// The norm of each row.
pub fn row_norms<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
    rows.map(run, norm)
}

/// The largest of some numbers that are not negative, NaN if one is.
pub fn largest(numbers: impl IntoIterator<Item = impl Borrow<f64>>) -> f64 {
    numbers.into_iter().fold(0.0, |most, x| wider(most, *x.borrow()))
}

/// The same of a slice, several side by side.
pub fn largest_of(numbers: &[f64]) -> f64 {
    let (chunks, rest) = numbers.as_chunks::<LANES>();
    let mut most = [0.0; LANES];
    for chunk in chunks {
        most.iter_mut().zip(chunk).for_each(|(most, x)| *most = wider(*most, *x));
    }
    largest(most.iter().chain(rest))
}

/// The larger one, NaN if one is: no comparison with it holds.
#[inline(always)]
pub fn wider(most: f64, x: f64) -> f64 {
    if x > most || x.is_nan() { x } else { most }
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

/// The norm of one row, which need not lie in one piece.
pub fn length<T: Float>(row: ArrayView1<'_, T>) -> f64 {
    frobenius(row.insert_axis(Axis(0)))
}

/// The largest norm of a row.
pub fn largest_row<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<f64, Error> {
    Ok(largest_of(&row_norms(rows, run)?))
}
