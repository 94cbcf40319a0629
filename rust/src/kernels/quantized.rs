//! Sums over parents and a scaled rhs as 16-bit integers: twice as many products in a register (docs/math.md,
//! equation 8.13).
//!
//! The highest grade is the smallest part of a gradient, and the error of integers in it is smaller than the truncation
//! error of the polynomial.

use super::rhs::{C, Rhs, add};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer::{self, Aligned};
use crate::simd::{Pairs, Vector};

/// Rows of a block in pairs: row r and row r + C / 2 are the halves of one word.
const HALF: usize = C / 2;

/// Integers are at most this: C products of two of them fit 32 bits with their sign.
const LARGEST: f64 = 2895.0;
const _: () = assert!(LARGEST * LARGEST * (C as f64) < i32::MAX as f64);

/// Error of an integer, in units of the largest number that it stands for: half a step, and a 256th of that for the
/// roundings on the way, which are no more than six.
const STEP: f64 = 0.5 * (1.0 + 1.0 / 256.0) / LARGEST;

/// The same of a product of two, with room for the five roundings of a sum and its unit.
pub const LOST: f64 = (2.0 * STEP + STEP * STEP) * (1.0 + 1.0 / 1024.0);

/// One block in integers.
pub struct Quantized<T> {
    /// max |x_c| over the rows of the block.
    largest: Vec<T>,
    /// max |x^β| at most, for the grade below the highest.
    bounds: Vec<T>,
    /// x^β for the grade below the highest, `[·][HALF]`.
    parents: Aligned<i32>,
    /// max |rhs| of each column, in the order of the columns, in whole registers.
    columns: Vec<T>,
    /// The rhs with a largest number of `LARGEST` in each column.
    rhs: Rhs<T>,
    /// That times one coordinate, in pairs.
    scaled: Aligned<i32>,
    /// Value of a product of two integers in each column, in units of max |x^β|.
    units: Vec<T>,
    /// Σ over the blocks of rows ‖max |x|‖^grade ‖max |rhs|‖.
    pub lost: f64,
}

impl<T: Float> Quantized<T> {
    /// Room for one block of so many coordinates, and monomials of the grade below the highest.
    pub fn new<const W: usize, const J: usize>(dimension: usize, parents: usize, width: usize) -> Result<Self, Error> {
        let rhs = Rhs::<T>::new::<W>(width)?;
        let columns = rhs.data.len() / C;
        Ok(Quantized {
            largest: buffer::zeros(dimension)?,
            bounds: buffer::zeros(parents)?,
            parents: buffer::aligned(buffer::size(&[parents + J, HALF])?)?,
            columns: buffer::zeros(columns)?,
            rhs,
            scaled: buffer::aligned(buffer::size(&[columns, HALF])?)?,
            units: buffer::zeros(columns)?,
            lost: 0.0,
        })
    }

    /// Takes a block, or refuses one in which a number is not finite, or so small that its reciprocal is not. `bounds`
    /// computes max |x^β| for the grade below the highest, `grade`, from max |x_c|; `parents` are these x^β themselves.
    #[inline(always)]
    pub fn set<V: Vector<T, W>, const W: usize>(
        &mut self,
        x: &[[T; C]],
        parents: &[[T; C]],
        rhs: &Rhs<T>,
        (count, grade): (usize, usize),
        bounds: impl FnOnce(&[T], &mut [T]),
    ) -> bool {
        let mut finite = true;
        for (largest, x) in self.largest.iter_mut().zip(x) {
            *largest = largest_of(&largest_in::<T, V, W, 1>(x, &mut finite));
        }
        bounds(&self.largest, &mut self.bounds);
        self.measure::<V, W>(rhs, &mut finite);
        if !finite || !self.bounds.iter().chain(&self.columns).all(|&bound| bound.is_finite()) {
            return false;
        }
        let numbers = self.largest.iter().chain(&self.bounds).chain(&self.columns);
        if !numbers.into_iter().all(|&bound| inverse(bound).is_finite()) {
            return false;
        }
        for ((x, &bound), to) in parents.iter().zip(&self.bounds).zip(self.parents.as_chunks_mut::<HALF>().0) {
            let factor = V::splat(inverse(bound));
            let (low, high) = x.split_at(HALF);
            let halves = low.as_chunks::<W>().0.iter().zip(high.as_chunks::<W>().0);
            for ((low, high), to) in halves.zip(to.as_chunks_mut::<W>().0) {
                V::load(low).mul(factor).pairs(V::load(high).mul(factor)).store(to);
            }
        }
        self.normalise::<V, W>(rhs);
        let norm = |numbers: &[T]| numbers.iter().map(|x| x.widen().powi(2)).sum::<f64>().sqrt();
        self.lost += count as f64 * norm(&self.largest).powi(grade as i32) * norm(&self.columns);
        true
    }

