//! Pass 1 that keeps its weights, and goes on to c; and pass 2 from these weights.
//!
//! With the score cache the query side costs 8 n² d operations, not 10, and both sides 12, not 14.

use super::Operands;
use super::backward::{BackwardTask, backward};
use super::forward::{ForwardTask, Output, Spread, forward};
use super::kept::{self, Read, Written};
use super::residual::{Given, Row};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Inputs and outputs of pass 1 and of the step to c for the queries `first..first + rows.len()`.
pub struct FirstTask<'a, T> {
    /// Index of the first query.
    pub first: usize,
    /// Queries times scale · log2 e, row-major.
    pub queries: &'a [T],
    /// ‖query‖ · max ‖key‖, in the units of the logits.
    pub bound: &'a [f64],
    /// Rows that c is made of.
    pub given: Given<'a, T>,
    /// The power of two taken out of c.
    pub unit: f64,
    /// c / (α · unit), row-major.
    pub c: &'a mut [T],
    /// ⟨c, o⟩ / (α · unit).
    pub r: &'a mut [T],
    /// Shift that is subtracted from the logits of a row.
    pub shift: &'a mut [T],
    /// Σ_i 2^(S_i − shift).
    pub total: &'a mut [f64],
    /// Spread of the weights of each row.
    pub spread: &'a mut [Spread],
    /// Statistics of c, row by row.
    pub rows: &'a mut [Row],
    /// Room for the score cache.
    pub kept: &'a mut [T],
}

/// Pass 1 and the step to c for one task. Time rows · m · 2 (d + dv), scratch rows · (d + 3 dv).
#[inline(always)]
pub fn first<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    task: FirstTask<'_, T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let width = operands.values.width;
    let pass = ForwardTask {
        first: task.first,
        queries: task.queries,
        bound: task.bound,
        keys: 0..operands.keys.count,
        output: Output::Whole(&mut *task.c),
        shift: task.shift,
        total: task.total,
        spread: task.spread,
    };
    let stride = kept::stride(L, operands.keys.count, J);
    buffer::poison(task.kept);
    forward::<T, V, W, L, J>(operands, pass, &mut Written::new(task.kept, stride), cancel)?;
    for (j, row) in task.rows.iter_mut().enumerate() {
        let c = &mut task.c[j * width..][..width];
        *row = Row::new(c, task.given.rows(j..j + 1, width));
        task.r[j] = row.prepare(c, task.total[j] * task.unit);
    }
    Ok(())
}

/// Pass 2 for one task, from the weights that [`first`] left. Time rows · m · (2 d + 2 dv), scratch rows · (4 d + dv).
#[inline(always)]
pub fn second<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    task: BackwardTask<'_, T>,
    kept: &[T],
    cancel: &Cancel,
) -> Result<(), Error> {
    let stride = kept::stride(L, operands.keys.count, J);
    backward::<T, V, W, L, J>(operands, task, &mut Read::new(kept, stride), cancel)
}
