//! Both passes for the query side, a few tiles of queries at a time with the score cache of pass 1.

use std::sync::{Mutex, PoisonError};

use super::Residual;
use super::backward::{BackwardTask, Queries};
use super::blocking::kept_tiles;
use super::engine::{Engine, Forward, Values};
use super::forward::Spread;
use super::fused::FirstTask;
use super::kept;
use super::residual::{Given, Row};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::take;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Results of both passes, besides w.
pub struct Fused<T> {
    /// Without its output.
    pub forward: Forward<T>,
    /// Statistics of c, row by row.
    pub rows: Vec<Row>,
    /// Σ_i p_i² of each row.
    pub p_squares: Vec<f64>,
}

/// The part of [`Fused`] that the tasks fill, not yet given out.
pub(super) struct Unfilled<'a, T> {
    pub shift: &'a mut [T],
    pub total: &'a mut [f64],
    pub spread: &'a mut [Spread],
    pub rows: &'a mut [Row],
    pub p_squares: &'a mut [f64],
}

impl<T: Float> Fused<T> {
    pub(super) fn new(n: usize) -> Result<Self, Error> {
        Ok(Fused { forward: Forward::new(n)?, rows: buffer::filled(n, Row::default())?, p_squares: buffer::zeros(n)? })
    }

    pub(super) fn unfilled(&mut self) -> Unfilled<'_, T> {
        let Forward { shift, total, spread, .. } = &mut self.forward;
        Unfilled { shift, total, spread, rows: &mut self.rows, p_squares: &mut self.p_squares }
    }
}

impl<'a, T> Unfilled<'a, T> {
    /// Cuts off the first `count` rows.
    pub(super) fn take(&mut self, count: usize) -> Unfilled<'a, T> {
        Unfilled {
            shift: take(&mut self.shift, count),
            total: take(&mut self.total, count),
            spread: take(&mut self.spread, count),
            rows: take(&mut self.rows, count),
            p_squares: take(&mut self.p_squares, count),
        }
    }
}

impl<T: Float> Engine<'_, T> {
    /// Numbers that one tile of queries keeps.
    pub(super) fn kept_stride(&self) -> usize {
        kept::stride(self.kernels.lanes, self.keys.count, self.kernels.keys)
    }

    /// Both passes for the query side: as [`Engine::forward`] and then [`Engine::backward`], to the bit. `None` where
    /// the score cache is too large.
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
        let bytes = stride.saturating_mul(size_of::<T>());
        // No more tiles at a time than leave every thread some.
        let shared = n.div_ceil(lanes).div_ceil(2 * run.threads());
        let tiles = kept_tiles(bytes, run.threads(), self.blocking.kept_bytes).min(shared);
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
        let kernels = self.kernels;
        run.for_each(tasks, |(first, queries, part), cancel| {
            let lock = || rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let mut room = lock().pop().ok_or_else(|| Error::Internal("more workers than rooms".into()))?;
            // Of the task before.
            buffer::poison(&mut room);
            let rows = first..first + part.rows.len();
            let (kept, rest) = room.split_at_mut(tiles * stride);
            let (c, r) = rest.split_at_mut(group * value_width);
            let bound = &self.bound[rows.clone()];
            let (c, r) = (&mut c[..rows.len() * value_width], &mut r[..rows.len()]);
            let task = FirstTask {
                first,
                queries,
                bound,
                given: given.rows(rows, value_width),
                unit,
                c: &mut *c,
                r: &mut *r,
                shift: &mut *part.shift,
                total: part.total,
                spread: part.spread,
                rows: part.rows,
                kept: &mut *kept,
            };
            let result = kernels.first(&operands, task, cancel).and_then(|()| {
                let task = BackwardTask {
                    first,
                    keys: 0..operands.keys.count,
                    queries: Queries::Replaced(queries),
                    residual: Residual { c, r, shift: part.shift, bound },
                    squares: part.p_squares,
                };
                kernels.second(&operands, task, kept, cancel)
            });
            lock().push(room);
            result
        })?;
        self.queries = queries;
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests;
