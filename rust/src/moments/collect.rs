//! Moments Σ_rows x^β · payload, block by block (docs/math.md, equations 56 and 62).

use std::ops::Range;

use crate::certificate::moments::{Ball, BallLanes};
use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::InputMap;
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

    /// Upper bound of the error of the integer sums of the blocks since the last call (docs/math.md, equation 139).
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

/// The keys with their values, as every task reads them.
pub struct Keys<'a, T> {
    /// Monomials up to one above the degree.
    pub tree: &'a Monomials,
    /// A2 and its coordinates.
    pub keys: &'a InputMap<'a, T>,
    /// A3 and its values h, in their unit.
    pub values: &'a InputMap<'a, T>,
    /// Keys that count for nothing in sums and get nothing from them, in rising order.
    pub left_out: &'a [usize],
}

impl<T> Keys<'_, T> {
    /// Those of `count` rows from `first` on that are left out, counted from there.
    #[inline(always)]
    pub fn left_out(&self, first: usize, count: usize) -> impl Iterator<Item = usize> {
        let from = self.left_out.partition_point(|&key| key < first);
        self.left_out[from..].iter().take_while(move |&&key| key < first + count).map(move |&key| key - first)
    }
}

/// Zeros one lane of `[columns][L]`.
#[inline(always)]
pub fn clear<T: Float, const L: usize>(columns: &mut [T], lane: usize) {
    columns.as_chunks_mut::<L>().0.iter_mut().for_each(|column| column[lane] = T::zero());
}

/// One part of the keys.
pub struct KeyMoments<'a> {
    /// Its rows.
    pub rows: Range<usize>,
    /// Whether the sums of the highest grade may be of integers.
    pub integers: bool,
    /// += Σ k^β [h, 1], `[count][dv + 1]`.
    pub sums: &'a mut [f64],
    /// Statistics of the part.
    pub found: &'a mut KeyFound,
}

/// Statistics of one part of the keys.
#[derive(Debug, Clone, Default)]
pub struct KeyFound {
    /// max ‖k‖².
    pub widest: f64,
    /// Upper bound of the error of integer sums (docs/math.md, equation 139).
    pub lost: f64,
    /// Rows of A2 around the mean, rows of A3, and values in their unit, around a centre.
    pub balls: [Ball; 3],
}

/// M_β of one part. Time 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn key_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Keys<'_, T>,
    task: KeyMoments<'_>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let &Keys { tree, keys, values, .. } = operands;
    let width = values.columns();
    let mut collector = Collector::<T>::new::<V, W, J>(tree, width + 1, task.integers)?;
    let mut payload = Rhs::<T>::new::<W>(width + 1)?;
    let mut x = buffer::aligned::<T>(buffer::size(&[keys.columns().max(1), C])?)?;
    let mut h = buffer::aligned::<T>(buffer::size(&[width + 1, L])?)?;
    h[width * L..].fill(T::one());
    let mut scratch = buffer::aligned::<T>(buffer::size(&[keys.rows.width.max(values.rows.width), L])?)?;
    let [mut inputs, mut value_inputs, mut outputs] = [const { BallLanes::<L>::NONE }; 3];
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(task.rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            keys.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut x[at..], C);
            inputs.add(&scratch.as_chunks().0[..keys.rows.width], &[], rows);
            values.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut h, L);
            value_inputs.add(&scratch.as_chunks().0[..values.rows.width], &values.centres[0], rows);
            outputs.add(&h.as_chunks().0[..width], &values.centres[1], rows);
            for lane in operands.left_out(first + at, rows) {
                clear::<T, C>(&mut x, at + lane);
                clear::<T, L>(&mut h, lane);
            }
            payload.set_lanes::<W, L>(at, &h);
            h[width * L..].fill(T::one());
        }
        collector.add::<V, W, L, J>(tree, &mut x, count, &payload, task.sums);
        task.found.widest = wider(task.found.widest, widest::<T, C>(x.as_chunks().0));
    }
    task.found.lost = collector.take_lost();
    task.found.balls = [inputs, value_inputs, outputs].map(|lanes| lanes.ball());
    Ok(())
}
