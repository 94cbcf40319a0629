//! Rows that a tile sees one by one, beside the moments: none, keys that stand out, or under a mask the other side's
//! rows of its own chunk.

use crate::float::Float;
use crate::kernels::InputMap;
use crate::kernels::tile::square_norms;

/// Keys that stand out, which are not in the moments, and their values, as every task reads them.
pub struct Exact<'a, T> {
    /// Their rows of A2 and coordinates.
    pub keys: InputMap<'a, T>,
    /// Their rows of A3 and values h, in their unit.
    pub values: InputMap<'a, T>,
}

/// Rows of the other side that are not in the moments.
pub trait Near<T, V, const W: usize, const L: usize, const J: usize> {
    /// Adds Σ weights · payload to `sums`, `[columns][L]`, of up to `L` rows from `first` on with the coordinates `x`.
    fn values(&mut self, first: usize, rows: usize, x: &[T], sums: &mut [T]);
    /// Adds Σ weights · ⟨`payload`, the other payload⟩ · x to `out`, `[dimension][L]`, for the same rows.
    fn slopes(&mut self, payload: &[T], out: &mut [T]);
}

/// Limits within which a row is safe, the same for all tasks.
#[derive(Clone, Copy)]
pub struct Limits<T> {
    /// Normalisers below this are unsafe.
    pub least_normaliser: T,
    /// Rows with ‖x‖² above this are unsafe: rounding drowns the normaliser.
    pub largest_square: T,
}

/// The same for queries, whose normalisers may be unsafe.
pub trait NearQueries<T, V, const W: usize, const L: usize, const J: usize>: Near<T, V, W, L, J> {
    /// Which rows are safe, from the sums of the moments: `sums` are values and, last, the normaliser.
    fn fits(&mut self, limits: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L];
    /// [c, −r] / z of rows of the task.
    fn take(&mut self, first: usize, rows: usize, payload: &[T]);
}

/// Which rows are safe of which ‖x‖² may be at most `largest` (docs/math.md, equation 66).
#[inline(always)]
pub fn safe<T: Float, const L: usize>(limits: &Limits<T>, x: &[T], sums: &[T], largest: T) -> [bool; L] {
    let lengths = square_norms(x.as_chunks::<L>().0);
    let mut fits = [false; L];
    if let Some(z) = sums.as_chunks::<L>().0.last() {
        for l in 0..L {
            let short = lengths[l] <= limits.largest_square && lengths[l] <= largest;
            fits[l] = z[l] >= limits.least_normaliser && short;
        }
    }
    fits
}

/// Every row of the other side is in the moments.
pub struct Nothing;

impl<T: Float, V, const W: usize, const L: usize, const J: usize> Near<T, V, W, L, J> for Nothing {
    #[inline(always)]
    fn values(&mut self, _: usize, _: usize, _: &[T], _: &mut [T]) {}
    #[inline(always)]
    fn slopes(&mut self, _: &[T], _: &mut [T]) {}
}

impl<T: Float, V, const W: usize, const L: usize, const J: usize> NearQueries<T, V, W, L, J> for Nothing {
    #[inline(always)]
    fn fits(&mut self, limits: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L] {
        safe(limits, x, sums, limits.largest_square)
    }

    #[inline(always)]
    fn take(&mut self, _: usize, _: usize, _: &[T]) {}
}
