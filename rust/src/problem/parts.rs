//! Parts of arrays of any leading dimensions.

use ndarray::{ArrayViewD, Axis, Dimension};

use crate::error::Error;
use crate::runtime::buffer;

/// How many arrays of the last `rank` axes there are.
pub fn leading(shape: &[usize], rank: usize) -> usize {
    shape[..shape.len() - rank].iter().product()
}

/// The array's parts of its last axes, in the order of the leading indices.
pub fn parts<'a, T, D: Dimension>(array: &ArrayViewD<'a, T>) -> Result<Vec<ndarray::ArrayView<'a, T, D>>, Error> {
    let rank = D::NDIM.unwrap_or_default();
    let mut found = buffer::with_capacity(leading(array.shape(), rank))?;
    collect(array.clone(), rank, &mut found)?;
    Ok(found)
}

fn collect<'a, T, D: Dimension>(
    array: ArrayViewD<'a, T>,
    rank: usize,
    found: &mut Vec<ndarray::ArrayView<'a, T, D>>,
) -> Result<(), Error> {
    if array.ndim() == rank {
        let part = array.into_dimensionality::<D>().map_err(|error| Error::Internal(error.to_string()))?;
        found.push(part);
        return Ok(());
    }
    for index in 0..array.len_of(Axis(0)) {
        collect(array.clone().index_axis_move(Axis(0), index), rank, found)?;
    }
    Ok(())
}
