//! Both passes with what pass 1 keeps: tile by tile for the query side, in waves of queries for both sides.

use std::sync::{Mutex, PoisonError};

use super::both_sides::{ChunkTask, Group, Wave};
use super::engine::{Engine, FORWARD_SHARE, Forward, Prepared, Values, take};
use super::fused::{FirstTask, FusedTask};
use super::kept;
use super::residual::{Given, Incoming, Row};
use super::{Kernels, Operands, Residual};
use crate::buffer::{self, Aligned};
use crate::constants::{
    CHUNK_KEYS, KEPT_BYTES, KEPT_TILES, KEY_BLOCK_MIN, KEY_SIDE_QUERIES, WAVE_CHUNKS, WAVE_QUERIES,
};
use crate::error::Error;
use crate::float::Float;
use crate::pool::Run;
use crate::tile::Rows;

/// What both passes found, besides w.
pub struct Fused<T> {
    /// Without its output.
    pub forward: Forward<T>,
    /// What is known of c.
    pub rows: Vec<Row>,
    /// Σ_i p_i² of each row.
    pub p_squares: Vec<f64>,
}

/// What the key side of pass 2 found, in the unit of [`Prepared`].
pub struct KeySide {
    /// pᵀ Q̂, (m, d).
    pub keys: Vec<f64>,
    /// fᵀ c, (m, dv).
    pub values: Vec<f64>,
}

/// The part of [`Fused`] that the tasks fill, not yet given out.
struct Unfilled<'a, T> {
    shift: &'a mut [T],
    total: &'a mut [f64],
    squares: &'a mut [f64],
    rows: &'a mut [Row],
    p_squares: &'a mut [f64],
}

impl<T: Float> Fused<T> {
    fn new(n: usize) -> Result<Self, Error> {
        let forward = Forward {
            output: Vec::new(),
            shift: buffer::zeros(n)?,
            total: buffer::zeros(n)?,
            squares: buffer::zeros(n)?,
        };
        Ok(Fused { forward, rows: buffer::zeros(n)?, p_squares: buffer::zeros(n)? })
    }

    fn unfilled(&mut self) -> Unfilled<'_, T> {
        let Forward { shift, total, squares, .. } = &mut self.forward;
        Unfilled { shift, total, squares, rows: &mut self.rows, p_squares: &mut self.p_squares }
    }
}

impl<'a, T> Unfilled<'a, T> {
    /// Cuts off the first `count` rows.
    fn take(&mut self, count: usize) -> Unfilled<'a, T> {
        Unfilled {
            shift: take(&mut self.shift, count),
            total: take(&mut self.total, count),
            squares: take(&mut self.squares, count),
            rows: take(&mut self.rows, count),
            p_squares: take(&mut self.p_squares, count),
        }
    }
}

impl<T: Float> Engine<T> {
    /// Numbers that one tile of queries keeps.
    fn kept_stride(&self) -> usize {
        kept::stride(self.kernels.lanes, self.keys.count, self.kernels.keys)
    }

    /// Both passes for the query side: as [`Engine::forward`] and then [`Engine::backward`], to the bit. `None` where
    /// what pass 1 would keep for pass 2 is too large for all threads together.
    pub fn fused(
        &mut self,
        values: &Values<T>,
        given: Given<'_, T>,
        unit: f64,
        run: &mut Run<'_>,
    ) -> Result<Option<Fused<T>>, Error> {
        let (n, width, value_width) = (self.count, self.keys.width, values.rows.width);
        let lanes = self.kernels.lanes;
        let stride = self.kept_stride();
        let bytes = stride.saturating_mul(size_of::<T>()).saturating_mul(run.threads());
        // No more tiles at a time than leave every thread some.
        let shared = n.div_ceil(lanes).div_ceil(2 * run.threads());
        let tiles = (KEPT_BYTES / bytes.max(1)).min(KEPT_TILES).min(shared);
        if tiles == 0 || self.keys.count == 0 {
            return Ok(None);
        }
        run.phase(1.0);
        let mut found = Fused::new(n)?;
        let mut queries = std::mem::take(&mut self.queries);
        let operands = self.operands(values);
        let group = tiles * lanes;
        // A thread takes the room that another one left: fresh memory would be cleared for each task.
        let mut rooms = buffer::with_capacity(run.threads())?;
        for _ in 0..run.threads() {
            rooms.push(buffer::aligned::<T>(tiles * stride + group * (value_width + 1))?);
        }
        let rooms = Mutex::new(rooms);
        let (mut rest, mut rest_queries) = (found.unfilled(), queries.as_mut_slice());
        let tasks = (0..n).step_by(group).map(|first| {
            let count = group.min(n - first);
            (first, take(&mut rest_queries, count * width), rest.take(count))
        });
        let kernel = self.kernels.fused;
        run.for_each(tasks, |(first, queries, part), cancel| {
            let lock = || rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let mut room = lock().pop().ok_or_else(|| Error::Internal("more workers than rooms".into()))?;
            let rows = first..first + part.rows.len();
            let (kept, rest) = room.split_at_mut(tiles * stride);
            let (c, r) = rest.split_at_mut(group * value_width);
            let task = FusedTask {
                first: FirstTask {
                    first,
                    queries: &[],
                    bound: &self.bound[rows.clone()],
                    given: given.rows(rows.clone(), value_width),
                    unit,
                    c: &mut c[..rows.len() * value_width],
                    r: &mut r[..rows.len()],
                    shift: part.shift,
                    total: part.total,
                    squares: part.squares,
                    rows: part.rows,
                    kept,
                },
                queries,
                p_squares: part.p_squares,
            };
            // SAFETY: Options::level admits only levels that this processor has.
            let result = unsafe { kernel(&operands, task, cancel) };
            lock().push(room);
            result
        })?;
        self.queries = queries;
        Ok(Some(found))
    }

