//! Keys that stand out, beside the moments of all others: their weights are e^t, forward and backward, and what queries are
//! worth to them is summed with no approximation (docs/math.md, equation 160).

use ndarray::{Array2, ArrayView2};

use super::chunk::Chunk;
use super::fit::{Inputs, Polynomial};
use super::near::{Near, NearQueries, Nothing, safe};
use super::passes::Passes;
use super::queries::{Queries, QueryTask, queries};
use super::side::Side;
use crate::error::Error;
use crate::float::Float;
use crate::pool::Cancel;
use crate::problem::Problem;
use crate::tile::simd::Vector;

/// The keys that are not in the moments, and their values, as every task reads them.
pub struct Exact<'a, T> {
    /// Their rows of A2 and coordinates.
    pub keys: Side<'a, T>,
    /// Their rows of A3 and values h, in their unit.
    pub values: Side<'a, T>,
}

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
    fn fits(&mut self, operands: &Queries<'_, T>, x: &[T], sums: &[T]) -> [bool; L] {
        let fits = safe(operands, x, sums, self.largest);
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

impl<T: Float> Passes<T> {
    /// Puts what the queries are worth to the exact keys, `sums` (keys, dv + d), where the moments left nothing.
    pub(super) fn add_exact(
        &mut self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sums: &[f64],
    ) -> Result<(), Error> {
        let (count, dv, d) = (polynomial.exact_keys.len(), problem.Y.ncols(), polynomial.coordinates.dimension());
        let sums = ArrayView2::from_shape((count, dv + d), sums).map_err(|error| Error::Internal(error.to_string()))?;
        let (of_values, of_keys) = sums.split_at(ndarray::Axis(1), dv);
        let wide = |rows: &Array2<T>| rows.mapv(T::widen);
        let [keys, values] = &inputs.exact;
        // (pᵀ Q)ᵀ A2 and (fᵀ c)ᵀ A3.
        let sides = [(&mut self.W_K, of_keys, keys), (&mut self.Y, of_values, values)];
        for (sum, left, right) in sides {
            let more = left.t().dot(&wide(right));
            sum.iter_mut().flatten().zip(&more).for_each(|(sum, more)| *sum += more);
        }
        let (key_map, value_map) = (polynomial.key_map(problem), polynomial.value_map(problem));
        for (output, left, (map, unit)) in [(&mut self.A2, of_keys, key_map), (&mut self.A3, of_values, value_map)] {
            let Some(output) = output else { continue };
            let width = map.ncols();
            for (&key, row) in polynomial.exact_keys.iter().zip(left.dot(&map).rows()) {
                let to = &mut output[key * width..][..width];
                to.iter_mut().zip(row).for_each(|(to, x)| *to = T::narrow(unit * x));
            }
        }
        Ok(())
    }
}
