//! A look at some rows of an array: enough to know its mean, its second moments and its size.

use ndarray::{Array2, ArrayView2};

use crate::certificate::rng::scattered;
use crate::constants::SAMPLE_ROWS;
use crate::float::Float;

/// At most [`SAMPLE_ROWS`] rows, in double precision.
pub fn some_rows<T: Float>(rows: ArrayView2<'_, T>) -> Array2<f64> {
    some_rows_but(rows, &[])
}

/// The same without those of `left_out`, in rising order.
pub fn some_rows_but<T: Float>(rows: ArrayView2<'_, T>, left_out: &[usize]) -> Array2<f64> {
    let mut indices = scattered(rows.nrows(), SAMPLE_ROWS);
    indices.retain(|row| left_out.binary_search(row).is_err());
    // Entry by entry: `select` takes several times as long for rows of few entries.
    Array2::from_shape_fn((indices.len(), rows.ncols()), |(place, column)| rows[[indices[place], column]].widen())
}
