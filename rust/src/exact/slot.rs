//! A few tiles of queries between the passes: the results of pass 1, packed once for all chunks of keys of pass 2.

use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::runtime::buffer::{self, Aligned};

/// Room for some tiles of queries.
pub struct Slot<T> {
    /// c / (α · unit), row-major.
    pub c: Vec<T>,
    /// ⟨c, o⟩ / (α · unit).
    pub r: Vec<T>,
    /// Shift that pass 1 subtracted from the logits.
    pub shift: Vec<T>,
    /// The weights or logits that pass 1 kept, if it did.
    pub kept: Aligned<T>,
    /// Q̂, packed.
    pub queries: Packed<T>,
    /// c, packed.
    pub residual: Packed<T>,
}

impl<T: Float> Slot<T> {
    /// Room for `tiles` tiles of `lanes` queries, and for `kept` numbers.
    pub fn new(width: usize, value_width: usize, (tiles, lanes): (usize, usize), kept: usize) -> Result<Self, Error> {
        let rows = tiles * lanes;
        Ok(Slot {
            c: buffer::zeros(buffer::size(&[rows, value_width])?)?,
            r: buffer::zeros(rows)?,
            shift: buffer::zeros(rows)?,
            kept: buffer::aligned(kept)?,
            queries: Packed::new(width, tiles, lanes)?,
            residual: Packed::new(value_width, tiles, lanes)?,
        })
    }

    /// Packs these queries and the c of as many rows.
    pub fn pack(&mut self, queries: Rows<'_, T>) {
        let width = self.residual.width;
        self.queries.fill(queries.data);
        self.residual.fill(&self.c[..queries.count * width]);
    }
}

/// Rows packed for both uses, tile by tile.
pub struct Packed<T> {
    /// `[tile][width][L]`.
    lanes: Aligned<T>,
    /// `[tile][panel][L][L]`, the last panel W = L/2 columns wide where those suffice.
    panels: Aligned<T>,
    width: usize,
    padded: usize,
    tile: usize,
}

impl<T: Float> Packed<T> {
    fn new(width: usize, tiles: usize, lanes: usize) -> Result<Self, Error> {
        let padded = width.next_multiple_of(lanes / 2);
        let size = |width| buffer::size(&[tiles, lanes, width]);
        let (by_lanes, panels) = (buffer::aligned(size(width)?)?, buffer::aligned(size(padded)?)?);
        Ok(Packed { lanes: by_lanes, panels, width, padded, tile: lanes })
    }

    /// Packs row-major rows; rows that are missing are zero.
    fn fill(&mut self, rows: &[T]) {
        let (width, padded, tile) = (self.width, self.padded, self.tile);
        if rows.len() < self.lanes.len() {
            self.lanes.fill(T::zero());
            self.panels.fill(T::zero());
        }
        for (t, row) in rows.chunks_exact(width.max(1)).enumerate() {
            let panels = &mut self.panels[t / tile * tile * padded..][..tile * padded];
            for (panel, columns) in row.chunks(tile).enumerate() {
                let panel_width = tile.min(padded - panel * tile);
                panels[panel * tile * tile + t % tile * panel_width..][..columns.len()].copy_from_slice(columns);
            }
            let lanes = &mut self.lanes[t / tile * tile * width..][..tile * width];
            for (out, &entry) in lanes[t % tile..].iter_mut().step_by(tile).zip(row) {
                *out = entry;
            }
        }
    }

    /// The `t`-th tile, `[width][L]`.
    #[inline(always)]
    pub fn tile<const L: usize>(&self, t: usize) -> &[T] {
        &self.lanes[t * self.width * L..][..self.width * L]
    }

    /// The `t`-th tile, `[panel][L][L]`.
    #[inline(always)]
    pub fn panels<const L: usize>(&self, t: usize) -> &[T] {
        &self.panels[t * self.padded * L..][..self.padded * L]
    }
}
