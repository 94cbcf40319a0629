//! The second pass: the sums of the Hessian-vector product over both sides (docs/math.md, equation 6.5).
//!
//! Waves of queries follow one another; in each, a chunk of keys is one task, which keeps its sums over the queries of
//! all waves and leaves its part of the sums over keys. Parts are folded in the order of the chunks.

use std::ops::Range;

use super::kernels::Kernels;
use super::panels::Visit;
use super::rows::{GROUP, Group, Sides};
use crate::constants::{CHUNK_KEYS, KEY_BLOCK_MIN, WAVE_CHUNKS, WAVE_QUERIES};
use crate::error::Error;
use crate::exact::both_sides::{meets, visited};
use crate::exact::entries;
use crate::exact::slot::Packed;
use crate::float::Float;
use crate::linalg::layout::take;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::{Cancel, Run};

/// Groups of queries of a wave.
const WAVE_GROUPS: usize = WAVE_QUERIES / GROUP;

/// A chunk of keys with its sums over queries, and its part of those over keys of one wave.
struct Chunk {
    keys: Range<usize>,
    /// ṗᵀ Q̂ + pᵀ Q̂̇.
    key_sums: Vec<f64>,
    /// ḟᵀ c + fᵀ ċ.
    value_sums: Vec<f64>,
    /// ṗ k + p k̇, `[tile][width][L]` for each group.
    partial: Aligned<f64>,
}

/// Sums over both sides.
pub struct Sums<'a, T> {
    /// s (ṗ k + p k̇), row-major.
    pub queries: &'a mut [T],
    /// The factor s of these.
    pub scale: f64,
    /// ṗᵀ Q̂ + pᵀ Q̂̇, where Q̂ has a factor s · log2 e, and ḟᵀ c + fᵀ ċ.
    pub keys: Vec<f64>,
    pub values: Vec<f64>,
}

