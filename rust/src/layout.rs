//! Arrays as the passes read them, and numbers that they may leave.

use ndarray::{ArrayView2, CowArray, Ix2};

use crate::buffer;
use crate::error::Error;
use crate::float::Float;
use crate::products::matrix;
use crate::tile::Rows;

/// An error unless a quantity fits the precision.
pub(crate) fn in_range(quantity: &str, precision: &'static str, fits: bool) -> Result<(), Error> {
    if fits {
        return Ok(());
    }
    Err(Error::Range { quantity: quantity.to_owned(), precision, remedy: "scale the inputs down, or use float64" })
}

/// The array itself where it is row-major, otherwise a copy.
pub(crate) fn row_major<T: Float>(array: ArrayView2<'_, T>) -> Result<CowArray<'_, T, Ix2>, Error> {
    if array.is_standard_layout() {
        return Ok(array.into());
    }
    let mut data = buffer::with_capacity(array.len())?;
    data.extend(array.iter().copied());
    Ok(matrix(data, array.nrows(), array.ncols())?.into())
}

/// The rows of a matrix in row-major order.
pub(crate) fn rows<'b, T>(array: &'b CowArray<'_, T, Ix2>) -> Result<Rows<'b, T>, Error> {
    let data = array.as_slice().ok_or_else(|| Error::Internal("an array is not row-major".into()))?;
    Ok(Rows { data, count: array.nrows(), width: array.ncols() })
}
