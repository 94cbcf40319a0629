//! Passes of few queries over many keys: tasks share the keys too. Each takes its part of them past all of its queries,
//! where tasks of few queries would each read all keys from memory, and one query would keep one thread.

use std::ops::Range;

use super::backward::{BackwardTask, Queries};
use super::engine::{Engine, Forward, Values};
use super::forward::{ForwardTask, Output, Spread, divisor};
use super::residual::Prepared;
use crate::constants::{LEAST_TASK_QUERIES, LEAST_TASKS, SPLIT_TASKS, TASK_QUERIES};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::take;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// A cut of few queries in groups, and of many keys in parts. It follows from the shape alone: the order of summation
/// must not know the threads.
pub(super) struct Split {
    queries: usize,
    group: usize,
    keys: usize,
    part: usize,
}

impl Split {
    /// Of keys in blocks of `block`, no fewer than `least` to a part; nothing where queries are enough tasks, or keys
    /// too few to share.
    pub fn new(queries: usize, keys: usize, block: usize, least: usize) -> Option<Self> {
        let groups = queries.div_ceil(TASK_QUERIES);
        if groups == 0 || groups >= LEAST_TASKS {
            return None;
        }
        let part = keys.div_ceil(SPLIT_TASKS.div_ceil(groups)).max(least).next_multiple_of(block);
        let group = queries.div_ceil(groups).next_multiple_of(LEAST_TASK_QUERIES);
        (part < keys).then_some(Split { queries, group, keys, part })
    }

    fn parts(&self) -> usize {
        self.keys.div_ceil(self.part)
    }

    /// Each part of the keys with each group of the queries, the groups of a part one after the other.
    fn tasks(&self) -> impl ExactSizeIterator<Item = (Range<usize>, Range<usize>)> {
        let &Split { queries, group, keys, part } = self;
        let groups = queries.div_ceil(group);
        let range = |at: usize, each: usize, end: usize| at * each..end.min((at + 1) * each);
        (0..self.parts() * groups).map(move |at| (range(at / groups, part, keys), range(at % groups, group, queries)))
    }
}

impl<T: Float> Engine<'_, T> {
    /// As [`Engine::forward_into`], with the keys shared where queries are few.
    pub fn forward_of_few(
        &self,
        values: &Values<T>,
        output: &mut [T],
        end: f64,
        run: &mut Run<'_>,
    ) -> Result<Forward<T>, Error> {
        let Some(split) = self.split(values) else { return self.forward_into(values, output, end, run) };
        run.phase(end);
        self.split_forward(&split, values, output, run)
    }

    /// As [`Engine::backward`], with the keys shared where queries are few; without Σ_i p_i².
    pub fn backward_of_few(
        &mut self,
        values: &Values<T>,
        forward: &Forward<T>,
        prepared: &Prepared<T>,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let Some(split) = self.split(values) else { return self.backward(values, forward, prepared, run).map(drop) };
        run.phase(1.0);
        let mut queries = std::mem::take(&mut self.queries);
        let done = self.split_backward(&split, values, (forward, prepared), &mut queries, run);
        self.queries = queries;
        done
    }

    fn split(&self, values: &Values<T>) -> Option<Split> {
        Split::new(self.count, self.keys.count, self.key_block(values.rows.width), self.blocking.split_keys)
    }

    /// Pass 1 by parts of the keys, with room for o.
    fn split_forward(
        &self,
        split: &Split,
        values: &Values<T>,
        output: &mut [T],
        run: &mut Run<'_>,
    ) -> Result<Forward<T>, Error> {
        let (n, width, value_width) = (self.count, self.keys.width, values.rows.width);
        let rows = buffer::size(&[split.parts(), n])?;
        let mut sums = buffer::zeros::<f64>(buffer::size(&[rows, value_width])?)?;
        let (mut shifts, mut totals) = (buffer::zeros::<T>(rows)?, buffer::zeros::<f64>(rows)?);
        let mut spreads = buffer::filled(rows, Spread::default())?;
        let operands = self.operands(values);
        let mut room = (&mut sums[..], &mut shifts[..], &mut totals[..], &mut spreads[..]);
        let tasks = split.tasks().map(|(keys, queries)| ForwardTask {
            first: queries.start,
            queries: &self.queries[queries.start * width..queries.end * width],
            bound: &self.bound[queries.clone()],
            keys,
            output: Output::Part(take(&mut room.0, queries.len() * value_width)),
            shift: take(&mut room.1, queries.len()),
            total: take(&mut room.2, queries.len()),
            spread: take(&mut room.3, queries.len()),
        });
        let kernels = self.kernels;
        run.for_each(tasks, |task, cancel| kernels.forward(&operands, task, cancel))?;
        let mut forward = Forward::new(n)?;
        let mut sum = buffer::zeros::<f64>(value_width)?;
        for row in 0..n {
            // A part that the row does not see has no weights, and a shift below all logits.
            let of_parts = || (row..rows).step_by(n);
            let shift = of_parts().map(|at| shifts[at]).fold(T::min_value(), T::max);
            let (mut total, mut spread) = (0.0, Spread::default());
            sum.fill(0.0);
            for at in of_parts() {
                let ratio = (shifts[at] - shift).widen().exp2();
                total += ratio * totals[at];
                spread.squares += ratio * ratio * spreads[at].squares;
                spread.small += ratio * spreads[at].small;
                let part = &sums[at * value_width..][..value_width];
                sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += ratio * part);
            }
            let output = &mut output[row * value_width..][..value_width];
            output.iter_mut().zip(&sum).for_each(|(o, sum)| *o = T::narrow(sum / divisor(total)));
            (forward.shift[row], forward.total[row], forward.spread[row]) = (shift, total, spread.of(divisor(total)));
        }
        Ok(forward)
    }

    /// Pass 2 for the query side by parts of the keys: replaces `queries` by w = p K.
    fn split_backward(
        &self,
        split: &Split,
        values: &Values<T>,
        (forward, prepared): (&Forward<T>, &Prepared<T>),
        queries: &mut [T],
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let (n, width) = (self.count, self.keys.width);
        let rows = buffer::size(&[split.parts(), n])?;
        let mut sums = buffer::zeros::<f64>(buffer::size(&[rows, width])?)?;
        let mut squares = buffer::zeros::<f64>(rows)?;
        let (operands, residual) = (self.operands(values), self.residual(forward, prepared));
        let mut room = (&mut sums[..], &mut squares[..]);
        let tasks = split.tasks().map(|(keys, group)| {
            let w = take(&mut room.0, group.len() * width);
            BackwardTask {
                first: group.start,
                keys,
                queries: Queries::Part(&queries[group.start * width..group.end * width], w),
                residual: residual.rows(group.clone()),
                squares: take(&mut room.1, group.len()),
            }
        });
        let kernels = self.kernels;
        run.for_each(tasks, |task, cancel| kernels.backward(&operands, task, cancel))?;
        for (at, w) in queries.iter_mut().enumerate() {
            *w = T::narrow(sums[at..].iter().step_by(n * width).sum());
        }
        Ok(())
    }
}
