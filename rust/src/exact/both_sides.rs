//! Pass 2 for both sides: w = p K, pᵀ Q and fᵀ c from one set of tiles.
//!
//! A task is one chunk of keys against one wave of queries. It keeps a block of P and p and uses it
//! twice, rather than recomputing the logits with the keys in the lanes.
//! A chunk of keys belongs to one task, and waves follow one another, so the sums over queries have one order;
//! the sums over keys leave as one partial w a chunk, folded in the order of the chunks.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::RwLockReadGuard;

use super::backward::{Again, Block, Lanes, Sink, Source};
use super::kept::{self, Read};
use super::slot::Slot;
use super::{Operands, Residual};
use crate::constants::KEY_SIDE_QUERIES;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::tile::{self, Tile};
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// A wave of queries, as all its tasks see it.
pub struct Wave<'a, T> {
    /// Index of the first query.
    pub first: usize,
    /// ‖query‖ · max ‖key‖ of its queries.
    pub bound: &'a [f64],
    /// The queries by tiles, a few in each slot.
    pub slots: &'a [RwLockReadGuard<'a, Slot<T>>],
    /// Tiles of a slot.
    pub slot_tiles: usize,
    /// Whether the slots hold the weights; otherwise they are computed again.
    pub is_kept: bool,
}

/// One chunk of keys against a wave of queries.
pub struct ChunkTask<'a> {
    /// The keys of this chunk.
    pub keys: Range<usize>,
    /// += pᵀ Q̂ of these keys.
    pub key_sums: &'a mut [f64],
    /// += fᵀ c of these keys.
    pub value_sums: &'a mut [f64],
    /// This chunk's part of w = p K, `[tile][width][L]`.
    pub partial: &'a mut [f64],
    /// This chunk's part of Σ_i p_i².
    pub squares: &'a mut [f64],
}

/// Queries whose P and p are kept at a time.
const C: usize = KEY_SIDE_QUERIES;

/// A block of P and p, `[strip][tile][J][L]`.
struct Kept<'a, T, V, const W: usize, const L: usize, const J: usize> {
    weights: &'a mut [[[T; L]; J]],
    p: &'a mut [[[T; L]; J]],
    /// The tiles that visited each strip, from the first to the last of them.
    tiles_of: &'a mut [Range<usize>],
    first_key: usize,
    /// The tile of the group that comes next, and how many there are.
    tile: usize,
    tiles: usize,
    registers: PhantomData<[V; W]>,
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Sink<V, J> for Kept<'_, T, V, W, L, J> {
    #[inline(always)]
    fn take(&mut self, key: usize, weights: &Tile<V, J>, p: &Tile<V, J>) {
        let at = (key - self.first_key) / J * self.tiles + self.tile;
        keep(weights, &mut self.weights[at]);
        keep(p, &mut self.p[at]);
    }
}

impl<T: Float, V, const W: usize, const L: usize, const J: usize> Kept<'_, T, V, W, L, J> {
    /// Takes note of the strips, by their first keys, that the tile has visited.
    #[inline(always)]
    fn note(&mut self, strips: impl Iterator<Item = usize>) {
        for key in strips {
            let strip = (key - self.first_key) / J;
            let between = visited(&mut self.tiles_of[strip], self.tile);
            let between = strip * self.tiles + between.start..strip * self.tiles + between.end;
            self.weights[between.clone()].as_flattened_mut().as_flattened_mut().fill(T::zero());
            self.p[between].as_flattened_mut().as_flattened_mut().fill(T::zero());
        }
    }
}

/// Takes note of the next tile that visits a strip; returns those between it and the last one, which need not see the
/// strip.
#[inline(always)]
pub(super) fn visited(tiles: &mut Range<usize>, tile: usize) -> Range<usize> {
    if tiles.end == 0 {
        *tiles = tile..tile;
    }
    std::mem::replace(&mut tiles.end, tile + 1)..tile
}

#[inline(always)]
fn keep<T, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(tile: &Tile<V, J>, to: &mut [[T; L]; J]) {
    for j in 0..J {
        tile::store(tile[j], &mut to[j]);
    }
}

