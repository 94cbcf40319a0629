//! Keys that stand out, beside the moments of all others: their weights are e^t, forward and backward, and the
//! contributions of the queries to them are summed with no approximation (docs/math.md, equation 160).

use super::near::{Limits, Near, NearQueries, Nothing, safe};
use super::queries::{Queries, QueryTask, queries};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::chunk::Chunk;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// The query side without a mask, with keys beside the moments where there are any. Time as [`queries`], and
/// 4 · rows · keys · (d + dv + 1) flops.
#[inline(always)]
pub fn queries_beside<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Queries<'_, T>,
    mut task: QueryTask<'_, T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let Some(exact) = operands.exact else {
        return queries::<T, V, W, L, J>(operands, task, &mut Nothing, cancel);
    };
    let (chunk, finite) = Chunk::of_keys::<V, W, L, J>(&exact.keys, &exact.values, 0..exact.keys.rows.count)?;
    let reach = (T::UNSHIFTED_MAX * std::f64::consts::LN_2).powi(2) / chunk.widest::<J>();
    let mut beside =
        Beside { chunk, largest: if finite { T::narrow(reach) } else { -T::one() }, sums: task.exact_sums.take() };
    queries::<T, V, W, L, J>(operands, task, &mut beside, cancel)
}

/// The keys as the queries of one task see them: all of them.
struct Beside<'a, T> {
    chunk: Chunk<T>,
    /// Largest ‖q‖²: beyond it their weights need a shift.
    largest: T,
    sums: Option<&'a mut [f64]>,
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Near<T, V, W, L, J> for Beside<'_, T> {
    #[inline(always)]
    fn values(&mut self, _: usize, _: usize, _: &[T], sums: &mut [T]) {
        self.chunk.values::<V, W, L, J>(&[self.chunk.count() as i32 - 1; L], sums);
    }

    #[inline(always)]
    fn slopes(&mut self, payload: &[T], out: &mut [T]) {
        self.chunk.slopes::<V, W, L, J>(payload, out);
    }
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> NearQueries<T, V, W, L, J>
    for Beside<'_, T>
{
    #[inline(always)]
    fn fits(&mut self, limits: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L] {
        let fits = safe(limits, x, sums, self.largest);
        self.chunk.set(x, &fits);
        fits
    }

    #[inline(always)]
    fn take(&mut self, _: usize, _: usize, payload: &[T]) {
        if let Some(sums) = &mut self.sums {
            self.chunk.gather::<V, W, L, J>(payload, sums);
        }
    }
}
