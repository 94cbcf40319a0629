//! Both passes for both sides, in waves of queries that all threads go through together.
//!
//! All waves are one list of tasks: the slots of a wave are loaded while the sums of the wave before are folded, and
//! then every chunk of keys meets the wave. Data that a later task takes over from an earlier one are behind a lock,
//! which no other task holds by then.

use std::f64::consts::LN_2;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Operands;
use super::both_sides::{ChunkTask, Wave};
use super::engine::{Engine, FORWARD_SHARE, Values};
use super::fused::FirstTask;
use super::residual::{Given, Incoming, Prepared};
use super::resumed::{Resumed, ResumedTask};
use super::slot::Slot;
use super::waves::{Fused, Unfilled};
use crate::constants::{KEPT_TILES, KEY_BLOCK_MIN, KEY_SIDE_QUERIES, WAVE_CHUNKS};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::layout::take;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::{Cancel, Run};

/// Room for the key side of pass 2.
pub struct KeySide<'a, T> {
    /// s pᵀ Q, (m, d), in natural units.
    pub keys: &'a mut [T],
    /// fᵀ c, (m, dv).
    pub values: &'a mut [T],
}

/// Origin of c, r and the shift of each row.
enum Before<'a, T> {
    /// Pass 1, wave by wave, which leaves its weights.
    Nothing,
    /// Pass 1 over all rows, as its weights cannot be kept.
    Prepared(Prepared<T>),
    /// The results of pass 1 that the caller has.
    Resumed(Resumed<'a, T>),
}

impl<T: Float> Engine<'_, T> {
    /// Both passes for both sides: as [`Engine::fused`], and pᵀ Q̂ and fᵀ c besides. Pass 1 is left out where the caller
    /// has its results.
    pub fn both_sides(
        &mut self,
        values: &Values<T>,
        (given, resumed): (Given<'_, T>, Option<Resumed<'_, T>>),
        unit: f64,
        side: KeySide<'_, T>,
        run: &mut Run<'_>,
    ) -> Result<Fused<T>, Error> {
        let (n, m, value_width) = (self.count, self.keys.count, values.rows.width);
        if m == 0 || n == 0 {
            return self.no_pairs(value_width, given, side, run);
        }
        let most = self.blocking.wave_queries;
        let fit = self.blocking.kept_bytes / m.saturating_mul(size_of::<T>()) / KEY_SIDE_QUERIES * KEY_SIDE_QUERIES;
        let mut found = Fused::new(n)?;
        let before = match resumed {
            Some(resumed) => Before::Resumed(resumed),
            None if fit > 0 => Before::Nothing,
            None => {
                let mut forward = self.forward(values, FORWARD_SHARE, run)?;
                let output = std::mem::take(&mut forward.output);
                let incoming = Incoming::new(output, value_width, n, given, run)?;
                let (prepared, rows) = incoming.prepare(&forward.total, unit, run)?;
                found.rows = rows;
                found.forward = forward;
                Before::Prepared(prepared)
            }
        };
        // By the shape alone: the order of summation must not know the threads.
        let wave = n.min(if fit > 0 { fit.min(most) } else { most });
        let mut queries = std::mem::take(&mut self.queries);
        let turns = Turns::new(self, values, given, unit, (wave, before), (&mut queries, &mut found), run)?;
        turns.run(run)?;
        turns.key_side(side, run)?;
        self.queries = queries;
        Ok(found)
    }

    /// The results where there is no query or no key.
    fn no_pairs(
        &mut self,
        value_width: usize,
        given: Given<'_, T>,
        side: KeySide<'_, T>,
        run: &mut Run<'_>,
    ) -> Result<Fused<T>, Error> {
        let n = self.count;
        self.queries.fill(T::zero());
        let mut found = Fused::new(n)?;
        let output = buffer::zeros(buffer::size(&[n, value_width])?)?;
        found.rows = Incoming::new(output, value_width, n, given, run)?.rows;
        side.keys.fill(T::zero());
        side.values.fill(T::zero());
        Ok(found)
    }
}

/// The rows of a slot's queries, in whichever wave.
struct Part<'a, T> {
    /// In: Q̂. Out: w.
    queries: &'a mut [T],
    found: Unfilled<'a, T>,
}

/// A chunk of keys, its sums over the queries of all waves, and its part of the sums over keys of one wave.
struct Chunk {
    keys: Range<usize>,
    key_sums: Vec<f64>,
    value_sums: Vec<f64>,
    partial: Aligned<f64>,
    squares: Vec<f64>,
}

/// All waves of both passes.
struct Turns<'a, T: Float> {
    engine: &'a Engine<'a, T>,
    operands: Operands<'a, T>,
    given: Given<'a, T>,
    unit: f64,
    before: Before<'a, T>,
    /// Queries of a wave, and of a slot.
    wave: usize,
    each: usize,
    parts: Vec<Mutex<Part<'a, T>>>,
    slots: Vec<RwLock<Slot<T>>>,
    chunks: Vec<RwLock<Chunk>>,
}

