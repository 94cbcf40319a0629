//! The two passes over query, key and value.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use super::backward::{BackwardTask, Queries};
use super::blocking::Blocking;
use super::forward::{ForwardTask, Output, Spread};
use super::kernels::Kernels;
use super::operands::key_block;
use super::residual::Prepared;
use super::sight::Sight;
use super::{Operands, Residual};
use crate::constants::{LEAST_TASK_QUERIES, LEAST_TASKS, TASK_QUERIES};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::Strips;
use crate::linalg::layout::Rows;
use crate::linalg::layout::take;
use crate::linalg::norms::largest;
use crate::options::Options;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Share of pass 1 in the work of both (4 of 10 n² d), for the progress.
pub(super) const FORWARD_SHARE: f64 = 0.4;

/// Query and key as the passes want them.
pub struct Engine<'a, T: Float> {
    /// Queries times scale · log2 e, so that weights are powers of two; after pass 2, w = p K.
    pub queries: Vec<T>,
    /// Rows of the queries.
    pub count: usize,
    /// The keys.
    pub keys: Strips<T>,
    /// ‖query‖ · max ‖key‖ of the keys that it sees, in base-2 units.
    pub bound: Vec<f64>,
    /// max ‖query‖ and max ‖key‖.
    pub largest_query: f64,
    pub largest_key: f64,
    pub(super) sight: Sight<'a, T>,
    pub(super) kernels: Kernels<T>,
    key_block: Option<NonZeroUsize>,
    pub(super) blocking: Blocking,
}

/// Values, and how large they are.
pub struct Values<T> {
    /// One row a key.
    pub rows: Strips<T>,
    /// The largest of them.
    pub largest: f64,
    /// The largest of those that each query sees.
    pub seen: Vec<f64>,
}

impl<'a, T: Float> Engine<'a, T> {
    /// Packs the values, and measures them where their norms are not known.
    pub fn values(&self, rows: Rows<'_, T>, norms: Option<&[f64]>, run: &mut Run<'_>) -> Result<Values<T>, Error> {
        let norms = match norms {
            Some(norms) => Cow::Borrowed(norms),
            None => Cow::Owned(self.kernels.row_norms(rows, run)?),
        };
        let seen = self.seen(&norms)?;
        Ok(Values { rows: Strips::packed(rows, self.kernels.keys, run)?, largest: largest(norms.iter()), seen })
    }

    /// The largest of these numbers, one a key, that each query sees.
    pub fn seen(&self, numbers: &[f64]) -> Result<Vec<f64>, Error> {
        self.sight.largest(numbers, self.count)
    }
}

/// Results of pass 1.
pub struct Forward<T> {
    /// o, (n, dv).
    pub output: Vec<T>,
    /// Shift that was subtracted from the logits.
    pub shift: Vec<T>,
    /// α after the shift.
    pub total: Vec<f64>,
    /// Spread of the weights of each row.
    pub spread: Vec<Spread>,
}

impl<T: Float> Forward<T> {
    /// Room for the results of `n` queries, zeros, without their output.
    pub(super) fn new(n: usize) -> Result<Self, Error> {
        Ok(Forward {
            output: Vec::new(),
            shift: buffer::zeros(n)?,
            total: buffer::zeros(n)?,
            spread: buffer::filled(n, Spread::default())?,
        })
    }
}

impl<'a, T: Float> Engine<'a, T> {
    /// Takes queries already multiplied by scale · log2 e.
    ///
    /// # Errors
    /// [`Error::Range`] where a logit might overflow.
    pub fn new(
        queries: Vec<T>,
        count: usize,
        keys: Rows<'_, T>,
        sight: Sight<'a, T>,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let kernels = Kernels::<T>::of(options.isa()?);
        let rows = Rows { data: &queries, count, width: keys.width };
        let norms = [kernels.row_norms(rows, run)?, kernels.row_norms(keys, run)?];
        Engine::measured(queries, norms, keys, sight, options, run)
    }

    /// The same where the norms of queries and keys are known.
    ///
    /// # Errors
    /// [`Error::Range`] where a logit might overflow.
    pub fn measured(
        queries: Vec<T>,
        [mut bound, key_norms]: [Vec<f64>; 2],
        keys: Rows<'_, T>,
        mut sight: Sight<'a, T>,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let count = bound.len();
        let (largest_query, largest_key) = (largest(&bound), largest(&key_norms));
        let widest = sight.largest(&key_norms, count)?;
        for (bound, widest) in bound.iter_mut().zip(&widest) {
            // The norm of large keys may overflow; nothing is the logit of a query that is zero.
            *bound = if *bound == 0.0 && widest.is_infinite() { 0.0 } else { *bound * widest };
        }
        if let Some(pairs) = &mut sight.pairs {
            pairs.bound(&mut bound);
        }
        // A partial sum is at most the bound, so half of the range leaves room for its rounding.
        if !bound.iter().all(|&bound| bound < T::MAX / 2.0) {
            return Err(Error::Range {
                quantity: "a logit (scale · query · key)".into(),
                precision: T::NAME,
                remedy: "scale the inputs down, or use float64",
            });
        }
        let kernels = Kernels::<T>::of(options.isa()?);
        let keys = Strips::packed(keys, kernels.keys, run)?;
        let blocking = Blocking::new();
        let key_block = options.key_block;
        Ok(Engine { queries, count, keys, bound, largest_query, largest_key, sight, kernels, key_block, blocking })
    }

