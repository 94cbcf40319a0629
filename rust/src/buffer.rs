//! Buffers whose size depends on the input, reserved so that a lack of memory is an error and not an abort.

use crate::error::Error;

/// An empty vector with room for `len` items.
pub fn with_capacity<T>(len: usize) -> Result<Vec<T>, Error> {
    let bytes = len.saturating_mul(size_of::<T>());
    #[cfg(feature = "failpoints")]
    if crate::failpoint::reservation_fails() {
        return Err(Error::OutOfMemory { bytes });
    }
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(buffer)
}

/// A vector of `len` default values, zero for numbers.
pub fn zeros<T: Clone + Default>(len: usize) -> Result<Vec<T>, Error> {
    filled(len, T::default())
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
