//! What moments are taken of: a block of rows in the order of the register tile, and the product with features.

use crate::buffer::{self, Aligned};
use crate::constants::MOMENT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::tile;
use crate::tile::simd::Vector;

/// Rows of a block: a constant, so that a column of it is an array.
pub const C: usize = MOMENT_ROWS;

/// Sums that run side by side: an addition takes 3 to 4 cycles, and two can begin in each.
pub const CHAINS: usize = 4;

/// `C` rows of `width` numbers. Most columns are in panels of two registers and one of one; fewer columns than half a
/// register are cheaper as sums along the rows.
pub struct Payload<T> {
    data: Aligned<T>,
    width: usize,
    /// Panels of two registers.
    pairs: usize,
    /// Panels of one register, 0 or 1.
    singles: usize,
}

impl<T: Float> Payload<T> {
    /// Zeros.
    pub fn new<const W: usize>(width: usize) -> Result<Self, Error> {
        let registers = width / W + usize::from(2 * (width % W) > W);
        let columns = (registers * W).max(width);
        let data = buffer::aligned(buffer::size(&[C, columns])?)?;
        Ok(Payload { data, width, pairs: registers / 2, singles: registers % 2 })
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// First column past the panels.
    #[inline(always)]
    fn paneled<const W: usize>(&self) -> usize {
        (2 * self.pairs + self.singles) * W
    }

    /// Column `column` as an offset for row 0 and a step from row to row.
    #[inline(always)]
    fn place<const W: usize, const L: usize>(&self, column: usize) -> (usize, usize) {
        let paired = self.pairs * L;
        if column < paired {
            (column / L * L * C + column % L, L)
        } else if column < self.paneled::<W>() {
            (paired * C + column - paired, W)
        } else {
            (column * C, 1)
        }
    }

    /// Rows `first..first + L` from `[width][L]`.
    #[inline(always)]
    pub fn set_lanes<const W: usize, const L: usize>(&mut self, first: usize, lanes: &[T]) {
        for (column, lanes) in lanes.as_chunks::<L>().0[..self.width].iter().enumerate() {
            let (start, step) = self.place::<W, L>(column);
            let to = &mut self.data[start + first * step..];
            for (to, &from) in to.iter_mut().step_by(step).zip(lanes) {
                *to = from;
            }
        }
    }

    /// The rows from row-major ones; those that are missing become zero.
    #[inline(always)]
    pub fn set_rows<const W: usize, const L: usize>(&mut self, rows: &[T]) {
        if self.width == 0 {
            return;
        }
        if rows.len() < C * self.width {
            self.data.fill(T::zero());
        }
        for (r, row) in rows.chunks_exact(self.width).enumerate() {
            let paired = self.width / L * L;
            for (panel, from) in row[..paired].as_chunks::<L>().0.iter().enumerate() {
                self.data[panel * L * C + r * L..][..L].copy_from_slice(from);
            }
            for (column, &from) in row.iter().enumerate().skip(paired) {
                let (start, step) = self.place::<W, L>(column);
                self.data[start + r * step] = from;
            }
        }
    }

    /// sums[i][c] += Σ_rows columns[i][row] · payload[row][c] for i < `count`, with `columns` laid out `[·][C]` in whole
    /// tiles of `J`, and rows of `sums` `stride` apart.
    #[inline(always)]
    pub fn accumulate<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        columns: &[T],
        count: usize,
        sums: &mut [f64],
        stride: usize,
    ) {
        let columns = columns.as_chunks::<C>().0;
        for (tile, first) in columns.as_chunks::<J>().0.iter().zip((0..count).step_by(J)) {
            let sums = &mut sums[first * stride..];
            let rows = J.min(count - first);
            for pair in 0..self.pairs {
                let panel = self.data[pair * L * C..].as_chunks::<W>().0.as_chunks::<2>().0;
                self.add_panel::<V, W, 2, J>(tile, panel, pair * L, rows, sums, stride);
            }
            if self.singles > 0 {
                let panel = self.data[self.pairs * L * C..].as_chunks::<W>().0.as_chunks::<1>().0;
                self.add_panel::<V, W, 1, J>(tile, panel, self.pairs * L, rows, sums, stride);
            }
            for column in self.paneled::<W>()..self.width {
                let Some(values) = self.data[column * C..].first_chunk::<C>() else { return };
                for j in 0..rows {
                    sums[j * stride + column] += dot::<T, V, W>(&tile[j], values).widen();
                }
            }
        }
    }

