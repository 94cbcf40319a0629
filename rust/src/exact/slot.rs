//! A few tiles of queries between the passes: the results of pass 1, packed once for all chunks of keys of pass 2.

use crate::error::Error;
use crate::float::Float;
use crate::kernels::tile;
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
    #[inline(always)]
    pub fn pack<const L: usize>(&mut self, queries: Rows<'_, T>) {
        let width = self.residual.width;
        self.queries.fill::<L>(queries.data, queries.count);
        self.residual.fill::<L>(&self.c[..queries.count * width], queries.count);
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
}

impl<T: Float> Packed<T> {
    /// Room for `tiles` tiles of `lanes` rows.
    pub fn new(width: usize, tiles: usize, lanes: usize) -> Result<Self, Error> {
        let padded = width.next_multiple_of(lanes / 2);
        let size = |width| buffer::size(&[tiles, lanes, width]);
        let (by_lanes, panels) = (buffer::aligned(size(width)?)?, buffer::aligned(size(padded)?)?);
        Ok(Packed { lanes: by_lanes, panels, width, padded })
    }

    /// Packs `count` row-major rows; rows that are missing are zero.
    #[inline(always)]
    pub fn fill<const L: usize>(&mut self, rows: &[T], count: usize) {
        let (width, padded) = (self.width, self.padded);
        if width == 0 {
            return;
        }
        if rows.len() < self.lanes.len() {
            self.lanes.fill(T::zero());
            self.panels.fill(T::zero());
        }
        for (t, first) in (0..count).step_by(L).enumerate() {
            let rows = &rows[first * width..count.min(first + L) * width];
            tile::transpose::<T, L>(rows, width, &mut self.lanes[t * L * width..][..L * width]);
            let panels = &mut self.panels[t * L * padded..][..L * padded];
            for (l, row) in rows.chunks_exact(width).enumerate() {
                let (panels_of_row, rest) = row.as_chunks::<L>();
                for (panel, columns) in panels_of_row.iter().enumerate() {
                    panels[panel * L * L + l * L..][..L].copy_from_slice(columns);
                }
                let panel = panels_of_row.len();
                let panel_width = L.min(padded - panel * L);
                panels[panel * L * L + l * panel_width..][..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// The `t`-th tile, `[width][L]`.
    #[inline(always)]
    pub fn tile<const L: usize>(&self, t: usize) -> &[T] {
        self.lanes(t, L)
    }

    /// The `t`-th tile, `[panel][L][L]`.
    #[inline(always)]
    pub fn panels<const L: usize>(&self, t: usize) -> &[T] {
        self.panels_of(t, L)
    }

    /// The `t`-th tile of `lanes` rows, as [`Packed::tile`] has it.
    #[inline(always)]
    pub fn lanes(&self, t: usize, lanes: usize) -> &[T] {
        &self.lanes[t * self.width * lanes..][..self.width * lanes]
    }

    /// The same, as [`Packed::panels`] has it.
    #[inline(always)]
    pub fn panels_of(&self, t: usize, lanes: usize) -> &[T] {
        &self.panels[t * self.padded * lanes..][..self.padded * lanes]
    }
}
