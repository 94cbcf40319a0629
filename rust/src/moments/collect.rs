//! Moments Σ_rows x^β · payload, block by block (docs/math.md, equations 8.4 and 8.10).

use std::ops::Range;

use super::sides::Sides;
use crate::certificate::moments::{Ball, BallLanes};
use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::quantized::{LOST, Quantized};
use crate::kernels::rhs::{C, Rhs, multiply};
use crate::kernels::tile::widest;
use crate::linalg::norms::wider;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Cancel;
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

/// Statistics of one part of the keys.
#[derive(Debug, Clone, Default)]
pub struct KeyFound {
    /// max ‖k‖².
    pub widest: f64,
    /// Upper bound of the error of integer sums (docs/math.md, equation 8.13).
    pub lost: f64,
    /// Rows of A2 around the mean, rows of A3, and values in their unit, around a centre.
    pub balls: [Ball; 3],
}

/// M_β of some keys: `sums` += Σ k^β [h, 1], `[count][dv + 1]`; those of the highest grade may be of `integers`. Time
/// 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn key_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    sides: &Sides<'_, T>,
    rows: Range<usize>,
    integers: bool,
    sums: &mut [f64],
    cancel: &Cancel,
) -> Result<KeyFound, Error> {
    let &Sides { tree, ref keys, ref values, blocks, .. } = sides;
    let width = values.columns();
    let mut collector = Collector::<T>::new::<V, W, J>(tree, width + 1, integers)?;
    let mut payload = Rhs::<T>::new::<W>(width + 1)?;
    let mut x = buffer::aligned::<T>(buffer::size(&[keys.columns().max(1), C])?)?;
    let mut h = buffer::aligned::<T>(buffer::size(&[width + 1, L])?)?;
    h[width * L..].fill(T::one());
    let mut scratch = buffer::aligned::<T>(buffer::size(&[keys.rows.width.max(values.rows.width), L])?)?;
    let [mut inputs, mut value_inputs, mut outputs] = [const { BallLanes::<L>::NONE }; 3];
    let mut widest_key = 0.0;
    for first in rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            blocks.coordinates(keys, first + at, rows, &mut scratch, &mut x[at..], C);
            inputs.add(&scratch.as_chunks().0[..keys.rows.width], &[], rows);
            blocks.coordinates(values, first + at, rows, &mut scratch, &mut h, L);
            value_inputs.add(&scratch.as_chunks().0[..values.rows.width], &values.centres[0], rows);
            outputs.add(&h.as_chunks().0[..width], &values.centres[1], rows);
            sides.leave_out::<C>(first + at, rows, at, &mut x);
            sides.leave_out::<L>(first + at, rows, 0, &mut h);
            payload.set_lanes::<W, L>(at, &h);
            h[width * L..].fill(T::one());
        }
        blocks.collect(&mut collector, tree, &mut x, count, &payload, sums);
        widest_key = wider(widest_key, widest::<T, C>(x.as_chunks().0));
    }
    let balls = [inputs, value_inputs, outputs].map(|lanes| lanes.ball());
    Ok(KeyFound { widest: widest_key, lost: collector.take_lost(), balls })
}
