//! Matrices in the order in which the tile reads them.

use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Run;
use crate::simd::transpose::{BLOCK, transposed};

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
        let mut strips = Strips::empty(rows, keys)?;
        pack(&mut strips.data, rows.data, rows.width, keys);
        Ok(strips)
    }

    /// The same with many threads where there are many rows.
    pub fn packed(rows: Rows<'_, T>, keys: usize, run: &mut Run<'_>) -> Result<Self, Error> {
        if rows.width == 0 {
            return Strips::new(rows, keys);
        }
        let mut strips = Strips::empty(rows, keys)?;
        let part = rows.part().next_multiple_of(keys) * rows.width;
        run.short(rows.data.len(), strips.data.chunks_mut(part).zip(rows.data.chunks(part)), |(strips, data), _| {
            pack(strips, data, rows.width, keys);
            Ok(())
        })?;
        Ok(strips)
    }

    fn empty(rows: Rows<'_, T>, keys: usize) -> Result<Self, Error> {
        let Rows { count, width, .. } = rows;
        let data = buffer::aligned(buffer::size(&[count.div_ceil(keys), keys, width])?)?;
        Ok(Strips { data, count, width, keys })
    }

    /// `count` rows of zeros, to be written by [`Strips::all`].
    pub fn zeros(count: usize, width: usize, keys: usize) -> Result<Self, Error> {
        let data = buffer::aligned(buffer::size(&[count.div_ceil(keys), keys, width])?)?;
        Ok(Strips { data, count, width, keys })
    }

    /// The first row of each strip, and the strip, `[width][keys]`.
    #[inline(always)]
    pub fn all(&mut self) -> impl Iterator<Item = (usize, &mut [T])> {
        let size = (self.width * self.keys).max(1);
        (0..self.count).step_by(self.keys).zip(self.data.chunks_exact_mut(size))
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

/// Whole strips from row-major rows.
fn pack<T: Float>(strips: &mut [T], rows: &[T], width: usize, keys: usize) {
    if width == 0 {
        return;
    }
    for (strip, rows) in strips.chunks_exact_mut(width * keys).zip(rows.chunks(width * keys)) {
        let last = rows.len() / width - 1;
        let whole = if last + 1 == keys { keys / BLOCK * BLOCK } else { 0 };
        for first in (0..whole).step_by(BLOCK) {
            pack_block(strip, &rows[first * width..], (first, width, keys));
        }
        for j in whole..keys {
            let row = &rows[j.min(last) * width..][..width];
            for (out, &entry) in strip[j..].iter_mut().step_by(keys).zip(row) {
                *out = entry;
            }
        }
    }
}

/// A few rows at a time, in registers: entry by entry it takes twice as long.
#[inline(always)]
fn pack_block<T: Float>(strip: &mut [T], rows: &[T], (first, width, keys): (usize, usize, usize)) {
    let whole = width / BLOCK * BLOCK;
    for at in (0..whole).step_by(BLOCK) {
        let mut entries = [[T::zero(); BLOCK]; BLOCK];
        for (r, entries) in entries.iter_mut().enumerate() {
            entries.copy_from_slice(&rows[r * width + at..][..BLOCK]);
        }
        for (c, column) in transposed(entries).iter().enumerate() {
            strip[(at + c) * keys + first..][..BLOCK].copy_from_slice(column);
        }
    }
    for at in whole..width {
        for (r, out) in strip[at * keys + first..][..BLOCK].iter_mut().enumerate() {
            *out = rows[r * width + at];
        }
    }
}
