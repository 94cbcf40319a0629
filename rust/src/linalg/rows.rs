//! Some rows of a problem: their numbers, and the results for them alone.

use ndarray::{Array2, ArrayView2};

use crate::error::Error;
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::runtime::buffer;

/// o and w of some query rows, in the order in which they were asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RowValues<T> {
    /// w_j = Σ_i p_ji k_i with the keys K = A2, or A2 W_K, (rows, d): dL/dX or dL/dW_Q is s A1ᵀ w, dL/dA1 is s w Xᵀ or
    /// s w W_Qᵀ.
    pub w: Array2<T>,
    /// o_j, (rows, dv).
    pub output: Array2<T>,
    /// Which of them could not be computed, by their place in the list; zero above. Exact rows always can.
    pub unsafe_rows: Vec<usize>,
}

/// The places of the indices in ascending order, and the indices in that order.
pub(crate) fn ascending(indices: &[usize]) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let (mut places, mut sorted) = (buffer::with_capacity(indices.len())?, buffer::with_capacity(indices.len())?);
    places.extend(0..indices.len());
    places.sort_unstable_by_key(|&place| (indices[place], place));
    sorted.extend(places.iter().map(|&place| indices[place]));
    Ok((places, sorted))
}

/// Rows that are in the order of `places` in that of the list.
pub(crate) fn in_order<T: Float>(rows: &Array2<T>, places: &[usize]) -> Result<Array2<T>, Error> {
    let mut order = buffer::zeros(places.len())?;
    for (row, &place) in places.iter().enumerate() {
        order[place] = row;
    }
    selected(rows.view(), &order)
}

/// Some rows of a matrix, one after the other.
///
/// # Errors
/// [`Error::Option`] for a row that is not there.
pub(crate) fn selected<T: Float>(array: ArrayView2<'_, T>, indices: &[usize]) -> Result<Array2<T>, Error> {
    let mut data = buffer::with_capacity(buffer::size(&[indices.len(), array.ncols()])?)?;
    for &index in indices {
        if index >= array.nrows() {
            let wanted = format!("indices of query rows below {}", array.nrows());
            return Err(Error::Option { option: "rows", found: index.to_string(), wanted });
        }
        data.extend(array.row(index).iter().copied());
    }
    matrix(data, indices.len(), array.ncols())
}