    /// max |rhs| of each column.
    #[inline(always)]
    fn measure<V: Vector<T, W>, const W: usize>(&mut self, rhs: &Rhs<T>, finite: &mut bool) {
        let [pairs, single, columns] = rhs.split::<T, W>(&rhs.data, C);
        let mut to = self.columns.iter_mut();
        for panel in pairs.chunks_exact(2 * W * C) {
            let largest = largest_in::<T, V, W, 2>(panel, finite);
            to.by_ref().zip(largest.as_flattened()).for_each(|(to, &from)| *to = from);
        }
        for panel in single.chunks_exact(W * C) {
            let largest = largest_in::<T, V, W, 1>(panel, finite);
            to.by_ref().zip(largest.as_flattened()).for_each(|(to, &from)| *to = from);
        }
        for column in columns.as_chunks::<C>().0 {
            let largest = largest_of(&largest_in::<T, V, W, 1>(column, finite));
            to.by_ref().take(1).for_each(|to| *to = largest);
        }
    }

    /// The rhs over what is the largest in each column.
    #[inline(always)]
    fn normalise<V: Vector<T, W>, const W: usize>(&mut self, rhs: &Rhs<T>) {
        let [pairs, single, columns] = rhs.split::<T, W>(&rhs.data, C);
        let [pairs_to, single_to, columns_to] = rhs.split_mut::<T, W>(&mut self.rhs.data, C);
        let mut largest = &self.columns[..];
        for (from, to) in pairs.chunks_exact(2 * W * C).zip(pairs_to.chunks_exact_mut(2 * W * C)) {
            divide::<T, V, W, 2>(from, &mut largest, to);
        }
        for (from, to) in single.chunks_exact(W * C).zip(single_to.chunks_exact_mut(W * C)) {
            divide::<T, V, W, 1>(from, &mut largest, to);
        }
        for ((from, to), &largest) in
            columns.as_chunks::<C>().0.iter().zip(columns_to.as_chunks_mut::<C>().0).zip(largest)
        {
            let factor = inverse(largest);
            from.iter().zip(to).for_each(|(&from, to)| *to = from * factor);
        }
    }

    /// The rhs times one coordinate.
    #[inline(always)]
    pub fn scale<V: Vector<T, W>, const W: usize>(&mut self, x: &[T; C], coordinate: usize) {
        let largest = self.largest[coordinate];
        for (unit, &column) in self.units.iter_mut().zip(&self.columns) {
            *unit = column * T::narrow(largest.widen() / (LARGEST * LARGEST));
        }
        let factor = if largest > T::zero() { largest.recip() } else { T::zero() };
        let mut by = [T::zero(); C];
        by.iter_mut().zip(x).for_each(|(by, &x)| *by = x * factor);
        let [pairs, single, columns] = self.rhs.split::<T, W>(&self.rhs.data, C);
        let [pairs_to, single_to, columns_to] = self.rhs.split_mut::<i32, W>(&mut self.scaled, HALF);
        for (from, to) in pairs.chunks_exact(2 * W * C).zip(pairs_to.chunks_exact_mut(2 * W * HALF)) {
            scale_rows::<T, V, W, 2>(from, &by, to);
        }
        for (from, to) in single.chunks_exact(W * C).zip(single_to.chunks_exact_mut(W * HALF)) {
            scale_rows::<T, V, W, 1>(from, &by, to);
        }
        for (from, to) in columns.as_chunks::<C>().0.iter().zip(columns_to.as_chunks_mut::<HALF>().0) {
            let (from, by) = (from.as_chunks::<W>().0, by.as_chunks::<W>().0);
            let (low, high) = from.split_at(from.len() / 2);
            let (low_by, high_by) = by.split_at(by.len() / 2);
            let halves = low.iter().zip(low_by).zip(high.iter().zip(high_by));
            for (((low, low_by), (high, high_by)), to) in halves.zip(to.as_chunks_mut::<W>().0) {
                let (low, high) = (V::load(low).mul(V::load(low_by)), V::load(high).mul(V::load(high_by)));
                low.pairs(high).store(to);
            }
        }
    }

