//! The two passes over query, key and value.

use super::backward::BackwardTask;
use super::both_sides::{ChunkTask, Wave};
use super::forward::ForwardTask;
use super::operands::key_block;
use super::{Kernels, Operands, Residual};
use crate::buffer;
use crate::constants::{CHUNK_KEYS, TASK_QUERIES, WAVE_CHUNKS, WAVE_QUERIES};
use crate::error::Error;
use crate::float::Float;
use crate::norms::{largest, row_norms};
use crate::options::Options;
use crate::pool::Run;
use crate::tile::{Rows, Strips};

/// Share of pass 1 in the work of both (4 of 10 n² d), for the progress.
const FORWARD_SHARE: f64 = 0.4;

/// Query and key as the passes want them.
pub struct Engine<T: Float> {
    /// Queries times scale · log2 e, so that weights are powers of two; after pass 2, w = p K.
    pub queries: Vec<T>,
    /// Rows of the queries.
    pub count: usize,
    /// The keys.
    pub keys: Strips<T>,
    /// ‖query‖ · max ‖key‖, in base-2 units.
    pub bound: Vec<f64>,
    /// ‖key‖.
    pub key_norms: Vec<f64>,
    is_causal: bool,
    kernels: Kernels<T>,
    key_block: Option<usize>,
}

/// Values, and how large they are.
pub struct Values<T> {
    /// One row a key.
    pub rows: Strips<T>,
    /// ‖row‖.
    pub norms: Vec<f64>,
    /// The largest of them.
    pub largest: f64,
}

impl<T: Float> Engine<T> {
    /// Packs and measures the values.
    pub fn values(&self, rows: Rows<'_, T>) -> Result<Values<T>, Error> {
        let norms = row_norms(rows)?;
        Ok(Values { rows: Strips::new(rows, self.kernels.keys)?, largest: largest(&norms), norms })
    }
}

/// What pass 1 found.
pub struct Forward<T> {
    /// o, (n, dv).
    pub output: Vec<T>,
    /// What was subtracted from the logits.
    pub shift: Vec<T>,
    /// α after the shift.
    pub total: Vec<f64>,
    /// Σ_i f_i² of each row.
    pub squares: Vec<f64>,
}

/// The incoming gradient c as pass 2 wants it.
pub struct Prepared<T> {
    /// c / (α · unit), (n, dv).
    pub c: Vec<T>,
    /// ⟨c, o⟩ / (α · unit).
    pub r: Vec<T>,
    /// The power of two taken out of c, so that p is near f whatever the units of c and of the values.
    pub unit: f64,
}

/// What the key side of pass 2 found, in the unit of [`Prepared`].
pub struct KeySide {
    /// pᵀ Q̂, (m, d).
    pub keys: Vec<f64>,
    /// fᵀ c, (m, dv).
    pub values: Vec<f64>,
}

impl<T: Float> Engine<T> {
    /// Takes queries already multiplied by scale · log2 e.
    ///
    /// # Errors
    /// [`Error::Range`] where a logit might overflow.
    pub fn new(
        queries: Vec<T>,
        count: usize,
        keys: Rows<'_, T>,
        is_causal: bool,
        options: &Options,
    ) -> Result<Self, Error> {
        let key_norms = row_norms(keys)?;
        let widest = largest(&key_norms);
        let mut bound = row_norms(Rows { data: &queries, count, width: keys.width })?;
        for bound in &mut bound {
            *bound *= widest;
        }
        // A partial sum is at most the bound, so half of the range leaves room for its rounding.
        if !bound.iter().all(|&bound| bound < T::MAX / 2.0) {
            return Err(Error::Range {
                quantity: "a logit (scale · query · key)".into(),
                precision: T::NAME,
                remedy: "scale the inputs down, or use float64",
            });
        }
        let kernels = T::kernels(options.level()?);
        let key_block = options.key_block.map(std::num::NonZeroUsize::get);
        let keys = Strips::new(keys, kernels.keys)?;
        Ok(Engine { queries, count, keys, bound, key_norms, is_causal, kernels, key_block })
    }

    fn operands<'b>(&'b self, values: &'b Values<T>) -> Operands<'b, T> {
        let &Values { rows: ref values, largest, .. } = values;
        let block = self.key_block.unwrap_or_else(|| key_block::<T>(self.keys.width + values.width));
        let room = T::UNSHIFTED_VALUES.exp2();
        Operands {
            keys: &self.keys,
            values,
            is_causal: self.is_causal,
            key_block: block.next_multiple_of(self.keys.strip_rows()),
            values_in_range: largest == 0.0 || (largest < room && largest > room.recip()),
        }
    }

