//! Right-hand sides of moments: a block of rows in the order of the register tile, and the product with features.

use super::tile;
use crate::constants::MOMENT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;

/// Rows of a block: a constant, so that a column of it is an array.
pub const C: usize = MOMENT_ROWS;

/// `C` rows of `width` numbers. Most columns are in panels of two registers and one of one; fewer columns than half a
/// register are cheaper as sums along the rows.
pub struct Rhs<T> {
    pub data: Aligned<T>,
    width: usize,
    /// Panels of two registers.
    pairs: usize,
    /// Panels of one register, 0 or 1.
    singles: usize,
}

impl<T: Float> Rhs<T> {
    /// Zeros.
    pub fn new<const W: usize>(width: usize) -> Result<Self, Error> {
        let registers = width / W + usize::from(2 * (width % W) > W);
        let columns = (registers * W).max(width);
        let data = buffer::aligned(buffer::size(&[C, columns])?)?;
        Ok(Rhs { data, width, pairs: registers / 2, singles: registers % 2 })
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

    /// The panels of two registers, that of one, and the columns; of a block with `rows` rows, laid out as this one is.
    #[inline(always)]
    pub fn split<'a, U, const W: usize>(&self, data: &'a [U], rows: usize) -> [&'a [U]; 3] {
        let (pairs, rest) = data.split_at(2 * self.pairs * W * rows);
        let (single, columns) = rest.split_at(self.singles * W * rows);
        [pairs, single, columns]
    }

