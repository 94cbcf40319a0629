//! The inputs of a problem in their coordinates, as every task reads them.

use std::ops::Range;

use super::blocks::Kernels as Blocks;
use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::InputMap;
use crate::kernels::chunk::Chunk;
use crate::kernels::rhs::C;

/// The three inputs by token, and the monomials of their coordinates.
pub struct Sides<'a, T> {
    /// Monomials up to one above the degree.
    pub tree: &'a Monomials,
    /// A1 and its coordinates.
    pub queries: InputMap<'a, T>,
    /// A2 and its coordinates.
    pub keys: InputMap<'a, T>,
    /// A3 and its values h, in their unit.
    pub values: InputMap<'a, T>,
    /// Keys that count for nothing in the moments and get nothing from them, in rising order.
    pub left_out: &'a [usize],
    /// Their rows of A2 and of A3, which every query sees one by one, if there are any.
    pub exact: Option<[InputMap<'a, T>; 2]>,
    /// The loops over their rows.
    pub blocks: Blocks<T>,
}

impl<T: Float> Sides<'_, T> {
    /// Coordinates `[column][C]` of some rows, no more than `C`.
    pub fn block<const L: usize>(&self, map: &InputMap<'_, T>, rows: Range<usize>, scratch: &mut [T], out: &mut [T]) {
        for at in (0..rows.len()).step_by(L) {
            let count = (rows.len() - at).min(L);
            self.blocks.coordinates(map, rows.start + at, count, scratch, &mut out[at..], C);
        }
    }

    /// Some keys with [h, 1], and whether they are finite; zeros where they are not.
    pub fn chunk<const L: usize, const J: usize>(
        &self,
        keys: &InputMap<'_, T>,
        values: &InputMap<'_, T>,
        rows: Range<usize>,
    ) -> Result<(Chunk<T>, bool), Error> {
        Chunk::of_keys::<L, J>(
            keys,
            values,
            |map, scratch, out| self.block::<L>(map, rows.clone(), scratch, out),
            rows.len(),
        )
    }

    /// Zeros the lanes of `[columns][L]` that belong to keys that are left out; `count` lanes from `lane` on are those
    /// of the keys from `first` on.
    #[inline(always)]
    pub fn leave_out<const L: usize>(&self, first: usize, count: usize, lane: usize, columns: &mut [T]) {
        let from = self.left_out.partition_point(|&key| key < first);
        for key in self.left_out[from..].iter().take_while(|&&key| key < first + count) {
            columns.as_chunks_mut::<L>().0.iter_mut().for_each(|column| column[lane + key - first] = T::zero());
        }
    }
}
