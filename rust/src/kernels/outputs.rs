//! Outputs from the slopes and values of rows: rows of an output, or a sum of outer products.

use ndarray::Array2;

use super::Strips;
use super::rhs::{C, Rhs};
use super::strips;
use super::tile;
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;

/// A small matrix that maps coordinates to rows of an output.
pub struct Product<T> {
    weights: Strips<T>,
    /// Multiplies the result, in double precision: it may be of any size.
    factor: f64,
}

impl<T: Float> Product<T> {
    /// factor · x G with `weights` G, (coordinates, width of the output).
    pub fn new((weights, factor): (Array2<f64>, f64), keys: usize) -> Result<Self, Error> {
        Ok(Product { weights: strips(weights.view().reversed_axes(), keys)?, factor })
    }

    /// Rows `first..first + rows` of the row-major `output` from `[coordinates][L]`.
    #[inline(always)]
    pub fn rows<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        x: &[T],
        first: usize,
        rows: usize,
        output: &mut [T],
    ) {
        let width = self.weights.count;
        for column in (0..width).step_by(J) {
            let tile = tile::products::<T, V, W, L, J>(x, self.weights.strip::<J>(column));
            for j in 0..J {
                let mut lanes = [T::zero(); L];
                tile::store(tile[j], &mut lanes);
                if column + j < width {
                    for l in 0..rows {
                        output[(first + l) * width + column + j] = T::narrow(lanes[l].widen() * self.factor);
                    }
                }
            }
        }
    }
}

/// Coordinates of a block of rows, `[coordinates][C]` in whole register tiles.
pub struct Columns<T> {
    /// The numbers.
    pub data: Aligned<T>,
}

impl<T: Float> Columns<T> {
    /// Rows `first..first + L` from `[coordinates][L]`.
    #[inline(always)]
    pub fn set<const L: usize>(&mut self, first: usize, lanes: &[T]) {
        for (column, lanes) in self.data.as_chunks_mut::<C>().0.iter_mut().zip(lanes.as_chunks::<L>().0) {
            column[first..first + L].copy_from_slice(lanes);
        }
    }
}

/// Σ_rows columns ⊗ payload over a block of rows.
pub struct Outer<T> {
    /// One side.
    pub columns: Columns<T>,
    /// The other.
    pub payload: Rhs<T>,
    count: usize,
}

impl<T: Float> Outer<T> {
    /// Room for `count` columns and a payload of `width`.
    pub fn new<const W: usize, const J: usize>(count: usize, width: usize) -> Result<Self, Error> {
        let data = buffer::aligned(buffer::size(&[count.next_multiple_of(J), C])?)?;
        Ok(Outer { columns: Columns { data }, payload: Rhs::new::<W>(width)?, count })
    }

    /// sums[i][c] += Σ_rows columns[i][row] · payload[row][c].
    #[inline(always)]
    pub fn add<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(&self, sums: &mut [f64]) {
        self.payload.accumulate::<V, W, L, J>(&self.columns.data, self.count, sums, self.payload.width());
    }
}
