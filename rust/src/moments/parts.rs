//! Rows in parts, each with sums of its own.

use std::ops::Range;

use crate::constants::{MOMENT_BYTES, MOMENT_PARTS};
use crate::kernels::rhs::C;

/// Contiguous ranges of rows, each with sums of its own, by the shape alone: the order of summation must not know the
/// threads.
pub(super) struct Parts {
    total: usize,
    each: usize,
}

impl Parts {
    /// Of `rows` rows with `size` sums in each part.
    pub fn new(rows: usize, size: usize) -> Self {
        let most = (MOMENT_BYTES / size_of::<f64>() / size.max(1)).clamp(2, MOMENT_PARTS);
        Parts { total: rows, each: rows.div_ceil(most).next_multiple_of(C).max(C) }
    }

    /// The rows of each part.
    pub fn all(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Send + use<> {
        let Parts { total, each } = *self;
        (0..total.div_ceil(each)).map(move |part| part * each..total.min((part + 1) * each))
    }
}
