//! Pass 2 for both sides: w = p K, pᵀ Q and fᵀ c from one set of tiles.
//!
//! A task is one chunk of keys against one wave of queries. It keeps a block of P and p and uses it
//! twice, rather than recomputing the logits with the keys in the lanes.
//! A chunk of keys belongs to one task, and waves follow one another, so the sums over queries have one order;
//! the sums over keys leave as one partial w a chunk, folded in the order of the chunks.

use std::marker::PhantomData;
use std::ops::Range;

use super::backward::{Again, Block, Lanes, Sink, Source};
use super::kept::Read;
use super::{Operands, Residual};
use crate::buffer::{self, Aligned};
use crate::constants::KEY_SIDE_QUERIES;
use crate::error::Error;
use crate::float::Float;
use crate::pool::Cancel;
use crate::tile::Rows;
use crate::tile::simd::Vector;
use crate::tile::{self, Tile};

/// A wave of queries, as all its tasks see it.
pub struct Wave<'a, T> {
    /// Index of the first query.
    pub first: usize,
    /// Queries and c, packed.
    pub groups: &'a [Group<T>],
    /// The rows of c and what pass 1 found out about them.
    pub residual: Residual<'a, T>,
    /// What pass 1 kept of the wave; without it the weights are computed again.
    pub kept: Option<&'a [T]>,
    /// Numbers that a tile of queries keeps.
    pub stride: usize,
}

/// One chunk of keys against a wave of queries.
pub struct ChunkTask<'a, T> {
    /// The keys of this chunk.
    pub keys: Range<usize>,
    /// += pᵀ Q̂ of these keys.
    pub key_sums: &'a mut [f64],
    /// += fᵀ c of these keys.
    pub value_sums: &'a mut [f64],
    /// This chunk's part of w = p K, `[tile][width][L]`.
    pub partial: &'a mut [T],
    /// This chunk's part of Σ_i p_i².
    pub squares: &'a mut [f64],
}

/// Queries whose P and p are kept at a time.
const C: usize = KEY_SIDE_QUERIES;

/// A block of P and p, `[strip][tile][J][L]`.
struct Kept<'a, T, V, const W: usize, const L: usize, const J: usize> {
    weights: &'a mut [[[T; L]; J]],
    p: &'a mut [[[T; L]; J]],
    first_key: usize,
    /// The tile of the group that comes next, and how many there are.
    tile: usize,
    tiles: usize,
    registers: PhantomData<[V; W]>,
}

impl<T, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Sink<V, J> for Kept<'_, T, V, W, L, J> {
    #[inline(always)]
    fn take(&mut self, key: usize, weights: &Tile<V, J>, p: &Tile<V, J>) {
        let at = (key - self.first_key) / J * self.tiles + self.tile;
        keep(weights, &mut self.weights[at]);
        keep(p, &mut self.p[at]);
    }
}

#[inline(always)]
fn keep<T, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(tile: &Tile<V, J>, to: &mut [[T; L]; J]) {
    for j in 0..J {
        tile::store(tile[j], &mut to[j]);
    }
}

/// Queries and c of a group of C queries, packed once for all chunks of keys.
pub struct Group<T> {
    queries: Packed<T>,
    residual: Packed<T>,
}

impl<T: Float> Group<T> {
    /// The groups of a wave, from its rows of Q̂ and c, for tiles of `lanes` queries.
    pub fn all(queries: Rows<'_, T>, c: Rows<'_, T>, lanes: usize) -> Result<Vec<Self>, Error> {
        let count = queries.count.div_ceil(C);
        let mut groups = buffer::with_capacity(count)?;
        for first in (0..queries.count).step_by(C) {
            let group = first..queries.count.min(first + C);
            let rows = |rows: Rows<'_, T>| {
                Packed::new(&rows.data[group.start * rows.width..group.end * rows.width], rows.width, lanes)
            };
            groups.push(Group { queries: rows(queries)?, residual: rows(c)? });
        }
        Ok(groups)
    }
}

/// One operand of a group, packed for both uses.
struct Packed<T> {
    /// `[tile][width][L]`.
    lanes: Aligned<T>,
    /// `[panel][query][L]`, and a last panel of W = L/2 columns where those suffice.
    panels: Aligned<T>,
    width: usize,
    padded: usize,
}

