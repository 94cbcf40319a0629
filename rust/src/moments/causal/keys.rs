//! The key side of one chunk: moments of the queries after it, and the queries of the chunk themselves
//! (docs/math.md, equation 68).

use std::ops::Range;

use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::InputMap;
use crate::kernels::chunk::{Chunk, Order};
use crate::kernels::rhs::{C, Rhs};
use crate::linalg::layout::Rows;
use crate::linalg::layout::in_range;
use crate::moments::collect::Collector;
use crate::moments::evaluate::Coefficients;
use crate::moments::keys::{KeySide, KeyTask, key_side};
use crate::moments::near::Near;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// The queries with their residuals.
pub struct Answered<'a, T> {
    /// Monomials up to one above the degree.
    pub tree: &'a Monomials,
    /// A1 and its coordinates.
    pub queries: &'a InputMap<'a, T>,
    /// Rows of [c, −r] / z; zero for unsafe rows.
    pub residuals: Rows<'a, T>,
}

/// One chunk of the queries.
pub struct QueryMoments<'a> {
    /// Its rows.
    pub rows: Range<usize>,
    /// += Σ q^β [c, −r] / z, `[count][dv + 1]`.
    pub sums: &'a mut [f64],
}

/// Shared inputs of the tasks of the key side.
pub struct CausalKeys<'a, T> {
    /// As without a mask; its moments are not used.
    pub keys: KeySide<'a, T>,
    /// The queries.
    pub queries: &'a Answered<'a, T>,
    /// P, as the moments use it.
    pub coefficients: &'a Coefficients,
}

/// One chunk of the keys.
pub struct CausalKeyTask<'a, T> {
    /// Its rows and their outputs.
    pub task: KeyTask<'a, T>,
    /// The queries of the chunk.
    pub queries: Range<usize>,
    /// N_β of the queries after it, `[count][dv + 1]`.
    pub after: &'a [f64],
}

impl<T: Float> Answered<'_, T> {
    /// Coordinates `[dimension][C]` of some rows; of rows without a residual zeros, as theirs may be of any size.
    #[inline(always)]
    fn coordinates<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        rows: Range<usize>,
        scratch: &mut [T],
        x: &mut [T],
    ) {
        for at in (0..rows.len()).step_by(L) {
            let count = (rows.len() - at).min(L);
            self.queries.coordinates::<V, W, L, J>(rows.start + at, count, scratch, &mut x[at..], C);
        }
        for (row, residual) in self.rows(rows).chunks_exact(self.residuals.width).enumerate() {
            if residual.iter().all(|&x| x == T::zero()) {
                x.as_chunks_mut::<C>().0.iter_mut().for_each(|column| column[row] = T::zero());
            }
        }
    }

    /// Their residuals, row-major.
    #[inline(always)]
    fn rows(&self, rows: Range<usize>) -> &[T] {
        let width = self.residuals.width;
        &self.residuals.data[rows.start * width..rows.end * width]
    }

    /// Buffers for [`Answered::coordinates`].
    fn scratch<const L: usize>(&self) -> Result<(Aligned<T>, Aligned<T>), Error> {
        let scratch = buffer::aligned(buffer::size(&[self.queries.rows.width, L])?)?;
        Ok((scratch, buffer::aligned(buffer::size(&[self.queries.columns().max(1), C])?)?))
    }
}

/// N_β of one chunk. Time 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn query_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Answered<'_, T>,
    task: QueryMoments<'_>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let tree = operands.tree;
    let (mut scratch, mut x) = operands.scratch::<L>()?;
    let mut collector = Collector::<T>::new::<V, W, J>(tree, operands.residuals.width, false)?;
    let mut payload = Rhs::<T>::new::<W>(operands.residuals.width)?;
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let rows = first..task.rows.end.min(first + C);
        operands.coordinates::<V, W, L, J>(rows.clone(), &mut scratch, &mut x);
        payload.set_rows::<W, L>(operands.rows(rows.clone()));
        collector.add::<V, W, L, J>(tree, &mut x, rows.len(), &payload, task.sums);
    }
    Ok(())
}

/// pᵀ Q and fᵀ c of one chunk. Time as without a mask, and 4 · rows · queries · (d + dv + 1) flops for half of the
/// chunk.
#[inline(always)]
pub fn causal_keys<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &CausalKeys<'_, T>,
    task: CausalKeyTask<'_, T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (answered, width) = (operands.queries, operands.queries.residuals.width);
    // Where no safe row comes after, the monomials of the keys need not fit the precision.
    let moments = match task.after.iter().all(|&sum| sum == 0.0) {
        true => None,
        false => Some(operands.coefficients.moments::<T>(task.after, width, width - 1, J)?),
    };
    let fits = moments.as_ref().is_none_or(|moments| moments.finite);
    in_range("a moment of the queries", T::NAME, fits)?;
    let rows = task.queries.clone();
    let (mut scratch, mut x) = answered.scratch::<L>()?;
    answered.coordinates::<V, W, L, J>(rows.clone(), &mut scratch, &mut x);
    let mut payload = buffer::aligned::<T>(buffer::size(&[width, C])?)?;
    for (row, residual) in answered.rows(rows.clone()).chunks_exact(width).enumerate() {
        for (column, &entry) in payload.as_chunks_mut::<C>().0.iter_mut().zip(residual) {
            column[row] = entry;
        }
    }
    let chunk = Chunk::new::<L, J>(&x, &payload, rows.len(), Order::Reverse)?;
    let mut own = Own { chunk, first_query: rows.start };
    key_side::<T, V, W, L, J>(&KeySide { moments: moments.as_ref(), ..operands.keys }, task.task, &mut own, cancel)
}

/// The queries of the chunk as its keys see them.
struct Own<T> {
    chunk: Chunk<T>,
    first_query: usize,
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Near<T, V, W, L, J> for Own<T> {
    #[inline(always)]
    fn values(&mut self, first: usize, rows: usize, x: &[T], sums: &mut [T]) {
        self.chunk.set(x, &[true; L]);
        let mut last = [-1; L];
        for (l, last) in last.iter_mut().enumerate().take(rows) {
            // The key is seen by the queries from its own index on, which come first.
            *last = self.chunk.count() as i32 - 1 - (first + l - self.first_query) as i32;
        }
        self.chunk.values::<V, W, L, J>(&last, sums);
    }

    #[inline(always)]
    fn slopes(&mut self, payload: &[T], out: &mut [T]) {
        self.chunk.slopes::<V, W, L, J>(payload, out);
    }
}