    /// Both passes for both sides: as [`Engine::fused`], and pᵀ Q̂ and fᵀ c besides.
    pub fn both_sides(
        &mut self,
        values: &Values<T>,
        given: Given<'_, T>,
        unit: f64,
        run: &mut Run<'_>,
    ) -> Result<(Fused<T>, KeySide), Error> {
        self.both_sides_within(KEPT_BYTES, values, given, unit, run)
    }

    /// The same with another room for what is kept.
    fn both_sides_within(
        &mut self,
        room: usize,
        values: &Values<T>,
        given: Given<'_, T>,
        unit: f64,
        run: &mut Run<'_>,
    ) -> Result<(Fused<T>, KeySide), Error> {
        let (n, m) = (self.count, self.keys.count);
        let (width, value_width) = (self.keys.width, values.rows.width);
        let mut side = KeySide {
            keys: buffer::zeros(buffer::size(&[m, width])?)?,
            values: buffer::zeros(buffer::size(&[m, value_width])?)?,
        };
        let mut found = Fused::new(n)?;
        // By the shape alone: the order of summation must not know the threads.
        let fit = room / m.saturating_mul(size_of::<T>()).max(1) / KEY_SIDE_QUERIES * KEY_SIDE_QUERIES;
        let (keep, wave) = (fit > 0 && m > 0, if fit > 0 { fit.min(WAVE_QUERIES) } else { WAVE_QUERIES });
        let mut prepared = None;
        if !keep {
            let mut forward = self.forward(values, run)?;
            let output = std::mem::take(&mut forward.output);
            let incoming = Incoming::new(output, value_width, n, |i, output| given.c(i, output))?;
            found.rows.copy_from_slice(&incoming.rows);
            prepared = Some(incoming.prepare(&forward, unit)?);
            found.forward = forward;
        }
        let mut queries = std::mem::take(&mut self.queries);
        if m == 0 {
            queries.fill(T::zero());
        } else {
            let operands = self.operands(values);
            let stride = self.kept_stride();
            let mut waves = Waves::new(m, width, n.min(wave), self.kernels.lanes)?;
            let tiles = n.min(wave).div_ceil(self.kernels.lanes);
            let mut kept = buffer::aligned::<T>(if keep { buffer::size(&[tiles, stride])? } else { 0 })?;
            for first in (0..n).step_by(wave) {
                let rows = first..n.min(first + wave);
                let queries = &mut queries[first * width..rows.end * width];
                let fresh;
                let residual = match &prepared {
                    Some(prepared) => self.residual(&found.forward, prepared).rows(rows.clone()),
                    None => {
                        run.phase((first as f64 + FORWARD_SHARE * rows.len() as f64) / n as f64);
                        let given = given.rows(rows.clone(), value_width);
                        fresh = self.first(values, queries, rows.clone(), given, unit, &mut kept, &mut found, run)?;
                        let (shift, bound) = (&found.forward.shift[rows.clone()], &self.bound[rows.clone()]);
                        Residual { c: &fresh.c, r: &fresh.r, shift, bound }
                    }
                };
                run.phase(rows.end as f64 / n as f64);
                let c = Rows { data: residual.c, count: rows.len(), width: value_width };
                let groups = Group::all(Rows { data: queries, count: rows.len(), width }, c, self.kernels.lanes)?;
                let view = Wave { first, groups: &groups, residual, kept: keep.then_some(&kept[..]), stride };
                waves.run(&operands, &view, &mut side, self.kernels, run)?;
                waves.fold(queries, &mut found.p_squares[rows], run)?;
            }
        }
        self.queries = queries;
        Ok((found, side))
    }

