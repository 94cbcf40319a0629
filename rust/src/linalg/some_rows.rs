//! A look at some rows of an array: enough to know its mean, its second moments and its size.

use ndarray::{Array2, ArrayView2};

use crate::constants::SAMPLE_ROWS;
use crate::float::Float;
use crate::runtime::rng::scattered;

/// The index of a row by its number among those that are not in `left_out`, which is in rising order.
pub fn other(number: usize, left_out: &[usize]) -> usize {
    left_out.iter().fold(number, |index, &row| if row <= index { index + 1 } else { index })
}

/// At most [`SAMPLE_ROWS`] rows, in double precision.
pub fn some_rows<T: Float>(rows: ArrayView2<'_, T>) -> Array2<f64> {
    some_rows_but(rows, &[])
}

/// The same without those of `left_out`, in rising order.
pub fn some_rows_but<T: Float>(rows: ArrayView2<'_, T>, left_out: &[usize]) -> Array2<f64> {
    let mut indices = scattered(rows.nrows(), SAMPLE_ROWS);
    indices.retain(|row| left_out.binary_search(row).is_err());
    // Row by row into one piece: `select` takes several times as long for rows of few entries.
    let mut data = Vec::with_capacity(indices.len() * rows.ncols());
    for &index in &indices {
        let row = rows.row(index);
        match row.as_slice() {
            Some(row) => data.extend(row.iter().map(|x| x.widen())),
            None => data.extend(row.iter().map(|x| x.widen())),
        }
    }
    let shape = (indices.len(), rows.ncols());
    // As many numbers as the shape says.
    Array2::from_shape_vec(shape, data).unwrap_or_else(|_| Array2::zeros(shape))
}
