//! Buffers whose size depends on the input, reserved so that a lack of memory is an error and not an abort.

use bytemuck::Zeroable;
use bytemuck::allocation::try_zeroed_vec;

use super::pages;
use crate::error::Error;
use crate::float::Float;

/// An empty vector with room for `len` items.
pub fn with_capacity<T>(len: usize) -> Result<Vec<T>, Error> {
    let mut buffer = Vec::new();
    reserve(&mut buffer, len)?;
    Ok(buffer)
}

/// Makes room for `more` items.
pub fn reserve<T>(buffer: &mut Vec<T>, more: usize) -> Result<(), Error> {
    asked::<T, _>(more, || buffer.try_reserve_exact(more).ok())?;
    pages::advise(buffer);
    Ok(())
}

/// Result of an allocation of so many items, or an error where there is no memory: the one place where it is requested.
fn asked<T, R>(items: usize, allocate: impl FnOnce() -> Option<R>) -> Result<R, Error> {
    let bytes = items.saturating_mul(size_of::<T>());
    #[cfg(feature = "failpoints")]
    if crate::failpoint::reservation_fails() {
        return Err(Error::OutOfMemory { bytes });
    }
    let allocated = {
        #[cfg(feature = "failpoints")]
        let allocated = crate::failpoint::reserve(allocate);
        #[cfg(not(feature = "failpoints"))]
        let allocated = allocate();
        allocated
    };
    allocated.ok_or(Error::OutOfMemory { bytes })
}

/// The items of an iterator that knows its length.
pub fn collected<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, Error> {
    let mut buffer = with_capacity(items.len())?;
    buffer.extend(items);
    Ok(buffer)
}

/// A copy of some items.
pub fn copied<T: Copy>(items: &[T]) -> Result<Vec<T>, Error> {
    collected(items.iter().copied())
}

/// A vector of `len` zeros. Memory that is new to the process is not written to here: its pages are cleared by the
/// system when a worker first writes to them, which is most of the time that a large result takes.
pub fn zeros<T: Zeroable>(len: usize) -> Result<Vec<T>, Error> {
    let mut buffer = asked::<T, _>(len, || try_zeroed_vec(len).ok())?;
    pages::advise(&mut buffer);
    Ok(buffer)
}

/// A vector of `len` copies of `value`.
pub fn filled<T: Clone>(len: usize, value: T) -> Result<Vec<T>, Error> {
    let mut buffer = with_capacity(len)?;
    buffer.resize(len, value);
    Ok(buffer)
}

/// The product of sizes.
pub fn size(factors: &[usize]) -> Result<usize, Error> {
    factors
        .iter()
        .try_fold(1usize, |product, &factor| product.checked_mul(factor))
        .ok_or(Error::OutOfMemory { bytes: usize::MAX })
}

/// Fills what a pass is about to write with NaN, under test only: whoever reads what was not written is found out, on
/// data and memory of any kind.
#[inline(always)]
pub fn poison<T: Float>(buffer: &mut [T]) {
    if cfg!(any(test, feature = "failpoints")) {
        buffer.fill(T::nan());
    }
}

/// Bytes of a cache line, and of the widest register.
const LINE: usize = 64;

/// A buffer that begins at a cache line, so that no register of a kernel is loaded or stored across two of them.
pub struct Aligned<T> {
    data: Vec<T>,
    start: usize,
    len: usize,
}

/// `len` zeros from the start of a cache line on.
pub fn aligned<T: Zeroable>(len: usize) -> Result<Aligned<T>, Error> {
    let spare = LINE / size_of::<T>().max(1);
    let data = zeros::<T>(len.saturating_add(spare))?;
    // A buffer that could not be aligned is as right, and slower.
    let start = data.as_ptr().align_offset(LINE).min(spare);
    Ok(Aligned { data, start, len })
}

impl<T> std::ops::Deref for Aligned<T> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<T> std::ops::DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.data[self.start..self.start + self.len]
    }
}