impl<T: Float> Packed<T> {
    fn new(rows: &[T], width: usize, lanes: usize) -> Result<Self, Error> {
        let padded = width.next_multiple_of(lanes / 2);
        let mut packed = Packed {
            lanes: buffer::aligned(C.div_ceil(lanes) * width * lanes)?,
            panels: buffer::aligned(C * padded)?,
            width,
            padded,
        };
        for (t, row) in rows.chunks_exact(width.max(1)).enumerate() {
            for (panel, columns) in row.chunks(lanes).enumerate() {
                let panel_width = lanes.min(padded - panel * lanes);
                packed.panels[panel * lanes * C + t * panel_width..][..columns.len()].copy_from_slice(columns);
            }
            let tile = &mut packed.lanes[t / lanes * width * lanes..][..width * lanes];
            for (out, &entry) in tile[t % lanes..].iter_mut().step_by(lanes).zip(row) {
                *out = entry;
            }
        }
        Ok(packed)
    }

    #[inline(always)]
    fn tile<const L: usize>(&self, t: usize) -> &[T] {
        &self.lanes[t * self.width * L..][..self.width * L]
    }

    /// sums[key] += Σ_query kept[key][query] · rows[query], for a block of P or p of `tiles` tiles a strip; `seen` says
    /// which of them see a strip.
    #[inline(always)]
    fn key_products<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        kept: &[[[T; L]; J]],
        tiles: usize,
        seen: impl Fn(usize) -> Range<usize>,
        sums: &mut [T],
    ) {
        let strips = kept.chunks_exact(tiles).zip(sums.chunks_exact_mut(J * self.padded.max(1)));
        for (strip, (kept, sums)) in strips.enumerate() {
            let seen = seen(strip);
            for (panel, rows) in self.panels.chunks(L * C).enumerate() {
                let rows = rows.as_chunks::<W>().0;
                if rows.len() == 2 * C {
                    let tile = outer::<T, V, W, L, 2, J>(kept, rows.as_chunks().0, seen.clone());
                    add(sums, self.padded, panel * L, &tile);
                } else {
                    let tile = outer::<T, V, W, L, 1, J>(kept, rows.as_chunks().0, seen.clone());
                    add(sums, self.padded, panel * L, &tile);
                }
            }
        }
    }
}

/// Σ_query kept[key][query] · rows[query] over the tiles `seen` of a strip, of `N` registers a key.
#[inline(always)]
fn outer<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const N: usize, const J: usize>(
    kept: &[[[T; L]; J]],
    rows: &[[[T; W]; N]],
    seen: Range<usize>,
) -> [[V; N]; J] {
    let mut tile = [[V::splat(T::zero()); N]; J];
    for (kept, rows) in kept[seen.clone()].iter().zip(&rows.as_chunks::<L>().0[seen]) {
        tile::outer_onto(kept.each_ref(), rows, &mut tile);
    }
    tile
}

/// Adds a tile to the rows of `sums`, from column `first` on.
#[inline(always)]
fn add<T: Float, V: Vector<T, W>, const W: usize, const N: usize, const J: usize>(
    sums: &mut [T],
    width: usize,
    first: usize,
    tile: &[[V; N]; J],
) {
    for (sums, tile) in sums.chunks_exact_mut(width).zip(tile) {
        for (sum, term) in sums[first..].as_chunks_mut::<W>().0.iter_mut().zip(tile) {
            V::load(sum).add(*term).store(sum);
        }
    }
}

/// Adds rows of `padded` columns to rows of `width` in double precision, and clears them.
#[inline(always)]
fn fold<T: Float>(sums: &mut [T], padded: usize, sums64: &mut [f64], width: usize) {
    if width == 0 {
        return;
    }
    for (sums, sums64) in sums.chunks_exact(padded).zip(sums64.chunks_exact_mut(width)) {
        for (sum, sum64) in sums.iter().zip(sums64) {
            *sum64 += sum.widen();
        }
    }
    sums.fill(T::zero());
}

