//! What every task of a pass reads.

use std::ops::Range;

use super::walk::Walk;
use crate::buffer;
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

impl<T: Float> Rows<'_, T> {
    /// Lays a block of rows out `[strip][width][J]`. Rows past the block repeat its last one: the caller masks them.
    #[inline(always)]
    pub fn pack<const J: usize>(&self, block: Range<usize>, out: &mut [T]) {
        if self.width == 0 {
            return;
        }
        let rows = &self.data[block.start * self.width..block.end * self.width];
        for (strip, rows) in out.chunks_exact_mut(self.width * J).zip(rows.chunks(self.width * J)) {
            let last = rows.len() / self.width - 1;
            for j in 0..J {
                let row = &rows[j.min(last) * self.width..][..self.width];
                for (out, &entry) in strip.as_chunks_mut::<J>().0.iter_mut().zip(row) {
                    out[j] = entry;
                }
            }
        }
    }
}

/// A block of keys and values, packed in strips.
pub struct Panels<T> {
    keys: Vec<T>,
    values: Vec<T>,
    width: usize,
    value_width: usize,
    first: usize,
}

impl<T: Float> Panels<T> {
    /// Room for `block` keys.
    pub fn new<const J: usize>(operands: &Operands<'_, T>, block: usize) -> Result<Self, Error> {
        let (width, value_width) = (operands.keys.width, operands.values.width);
        let rows = block.next_multiple_of(J);
        Ok(Panels {
            keys: buffer::zeros(rows * width)?,
            values: buffer::zeros(rows * value_width)?,
            width,
            value_width,
            first: 0,
        })
    }

    /// Packs `block`.
    #[inline(always)]
    pub fn fill<const J: usize>(&mut self, operands: &Operands<'_, T>, block: Range<usize>) {
        self.first = block.start;
        operands.keys.pack::<J>(block.clone(), &mut self.keys);
        operands.values.pack::<J>(block, &mut self.values);
    }

    /// The strip of keys, and of values, that begins at `key`.
    #[inline(always)]
    pub fn strip<const J: usize>(&self, key: usize) -> (&[T], &[T]) {
        let row = key - self.first;
        (
            &self.keys[row * self.width..][..J * self.width],
            &self.values[row * self.value_width..][..J * self.value_width],
        )
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
    pub keys: Rows<'a, T>,
    pub values: Rows<'a, T>,
    pub is_causal: bool,
    /// Keys per block.
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
