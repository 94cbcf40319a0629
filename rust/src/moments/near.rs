//! Rows that a tile sees one by one, beside the moments: none, keys that stand out, or under a mask the other side's
//! rows of its own chunk.

use super::blocks::Kernels as Blocks;
use crate::float::Float;
use crate::kernels::chunk::Chunk;
use crate::kernels::tile::square_norms;

/// Limits within which a row is safe, the same for all tasks.
#[derive(Clone, Copy)]
pub struct Limits<T> {
    /// Normalisers below this are unsafe.
    pub least_normaliser: T,
    /// Rows with ‖x‖² above this are unsafe: rounding drowns the normaliser, or a weight e^t needs a shift.
    pub largest_square: T,
}

/// The square of the largest logit of which the weight needs no shift.
pub fn unshifted_square<T: Float>() -> f64 {
    (T::UNSHIFTED_MAX * std::f64::consts::LN_2).powi(2)
}

/// Rows of the other side that are not in the moments.
pub trait Near<T: Float, const L: usize> {
    /// Those rows, if there are any.
    fn chunk(&mut self) -> Option<&mut Chunk<T>>;

    /// The last of them that each of `rows` rows from `first` on sees; negative where it sees none.
    fn last(&self, first: usize, rows: usize) -> [i32; L];

    /// Which queries with the coordinates `x` are safe, from the sums of the moments, values and, last, the normaliser
    /// (docs/math.md, equation 8.16).
    #[inline(always)]
    fn fits(&self, limits: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L] {
        let lengths = square_norms(x.as_chunks::<L>().0);
        let mut fits = [false; L];
        if let Some(z) = sums.as_chunks::<L>().0.last() {
            for l in 0..L {
                fits[l] = z[l] >= limits.least_normaliser && lengths[l] <= limits.largest_square;
            }
        }
        fits
    }

    /// Adds Σ weights · payload to `sums`, `[columns][L]`, of `rows` rows from `first` on with the coordinates `x`,
    /// those of them that are `used`.
    #[inline(always)]
    fn values(&mut self, blocks: Blocks<T>, (first, rows): (usize, usize), x: &[T], used: &[bool; L], sums: &mut [T]) {
        let last = self.last(first, rows);
        if let Some(chunk) = self.chunk() {
            blocks.near_values(chunk, x, used, &last, sums);
        }
    }

    /// Adds Σ weights · ⟨`payload`, the other payload⟩ · x to `out`, `[dimension][L]`, for the same rows.
    #[inline(always)]
    fn slopes(&mut self, blocks: Blocks<T>, payload: &[T], out: &mut [T]) {
        if let Some(chunk) = self.chunk() {
            blocks.near_slopes(chunk, payload, out);
        }
    }
}

/// Every row of the other side is in the moments.
pub struct Nothing;

impl<T: Float, const L: usize> Near<T, L> for Nothing {
    #[inline(always)]
    fn chunk(&mut self) -> Option<&mut Chunk<T>> {
        None
    }

    #[inline(always)]
    fn last(&self, _: usize, _: usize) -> [i32; L] {
        [-1; L]
    }
}

/// Keys that stand out, beside the moments of all others, all of which every query sees: their weights are e^t, forward
/// and backward (docs/math.md, equation 8.18).
pub struct Beside<T>(pub Chunk<T>);

impl<T: Float, const L: usize> Near<T, L> for Beside<T> {
    #[inline(always)]
    fn chunk(&mut self) -> Option<&mut Chunk<T>> {
        Some(&mut self.0)
    }

    #[inline(always)]
    fn last(&self, _: usize, _: usize) -> [i32; L] {
        [self.0.count() as i32 - 1; L]
    }
}
