//! Moments Σ_rows x^β · payload, block by block (docs/math.md, equations 8.4 and 8.10).

use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::quantized::{LOST, Quantized};
use crate::kernels::rhs::{C, Rhs, multiply};
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;

/// Features of one block of rows. Those of the highest grade are made only where they are few: Σ x^parent x_c · payload
/// is the sum over the parents, which are there, of the payload scaled by x_c.
pub struct Collector<T> {
    inner: Aligned<T>,
    leaves: Aligned<T>,
    scaled: Rhs<T>,
    /// Where the sums of the highest grade may be of integers.
    integers: Option<Quantized<T>>,
}

/// Tiles of leaves with one last coordinate from which on a scaled payload costs less than features.
const WORTH_SCALING: usize = 4;

/// The same of integers, whose tiles cost less.
const WORTH_INTEGERS: usize = 1;

impl<T: Float> Collector<T> {
    /// Room for the features of one block, and a payload of `width`.
    pub fn new<V: Vector<T, W>, const W: usize, const J: usize>(
        tree: &Monomials,
        width: usize,
        integers: bool,
    ) -> Result<Self, Error> {
        // Tiles of parents begin anywhere.
        let inner = tree.inner() + J;
        Ok(Collector {
            inner: buffer::aligned(buffer::size(&[inner, C])?)?,
            leaves: buffer::aligned(buffer::size(&[J, C])?)?,
            scaled: Rhs::new::<W>(width)?,
            integers: if integers && V::HALVES {
                Some(Quantized::new::<W, J>(tree.grade(1).len(), tree.parents().len(), width)?)
            } else {
                None
            },
        })
    }

    /// Upper bound of the error of the integer sums of the blocks since the last call (docs/math.md, equation 8.13).
    pub fn take_lost(&mut self) -> f64 {
        self.integers.as_mut().map_or(0.0, |integers| LOST * std::mem::take(&mut integers.lost))
    }

    /// sums[β] += Σ_rows x^β · payload, for the first `count` rows of the block. `x` is laid out `[dimension][C]`. Sums
    /// without room for the highest grade do without it.
    #[inline(always)]
    pub fn add<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        tree: &Monomials,
        x: &mut [T],
        count: usize,
        payload: &Rhs<T>,
        sums: &mut [f64],
    ) {
        let (stride, inner, steps) = (payload.width(), tree.inner(), tree.steps());
        let x = x.as_chunks_mut::<C>().0;
        for column in x.iter_mut() {
            // Rows past the last one count for nothing, whatever the payload holds there.
            column[count..].fill(T::zero());
        }
        let features = self.inner.as_chunks_mut::<C>().0;
        features[0] = [T::zero(); C];
        features[0][..count].fill(T::one());
        for (index, &(parent, coordinate)) in steps[..inner].iter().enumerate().skip(1) {
            let (before, rest) = features.split_at_mut(index);
            multiply::<T, V, W>(&before[parent as usize], &x[coordinate as usize], &mut rest[0]);
        }
        payload.accumulate::<V, W, L, J>(features.as_flattened(), inner, sums, stride);
        if sums.len() == inner * stride {
            return;
        }
        let parents = &features[tree.parents().start..];
        let mut integers = self.integers.as_mut();
        if let Some(block) = &mut integers
            && !block.set::<V, W>(x, parents, payload, (count, tree.grades()), |largest, to| tree.bounds(largest, to))
        {
            integers = None;
        }
        let worth = if integers.is_some() { WORTH_INTEGERS } else { WORTH_SCALING };
        let few = tree.leaves().take_while(|leaves| leaves.len() < worth * J).last().map_or(inner, |last| last.end);
        let leaves = self.leaves.as_chunks_mut::<C>().0;
        for first in (inner..few).step_by(J) {
            let steps = &steps[first..few.min(first + J)];
            for (&(parent, coordinate), leaf) in steps.iter().zip(leaves.iter_mut()) {
                multiply::<T, V, W>(&features[parent as usize], &x[coordinate as usize], leaf);
            }
            payload.accumulate::<V, W, L, J>(leaves.as_flattened(), steps.len(), &mut sums[first * stride..], stride);
        }
        let many = tree.leaves().enumerate().filter(|(_, leaves)| leaves.start >= few);
        if let Some(integers) = integers {
            for (coordinate, leaves) in many {
                integers.scale::<V, W>(&x[coordinate], coordinate);
                let sums = &mut sums[leaves.start * stride..];
                integers.accumulate::<V, W, L, J>(payload, leaves.len(), sums);
            }
        } else {
            for (coordinate, leaves) in many {
                payload.scaled::<V, W>(&x[coordinate], &mut self.scaled);
                let sums = &mut sums[leaves.start * stride..];
                self.scaled.accumulate::<V, W, L, J>(parents.as_flattened(), leaves.len(), sums, stride);
            }
        }
    }
}