/// The pass over all groups. Time rows · keys · (14 d + 6 dv), 4 dv more with a change of c.
pub fn both<T: Float>(
    sides: &Sides<'_, T>,
    groups: &[Group<T>],
    kernels: &Kernels<T>,
    (sums, begin): (&mut Sums<'_, T>, f64),
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let operands = sides.operands;
    let (width, value_width) = (operands.keys.width, operands.values.width);
    let mut chunks = chunks(operands.keys.count, groups.len(), (width, value_width), kernels)?;
    let waves = groups.len().div_ceil(WAVE_GROUPS);
    let mut rest = &mut *sums.queries;
    for (wave, groups) in groups.chunks(WAVE_GROUPS).enumerate() {
        run.phase(begin + (1.0 - begin) * (wave + 1) as f64 / waves as f64);
        run.for_each(chunks.iter_mut(), |chunk, cancel| chunk.meet(sides, groups, kernels, cancel))?;
        let of_groups =
            groups.iter().enumerate().map(|(place, group)| (place, group, take(&mut rest, group.count * width)));
        let numbers = groups.len() * GROUP * width * chunks.len();
        let (scale, chunks) = (sums.scale, &chunks);
        run.short(numbers / NUMBERS_PER_NANOSECOND, of_groups, |(place, group, rows), _| {
            fold(chunks, (place * partial_size(width, kernels), width), (group, kernels.lanes), scale, rows);
            Ok(())
        })?;
    }
    for chunk in &chunks {
        sums.keys.extend(&chunk.key_sums);
        sums.values.extend(&chunk.value_sums);
    }
    Ok(())
}

/// Numbers that are added up in a nanosecond.
const NUMBERS_PER_NANOSECOND: usize = 1;

/// Numbers of the part that a chunk has of the sums of a group.
fn partial_size<T: Float>(width: usize, kernels: &Kernels<T>) -> usize {
    GROUP.next_multiple_of(kernels.lanes) * width
}

/// By the shape alone, as even as whole strips of every level allow.
fn chunks<T: Float>(
    keys: usize,
    groups: usize,
    (width, value_width): (usize, usize),
    kernels: &Kernels<T>,
) -> Result<Vec<Chunk>, Error> {
    let count = keys.div_ceil(CHUNK_KEYS).min(WAVE_CHUNKS);
    let pieces = keys.div_ceil(KEY_BLOCK_MIN);
    let cut = |chunk: usize| keys.min(chunk * pieces / count * KEY_BLOCK_MIN);
    let mut chunks = buffer::with_capacity(count)?;
    let partial = buffer::size(&[groups.min(WAVE_GROUPS), partial_size(width, kernels)])?;
    for chunk in 0..count {
        let keys = cut(chunk)..cut(chunk + 1);
        chunks.push(Chunk {
            key_sums: buffer::zeros(buffer::size(&[keys.len(), width])?)?,
            value_sums: buffer::zeros(buffer::size(&[keys.len(), value_width])?)?,
            partial: buffer::aligned(partial)?,
            keys,
        });
    }
    Ok(chunks)
}

/// Rows of the sums over keys of one group from the part of each chunk, which begins at `first`.
fn fold<T: Float>(
    chunks: &[Chunk],
    (first, width): (usize, usize),
    (group, lanes): (&Group<T>, usize),
    scale: f64,
    rows: &mut [T],
) {
    for (row, numbers) in rows.chunks_exact_mut(width.max(1)).enumerate().take(group.count) {
        let at = first + row / lanes * width * lanes + row % lanes;
        for (i, number) in numbers.iter_mut().enumerate() {
            let sum: f64 = chunks.iter().map(|chunk| chunk.partial[at + i * lanes]).sum();
            *number = T::narrow(scale * sum);
        }
    }
}

/// Room for the panels of a group against a block of keys.
struct Room<T> {
    /// f, ḟ, p and ṗ.
    panels: [Aligned<T>; 4],
    /// The tiles that visited each strip, from the first to the last of them.
    tiles_of: Vec<Range<usize>>,
    /// Entries of a mask.
    entries: Option<entries::Room<T>>,
    /// Sums over the keys of a block for one tile.
    sums: Aligned<T>,
    /// Sums over queries for the keys of a block.
    key_sums: Aligned<T>,
    value_sums: Aligned<T>,
}

impl Chunk {
    /// All groups of a wave against the keys of the chunk.
    fn meet<T: Float>(
        &mut self,
        sides: &Sides<'_, T>,
        groups: &[Group<T>],
        kernels: &Kernels<T>,
        cancel: &Cancel,
    ) -> Result<(), Error> {
        let operands = sides.operands;
        let (width, value_width) = (operands.keys.width, operands.values.width);
        self.partial.fill(0.0);
        // As even as strips allow: a short block pays for a group of queries what a long one pays.
        let blocks = self.keys.len().div_ceil(operands.key_block).max(1);
        let block_keys = self.keys.len().div_ceil(blocks).next_multiple_of(kernels.keys).max(kernels.keys);
        let padded = [width, value_width].map(|width| width.next_multiple_of(kernels.lanes / 2));
        let tiles = GROUP.div_ceil(kernels.lanes);
        let strips = block_keys.div_ceil(kernels.keys);
        let panel = strips * tiles * kernels.tile();
        let make = || buffer::aligned::<T>(panel);
        let mut room = Room {
            panels: [make()?, make()?, make()?, make()?],
            tiles_of: buffer::filled(strips, 0..0)?,
            entries: operands.room(kernels.lanes)?,
            sums: buffer::aligned(width * kernels.lanes)?,
            key_sums: buffer::aligned(block_keys * padded[0])?,
            value_sums: buffer::aligned(block_keys * padded[1])?,
        };
        for start in self.keys.clone().step_by(block_keys) {
            let block = start..self.keys.end.min(start + block_keys);
            for (place, group) in groups.iter().enumerate() {
                cancel.check()?;
                if meets(&block, operands.seen(group.all())) {
                    let partial = &mut self.partial[place * partial_size(width, kernels)..];
                    meet_group(sides, group, &block, (&mut room, partial), kernels);
                }
            }
            let at = block.start - self.keys.start;
            kernels.fold_keys(&mut room.key_sums, padded[0], &mut self.key_sums[at * width..], width);
            let values = &mut self.value_sums[at * value_width..];
            kernels.fold_keys(&mut room.value_sums, padded[1], values, value_width);
        }
        Ok(())
    }
}

/// One group of queries against one block of keys.
fn meet_group<T: Float>(
    sides: &Sides<'_, T>,
    group: &Group<T>,
    block: &Range<usize>,
    (room, partial): (&mut Room<T>, &mut [f64]),
    kernels: &Kernels<T>,
) {
    let (operands, lanes) = (sides.operands, kernels.lanes);
    let Room { panels, tiles_of, entries, sums, key_sums, value_sums } = room;
    panels.iter_mut().for_each(|panel| buffer::poison(panel));
    tiles_of.fill(0..0);
    let step = GROUP.div_ceil(lanes) * kernels.tile();
    for t in 0..group.tiles() {
        let walk = operands.walk(block.clone(), group.rows(t));
        let entries = kernels.entries(operands, entries.as_mut(), &walk);
        let visit = Visit { walk: &walk, entries, first: block.start, step };
        for key in visit.strips(kernels.keys) {
            let strip = (key - block.start) / kernels.keys;
            let between = visited(&mut tiles_of[strip], t);
            let at = |tile: usize| strip * step + tile * kernels.tile();
            panels.iter_mut().for_each(|panel| panel[at(between.start)..at(between.end)].fill(T::zero()));
        }
        let [weights, changes, slopes, turns] = panels.each_mut().map(|panel| &mut panel[t * kernels.tile()..]);
        let [query, moved] = group.queries.each_ref().map(|packed| packed.lanes(t, lanes));
        let dout = group.dout[0].lanes(t, lanes);
        let of_change = group.dout.get(1).map(|packed| (packed.lanes(t, lanes), operands.values));
        let of_values = [(dout, sides.values), of_change.unwrap_or((&[], operands.values))];
        kernels.products(&[(query, operands.keys)], visit, weights);
        kernels.products(&[(moved, operands.keys), (query, sides.keys)], visit, changes);
        kernels.products(&[(dout, operands.values)], visit, slopes);
        kernels.products(&of_values[..group.dout.len()], visit, turns);
        kernels.slopes([weights, &mut *changes, &mut *slopes, &mut *turns], &group.lanes(t), visit);
        kernels.accumulate(turns, visit, operands.keys, sums);
        kernels.accumulate(slopes, visit, sides.keys, sums);
        let size = sums.len();
        kernels.fold(sums, &mut partial[t * size..][..size]);
    }
    let tiles = group.tiles();
    let [weights, changes, slopes, turns] = &*panels;
    let add = |panel: &[T], packed: &Packed<T>, sums: &mut [T]| {
        let mut rows: [&[T]; GROUP] = [&[]; GROUP];
        for (t, rows) in rows.iter_mut().enumerate().take(tiles) {
            *rows = packed.panels_of(t, lanes);
        }
        kernels.key_sums(panel, &rows[..tiles], tiles_of, GROUP.div_ceil(lanes), sums);
    };
    add(turns, &group.queries[0], key_sums);
    add(slopes, &group.queries[1], key_sums);
    for (panel, packed) in [changes, weights].into_iter().zip(&group.dout) {
        add(panel, packed, value_sums);
    }
}