/// Pass 2 for one chunk of keys and one wave of queries. Time queries · keys · (4 d + 4 dv), and 2 d more where nothing
/// was kept.
#[inline(always)]
pub fn both_sides<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    wave: &Wave<'_, T>,
    task: ChunkTask<'_, T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    match wave.kept {
        Some(kept) => chunk::<T, V, W, L, J>(operands, wave, task, &mut Read::new(kept, wave.stride), cancel),
        None => chunk::<T, V, W, L, J>(operands, wave, task, &mut Again, cancel),
    }
}

#[inline(always)]
fn chunk<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    wave: &Wave<'_, T>,
    task: ChunkTask<'_, T>,
    source: &mut impl Source<T, V, W, L, J>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (width, value_width) = (operands.keys.width, operands.values.width);
    let rows = wave.residual.shift.len();
    // As even as strips allow: a short block pays for a group of queries what a long one pays.
    let blocks = task.keys.len().div_ceil(operands.key_block).max(1);
    let block_keys = task.keys.len().div_ceil(blocks).next_multiple_of(J).max(J);
    let (padded, value_padded) = (width.next_multiple_of(W), value_width.next_multiple_of(W));
    let (tiles, strips) = (C.div_ceil(L), block_keys.div_ceil(J));
    let mut weights = buffer::aligned::<T>(strips * tiles * J * L)?;
    let mut p = buffer::aligned::<T>(strips * tiles * J * L)?;
    let mut key_sums = buffer::aligned::<T>(strips * J * padded)?;
    let mut value_sums = buffer::aligned::<T>(strips * J * value_padded)?;
    let mut sums = buffer::aligned::<T>(width * L)?;
    // What the wave before left.
    task.partial.fill(T::zero());
    task.squares.fill(0.0);
    for start in task.keys.clone().step_by(block_keys) {
        let block = start..task.keys.end.min(start + block_keys);
        if operands.is_causal && block.start >= wave.first + rows {
            break;
        }
        let strips = block.len().div_ceil(J) * tiles;
        let weights = &mut weights.as_chunks_mut::<L>().0.as_chunks_mut::<J>().0[..strips];
        let p = &mut p.as_chunks_mut::<L>().0.as_chunks_mut::<J>().0[..strips];
        for group in (0..rows).step_by(C) {
            cancel.check()?;
            let group = group..rows.min(group + C);
            if operands.is_causal && block.start >= wave.first + group.end {
                continue;
            }
            let rows = wave.residual.rows(group.clone());
            let Group { queries, residual } = &wave.groups[group.start / C];
            let mut kept = Kept {
                weights: &mut *weights,
                p: &mut *p,
                first_key: block.start,
                tile: 0,
                tiles,
                registers: PhantomData::<[V; W]>,
            };
            for (t, column) in (0..group.len()).step_by(L).enumerate() {
                let rows = rows.rows(column..group.len().min(column + L));
                let mut lanes = Lanes::<T, L>::new(&rows, operands.unshifted(rows.bound));
                let mut tile =
                    Block { queries: queries.tile::<L>(t), residual: residual.tile::<L>(t), sums: &mut sums };
                let at = group.start + column;
                let walk = operands.walk(block.clone(), wave.first + at, L);
                kept.tile = t;
                source.tile(at / L);
                lanes.visit::<V, W, J>(&mut tile, operands, &walk, source, &mut kept);
                for l in 0..rows.shift.len() {
                    task.squares[at + l] += lanes.squares64[l];
                }
                tile::settle(&mut sums, &mut task.partial[at * width..][..width * L]);
            }
            let seen = |strip: usize| {
                let key = block.start + strip * J;
                let (first, end) = (key.saturating_sub(wave.first + group.start) / L, group.len().div_ceil(L));
                if operands.is_causal { first.min(end)..end } else { 0..end }
            };
            queries.key_products::<V, W, L, J>(kept.p, tiles, seen, &mut key_sums);
            residual.key_products::<V, W, L, J>(kept.weights, tiles, seen, &mut value_sums);
        }
        let at = block.start - task.keys.start;
        fold(&mut key_sums, padded, &mut task.key_sums[at * width..], width);
        fold(&mut value_sums, value_padded, &mut task.value_sums[at * value_width..], value_width);
    }
    Ok(())
}