    /// Pass 1: o = f · values, the row normaliser and the spread of f.
    pub fn forward(&self, values: &Values<T>, run: &mut Run<'_>) -> Result<Forward<T>, Error> {
        let (n, width) = (self.count, self.keys.width);
        let mut forward = Forward {
            output: buffer::zeros(buffer::size(&[n, values.rows.width])?)?,
            shift: buffer::zeros(n)?,
            total: buffer::zeros(n)?,
            squares: buffer::zeros(n)?,
        };
        if self.keys.count == 0 {
            return Ok(forward);
        }
        run.phase(FORWARD_SHARE);
        let operands = self.operands(values);
        let Forward { output, shift, total, squares } = &mut forward;
        let (mut output, mut shift) = (output.as_mut_slice(), shift.as_mut_slice());
        let (mut total, mut squares) = (total.as_mut_slice(), squares.as_mut_slice());
        let tasks = (0..n).step_by(TASK_QUERIES).map(|first| {
            let rows = TASK_QUERIES.min(n - first);
            ForwardTask {
                first,
                queries: &self.queries[first * width..(first + rows) * width],
                bound: &self.bound[first..first + rows],
                output: take(&mut output, rows * values.rows.width),
                shift: take(&mut shift, rows),
                total: take(&mut total, rows),
                squares: take(&mut squares, rows),
            }
        });
        let kernel = self.kernels.forward;
        run.for_each(tasks, |task, cancel| {
            // SAFETY: Options::level admits only levels that this processor has.
            unsafe { kernel(&operands, task, cancel) }
        })?;
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
            let tasks = (0..n).step_by(TASK_QUERIES).map(|first| {
                let rows = TASK_QUERIES.min(n - first);
                BackwardTask {
                    first,
                    queries: take(&mut queries, rows * width),
                    residual: residual.rows(first..first + rows),
                    squares: take(&mut squares, rows),
                }
            });
            let kernel = self.kernels.backward;
            run.for_each(tasks, |task, cancel| {
                // SAFETY: Options::level admits only levels that this processor has.
                unsafe { kernel(&operands, task, cancel) }
            })?;
        }
        self.queries = queries;
        Ok(squares)
    }

    /// Pass 2 for both sides: as [`Engine::backward`], and pᵀ Q̂ and fᵀ c besides.
    pub fn both_sides(
        &mut self,
        values: &Values<T>,
        forward: &Forward<T>,
        prepared: &Prepared<T>,
        run: &mut Run<'_>,
    ) -> Result<(Vec<f64>, KeySide), Error> {
        let (n, m) = (self.count, self.keys.count);
        let (width, value_width) = (self.keys.width, values.rows.width);
        let mut squares = buffer::zeros::<f64>(n)?;
        let mut side = KeySide {
            keys: buffer::zeros(buffer::size(&[m, width])?)?,
            values: buffer::zeros(buffer::size(&[m, value_width])?)?,
        };
        let mut queries = std::mem::take(&mut self.queries);
        if m == 0 {
            queries.fill(T::zero());
        } else {
            let operands = self.operands(values);
            let residual = self.residual(forward, prepared);
            let mut wave = Waves::new(m, width, n)?;
            for first in (0..n).step_by(WAVE_QUERIES) {
                let rows = first..n.min(first + WAVE_QUERIES);
                run.phase(FORWARD_SHARE + (1.0 - FORWARD_SHARE) * rows.end as f64 / n as f64);
                let queries = &mut queries[first * width..rows.end * width];
                let view = Wave { first, queries, residual: residual.rows(rows.clone()) };
                wave.run(&operands, &view, &mut side, self.kernels, run)?;
                wave.fold(queries, &mut squares[rows]);
            }
        }
        self.queries = queries;
        Ok((squares, side))
    }

    fn residual<'b>(&'b self, forward: &'b Forward<T>, prepared: &'b Prepared<T>) -> Residual<'b, T> {
        Residual { c: &prepared.c, r: &prepared.r, shift: &forward.shift, bound: &self.bound }
    }
}

/// The buffers of a wave: one partial w and one partial Σ p² per chunk of keys.
struct Waves<T> {
    partial: Vec<T>,
    squares: Vec<f64>,
    width: usize,
    chunk: usize,
    chunks: usize,
}

impl<T: Float> Waves<T> {
    fn new(m: usize, width: usize, n: usize) -> Result<Self, Error> {
        // By the shape alone: the order of summation must not know the threads.
        let chunk = m.div_ceil(WAVE_CHUNKS).next_multiple_of(CHUNK_KEYS);
        let chunks = m.div_ceil(chunk);
        let rows = n.min(WAVE_QUERIES);
        Ok(Waves {
            partial: buffer::zeros(buffer::size(&[chunks, rows, width])?)?,
            squares: buffer::zeros(chunks * rows)?,
            width,
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
        self.partial.fill(T::zero());
        self.squares.fill(0.0);
        let (mut partial, mut squares) = (self.partial.as_mut_slice(), self.squares.as_mut_slice());
        let (mut key_sums, mut value_sums) = (side.keys.as_mut_slice(), side.values.as_mut_slice());
        let (width, chunk) = (self.width, self.chunk);
        let tasks = (0..m).step_by(chunk).map(|first| {
            let keys = first..m.min(first + chunk);
            ChunkTask {
                key_sums: take(&mut key_sums, keys.len() * width),
                value_sums: take(&mut value_sums, keys.len() * operands.values.width),
                partial: take(&mut partial, rows * width),
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
    fn fold(&self, w: &mut [T], squares: &mut [f64]) {
        let (count, rows) = (w.len(), squares.len());
        for (i, w) in w.iter_mut().enumerate() {
            let parts = (0..self.chunks).map(|chunk| self.partial[chunk * count + i].widen());
            *w = T::narrow(parts.sum());
        }
        for (j, square) in squares.iter_mut().enumerate() {
            *square = (0..self.chunks).map(|chunk| self.squares[chunk * rows + j]).sum();
        }
    }
}

/// Cuts the first `len` items off a slice.
fn take<'a, T>(rest: &mut &'a mut [T], len: usize) -> &'a mut [T] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}
