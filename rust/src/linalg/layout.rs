//! Arrays as the passes read them, pieces of them that tasks write, and numbers that they may leave.

use ndarray::{Array2, ArrayBase, ArrayView2, CowArray, Data, Ix2};

use crate::constants::PART_ENTRIES;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// A row-major matrix.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// Its entries.
    pub data: &'a [T],
    /// How many rows; not to be had from `data` where the width is zero.
    pub count: usize,
    /// Entries of a row.
    pub width: usize,
}

impl<T: Float> Rows<'_, T> {
    /// Rows that a thread takes at a time.
    pub fn part(&self) -> usize {
        (PART_ENTRIES / self.width.max(1)).max(1)
    }

    /// Something of each row, with many threads where there are many; its default where rows have no entries.
    pub fn map<S>(self, run: &mut Run<'_>, of: impl Fn(&[T]) -> S + Sync) -> Result<Vec<S>, Error>
    where
        S: Clone + Default + Send,
    {
        let mut found = buffer::filled(self.count, S::default())?;
        if self.width == 0 {
            return Ok(found);
        }
        let part = self.part();
        let parts = self.data.chunks(part * self.width).zip(found.chunks_mut(part));
        run.short(self.data.len(), parts, |(data, found), _| {
            found.iter_mut().zip(data.chunks_exact(self.width)).for_each(|(found, row)| *found = of(row));
            Ok(())
        })?;
        Ok(found)
    }
}

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
pub(crate) fn rows<T>(array: &ArrayBase<impl Data<Elem = T>, Ix2>) -> Result<Rows<'_, T>, Error> {
    let data = array.as_slice().ok_or_else(|| Error::Internal("an array is not row-major".into()))?;
    Ok(Rows { data, count: array.nrows(), width: array.ncols() })
}

/// A small matrix in double precision.
pub(crate) fn wide<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    array.mapv(T::widen)
}

/// Cuts the first `len` items off a slice.
pub(crate) fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}

/// The same of a slice that may not be wanted.
pub(crate) fn cut<'a, T>(rest: &mut Option<&'a mut [T]>, len: usize) -> Option<&'a mut [T]> {
    rest.as_mut().map(|rest| take(rest, len))
}

/// Cuts off what is wanted from `start` on.
pub(crate) fn cut_tail<'a, T>(rest: &mut Option<&'a mut [T]>, start: usize) -> Option<&'a mut [T]> {
    let (head, tail) = rest.take()?.split_at_mut(start);
    *rest = Some(head);
    Some(tail)
}