/// sums[key] += Σ_query kept[key][query] · rows[query], for a block of P or p of `tiles` tiles a strip; `panels` are
/// the rows of each tile, of `padded` columns; `tiles_of` says which of them see a strip.
#[inline(always)]
pub(super) fn key_products<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    kept: &[[[T; L]; J]],
    tiles: usize,
    panels: &[&[T]],
    padded: usize,
    tiles_of: impl Fn(usize) -> Range<usize>,
    sums: &mut [T],
) {
    let strips = kept.chunks_exact(tiles).zip(sums.chunks_exact_mut(J * padded.max(1)));
    for (strip, (kept, sums)) in strips.enumerate() {
        let seen = tiles_of(strip);
        let (kept, panels) = (&kept[seen.clone()], &panels[seen.clone()]);
        for first in (0..padded).step_by(L) {
            if padded - first >= L {
                let tile = outer::<T, V, W, L, 2, J>(kept, panels, first);
                add(sums, padded, first, &tile);
            } else {
                let tile = outer::<T, V, W, L, 1, J>(kept, panels, first);
                add(sums, padded, first, &tile);
            }
        }
    }
}

/// Σ_query kept[key][query] · rows[query] over some tiles, `N` registers a key from column `first` on.
#[inline(always)]
fn outer<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const N: usize, const J: usize>(
    kept: &[[[T; L]; J]],
    panels: &[&[T]],
    first: usize,
) -> [[V; N]; J] {
    let mut tile = [[V::splat(T::zero()); N]; J];
    for (kept, panels) in kept.iter().zip(panels) {
        let rows = panels[first * L..][..L * N * W].as_chunks::<W>().0.as_chunks::<N>().0.as_chunks::<L>().0;
        tile::outer_onto(kept.each_ref(), &rows[0], &mut tile);
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
pub(super) fn fold<T: Float>(sums: &mut [T], padded: usize, sums64: &mut [f64], width: usize) {
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

/// Rows of w from the parts of each chunk, `[tile][width][L]`, in the order of the chunks; `sums` and `lanes` are room
/// for a tile.
#[inline(always)]
pub fn fold_chunks<T: Float, const L: usize>(
    partials: &[&[f64]],
    (count, width): (usize, usize),
    (sums, lanes): (&mut [f64], &mut [T]),
    rows: &mut [T],
) {
    for (t, first) in (0..count).step_by(L).enumerate() {
        sums.fill(0.0);
        for partial in partials {
            for (sum, part) in sums.iter_mut().zip(&partial[t * width * L..][..width * L]) {
                *sum += part;
            }
        }
        for (to, sum) in lanes.iter_mut().zip(&*sums) {
            *to = T::narrow(*sum);
        }
        tile::untranspose::<T, L>(lanes, (first, L.min(count - first)), rows);
    }
}

/// Pass 2 for one chunk of keys and one wave of queries. Time queries · keys · (4 d + 4 dv), and 2 d more where nothing
/// was kept.
#[inline(always)]
pub fn both_sides<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    wave: &Wave<'_, T>,
    task: ChunkTask<'_>,
    cancel: &Cancel,
) -> Result<(), Error> {
    if wave.is_kept {
        let stride = kept::stride(L, operands.keys.count, J);
        chunk::<T, V, W, L, J, _>(operands, wave, task, |slot| Read::new(&slot.kept, stride), cancel)
    } else {
        chunk::<T, V, W, L, J, _>(operands, wave, task, |_| Again, cancel)
    }
}

/// Whether two ranges of keys have one in common.
#[inline(always)]
pub(super) fn meets(block: &Range<usize>, seen: Range<usize>) -> bool {
    block.start < seen.end && seen.start < block.end
}

#[inline(always)]
fn chunk<'w, T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize, S: Source<T, V, W, L, J>>(
    operands: &Operands<'_, T>,
    wave: &'w Wave<'_, T>,
    task: ChunkTask<'_>,
    source: impl Fn(&'w Slot<T>) -> S,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (width, value_width) = (operands.keys.width, operands.values.width);
    let rows = wave.bound.len();
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
    let mut panels = [buffer::with_capacity(tiles)?, buffer::with_capacity(tiles)?];
    let mut tiles_of = buffer::filled(strips, 0..0)?;
    let mut room = operands.room(L)?;
    // Sums of the wave before are cleared.
    if wave.first > 0 {
        task.partial.fill(0.0);
        task.squares.fill(0.0);
    }
    for start in task.keys.clone().step_by(block_keys) {
        let block = start..task.keys.end.min(start + block_keys);
        if !meets(&block, operands.seen(wave.first..wave.first + rows)) {
            continue;
        }
        let strips = block.len().div_ceil(J) * tiles;
        let weights = &mut weights.as_chunks_mut::<L>().0.as_chunks_mut::<J>().0[..strips];
        let p = &mut p.as_chunks_mut::<L>().0.as_chunks_mut::<J>().0[..strips];
        for group in (0..rows).step_by(C) {
            cancel.check()?;
            let group = group..rows.min(group + C);
            if !meets(&block, operands.seen(wave.first + group.start..wave.first + group.end)) {
                continue;
            }
            panels.iter_mut().for_each(Vec::clear);
            tiles_of.fill(0..0);
            buffer::poison(weights.as_flattened_mut().as_flattened_mut());
            buffer::poison(p.as_flattened_mut().as_flattened_mut());
            let mut kept = Kept {
                weights: &mut *weights,
                p: &mut *p,
                tiles_of: &mut tiles_of,
                first_key: block.start,
                tile: 0,
                tiles,
                registers: PhantomData::<[V; W]>,
            };
            for (t, column) in (0..group.len()).step_by(L).enumerate() {
                let at = group.start + column;
                let (slot, of_slot) = (&*wave.slots[at / L / wave.slot_tiles], at / L % wave.slot_tiles);
                let own = of_slot * L..L.min(rows - at) + of_slot * L;
                let bound = &wave.bound[at..at + own.len()];
                let found = Residual { c: &[], r: &slot.r[own.clone()], shift: &slot.shift[own], bound };
                let mut lanes = Lanes::<T, L>::new(&found, operands.unshifted(bound));
                let (queries, residual) = (&slot.queries, &slot.residual);
                panels[0].push(queries.panels::<L>(of_slot));
                panels[1].push(residual.panels::<L>(of_slot));
                let queries = queries.tile::<L>(of_slot);
                let mut tile = Block { queries, residual: residual.tile::<L>(of_slot), sums: &mut sums };
                let walk = operands.walk(block.clone(), wave.first + at..wave.first + at + bound.len());
                if walk.is_empty() {
                    continue;
                }
                kept.tile = t;
                let mut source = source(slot);
                source.tile(of_slot);
                let entries = operands.entries::<L, J>(room.as_mut(), &walk);
                lanes.visit::<V, W, J>(&mut tile, operands, &walk, entries, &source, &mut kept);
                match entries {
                    Some(entries) => kept.note(entries.firsts().iter().copied()),
                    None => kept.note(walk.strips::<J>().step_by(J)),
                }
                for l in 0..bound.len() {
                    task.squares[at + l] += lanes.squares64[l];
                }
                tile::fold(&mut sums, &mut task.partial[at * width..][..width * L]);
            }
            let Kept { weights, p, tiles_of, .. } = kept;
            let tiles_of = |strip: usize| tiles_of[strip].clone();
            key_products::<T, V, W, L, J>(p, tiles, &panels[0], padded, tiles_of, &mut key_sums);
            key_products::<T, V, W, L, J>(weights, tiles, &panels[1], value_padded, tiles_of, &mut value_sums);
        }
        let at = block.start - task.keys.start;
        fold(&mut key_sums, padded, &mut task.key_sums[at * width..], width);
        fold(&mut value_sums, value_padded, &mut task.value_sums[at * value_width..], value_width);
    }
    Ok(())
}