    /// Keys that are summed in working precision at a time, no more than there are.
    pub(super) fn key_block(&self, value_width: usize) -> usize {
        let (asked, strip) = (self.key_block, self.keys.strip_rows());
        key_block::<T>(asked, self.keys.width + value_width, strip).min(self.keys.count.max(1).next_multiple_of(strip))
    }

    pub(super) fn operands<'b>(&'b self, values: &'b Values<T>) -> Operands<'b, T> {
        let &Values { rows: ref values, largest, .. } = values;
        let room = T::UNSHIFTED_VALUES.exp2();
        Operands {
            keys: &self.keys,
            values,
            sight: self.sight.intervals.as_deref(),
            pairs: self.sight.pairs.as_ref(),
            key_block: self.key_block(values.width),
            values_in_range: largest == 0.0 || (largest < room && largest > room.recip()),
        }
    }

    /// Pass 1: o = f · values, the row normaliser and the spread of f; it takes the progress to `end`.
    pub fn forward(&self, values: &Values<T>, end: f64, run: &mut Run<'_>) -> Result<Forward<T>, Error> {
        let mut output = buffer::zeros(buffer::size(&[self.count, values.rows.width])?)?;
        let found = self.forward_into(values, &mut output, end, run)?;
        Ok(Forward { output, ..found })
    }

    /// The same with room for o, zeros; the result has none.
    pub fn forward_into(
        &self,
        values: &Values<T>,
        output: &mut [T],
        end: f64,
        run: &mut Run<'_>,
    ) -> Result<Forward<T>, Error> {
        let (mut output, width) = (output, values.rows.width);
        run.phase(end);
        self.forward_each(values, |rows| Output::Whole(take(&mut output, rows * width)), run)
    }

    /// The same for keys that are only some of those there are, with room for Σ_i 2^(S_i − shift) h_i, zeros.
    pub fn forward_part(&self, values: &Values<T>, sums: &mut [f64], run: &mut Run<'_>) -> Result<Forward<T>, Error> {
        let (mut sums, width) = (sums, values.rows.width);
        run.phase(1.0);
        self.forward_each(values, |rows| Output::Part(take(&mut sums, rows * width)), run)
    }

    /// Pass 1 with room for what it leaves of so many rows after the other.
    fn forward_each<'b>(
        &self,
        values: &Values<T>,
        mut room: impl FnMut(usize) -> Output<'b, T> + Send,
        run: &mut Run<'_>,
    ) -> Result<Forward<T>, Error>
    where
        T: 'b,
    {
        let (n, width) = (self.count, self.keys.width);
        let mut forward = Forward::new(n)?;
        if self.keys.count == 0 {
            return Ok(forward);
        }
        let operands = self.operands(values);
        let Forward { shift, total, spread, .. } = &mut forward;
        let (mut shift, mut total) = (shift.as_mut_slice(), total.as_mut_slice());
        let mut spread = spread.as_mut_slice();
        let each = task_queries(n, run.threads());
        let tasks = (0..n).step_by(each).map(|first| {
            let rows = each.min(n - first);
            ForwardTask {
                first,
                queries: &self.queries[first * width..(first + rows) * width],
                bound: &self.bound[first..first + rows],
                keys: 0..self.keys.count,
                output: room(rows),
                shift: take(&mut shift, rows),
                total: take(&mut total, rows),
                spread: take(&mut spread, rows),
            }
        });
        let kernels = self.kernels;
        run.for_each(tasks, |task, cancel| kernels.forward(&operands, task, cancel))?;
        Ok(forward)
    }

    /// Pass 2 for the query side: replaces the queries by w = p K; returns Σ_i p_i² of each row.
    pub fn backward(
        &mut self,
        values: &Values<T>,
        forward: &Forward<T>,
        prepared: &Prepared<T>,
        run: &mut Run<'_>,
    ) -> Result<Vec<f64>, Error> {
        let (n, width) = (self.count, self.keys.width);
        let mut squares = buffer::zeros::<f64>(n)?;
        let mut queries = std::mem::take(&mut self.queries);
        if self.keys.count == 0 {
            queries.fill(T::zero());
        } else {
            run.phase(1.0);
            let operands = self.operands(values);
            let residual = self.residual(forward, prepared);
            let (mut squares, mut queries) = (squares.as_mut_slice(), queries.as_mut_slice());
            let each = task_queries(n, run.threads());
            let tasks = (0..n).step_by(each).map(|first| {
                let rows = each.min(n - first);
                BackwardTask {
                    first,
                    keys: 0..self.keys.count,
                    queries: Queries::Replaced(take(&mut queries, rows * width)),
                    residual: residual.rows(first..first + rows),
                    squares: take(&mut squares, rows),
                }
            });
            let kernels = self.kernels;
            run.for_each(tasks, |task, cancel| kernels.backward(&operands, task, cancel))?;
        }
        self.queries = queries;
        Ok(squares)
    }

    pub(super) fn residual<'b>(&'b self, forward: &'b Forward<T>, prepared: &'b Prepared<T>) -> Residual<'b, T> {
        Residual { c: &prepared.c, r: &prepared.r, shift: &forward.shift, bound: &self.bound }
    }
}

/// Queries of a task: fewer where there are few, so that several threads share them. The grouping changes no bit.
fn task_queries(n: usize, threads: usize) -> usize {
    if threads == 1 {
        return TASK_QUERIES;
    }
    n.div_ceil(LEAST_TASKS).next_multiple_of(LEAST_TASK_QUERIES).clamp(LEAST_TASK_QUERIES, TASK_QUERIES)
}
