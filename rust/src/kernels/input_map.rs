//! One input of the problem, and the product that turns its rows into coordinates or values.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::Strips;
use super::tile;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::runtime::buffer;
use crate::simd::Vector;

/// Rows a, each of which stands for (a − shift) W.
pub struct InputMap<'a, T> {
    /// The input, row-major.
    pub rows: Rows<'a, T>,
    /// Subtracted from every row, where there is something.
    shift: Vec<T>,
    /// The columns of W as strips.
    weights: Strips<T>,
    /// The points from which the distances of rows, once they are shifted, and of their coordinates are measured.
    pub centres: [Vec<f64>; 2],
}

impl<'a, T: Float> InputMap<'a, T> {
    /// `rows` with the product `weights`, (width of the rows, width of the coordinates), rounded once.
    pub fn new(
        rows: Rows<'a, T>,
        weights: ArrayView2<'_, f64>,
        shift: Option<&[f64]>,
        keys: usize,
    ) -> Result<Self, Error> {
        let mut narrow = buffer::with_capacity(rows.width)?;
        narrow.extend(shift.unwrap_or_default().iter().map(|&x| T::narrow(x)));
        Ok(InputMap {
            rows,
            shift: narrow,
            weights: strips(weights.reversed_axes(), keys)?,
            centres: Default::default(),
        })
    }

    /// The same with distances measured from `centre` and from its coordinates.
    pub fn with_centre(self, centre: ArrayView1<'_, f64>, weights: ArrayView2<'_, f64>) -> Self {
        InputMap { centres: [centre.to_vec(), centre.dot(&weights).to_vec()], ..self }
    }

    /// Width of the coordinates.
    pub fn columns(&self) -> usize {
        self.weights.count
    }

    /// The row-major numbers of some rows.
    #[inline(always)]
    pub fn slice(&self, first: usize, count: usize) -> &'a [T] {
        &self.rows.data[first * self.rows.width..][..count * self.rows.width]
    }

    /// Coordinates of up to `L` rows, from `first` on, into `out[c · stride..][..L]`; lanes past the last row are zero.
    #[inline(always)]
    pub fn coordinates<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        first: usize,
        count: usize,
        scratch: &mut [T],
        out: &mut [T],
        stride: usize,
    ) {
        let width = self.rows.width;
        let scratch = &mut scratch[..width * L];
        tile::transpose::<T, L>(self.slice(first, count), width, scratch);
        for (lanes, &shift) in scratch.as_chunks_mut::<L>().0.iter_mut().zip(&self.shift) {
            for lane in lanes.iter_mut() {
                *lane -= shift;
            }
            lanes[count..].fill(T::zero());
        }
        map::<T, V, W, L, J>(scratch, &self.weights, out, stride);
    }
}

/// out[c · stride..][..L] = Σ_i x[i][·] weights_c[i], with `x` laid out `[width][L]`.
#[inline(always)]
pub fn map<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    x: &[T],
    weights: &Strips<T>,
    out: &mut [T],
    stride: usize,
) {
    for first in (0..weights.count).step_by(J) {
        let strip = weights.strip::<J>(first);
        let tile = if weights.count - first <= J / 2 {
            tile::first_products::<T, V, W, L, J, true>(x, strip)
        } else {
            tile::products::<T, V, W, L, J>(x, strip)
        };
        for j in 0..J {
            if first + j < weights.count
                && let Some(to) = out[(first + j) * stride..].first_chunk_mut::<L>()
            {
                tile::store(tile[j], to);
            }
        }
    }
}

/// Rows of a small matrix, rounded once, in strips.
pub fn strips<T: Float>(rows: ArrayView2<'_, f64>, keys: usize) -> Result<Strips<T>, Error> {
    let narrow: Array2<T> = rows.mapv(T::narrow);
    let data: Vec<T> = narrow.iter().copied().collect();
    Strips::new(Rows { data: &data, count: rows.nrows(), width: rows.ncols() }, keys)
}