    /// sums[i][c] += Σ_rows parent i · scaled right-hand side c, for the first `count` parents.
    #[inline(always)]
    pub fn accumulate<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        rhs: &Rhs<T>,
        count: usize,
        sums: &mut [f64],
    ) {
        let stride = rhs.width();
        let [pairs, single, columns] = rhs.split::<i32, W>(&self.scaled, HALF);
        let single_at = pairs.len() / HALF;
        let column_at = single_at + single.len() / HALF;
        let tiles = self.parents.as_chunks::<HALF>().0.as_chunks::<J>().0;
        for (tile, first) in tiles.iter().zip((0..count).step_by(J)) {
            let sums = &mut sums[first * stride..];
            let bounds = &self.bounds[first..][..J.min(count - first)];
            for (pair, panel) in pairs.chunks_exact(L * HALF).enumerate() {
                self.add_panel::<V, W, 2, J>(tile, panel, pair * L, bounds, sums, stride);
            }
            for panel in single.chunks_exact(W * HALF) {
                self.add_panel::<V, W, 1, J>(tile, panel, single_at, bounds, sums, stride);
            }
            for (column, numbers) in (column_at..stride).zip(columns.as_chunks::<HALF>().0) {
                let dots = dots::<V::Pairs, W, J>(tile, numbers);
                let unit = self.units[column].widen();
                for ((sum, &dot), bound) in sums[column..].iter_mut().step_by(stride).zip(&dots).zip(bounds) {
                    *sum += f64::from(dot) * (unit * bound.widen());
                }
            }
        }
    }

    #[inline(always)]
    fn add_panel<V: Vector<T, W>, const W: usize, const N: usize, const J: usize>(
        &self,
        parents: &[[i32; HALF]; J],
        panel: &[i32],
        first_column: usize,
        bounds: &[T],
        sums: &mut [f64],
        stride: usize,
    ) {
        let Some(panel) = panel.as_chunks::<W>().0.as_chunks::<N>().0.first_chunk::<HALF>() else { return };
        let tile = outer::<V::Pairs, W, N, J>(parents, panel);
        let Some(units) = self.units[first_column..].as_chunks::<W>().0.first_chunk::<N>() else { return };
        for j in 0..J {
            for half in 0..N {
                let column = first_column + half * W;
                if j < bounds.len() && column < stride {
                    let unit = V::load(&units[half]).mul(V::splat(bounds[j]));
                    let mut lanes = [T::zero(); W];
                    V::from_sums(tile[j][half]).mul(unit).store(&mut lanes);
                    add(&mut sums[j * stride + column..], &lanes, stride - column);
                }
            }
        }
    }
}

/// Factor from the largest number to the largest integer; zeros stay zeros.
#[inline(always)]
fn inverse<T: Float>(largest: T) -> T {
    if largest > T::zero() { T::narrow(LARGEST) / largest } else { T::zero() }
}

/// The largest |number| in each lane of rows of `N` registers.
#[inline(always)]
fn largest_in<T: Float, V: Vector<T, W>, const W: usize, const N: usize>(rows: &[T], finite: &mut bool) -> [[T; W]; N] {
    let zero = V::splat(T::zero());
    let (mut largest, mut check) = ([zero; N], zero);
    for row in rows.as_chunks::<W>().0.as_chunks::<N>().0 {
        for half in 0..N {
            let x = V::load(&row[half]);
            largest[half] = largest[half].max(x).max(zero.sub(x));
            // The maximum forgets what is no number.
            check = x.mul_add(zero, check);
        }
    }
    let mut lanes = [[T::zero(); W]; N];
    for half in 0..N {
        largest[half].store(&mut lanes[half]);
    }
    let mut checked = [T::zero(); W];
    check.store(&mut checked);
    *finite &= checked.iter().all(|&x| x == T::zero());
    lanes
}

