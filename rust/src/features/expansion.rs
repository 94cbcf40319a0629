//! Features of rows side by side, compiled once for every level.

use crate::error::Error;
use crate::float::Float;
use crate::kernels::InputMap;
use crate::kernels::tile::{self, load};
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;
use crate::simd::levels::kernels;
use crate::simd::transpose::{BLOCK, transposed};

/// Features that are written to one row before the next: a cache line of each of the rows side by side.
const STRIP: usize = 16;

kernels! {
    shape { keys: "Coordinates that are summed side by side." = J, rows: "Rows side by side." = L }

    fn features(expansion: &Expansion<'_, T>, first: usize, space: &mut Space<T>, out: &mut [T]) -> bool {
        expansion.rows::<V, W, L, J>(first, space, out)
    }
}

/// What the features of a row are made of: its coordinates, the tree of the monomials and a weight for each of them.
pub(super) struct Expansion<'a, T> {
    /// x → x′.
    pub input: InputMap<'a, T>,
    /// Parent and last coordinate of each monomial.
    pub steps: &'a [(u32, u32)],
    /// The weight of each monomial.
    pub weights: &'a [T],
    /// The direction and the offset of the logarithm of a factor of the whole row; 1 without them.
    pub exponent: Option<(&'a [f64], f64)>,
}

/// Memory of one task.
pub(super) struct Space<T> {
    /// Inputs, `[width][L]`.
    inputs: Aligned<T>,
    /// Coordinates, `[width][L]`.
    coordinates: Aligned<T>,
    /// `[monomial][L]`.
    monomials: Aligned<T>,
}

impl<T: Float> Space<T> {
    /// For `rows` rows side by side.
    pub fn new(expansion: &Expansion<'_, T>, rows: usize) -> Result<Self, Error> {
        let lanes = |count: usize| buffer::aligned(buffer::size(&[count, rows])?);
        Ok(Space {
            inputs: lanes(expansion.input.rows.width)?,
            coordinates: lanes(expansion.input.columns())?,
            monomials: lanes(expansion.weights.len())?,
        })
    }
}

impl<T: Float> Expansion<'_, T> {
    /// The features of up to `L` rows from `first` on, as many as `out` has room for, and whether they and the rows are
    /// finite.
    #[inline(always)]
    fn rows<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        first: usize,
        space: &mut Space<T>,
        out: &mut [T],
    ) -> bool {
        let count = out.len() / self.weights.len();
        self.input.coordinates::<V, W, L, J>(first, count, &mut space.inputs, &mut space.coordinates, L);
        // Zero times a number is zero, and what is no number stays in a sum.
        let mut zeros = [V::splat(T::zero()); 2];
        for lanes in space.inputs.as_chunks::<L>().0 {
            zeros = watched(load::<T, V, W, L>(lanes), zeros);
        }
        let monomials = space.monomials.as_chunks_mut::<L>().0;
        monomials[0] = [T::one(); L];
        if let Some(exponent) = self.exponent {
            factors(self.input.slice(first, count), exponent, &mut monomials[0][..count]);
        }
        grow::<T, V, W, L>(monomials, self.steps, space.coordinates.as_chunks().0);
        zeros = write::<T, V, W, L>(monomials, self.weights, out, zeros);
        let mut lanes = [T::zero(); L];
        tile::store(zeros, &mut lanes);
        lanes.iter().all(|lane| *lane == T::zero())
    }
}

/// exp of the offset and each row times the direction, rounded once.
#[inline(always)]
fn factors<T: Float>(rows: &[T], (direction, offset): (&[f64], f64), out: &mut [T]) {
    for (row, factor) in rows.chunks_exact(direction.len().max(1)).zip(out) {
        let logit = row.iter().zip(direction).fold(offset, |sum, (x, y)| sum + x.widen() * y);
        *factor = T::narrow(logit.exp());
    }
}

/// Every monomial but the first from its parent by one product.
#[inline(always)]
fn grow<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(
    monomials: &mut [[T; L]],
    steps: &[(u32, u32)],
    coordinates: &[[T; L]],
) {
    for (index, &(parent, coordinate)) in steps.iter().enumerate().skip(1) {
        let (above, below) = monomials.split_at_mut(index);
        let parent = load::<T, V, W, L>(&above[parent as usize]);
        let coordinate = load::<T, V, W, L>(&coordinates[coordinate as usize]);
        tile::store(tile::zip(parent, coordinate, V::mul), &mut below[0]);
    }
}

/// Weighted monomials as rows: a strip of features at a time, so that each row is written by cache lines.
#[inline(always)]
fn write<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(
    monomials: &[[T; L]],
    weights: &[T],
    out: &mut [T],
    mut zeros: tile::Pair<V>,
) -> tile::Pair<V> {
    let count = weights.len();
    let mut strip = [[T::zero(); L]; STRIP];
    for (place, (monomials, weights)) in monomials.chunks(STRIP).zip(weights.chunks(STRIP)).enumerate() {
        for ((to, monomial), &weight) in strip.iter_mut().zip(monomials).zip(weights) {
            let weight = V::splat(weight);
            let monomial = load::<T, V, W, L>(monomial);
            let feature = tile::zip(monomial, monomial, |monomial, _| monomial.mul(weight));
            zeros = watched(feature, zeros);
            tile::store(feature, to);
        }
        for (group, rows) in out.chunks_mut(BLOCK * count).enumerate() {
            let whole = if rows.len() == BLOCK * count { weights.len() / BLOCK * BLOCK } else { 0 };
            let (lane, column) = (group * BLOCK, place * STRIP);
            for at in (0..whole).step_by(BLOCK) {
                let mut block = [[T::zero(); BLOCK]; BLOCK];
                for (to, lanes) in block.iter_mut().zip(&strip[at..]) {
                    to.copy_from_slice(&lanes[lane..][..BLOCK]);
                }
                for (row, features) in transposed(block).iter().enumerate() {
                    rows[row * count + column + at..][..BLOCK].copy_from_slice(features);
                }
            }
            for (row, to) in rows.chunks_exact_mut(count).enumerate() {
                for (to, lanes) in to[column + whole..column + weights.len()].iter_mut().zip(&strip[whole..]) {
                    *to = lanes[lane + row];
                }
            }
        }
    }
    zeros
}

/// Adds zero times the numbers.
#[inline(always)]
fn watched<T: Float, V: Vector<T, W>, const W: usize>(numbers: tile::Pair<V>, zeros: tile::Pair<V>) -> tile::Pair<V> {
    tile::zip(numbers, zeros, |numbers, zeros| numbers.mul_add(V::splat(T::zero()), zeros))
}