    #[inline(always)]
    fn add_panel<V: Vector<T, W>, const W: usize, const N: usize, const J: usize>(
        &self,
        columns: &[[T; C]; J],
        panel: &[[[T; W]; N]],
        first_column: usize,
        rows: usize,
        sums: &mut [f64],
        stride: usize,
    ) {
        let Some(panel) = panel.first_chunk::<C>() else { return };
        let tile = tile::outer::<T, V, W, N, J, C>(columns.each_ref(), panel);
        for j in 0..J {
            for (half, sums_of_half) in tile[j].iter().enumerate() {
                let mut lanes = [T::zero(); W];
                sums_of_half.store(&mut lanes);
                let column = first_column + half * W;
                if j < rows && column < self.width {
                    add(&mut sums[j * stride + column..], &lanes, self.width - column);
                }
            }
        }
    }
}

/// sums += lanes, for as many as there are.
#[inline(always)]
fn add<T: Float, const W: usize>(sums: &mut [f64], lanes: &[T; W], count: usize) {
    match sums.first_chunk_mut::<W>() {
        Some(sums) if count >= W => {
            for w in 0..W {
                sums[w] += lanes[w].widen();
            }
        }
        _ => {
            for (sum, lane) in sums[..count].iter_mut().zip(lanes) {
                *sum += lane.widen();
            }
        }
    }
}

/// out_j = a_j ∘ b, and the sum of each, in `K` chains.
#[inline(always)]
pub fn multiply<T: Float, V: Vector<T, W>, const W: usize, const J: usize, const K: usize>(
    a: &[[T; C]; J],
    b: &[T; C],
    out: &mut [[T; C]; J],
) -> [T; J] {
    let mut sums = [[V::splat(T::zero()); K]; J];
    for (r, b) in b.as_chunks::<W>().0.as_chunks::<K>().0.iter().enumerate() {
        for k in 0..K {
            let b = V::load(&b[k]);
            for j in 0..J {
                let product = V::load(&a[j].as_chunks::<W>().0[r * K + k]).mul(b);
                product.store(&mut out[j].as_chunks_mut::<W>().0[r * K + k]);
                sums[j][k] = sums[j][k].add(product);
            }
        }
    }
    let mut totals = [T::zero(); J];
    for j in 0..J {
        for k in 1..K {
            sums[j][0] = sums[j][0].add(sums[j][k]);
        }
        totals[j] = total(sums[j][0]);
    }
    totals
}

#[inline(always)]
fn dot<T: Float, V: Vector<T, W>, const W: usize>(a: &[T; C], b: &[T; C]) -> T {
    let mut sums = [V::splat(T::zero()); CHAINS];
    let (a, b) = (a.as_chunks::<W>().0.as_chunks::<CHAINS>().0, b.as_chunks::<W>().0.as_chunks::<CHAINS>().0);
    for (a, b) in a.iter().zip(b) {
        for chain in 0..CHAINS {
            sums[chain] = V::load(&a[chain]).mul_add(V::load(&b[chain]), sums[chain]);
        }
    }
    total(sums[0].add(sums[1]).add(sums[2].add(sums[3])))
}

/// The sum of all lanes, in halves.
#[inline(always)]
fn total<T: Float, V: Vector<T, W>, const W: usize>(sum: V) -> T {
    let mut lanes = [T::zero(); W];
    sum.store(&mut lanes);
    let mut half = W / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] += lanes[l + half];
        }
        half /= 2;
    }
    lanes[0]
}