fn largest_of<T: Float, const W: usize>(lanes: &[[T; W]; 1]) -> T {
    lanes[0].iter().fold(T::zero(), |largest, &x| if x > largest { x } else { largest })
}

/// Rows of `N` registers, each lane over its largest, which are taken off the front of `largest`.
#[inline(always)]
fn divide<T: Float, V: Vector<T, W>, const W: usize, const N: usize>(from: &[T], largest: &mut &[T], to: &mut [T]) {
    let mut factors = [V::splat(T::zero()); N];
    for factor in &mut factors {
        let Some((lanes, rest)) = largest.split_first_chunk::<W>() else { return };
        let mut factors = *lanes;
        for lane in &mut factors {
            *lane = inverse(*lane);
        }
        *factor = V::load(&factors);
        *largest = rest;
    }
    let (from, to) = (from.as_chunks::<W>().0.as_chunks::<N>().0, to.as_chunks_mut::<W>().0.as_chunks_mut::<N>().0);
    for (from, to) in from.iter().zip(to) {
        for half in 0..N {
            V::load(&from[half]).mul(factors[half]).store(&mut to[half]);
        }
    }
}

/// Rows of `N` registers, each times its number in `by`, in pairs.
#[inline(always)]
fn scale_rows<T: Float, V: Vector<T, W>, const W: usize, const N: usize>(from: &[T], by: &[T; C], to: &mut [i32]) {
    let (from, to) = (from.as_chunks::<W>().0.as_chunks::<N>().0, to.as_chunks_mut::<W>().0.as_chunks_mut::<N>().0);
    let ((low, high), (low_by, high_by)) = (from.split_at(HALF), by.split_at(HALF));
    for (((low, &low_by), (high, &high_by)), to) in low.iter().zip(low_by).zip(high.iter().zip(high_by)).zip(to) {
        let (low_by, high_by) = (V::splat(low_by), V::splat(high_by));
        for half in 0..N {
            V::load(&low[half]).mul(low_by).pairs(V::load(&high[half]).mul(high_by)).store(&mut to[half]);
        }
    }
}

/// Σ over pairs of rows, the tile with parents and columns as its sides.
#[inline(always)]
fn outer<P: Pairs<W>, const W: usize, const N: usize, const J: usize>(
    parents: &[[i32; HALF]; J],
    rows: &[[[i32; W]; N]; HALF],
) -> [[P; N]; J] {
    let mut tile = [[P::splat(0); N]; J];
    for (t, row) in rows.iter().enumerate() {
        let mut halves = [P::splat(0); N];
        for half in 0..N {
            halves[half] = P::load(&row[half]);
        }
        for j in 0..J {
            let parent = P::splat(parents[j][t]);
            for half in 0..N {
                tile[j][half] = halves[half].multiply_add(parent, tile[j][half]);
            }
        }
    }
    tile
}

/// ⟨parent_j, column⟩ for neighbours, each in a chain of its own.
#[inline(always)]
fn dots<P: Pairs<W>, const W: usize, const J: usize>(parents: &[[i32; HALF]; J], column: &[i32; HALF]) -> [i32; J] {
    let mut sums = [P::splat(0); J];
    for (t, column) in column.as_chunks::<W>().0.iter().enumerate() {
        let column = P::load(column);
        for j in 0..J {
            sums[j] = P::load(&parents[j].as_chunks::<W>().0[t]).multiply_add(column, sums[j]);
        }
    }
    let mut totals = [0; J];
    for j in 0..J {
        let mut lanes = [0; W];
        sums[j].store(&mut lanes);
        for lane in lanes {
            totals[j] += lane;
        }
    }
    totals
}

#[cfg(test)]
mod tests;
