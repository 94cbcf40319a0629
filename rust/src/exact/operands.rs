//! What every task of a pass reads.

use std::ops::Range;

use super::walk::Walk;
use crate::buffer::{self, Aligned};
use crate::constants::{KEY_BLOCK, KEY_BLOCK_BYTES, KEY_BLOCK_MIN};
use crate::error::Error;
use crate::float::Float;

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

/// A matrix in strips of the register tile's keys, laid out `[strip][width][J]`.
pub struct Strips<T> {
    data: Aligned<T>,
    /// How many rows.
    pub count: usize,
    /// Entries of a row.
    pub width: usize,
    keys: usize,
}

impl<T: Float> Strips<T> {
    /// Packs all rows in strips of `keys`. The last strip repeats its last row: the caller masks the repeats.
    pub fn new(rows: Rows<'_, T>, keys: usize) -> Result<Self, Error> {
        let Rows { count, width, .. } = rows;
        let mut data = buffer::aligned(buffer::size(&[count.div_ceil(keys), keys, width])?)?;
        if width > 0 {
            for (strip, rows) in data.chunks_exact_mut(width * keys).zip(rows.data.chunks(width * keys)) {
                let last = rows.len() / width - 1;
                for j in 0..keys {
                    let row = &rows[j.min(last) * width..][..width];
                    for (out, &entry) in strip[j..].iter_mut().step_by(keys).zip(row) {
                        *out = entry;
                    }
                }
            }
        }
        Ok(Strips { data, count, width, keys })
    }

    /// The strip that begins at row `first`.
    #[inline(always)]
    pub fn strip<const J: usize>(&self, first: usize) -> &[T] {
        &self.data[first * self.width..][..J * self.width]
    }

    /// Rows of a strip.
    pub fn strip_rows(&self) -> usize {
        self.keys
    }
}

/// The rows of the residual that some task works on, all divided by the row's normaliser.
#[derive(Clone, Copy)]
pub struct Residual<'a, T> {
    /// c / α (or the incoming gradient / α), row-major.
    pub c: &'a [T],
    /// ⟨c, o⟩ / α.
    pub r: &'a [T],
    /// What pass 1 subtracted from the logits.
    pub shift: &'a [T],
    /// ‖query‖ · max ‖key‖, in the units of the logits.
    pub bound: &'a [f64],
}

impl<'a, T> Residual<'a, T> {
    /// Some of these rows.
    #[inline(always)]
    pub fn rows(&self, range: Range<usize>) -> Residual<'a, T> {
        let width = self.c.len() / self.r.len().max(1);
        Residual {
            c: &self.c[range.start * width..range.end * width],
            r: &self.r[range.clone()],
            shift: &self.shift[range.clone()],
            bound: &self.bound[range],
        }
    }
}

/// Keys and values, and how to walk them.
pub struct Operands<'a, T> {
    pub keys: &'a Strips<T>,
    pub values: &'a Strips<T>,
    pub is_causal: bool,
    /// Keys per block, whole strips.
    pub key_block: usize,
    /// Whether the values leave room for weights without a shift.
    pub values_in_range: bool,
}

impl<T: Float> Operands<'_, T> {
    /// Whether these rows need no shift: their logits are known to be small.
    #[inline(always)]
    pub fn unshifted(&self, bound: &[f64]) -> bool {
        self.values_in_range && bound.iter().all(|&bound| bound <= T::UNSHIFTED_MAX)
    }

    /// The strip of keys, and of values, that begins at `key`.
    #[inline(always)]
    pub fn strip<const J: usize>(&self, key: usize) -> (&[T], &[T]) {
        (self.keys.strip::<J>(key), self.values.strip::<J>(key))
    }

    /// The blocks of keys that queries before `end` see.
    #[inline(always)]
    pub fn key_blocks(&self, end: usize) -> impl Iterator<Item = Range<usize>> {
        let (block, keys) = (self.key_block, self.keys.count);
        let end = if self.is_causal { keys.min(end) } else { keys };
        (0..end).step_by(block).map(move |start| start..keys.min(start + block))
    }

    /// One block of keys as the tile of queries from `first_query` sees it.
    #[inline(always)]
    pub fn walk(&self, keys: Range<usize>, first_query: usize, lanes: usize) -> Walk {
        Walk::new(keys, first_query, lanes, self.is_causal)
    }
}

/// Keys per block for rows of `width` entries in keys and values together.
pub fn key_block<T>(width: usize) -> usize {
    let fit = KEY_BLOCK_BYTES / (width.max(1) * size_of::<T>());
    (fit / KEY_BLOCK_MIN * KEY_BLOCK_MIN).clamp(KEY_BLOCK_MIN, KEY_BLOCK)
}