    /// The same of what is to be written.
    #[inline(always)]
    pub fn split_mut<'a, U, const W: usize>(&self, data: &'a mut [U], rows: usize) -> [&'a mut [U]; 3] {
        let (pairs, rest) = data.split_at_mut(2 * self.pairs * W * rows);
        let (single, columns) = rest.split_at_mut(self.singles * W * rows);
        [pairs, single, columns]
    }

    /// Whether the panel of one register has a column in every lane.
    #[inline(always)]
    fn single_is_full<const W: usize>(&self) -> bool {
        self.singles > 0 && self.width >= self.paneled::<W>()
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
        let whole = self.width / L;
        for (pair, lanes) in lanes.chunks_exact(L * L).take(whole).enumerate() {
            tile::transpose::<T, L>(lanes, L, &mut self.data[pair * L * C + first * L..][..L * L]);
        }
        let mut placed = whole * L;
        if self.single_is_full::<W>() {
            let (from, to) = (&lanes[placed * L..][..W * L], &mut self.data[placed * C + first * W..][..L * W]);
            tile::transpose::<T, W>(from, L, to);
            placed += W;
        }
        for (column, lanes) in lanes.as_chunks::<L>().0[..self.width].iter().enumerate().skip(placed) {
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
        let paired = self.width / L * L;
        let single = if self.single_is_full::<W>() { W } else { 0 };
        for (r, row) in rows.chunks_exact(self.width).enumerate() {
            for (panel, from) in row[..paired].as_chunks::<L>().0.iter().enumerate() {
                self.data[panel * L * C + r * L..][..L].copy_from_slice(from);
            }
            if let Some(from) = row[paired..].first_chunk::<W>().filter(|_| single > 0) {
                self.data[paired * C + r * W..][..W].copy_from_slice(from);
            }
            for (column, &from) in row.iter().enumerate().skip(paired + single) {
                let (start, step) = self.place::<W, L>(column);
                self.data[start + r * step] = from;
            }
        }
    }

    /// `to` = every row times its number in `by`.
    #[inline(always)]
    pub fn scaled<V: Vector<T, W>, const W: usize>(&self, by: &[T; C], to: &mut Rhs<T>) {
        let [pairs, single, columns] = self.split::<T, W>(&self.data, C);
        let [pairs_to, single_to, columns_to] = self.split_mut::<T, W>(&mut to.data, C);
        for (from, to) in pairs.chunks_exact(2 * W * C).zip(pairs_to.chunks_exact_mut(2 * W * C)) {
            scale::<T, V, W, 2>(from, by, to);
        }
        scale::<T, V, W, 1>(single, by, single_to);
        for (from, to) in columns.as_chunks::<C>().0.iter().zip(columns_to.as_chunks_mut::<C>().0) {
            multiply::<T, V, W>(from, by, to);
        }
    }

    /// sums[i][c] += Σ_rows columns[i][row] · payload[row][c] for i < `count`, with `columns` laid out `[·][C]` in
    /// whole tiles of `J`, and rows of `sums` `stride` apart.
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
                let dots = dots::<T, V, W, J>(tile, values);
                for (sums, dot) in sums[column..].iter_mut().step_by(stride).zip(&dots[..rows]) {
                    *sums += dot.widen();
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
pub fn add<T: Float, const W: usize>(sums: &mut [f64], lanes: &[T; W], count: usize) {
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

/// Rows of `N` registers, each times its number in `by`.
#[inline(always)]
fn scale<T: Float, V: Vector<T, W>, const W: usize, const N: usize>(from: &[T], by: &[T; C], to: &mut [T]) {
    let (from, to) = (from.as_chunks::<W>().0.as_chunks::<N>().0, to.as_chunks_mut::<W>().0.as_chunks_mut::<N>().0);
    for ((from, to), &by) in from.iter().zip(to).zip(by) {
        let by = V::splat(by);
        for half in 0..N {
            V::load(&from[half]).mul(by).store(&mut to[half]);
        }
    }
}

/// out = a ∘ b.
#[inline(always)]
pub fn multiply<T: Float, V: Vector<T, W>, const W: usize>(a: &[T; C], b: &[T; C], out: &mut [T; C]) {
    let (a, b, out) = (a.as_chunks::<W>().0, b.as_chunks::<W>().0, out.as_chunks_mut::<W>().0);
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        V::load(a).mul(V::load(b)).store(out);
    }
}

/// ⟨a_j, b⟩ for neighbours, each in a chain of its own.
#[inline(always)]
fn dots<T: Float, V: Vector<T, W>, const W: usize, const J: usize>(a: &[[T; C]; J], b: &[T; C]) -> [T; J] {
    let mut sums = [V::splat(T::zero()); J];
    for (r, b) in b.as_chunks::<W>().0.iter().enumerate() {
        let b = V::load(b);
        for j in 0..J {
            sums[j] = V::load(&a[j].as_chunks::<W>().0[r]).mul_add(b, sums[j]);
        }
    }
    let mut totals = [T::zero(); J];
    for j in 0..J {
        totals[j] = total(sums[j]);
    }
    totals
}

/// The sum of all lanes, in halves.
#[inline(always)]
pub fn total<T: Float, V: Vector<T, W>, const W: usize>(sum: V) -> T {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every column is where its place is, whichever way it came in: panels of two registers, full or not, that of one,
    /// and the columns past them.
    fn holds<const W: usize, const L: usize>(width: usize) {
        let number = |row: usize, column: usize| (row * width + column + 1) as f32;
        let rows: Vec<f32> = (0..C * width).map(|i| number(i / width, i % width)).collect();
        let [mut by_rows, mut by_lanes] = [(); 2].map(|()| Rhs::<f32>::new::<W>(width).expect("a small buffer"));
        by_rows.set_rows::<W, L>(&rows);
        for first in (0..C).step_by(L) {
            let lanes: Vec<f32> = (0..width * L).map(|i| number(first + i % L, i / L)).collect();
            by_lanes.set_lanes::<W, L>(first, &lanes);
        }
        for payload in [&by_rows, &by_lanes] {
            for column in 0..width {
                let (start, step) = payload.place::<W, L>(column);
                let found = payload.data[start..].iter().step_by(step).take(C);
                assert!(found.copied().eq((0..C).map(|row| number(row, column))), "{column} of {width} by {W}");
            }
        }
    }

    #[test]
    fn columns_are_in_their_place() {
        for width in 1..=67 {
            holds::<2, 4>(width);
            holds::<8, 16>(width);
            holds::<16, 32>(width);
        }
    }
}