/// A step of one wave.
enum Step {
    /// Fills the slot with this number.
    Load(usize),
    /// Folds the sums over keys of the queries of a slot.
    Fold(usize),
    /// Pass 2 of the chunk with this number.
    Chunk(usize),
}

impl<'a, T: Float> Turns<'a, T> {
    fn new(
        engine: &'a Engine<'a, T>,
        values: &'a Values<T>,
        given: Given<'a, T>,
        unit: f64,
        (wave, before): (usize, Before<'a, T>),
        (queries, found): (&'a mut [T], &'a mut Fused<T>),
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (n, m, lanes) = (engine.count, engine.keys.count, engine.kernels.lanes);
        let (width, value_width) = (engine.keys.width, values.rows.width);
        // Two tasks a thread even out; the grouping changes no bit.
        let tiles = wave.div_ceil(lanes).div_ceil(2 * run.threads()).min(KEPT_TILES);
        let each = tiles * lanes;
        let mut parts = buffer::with_capacity(n.div_ceil(each))?;
        let (mut rest, mut queries) = (found.unfilled(), queries);
        for first in (0..n).step_by(each) {
            let rows = each.min(n - first);
            parts.push(Mutex::new(Part { queries: take(&mut queries, rows * width), found: rest.take(rows) }));
        }
        let is_kept = matches!(before, Before::Nothing);
        let kept = if is_kept { buffer::size(&[tiles, engine.kept_stride()])? } else { 0 };
        let slots = made(wave.div_ceil(each), run, |_| Slot::new(width, value_width, (tiles, lanes), kept))?;
        // By the shape alone, as even as whole strips allow.
        let pieces = m.div_ceil(KEY_BLOCK_MIN);
        let least = engine.blocking.chunk_keys;
        // What one thread does at once anyway is not cut.
        let count = if n <= wave && m <= 2 * least { 1 } else { m.div_ceil(least).min(WAVE_CHUNKS) };
        let cut = |chunk: usize| m.min(chunk * pieces / count * KEY_BLOCK_MIN);
        let chunks = made(count, run, |chunk| {
            let keys = cut(chunk)..cut(chunk + 1);
            Ok(Chunk {
                key_sums: buffer::zeros(buffer::size(&[keys.len(), width])?)?,
                value_sums: buffer::zeros(buffer::size(&[keys.len(), value_width])?)?,
                partial: buffer::aligned(buffer::size(&[wave.next_multiple_of(lanes), width])?)?,
                squares: buffer::zeros(wave)?,
                keys,
            })
        })?;
        let operands = engine.operands(values);
        Ok(Turns { engine, operands, given, unit, before, wave, each, parts, slots, chunks })
    }

    /// All steps of all waves. The last wave is one of folds alone.
    fn run(&self, run: &mut Run<'_>) -> Result<(), Error> {
        let (slots, chunks) = (self.slots.len(), self.chunks.len());
        let a_wave = 2 * slots + chunks;
        let waves = self.engine.count.div_ceil(self.wave);
        let steps = (0..waves * a_wave + 2 * slots).map(|i| {
            let (wave, step) = (i / a_wave, i % a_wave);
            let begin = wave * a_wave;
            if step < slots {
                (begin, (wave, Step::Load(step)))
            } else if step < 2 * slots {
                (begin, (wave, Step::Fold(step - slots)))
            } else {
                (begin + 2 * slots, (wave, Step::Chunk(step - 2 * slots)))
            }
        });
        run.phase(1.0);
        run.in_turn(chunks.max(2 * slots), steps, |(wave, step), cancel| match step {
            Step::Load(slot) => self.load(wave, slot, cancel),
            Step::Fold(slot) => wave.checked_sub(1).map_or(Ok(()), |wave| self.fold(wave, slot)),
            Step::Chunk(chunk) => self.chunk(wave, chunk, cancel),
        })
    }

    /// The index of the first query of a slot, and its rows; nothing past the last query.
    fn part(&self, wave: usize, slot: usize) -> Option<(usize, MutexGuard<'_, Part<'a, T>>)> {
        let first = wave * self.wave + slot * self.each;
        let part = self.parts.get(first / self.each).filter(|_| first < self.engine.count)?;
        Some((first, part.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Pass 1 and the step to c.
    fn load(&self, wave: usize, slot: usize, cancel: &Cancel) -> Result<(), Error> {
        let Some((first, mut part)) = self.part(wave, slot) else { return Ok(()) };
        let Part { queries, found } = &mut *part;
        let slot = &mut *written(&self.slots[slot]);
        let count = found.rows.len();
        // Of the wave before.
        [&mut slot.c, &mut slot.r, &mut slot.shift].into_iter().for_each(|part| buffer::poison(part));
        let (width, value_width) = (self.engine.keys.width, self.operands.values.width);
        let (rows, c) = (first..first + count, &mut slot.c[..count * value_width]);
        match &self.before {
            Before::Prepared(Prepared { c: all, r }) => {
                c.copy_from_slice(&all[rows.start * value_width..rows.end * value_width]);
                slot.r[..count].copy_from_slice(&r[rows]);
            }
            Before::Resumed(resumed) => {
                let task = ResumedTask {
                    saved: resumed.rows(rows.clone(), value_width),
                    bound: &self.engine.bound[rows.clone()],
                    given: self.given.rows(rows, value_width),
                    unit: self.unit,
                    c,
                    r: &mut slot.r[..count],
                    shift: found.shift,
                    rows: found.rows,
                };
                self.engine.kernels.resumed(&self.operands, task);
            }
            Before::Nothing => {
                let task = FirstTask {
                    first,
                    queries,
                    bound: &self.engine.bound[rows.clone()],
                    given: self.given.rows(rows, value_width),
                    unit: self.unit,
                    c,
                    r: &mut slot.r[..count],
                    shift: found.shift,
                    total: found.total,
                    spread: found.spread,
                    rows: found.rows,
                    kept: &mut slot.kept,
                };
                self.engine.kernels.first(&self.operands, task, cancel)?;
            }
        }
        slot.shift[..count].copy_from_slice(found.shift);
        self.engine.kernels.pack(slot, Rows { data: queries, count, width });
        Ok(())
    }

    /// Pass 2.
    fn chunk(&self, wave: usize, chunk: usize, cancel: &Cancel) -> Result<(), Error> {
        let first = wave * self.wave;
        let bound = &self.engine.bound[first..self.engine.count.min(first + self.wave)];
        let mut slots = buffer::with_capacity(self.slots.len())?;
        slots.extend(self.slots.iter().map(read));
        let slot_tiles = self.each / self.engine.kernels.lanes;
        let wave = Wave { first, bound, slots: &slots, slot_tiles, is_kept: matches!(self.before, Before::Nothing) };
        let Chunk { keys, key_sums, value_sums, partial, squares } = &mut *written(&self.chunks[chunk]);
        let task = ChunkTask { keys: keys.clone(), key_sums, value_sums, partial, squares };
        self.engine.kernels.both_sides(&self.operands, &wave, task, cancel)
    }

    /// The sums over keys, in the order of the chunks.
    fn fold(&self, wave: usize, slot: usize) -> Result<(), Error> {
        let Some((_, mut part)) = self.part(wave, slot) else { return Ok(()) };
        let (width, lanes, at) = (self.engine.keys.width, self.engine.kernels.lanes, slot * self.each);
        let Part { queries, found } = &mut *part;
        let count = found.p_squares.len();
        let mut chunks = buffer::with_capacity(self.chunks.len())?;
        chunks.extend(self.chunks.iter().map(read));
        for chunk in &chunks {
            for (sum, part) in found.p_squares.iter_mut().zip(&chunk.squares[at..]) {
                *sum += part;
            }
        }
        let mut sums = buffer::zeros::<f64>(lanes * width)?;
        let mut partials = buffer::with_capacity(chunks.len())?;
        partials.extend(chunks.iter().map(|chunk| &chunk.partial[at * width..]));
        let mut lane = buffer::zeros::<T>(lanes * width)?;
        self.engine.kernels.fold(&partials, (count, width), (&mut sums, &mut lane), queries);
        Ok(())
    }

    /// The sums over queries, out of their units.
    fn key_side(self, side: KeySide<'_, T>, run: &mut Run<'_>) -> Result<(), Error> {
        let KeySide { mut keys, mut values } = side;
        let (unit, kernels) = (self.unit, self.engine.kernels);
        let mut tasks = buffer::with_capacity(self.chunks.len())?;
        for chunk in self.chunks {
            let chunk = chunk.into_inner().unwrap_or_else(PoisonError::into_inner);
            tasks.push((take(&mut keys, chunk.key_sums.len()), take(&mut values, chunk.value_sums.len()), chunk));
        }
        run.for_each(tasks.into_iter(), |(keys, values, chunk), _| {
            kernels.narrowed(&chunk.key_sums, LN_2 * unit, keys);
            kernels.narrowed(&chunk.value_sums, unit, values);
            Ok(())
        })
    }
}

/// Makes `count` things with all threads: fresh memory is cleared by who asks for it.
fn made<S: Send>(
    count: usize,
    run: &mut Run<'_>,
    make: impl Fn(usize) -> Result<S, Error> + Sync,
) -> Result<Vec<RwLock<S>>, Error> {
    let mut things = buffer::with_capacity(count)?;
    things.resize_with(count, || None);
    run.for_each(things.iter_mut().enumerate(), |(i, thing), _| {
        *thing = Some(make(i)?);
        Ok(())
    })?;
    let mut locks = buffer::with_capacity(count)?;
    locks.extend(things.into_iter().flatten().map(RwLock::new));
    Ok(locks)
}

fn read<S>(lock: &RwLock<S>) -> RwLockReadGuard<'_, S> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn written<S>(lock: &RwLock<S>) -> RwLockWriteGuard<'_, S> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
