//! Rows of one side against a few of the other, with exp: the diagonal of a causal problem, and keys that stand out.
//!
//! Under a mask it serves both sides: a tile of queries sees the first keys of its chunk, and a tile of keys is seen by
//! the last queries, which are the first ones in reverse order.

use std::f64::consts::LOG2_E;

use super::InputMap;
use super::rhs::{C, total};
use super::tile::{self, Tile, widest};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::finite::all_finite_of;
use crate::linalg::norms::wider;
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;

/// Up to `C` rows of the other side, packed for the register tile, and what is kept of the tile at work.
pub struct Chunk<T> {
    /// Coordinates, `[strip][dimension][J]`.
    x: Aligned<T>,
    /// Rhs, `[strip][width][J]`; zero past the last row, so that nothing comes of it.
    payload: Aligned<T>,
    dimension: usize,
    width: usize,
    count: usize,
    /// Coordinates of the tile's rows times log2 e, `[dimension][L]`.
    lanes: Aligned<T>,
    /// Weights e^t of the tile, `[row][L]`.
    weights: Aligned<T>,
    /// The sums of one tile, before they are added to those of the moments, which may be far larger.
    sums: Aligned<T>,
    /// Rows that some lane of the tile sees.
    seen: usize,
}

/// In which order the rows of a chunk are packed.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    /// Of the index.
    Forward,
    /// The last one first.
    Reverse,
}

impl<T: Float> Chunk<T> {
    /// The first `count` rows of the coordinates `[dimension][C]` and of the payload `[width][C]`.
    pub fn new<const L: usize, const J: usize>(
        x: &[T],
        payload: &[T],
        count: usize,
        order: Order,
    ) -> Result<Self, Error> {
        let (dimension, width) = (x.len() / C, payload.len() / C);
        let rows = C.next_multiple_of(J);
        let lanes = |width: usize| buffer::aligned::<T>(buffer::size(&[width, L])?);
        let strips = |width: usize| buffer::aligned::<T>(buffer::size(&[width, rows])?);
        let mut chunk = Chunk {
            x: strips(dimension)?,
            payload: strips(width)?,
            dimension,
            width,
            count,
            lanes: lanes(dimension)?,
            weights: lanes(rows)?,
            sums: lanes(dimension.max(width))?,
            seen: 0,
        };
        pack::<T, J>(x, count, order, &mut chunk.x);
        pack::<T, J>(payload, count, order, &mut chunk.payload);
        Ok(chunk)
    }

    /// `count` keys with [h, 1], and whether they are finite; zeros where they are not. `block` writes the coordinates of
    /// a side `[column][C]`, by way of scratch.
    pub fn of_keys<const L: usize, const J: usize>(
        keys: &InputMap<'_, T>,
        values: &InputMap<'_, T>,
        block: impl Fn(&InputMap<'_, T>, &mut [T], &mut [T]),
        count: usize,
    ) -> Result<(Self, bool), Error> {
        let dv = values.columns();
        let mut x = buffer::aligned::<T>(buffer::size(&[keys.columns().max(1), C])?)?;
        let mut payload = buffer::aligned::<T>(buffer::size(&[dv + 1, C])?)?;
        let mut scratch = buffer::aligned::<T>(buffer::size(&[keys.rows.width.max(values.rows.width), L])?)?;
        block(keys, &mut scratch, &mut x);
        block(values, &mut scratch, &mut payload);
        payload[dv * C..].fill(T::one());
        let is_finite = all_finite_of(&x) & all_finite_of(&payload);
        if !is_finite {
            x.fill(T::zero());
            payload.fill(T::zero());
        }
        Ok((Chunk::new::<L, J>(&x, &payload, count, Order::Forward)?, is_finite))
    }

    /// max ‖x‖² of the rows.
    pub fn widest<const J: usize>(&self) -> f64 {
        let strips = self.x.chunks_exact((self.dimension * J).max(1)).take(self.count.div_ceil(J));
        strips.map(|strip| widest::<T, J>(strip.as_chunks().0)).fold(0.0, wider)
    }

    /// How many rows there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The tile of rows with the coordinates `x`, `[dimension][L]`; lanes that are not `used` are taken for zero, so
    /// that their weights are finite.
    #[inline(always)]
    pub fn set<const L: usize>(&mut self, x: &[T], used: &[bool; L]) {
        let factor = T::narrow(LOG2_E);
        for (to, from) in self.lanes.as_chunks_mut::<L>().0.iter_mut().zip(x.as_chunks::<L>().0) {
            for l in 0..L {
                to[l] = if used[l] { from[l] * factor } else { T::zero() };
            }
        }
    }

    /// Adds Σ e^t · payload to `out`, `[columns][L]`, as many columns as it has. Lane l sees the rows up to `last[l]`,
    /// none where that is negative. Time 2 · L · rows · (d + columns).
    #[inline(always)]
    pub fn values<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        last: &[i32; L],
        out: &mut [T],
    ) {
        let (mut most, mut least) = (-1, i32::MAX);
        for &last in last {
            most = last.max(most);
            least = last.min(least);
        }
        self.seen = self.count.min((most + 1) as usize);
        let sums = &mut self.sums[..out.len()];
        sums.fill(T::zero());
        let (dimension, width) = (self.dimension, self.width);
        let weights = self.weights.as_chunks_mut::<L>().0.chunks_exact_mut(J);
        for (s, kept) in weights.enumerate().take(self.seen.div_ceil(J)) {
            let mut tile: Tile<V, J> =
                tile::products::<T, V, W, L, J>(&self.lanes, strip::<T, J>(&self.x, dimension, s));
            tile::exponentiate::<T, V, W, false, false, J>(&mut tile, [V::splat(T::zero()); 2]);
            for j in 0..J {
                tile::store(tile[j], &mut kept[j]);
            }
            if ((s + 1) * J) as i32 > least + 1 {
                // Logits are bounded, so what is hidden has weights as well, which are taken away.
                for j in 0..J {
                    let row = (s * J + j) as i32;
                    for l in 0..L {
                        kept[j][l] = if row > last[l] { T::zero() } else { kept[j][l] };
                    }
                    tile[j] = tile::load(&kept[j]);
                }
            }
            tile::accumulate::<T, V, W, L, J>(sums, &tile, strip::<T, J>(&self.payload, width, s));
        }
        add::<T, V, W, L>(sums, out);
    }

