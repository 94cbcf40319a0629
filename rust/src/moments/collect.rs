//! Moments Σ_rows x^β · payload, block by block (docs/math.md, equations 56 and 62).

use std::ops::Range;

use super::monomials::Monomials;
use super::payload::{C, CHAINS, Payload, multiply};
use super::side::Side;
use crate::buffer::{self, Aligned};
use crate::error::Error;
use crate::float::Float;
use crate::pool::Cancel;
use crate::tile::simd::Vector;

/// Features of one block of rows; those of the highest grade, which nothing is made of, only one tile at a time.
pub struct Collector<T> {
    inner: Aligned<T>,
    leaves: Aligned<T>,
}

impl<T: Float> Collector<T> {
    /// Room for the features of one block.
    pub fn new<const J: usize>(tree: &Monomials) -> Result<Self, Error> {
        let inner = tree.inner().next_multiple_of(J);
        Ok(Collector { inner: buffer::aligned(buffer::size(&[inner, C])?)?, leaves: buffer::aligned(J * C)? })
    }

    /// sums[β] += Σ_rows x^β · payload, for the first `count` rows of the block; with `ONES` a last column of ones belongs to
    /// the payload. `x` is laid out `[dimension][C]`. Sums without room for the highest grade do without it.
    #[inline(always)]
    pub fn add<V: Vector<T, W>, const W: usize, const L: usize, const J: usize, const ONES: bool>(
        &mut self,
        tree: &Monomials,
        x: &mut [T],
        count: usize,
        payload: &Payload<T>,
        sums: &mut [f64],
    ) {
        let (width, inner) = (payload.width(), tree.inner());
        let stride = width + usize::from(ONES);
        let x = x.as_chunks_mut::<C>().0;
        for column in x.iter_mut() {
            // Rows past the last one count for nothing, whatever the payload holds there.
            column[count..].fill(T::zero());
        }
        let features = self.inner.as_chunks_mut::<C>().0;
        features[0] = [T::zero(); C];
        features[0][..count].fill(T::one());
        if ONES {
            sums[width] += count as f64;
        }
        let steps = tree.steps();
        let total = |sums: &mut [f64], sum: T| {
            if ONES {
                sums[width] += sum.widen();
            }
        };
        let mut first = 1;
        while first < inner {
            let run = tree.run::<J>(first).filter(|_| first + J <= inner);
            let end = first + if run.is_some() { J } else { 1 };
            let (before, rest) = features.split_at_mut(first);
            let sums = &mut sums[first * stride..];
            grow::<T, V, W, J>(&steps[first..end], run, before, x, rest, |j, sum| total(&mut sums[j * stride..], sum));
            first = end;
        }
        payload.accumulate::<V, W, L, J>(features.as_flattened(), inner, sums, stride);
        let leaves = self.leaves.as_chunks_mut::<C>().0;
        for (first, sums) in (inner..steps.len()).step_by(J).zip(sums[inner * stride..].chunks_mut(J * stride)) {
            let steps = &steps[first..steps.len().min(first + J)];
            let run = tree.run::<J>(first);
            grow::<T, V, W, J>(steps, run, features, x, leaves, |j, sum| total(&mut sums[j * stride..], sum));
            payload.accumulate::<V, W, L, J>(leaves.as_flattened(), steps.len(), sums, stride);
        }
    }
}

/// out[j] = x^parent ∘ x_c for each of the steps, which may be a run, and what `total` does with its sum.
#[inline(always)]
fn grow<T: Float, V: Vector<T, W>, const W: usize, const J: usize>(
    steps: &[(u32, u32)],
    run: Option<(usize, usize)>,
    features: &[[T; C]],
    x: &[[T; C]],
    out: &mut [[T; C]],
    mut total: impl FnMut(usize, T),
) {
    if let Some((parent, coordinate)) = run
        && let (Some(parents), Some(out)) = (features[parent..].first_chunk::<J>(), out.first_chunk_mut::<J>())
    {
        let sums = multiply::<T, V, W, J, 1>(parents, &x[coordinate], out);
        sums.into_iter().enumerate().for_each(|(j, sum)| total(j, sum));
        return;
    }
    for (j, (&(parent, coordinate), out)) in steps.iter().zip(out).enumerate() {
        let parent = std::array::from_ref(&features[parent as usize]);
        let [sum] = multiply::<T, V, W, 1, CHAINS>(parent, &x[coordinate as usize], std::array::from_mut(out));
        total(j, sum);
    }
}