    /// Pass 1 and the step to c for one wave.
    #[allow(clippy::too_many_arguments, reason = "what a wave reads and what it writes")]
    fn first(
        &self,
        values: &Values<T>,
        queries: &[T],
        rows: std::ops::Range<usize>,
        given: Given<'_, T>,
        unit: f64,
        kept: &mut [T],
        found: &mut Fused<T>,
        run: &mut Run<'_>,
    ) -> Result<Prepared<T>, Error> {
        let (width, value_width, lanes) = (self.keys.width, values.rows.width, self.kernels.lanes);
        let mut prepared = Prepared { c: buffer::zeros(rows.len() * value_width)?, r: buffer::zeros(rows.len())? };
        let tiles = rows.len().div_ceil(lanes);
        // Two tasks a thread even out; the grouping changes no bit.
        let group = tiles.div_ceil(2 * run.threads()).min(KEPT_TILES) * lanes;
        let stride = self.kept_stride();
        let operands = self.operands(values);
        let mut rest = found.unfilled();
        rest.take(rows.start);
        let (mut c, mut r, mut kept) = (&mut prepared.c[..], &mut prepared.r[..], kept);
        let tasks = (0..rows.len()).step_by(group).map(|at| {
            let count = group.min(rows.len() - at);
            let part = rest.take(count);
            let own = at..at + count;
            FirstTask {
                first: rows.start + at,
                queries: &queries[own.start * width..own.end * width],
                bound: &self.bound[rows.start + at..][..count],
                given: given.rows(own, value_width),
                unit,
                c: take(&mut c, count * value_width),
                r: take(&mut r, count),
                shift: part.shift,
                total: part.total,
                squares: part.squares,
                rows: part.rows,
                kept: take(&mut kept, count.div_ceil(lanes) * stride),
            }
        });
        let kernel = self.kernels.first;
        run.for_each(tasks, |task, cancel| {
            // SAFETY: Options::level admits only levels that this processor has.
            unsafe { kernel(&operands, task, cancel) }
        })?;
        Ok(prepared)
    }
}

/// The buffers of a wave: one partial w, `[tile][width][L]`, and one partial Σ p² per chunk of keys.
struct Waves<T> {
    partial: Aligned<T>,
    squares: Vec<f64>,
    width: usize,
    lanes: usize,
    chunk: usize,
    chunks: usize,
}

impl<T: Float> Waves<T> {
    fn new(m: usize, width: usize, rows: usize, lanes: usize) -> Result<Self, Error> {
        // By the shape alone: the order of summation must not know the threads.
        let chunk = m.div_ceil(WAVE_CHUNKS).next_multiple_of(KEY_BLOCK_MIN).max(CHUNK_KEYS);
        let chunks = m.div_ceil(chunk);
        Ok(Waves {
            partial: buffer::aligned(buffer::size(&[chunks, rows.next_multiple_of(lanes), width])?)?,
            squares: buffer::zeros(chunks * rows)?,
            width,
            lanes,
            chunk,
            chunks,
        })
    }

    fn run(
        &mut self,
        operands: &Operands<'_, T>,
        wave: &Wave<'_, T>,
        side: &mut KeySide,
        kernels: Kernels<T>,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let m = operands.keys.count;
        let rows = wave.residual.shift.len();
        let partial_rows = rows.next_multiple_of(self.lanes);
        let (mut partial, mut squares) = (&mut self.partial[..], self.squares.as_mut_slice());
        let (mut key_sums, mut value_sums) = (side.keys.as_mut_slice(), side.values.as_mut_slice());
        let (width, chunk) = (self.width, self.chunk);
        let tasks = (0..m).step_by(chunk).map(|first| {
            let keys = first..m.min(first + chunk);
            ChunkTask {
                key_sums: take(&mut key_sums, keys.len() * width),
                value_sums: take(&mut value_sums, keys.len() * operands.values.width),
                partial: take(&mut partial, partial_rows * width),
                squares: take(&mut squares, rows),
                keys,
            }
        });
        run.for_each(tasks, |task, cancel| {
            // SAFETY: Options::level admits only levels that this processor has.
            unsafe { (kernels.both_sides)(operands, wave, task, cancel) }
        })
    }

    /// Folds the partial sums in the order of the chunks.
    fn fold(&self, w: &mut [T], squares: &mut [f64], run: &mut Run<'_>) -> Result<(), Error> {
        let (rows, width, lanes) = (squares.len(), self.width, self.lanes);
        for (j, square) in squares.iter_mut().enumerate() {
            *square = (0..self.chunks).map(|chunk| self.squares[chunk * rows + j]).sum();
        }
        let parts = rows.next_multiple_of(lanes) * width;
        let mut rest = w;
        let tasks = (0..rows).step_by(lanes).map(|first| (first, take(&mut rest, lanes.min(rows - first) * width)));
        run.for_each(tasks, |(first, w), _| {
            let mut sums = buffer::zeros::<f64>(lanes * width)?;
            for chunk in 0..self.chunks {
                let partial = &self.partial[chunk * parts + first * width..][..lanes * width];
                for (sum, part) in sums.iter_mut().zip(partial) {
                    *sum += part.widen();
                }
            }
            for (l, row) in w.chunks_exact_mut(width.max(1)).enumerate() {
                for (i, w) in row.iter_mut().enumerate() {
                    *w = T::narrow(sums[i * lanes + l]);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