    /// Adds Σ e^t ⟨`payload`, payload⟩ · x to `out`, `[dimension][L]`, for the tile that [`Chunk::values`] was called
    /// with; `payload` is laid out `[width][L]`. Time 2 · L · rows · (d + width).
    #[inline(always)]
    pub fn slopes<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        payload: &[T],
        out: &mut [T],
    ) {
        let sums = &mut self.sums[..out.len()];
        sums.fill(T::zero());
        let (dimension, width) = (self.dimension, self.width);
        let weights = self.weights.as_chunks::<L>().0.chunks_exact(J);
        for (s, kept) in weights.enumerate().take(self.seen.div_ceil(J)) {
            let mut p: Tile<V, J> = tile::products::<T, V, W, L, J>(payload, strip::<T, J>(&self.payload, width, s));
            for j in 0..J {
                p[j] = tile::zip(p[j], tile::load(&kept[j]), V::mul);
            }
            tile::accumulate::<T, V, W, L, J>(sums, &p, strip::<T, J>(&self.x, dimension, s));
        }
        add::<T, V, W, L>(sums, out);
    }

    /// Adds the contribution of each row to the tile that [`Chunk::values`] was called with, Σ_l e^t · payload without
    /// the last column, and Σ_l e^t ⟨`payload`, payload⟩ · x_l, to `sums`, `[row][width − 1 + dimension]`; `payload` is
    /// laid out `[width][L]`. Time 2 · L · rows · (d + 2 width).
    #[inline(always)]
    pub fn gather<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        payload: &[T],
        sums: &mut [f64],
    ) {
        let (width, values) = (sums.len() / self.count.max(1), self.width - 1);
        if width == 0 {
            return;
        }
        let unit = LOG2_E.recip();
        let weights = self.weights.as_chunks::<L>().0.chunks_exact(J);
        for ((s, kept), sums) in weights.enumerate().zip(sums.chunks_mut(width * J)) {
            let p: Tile<V, J> = tile::products::<T, V, W, L, J>(payload, strip::<T, J>(&self.payload, self.width, s));
            for (j, sums) in sums.chunks_exact_mut(width).enumerate() {
                let weight: tile::Pair<V> = tile::load(&kept[j]);
                let entry = tile::zip(p[j], weight, V::mul);
                let (of_values, of_slopes) = sums.split_at_mut(values);
                for (sum, column) in of_values.iter_mut().zip(payload.as_chunks::<L>().0) {
                    *sum += inner::<T, V, W, L>(weight, column).widen();
                }
                for (sum, column) in of_slopes.iter_mut().zip(self.lanes.as_chunks::<L>().0) {
                    *sum += unit * inner::<T, V, W, L>(entry, column).widen();
                }
            }
        }
    }
}

/// Σ_l a_l b_l.
#[inline(always)]
fn inner<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(a: tile::Pair<V>, b: &[T; L]) -> T {
    let b: tile::Pair<V> = tile::load(b);
    total(a[1].mul_add(b[1], a[0].mul(b[0])))
}

/// One strip of a matrix of `width` columns.
#[inline(always)]
fn strip<T, const J: usize>(data: &[T], width: usize, strip: usize) -> &[T] {
    &data[strip * width * J..][..width * J]
}

/// out += sums.
#[inline(always)]
fn add<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(sums: &[T], out: &mut [T]) {
    for (out, sum) in out.as_chunks_mut::<L>().0.iter_mut().zip(sums.as_chunks::<L>().0) {
        tile::store(tile::zip(tile::load::<T, V, W, L>(out), tile::load(sum), V::add), out);
    }
}

/// Columns `[width][C]` into strips `[strip][width][J]`.
#[inline(always)]
fn pack<T: Float, const J: usize>(columns: &[T], count: usize, order: Order, strips: &mut [T]) {
    let columns = columns.as_chunks::<C>().0;
    let strips = strips.as_chunks_mut::<J>().0.chunks_exact_mut(columns.len().max(1));
    for (first, strip) in (0..count).step_by(J).zip(strips) {
        let rows = J.min(count - first);
        for (to, column) in strip.iter_mut().zip(columns) {
            match order {
                Order::Forward => to[..rows].copy_from_slice(&column[first..first + rows]),
                Order::Reverse => {
                    for (to, from) in to.iter_mut().zip(column[count - first - rows..count - first].iter().rev()) {
                        *to = *from;
                    }
                }
            }
        }
    }
}
