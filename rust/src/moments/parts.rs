//! Rows in parts: which rows, the sums of each, and its piece of an output.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::payload::C;
use crate::constants::{MOMENT_BYTES, MOMENT_PARTS};
use crate::error::Error;
use crate::linalg::layout::take;
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

    /// How many.
    pub fn count(&self) -> usize {
        self.total.div_ceil(self.each)
    }

    /// Rows of one.
    pub fn rows(&self, part: usize) -> Range<usize> {
        part * self.each..self.total.min((part + 1) * self.each)
    }

    /// Rows of every part but the last.
    pub fn each(&self) -> usize {
        self.each
    }
}

/// Sums that a part has of its own while it is worked on. They are added up in the order of the parts, whichever is done
/// first, so that no bit depends on the threads; and then lent again, so that there are about as many as threads.
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
    pub fn new(size: usize, wanted: bool) -> Option<Self> {
        wanted.then(|| Sums { size, added: Mutex::default() })
    }

    /// Zeros for a part.
    pub fn lend(sums: &Option<Self>) -> Result<Option<Vec<f64>>, Error> {
        let Some(Sums { size, added }) = sums else { return Ok(None) };
        let free = added.lock().unwrap_or_else(PoisonError::into_inner).free.pop();
        free.map_or_else(|| buffer::zeros(*size), Ok).map(Some)
    }

    /// What the part made of them.
    pub fn add(sums: &Option<Self>, part: usize, own: Option<Vec<f64>>) {
        let (Some(Sums { added, .. }), Some(own)) = (sums, own) else { return };
        let mut added = added.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// All of them together: zeros where there was no part.
    pub fn total(sums: Option<Self>) -> Result<Option<Vec<f64>>, Error> {
        let Some(Sums { size, added }) = sums else { return Ok(None) };
        let total = added.into_inner().unwrap_or_else(PoisonError::into_inner).total;
        total.map_or_else(|| buffer::zeros(size), Ok).map(Some)
    }
}

/// The pieces of a buffer one after the other, or nothing at all where it is not wanted.
pub(super) struct Pieces<'a, T> {
    rest: &'a mut [T],
    size: usize,
    wanted: bool,
}

impl<'a, T> Pieces<'a, T> {
    /// Cut every `size` numbers.
    pub fn new(rest: &'a mut [T], size: usize, wanted: bool) -> Self {
        Pieces { rest, size, wanted }
    }

    /// The next piece, the last one shorter.
    pub fn next(&mut self) -> Option<&'a mut [T]> {
        let size = self.size.min(self.rest.len());
        let piece = take(&mut self.rest, size);
        self.wanted.then_some(piece)
    }
}
