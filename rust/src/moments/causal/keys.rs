//! The key side of one chunk: moments of the queries after it, and the queries of the chunk themselves
//! (docs/math.md, equation 8.19).

use std::ops::Range;

use crate::error::Error;
use crate::float::Float;
use crate::kernels::chunk::{Chunk, Order};
use crate::kernels::rhs::{C, Rhs};
use crate::linalg::layout::{Rows, in_range};
use crate::moments::collect::Collector;
use crate::moments::evaluate::Coefficients;
use crate::moments::keys::{KeySide, KeyTask, key_side};
use crate::moments::near::Near;
use crate::moments::sides::Sides;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Shared inputs of the tasks of the key side.
pub struct CausalKeys<'a, T> {
    /// As without a mask; its moments are not used.
    pub keys: KeySide<'a, T>,
    /// Rows of [c, −r] / z; zero for unsafe rows.
    pub residuals: Rows<'a, T>,
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

impl<T: Float> CausalKeys<'_, T> {
    /// Coordinates `[dimension][C]` of some queries, by way of `scratch`; of those without a residual zeros, as theirs
    /// may be of any size. Their residuals, row-major.
    #[inline(always)]
    fn queries<const L: usize>(&self, rows: Range<usize>, [scratch, x]: &mut [Aligned<T>; 2]) -> &[T] {
        let residuals = &self.residuals.data[rows.start * self.residuals.width..rows.end * self.residuals.width];
        self.keys.sides.block::<L>(&self.keys.sides.queries, rows, scratch, x);
        for (row, residual) in residuals.chunks_exact(self.residuals.width).enumerate() {
            if residual.iter().all(|&x| x == T::zero()) {
                x.as_chunks_mut::<C>().0.iter_mut().for_each(|column| column[row] = T::zero());
            }
        }
        residuals
    }

    /// Buffers for [`CausalKeys::queries`].
    fn scratch<const L: usize>(&self) -> Result<[Aligned<T>; 2], Error> {
        let side = &self.keys.sides.queries;
        let scratch = buffer::aligned(buffer::size(&[side.rows.width, L])?)?;
        Ok([scratch, buffer::aligned(buffer::size(&[side.columns().max(1), C])?)?])
    }
}

/// N_β of some queries: `sums` += Σ q^β [c, −r] / z, `[count][dv + 1]`. Time 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn query_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &CausalKeys<'_, T>,
    rows: Range<usize>,
    sums: &mut [f64],
    cancel: &Cancel,
) -> Result<(), Error> {
    let &Sides { tree, blocks, .. } = operands.keys.sides;
    let mut scratch = operands.scratch::<L>()?;
    let mut collector = Collector::<T>::new::<V, W, J>(tree, operands.residuals.width, false)?;
    let mut payload = Rhs::<T>::new::<W>(operands.residuals.width)?;
    for first in rows.clone().step_by(C) {
        cancel.check()?;
        let rows = first..rows.end.min(first + C);
        payload.set_rows::<W, L>(operands.queries::<L>(rows.clone(), &mut scratch));
        blocks.collect(&mut collector, tree, &mut scratch[1], rows.len(), &payload, sums);
    }
    Ok(())
}

/// pᵀ Q and fᵀ c of one chunk. Time as without a mask, and 4 · rows · queries · (d + dv + 1) flops for half of the
/// chunk.
#[inline(always)]
pub fn causal_keys<T: Float, const W: usize, const L: usize, const J: usize>(
    operands: &CausalKeys<'_, T>,
    task: CausalKeyTask<'_, T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let width = operands.residuals.width;
    // Where no safe row comes after, the monomials of the keys need not fit the precision.
    let moments = match task.after.iter().all(|&sum| sum == 0.0) {
        true => None,
        false => Some(operands.coefficients.moments::<T>(task.after, width, width - 1, J)?),
    };
    let fits = moments.as_ref().is_none_or(|moments| moments.finite);
    in_range("a moment of the queries", T::NAME, fits)?;
    let rows = task.queries.clone();
    let mut scratch = operands.scratch::<L>()?;
    let mut payload = buffer::aligned::<T>(buffer::size(&[width, C])?)?;
    let residuals = operands.queries::<L>(rows.clone(), &mut scratch);
    for (row, residual) in residuals.chunks_exact(width).enumerate() {
        for (column, &entry) in payload.as_chunks_mut::<C>().0.iter_mut().zip(residual) {
            column[row] = entry;
        }
    }
    let chunk = Chunk::new::<L, J>(&scratch[1], &payload, rows.len(), Order::Reverse)?;
    let mut own = Own { chunk, first_query: rows.start };
    key_side::<T, W, L, J>(&KeySide { moments: moments.as_ref(), ..operands.keys }, task.task, &mut own, cancel)
}

/// The queries of the chunk as its keys see them.
struct Own<T> {
    chunk: Chunk<T>,
    first_query: usize,
}

impl<T: Float, const L: usize> Near<T, L> for Own<T> {
    #[inline(always)]
    fn chunk(&mut self) -> Option<&mut Chunk<T>> {
        Some(&mut self.chunk)
    }

    #[inline(always)]
    fn last(&self, first: usize, rows: usize) -> [i32; L] {
        let mut last = [-1; L];
        for (l, last) in last.iter_mut().enumerate().take(rows) {
            // The key is seen by the queries from its own index on, which come first.
            *last = self.chunk.count() as i32 - 1 - (first + l - self.first_query) as i32;
        }
        last
    }
}
