//! Rows in parts, and sums over them in a fixed order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use crate::constants::{MOMENT_BYTES, MOMENT_PARTS};
use crate::error::Error;
use crate::kernels::rhs::C;
use crate::runtime::buffer;

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

    /// Number of parts.
    pub fn count(&self) -> usize {
        self.total.div_ceil(self.each)
    }

    /// Rows of one.
    pub fn rows(&self, part: usize) -> Range<usize> {
        part * self.each..self.total.min((part + 1) * self.each)
    }
}

/// Sums that a part has of its own while it is worked on. They are added up in the order of the parts, whichever is
/// done first, so that no bit depends on the threads; and then lent again, so that there are about as many as threads.
pub(super) struct Sums {
    size: usize,
    added: Mutex<Added>,
}

#[derive(Default)]
struct Added {
    total: Option<Vec<f64>>,
    /// The part that is added next.
    next: usize,
    waiting: BTreeMap<usize, Vec<f64>>,
    /// Zeros.
    free: Vec<Vec<f64>>,
}

impl Sums {
    /// Of this many numbers, where they are wanted.
    pub fn new(size: Option<usize>) -> Option<Self> {
        size.map(|size| Sums { size, added: Mutex::default() })
    }

    /// Does part `part` of the work with sums of its own, zeros at first, which are added to `all` when their turn
    /// comes.
    pub fn with<const N: usize>(
        all: &[Option<Self>; N],
        part: usize,
        work: impl FnOnce([Option<&mut [f64]>; N]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut own = [const { None }; N];
        for (own, sums) in own.iter_mut().zip(all) {
            *own = sums.as_ref().map(Sums::lend).transpose()?;
        }
        work(own.each_mut().map(|own: &mut Option<Vec<f64>>| own.as_deref_mut()))?;
        for (own, sums) in own.into_iter().zip(all) {
            if let (Some(own), Some(sums)) = (own, sums) {
                sums.add(part, own);
            }
        }
        Ok(())
    }

    /// All of them together: zeros where there was no part.
    pub fn total(sums: Option<Self>) -> Result<Option<Vec<f64>>, Error> {
        let Some(Sums { size, added }) = sums else { return Ok(None) };
        let total = added.into_inner().unwrap_or_else(PoisonError::into_inner).total;
        total.map_or_else(|| buffer::zeros(size), Ok).map(Some)
    }

    fn lend(&self) -> Result<Vec<f64>, Error> {
        let free = self.added.lock().unwrap_or_else(PoisonError::into_inner).free.pop();
        free.map_or_else(|| buffer::zeros(self.size), Ok)
    }

    fn add(&self, part: usize, own: Vec<f64>) {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let Added { total, next, waiting, free } = &mut *added;
        waiting.insert(part, own);
        while let Some(mut own) = waiting.remove(next) {
            *next += 1;
            let Some(total) = total else {
                *total = Some(own);
                continue;
            };
            for (sum, term) in total.iter_mut().zip(&mut own) {
                *sum += *term;
                *term = 0.0;
            }
            free.push(own);
        }
    }
}