/// The keys with their values, as every task reads them.
pub struct Keys<'a, T> {
    /// Monomials up to one above the degree.
    pub tree: &'a Monomials,
    /// A2 and its coordinates.
    pub keys: &'a Side<'a, T>,
    /// A3 and its values h, in their unit.
    pub values: &'a Side<'a, T>,
}

/// One part of the keys.
pub struct KeyMoments<'a> {
    /// Its rows.
    pub rows: Range<usize>,
    /// += Σ k^β [h, 1], `[count][dv + 1]`.
    pub sums: &'a mut [f64],
    /// What the part found besides.
    pub found: &'a mut KeyFound,
}

/// Numbers of one part of the keys.
#[derive(Debug, Clone, Default)]
pub struct KeyFound {
    /// max ‖k‖².
    pub widest: f64,
    /// Rows of A2 around the mean, rows of A3, and values in their unit, around a centre.
    pub balls: [Ball; 3],
}

/// Squared distances of vectors from a centre.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ball {
    /// Their sum.
    pub squares: f64,
    /// The largest.
    pub widest: f64,
}

/// The same in each lane of a tile.
struct Lanes<const L: usize> {
    squares: [f64; L],
    widest: [f64; L],
}

impl<const L: usize> Lanes<L> {
    const NONE: Self = Lanes { squares: [0.0; L], widest: [0.0; L] };

    /// Counts the first `rows` of `x` in, laid out `[dimension][L]`; a missing centre is zero.
    #[inline(always)]
    fn add<T: Float>(&mut self, x: &[[T; L]], centre: &[f64], rows: usize) {
        let mut squares = [0.0; L];
        for (i, column) in x.iter().enumerate() {
            let centre = centre.get(i).copied().unwrap_or(0.0);
            for l in 0..L {
                let difference = column[l].widen() - centre;
                squares[l] += difference * difference;
            }
        }
        squares[rows..].fill(0.0);
        for ((sum, widest), &square) in self.squares.iter_mut().zip(&mut self.widest).zip(&squares) {
            *sum += square;
            *widest = wider(*widest, square);
        }
    }

    fn ball(&self) -> Ball {
        Ball { squares: self.squares.iter().sum(), widest: self.widest.iter().copied().fold(0.0, wider) }
    }
}

impl Ball {
    /// Counts another part in.
    pub fn merge(&mut self, other: &Ball) {
        self.squares += other.squares;
        self.widest = wider(self.widest, other.widest);
    }
}

/// M_β of one part. Time 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn key_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Keys<'_, T>,
    task: KeyMoments<'_>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let &Keys { tree, keys, values } = operands;
    let width = values.columns();
    let mut collector = Collector::<T>::new::<J>(tree)?;
    let mut payload = Payload::<T>::new::<W>(width)?;
    let mut x = buffer::aligned::<T>(buffer::size(&[keys.columns().max(1), C])?)?;
    let mut h = buffer::aligned::<T>(buffer::size(&[width, L])?)?;
    let mut scratch = buffer::aligned::<T>(buffer::size(&[keys.rows.width.max(values.rows.width), L])?)?;
    let [mut inputs, mut value_inputs, mut outputs] = [const { Lanes::<L>::NONE }; 3];
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(task.rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            keys.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut x[at..], C);
            inputs.add(&scratch.as_chunks().0[..keys.rows.width], &[], rows);
            values.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut h, L);
            value_inputs.add(&scratch.as_chunks().0[..values.rows.width], &values.centres[0], rows);
            outputs.add(h.as_chunks().0, &values.centres[1], rows);
            payload.set_lanes::<W, L>(at, &h);
        }
        collector.add::<V, W, L, J, true>(tree, &mut x, count, &payload, task.sums);
        task.found.widest = wider(task.found.widest, widest::<T, C>(x.as_chunks().0));
    }
    task.found.balls = [inputs, value_inputs, outputs].map(|lanes| lanes.ball());
    Ok(())
}

/// ‖x‖² of each row; `x` is laid out `[dimension][L]`.
#[inline(always)]
pub fn square_norms<T: Float, const L: usize>(x: &[[T; L]]) -> [T; L] {
    let mut squares = [T::zero(); L];
    for column in x {
        for l in 0..L {
            squares[l] += column[l] * column[l];
        }
    }
    squares
}

/// The largest of them, NaN if one is.
#[inline(always)]
pub fn widest<T: Float, const L: usize>(x: &[[T; L]]) -> f64 {
    square_norms(x).iter().fold(0.0, |max, square| wider(max, square.widen()))
}

/// The larger, or NaN: no comparison with it holds.
#[inline(always)]
pub fn wider(a: f64, b: f64) -> f64 {
    if b <= a || a.is_nan() { a } else { b }
}
