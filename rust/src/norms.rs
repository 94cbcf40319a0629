//! Norms that neither overflow nor lose tiny entries.

use ndarray::ArrayView2;

use crate::buffer;
use crate::constants::SERIAL_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::pool::Run;
use crate::tile::Rows;

/// Where a plain sum of squares in double precision is safe from overflow and from subnormal terms.
const SAFE_SQUARES: std::ops::Range<f64> = 1e-270..1e300;

/// Euclidean norm; NaN and ∞ in the values come through.
pub fn norm<T: Float>(values: &[T]) -> f64 {
    norm_of(values.iter().map(|x| x.widen()))
}

/// The same of numbers in any place.
fn norm_of(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let plain: f64 = values.clone().map(|x| x * x).sum();
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

/// The norm of each row, many at a time where there are many.
pub fn many_row_norms<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
    if rows.count <= SERIAL_ROWS || rows.width == 0 {
        return row_norms(rows);
    }
    let mut norms = buffer::zeros(rows.count)?;
    let parts = rows.data.chunks(SERIAL_ROWS * rows.width).zip(norms.chunks_mut(SERIAL_ROWS));
    run.for_each(parts, |(data, norms), _| {
        norms.iter_mut().zip(data.chunks_exact(rows.width)).for_each(|(of, row)| *of = norm(row));
        Ok(())
    })?;
    Ok(norms)
}

/// The norm of each row.
pub fn row_norms<T: Float>(rows: Rows<'_, T>) -> Result<Vec<f64>, Error> {
    let mut norms = buffer::zeros(rows.count)?;
    if rows.width > 0 {
        for (norm_of, row) in norms.iter_mut().zip(rows.data.chunks_exact(rows.width)) {
            *norm_of = norm(row);
        }
    }
    Ok(norms)
}

/// The largest of some norms, NaN if one is.
pub fn largest(norms: &[f64]) -> f64 {
    norms.iter().fold(0.0, |max, &norm| if norm > max || norm.is_nan() { norm } else { max })
}

/// An upper bound of the spectral norm: the smaller of the Frobenius norm and √(‖·‖₁ ‖·‖_∞).
pub fn spectral_bound<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    let widest = |lines: ndarray::iter::Lanes<'_, T, ndarray::Ix1>| {
        lines.into_iter().map(|line| line.iter().map(|x| x.widen().abs()).sum::<f64>()).fold(0.0, f64::max)
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

/// ‖row‖ of each row, and the largest.
pub fn measured<T: Float>(rows: Rows<'_, T>) -> Result<(Vec<f64>, f64), Error> {
    let norms = row_norms(rows)?;
    let largest = largest(&norms);
    Ok((norms, largest))
}
