//! Pass 2 for both sides: w = p K, pᵀ Q and fᵀ c from one set of tiles.
//!
//! A task is one chunk of keys against one wave of queries. It keeps a block of P and p and uses it
//! twice, rather than recomputing the logits with the keys in the lanes.
//! A chunk of keys belongs to one task, and waves follow one another, so the sums over queries have one order;
//! the sums over keys leave as one partial w a chunk, folded in the order of the chunks.

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
    /// This chunk's part of w = p K, one row a query of the wave.
    pub partial: &'a mut [T],
    /// This chunk's part of Σ_i p_i².
    pub squares: &'a mut [f64],
}

/// Queries whose P and p are kept at a time: a constant, so that a row of them is an array.
const C: usize = KEY_SIDE_QUERIES;

/// One key's entries of P or p.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Row<T>([T; C]);

/// A block of P and p, one row a key, one column a query of the group.
struct Kept<'a, T, const W: usize> {
    weights: &'a mut [Row<T>],
    p: &'a mut [Row<T>],
    first_key: usize,
    column: usize,
}

impl<T, V: Vector<T, W>, const W: usize, const J: usize> Sink<V, J> for Kept<'_, T, W> {
    #[inline(always)]
    fn take(&mut self, key: usize, weights: &Tile<V, J>, p: &Tile<V, J>) {
        let row = key - self.first_key;
        // A strip may be short of rows at the end of its block.
        for (to, tile) in [(&mut *self.weights, weights), (&mut *self.p, p)] {
            for (to, pair) in to[row..].iter_mut().zip(tile) {
                let to = to.0[self.column..].as_chunks_mut::<W>().0;
                pair[0].store(&mut to[0]);
                pair[1].store(&mut to[1]);
            }
        }
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

    /// sums[key] += Σ_query kept[key][query] · rows[query].
    #[inline(always)]
    fn key_products<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        kept: &[Row<T>],
        sums: &mut [T],
    ) {
        for (first, sums) in (0..kept.len()).step_by(J).zip(sums.chunks_mut(J * self.padded.max(1))) {
            // A short strip repeats its last key; the sums have no row for the repeats.
            let strip = std::array::from_fn(|j| &kept[(first + j).min(kept.len() - 1)].0);
            for (panel, rows) in self.panels.chunks(L * C).enumerate() {
                let rows = rows.as_chunks::<W>().0;
                if let Ok(rows) = rows.as_chunks::<2>().0.try_into() {
                    add(sums, self.padded, panel * L, &tile::outer::<T, V, W, 2, J, C>(strip, rows));
                } else if let Ok(rows) = rows.as_chunks::<1>().0.try_into() {
                    add(sums, self.padded, panel * L, &tile::outer::<T, V, W, 1, J, C>(strip, rows));
                }
            }
        }
    }
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
    let block_keys = operands.key_block.min(task.keys.len());
    let (padded, value_padded) = (width.next_multiple_of(W), value_width.next_multiple_of(W));
    let mut weights = buffer::filled(block_keys, Row([T::zero(); C]))?;
    let mut p = buffer::filled(block_keys, Row([T::zero(); C]))?;
    let mut key_sums = buffer::aligned::<T>(block_keys * padded)?;
    let mut value_sums = buffer::aligned::<T>(block_keys * value_padded)?;
    let mut sums = buffer::aligned::<T>(width * L)?;
    let mut sums64 = buffer::aligned::<f64>(width * L)?;
    for start in task.keys.clone().step_by(operands.key_block) {
        let block = start..task.keys.end.min(start + operands.key_block);
        if operands.is_causal && block.start >= wave.first + rows {
            break;
        }
        let (weights, p) = (&mut weights[..block.len()], &mut p[..block.len()]);
        for group in (0..rows).step_by(C) {
            cancel.check()?;
            let group = group..rows.min(group + C);
            if operands.is_causal && block.start >= wave.first + group.end {
                continue;
            }
            let rows = wave.residual.rows(group.clone());
            let Group { queries, residual } = &wave.groups[group.start / C];
            if operands.is_causal || group.len() < C {
                // Tiles that see no key of this block leave their columns untouched, and must count for nothing.
                weights.fill(Row([T::zero(); C]));
                p.fill(Row([T::zero(); C]));
            }
            for (t, column) in (0..group.len()).step_by(L).enumerate() {
                let rows = rows.rows(column..group.len().min(column + L));
                let mut lanes = Lanes::<T, L>::new(&rows, operands.unshifted(rows.bound));
                let mut tile = Block {
                    queries: queries.tile::<L>(t),
                    residual: residual.tile::<L>(t),
                    sums: &mut sums,
                    sums64: &mut sums64,
                };
                let mut kept = Kept { weights: &mut *weights, p: &mut *p, first_key: block.start, column };
                let at = group.start + column;
                let walk = operands.walk(block.clone(), wave.first + at, L);
                source.tile(at / L);
                lanes.visit::<V, W, J>(&mut tile, operands, &walk, source, &mut kept);
                for l in 0..rows.shift.len() {
                    task.squares[at + l] += lanes.squares64[l];
                    for (i, w) in task.partial[(at + l) * width..][..width].iter_mut().enumerate() {
                        *w += T::narrow(sums64[i * L + l]);
                    }
                }
                sums64.fill(0.0);
            }
            queries.key_products::<V, W, L, J>(p, &mut key_sums);
            residual.key_products::<V, W, L, J>(weights, &mut value_sums);
        }
        let at = block.start - task.keys.start;
        fold(&mut key_sums, padded, &mut task.key_sums[at * width..], width);
        fold(&mut value_sums, value_padded, &mut task.value_sums[at * value_width..], value_width);
    }
    Ok(())
}
