//! The kernels of the second derivatives, compiled for every level: small ones, that the passes put together.

use std::ops::Range;

use super::panels::{self, Rows, Visit};
use crate::exact::entries::Room;
use crate::exact::slot::Packed;
use crate::exact::walk::Walk;
use crate::exact::{Operands, both_sides};
use crate::float::Float;
use crate::kernels::Strips;
use crate::kernels::tile;
use crate::simd::levels::kernels;

kernels! {
    shape { lanes: "Queries of a tile." = L, keys: "Keys of a tile." = J }

    fn pack(packed: &mut Packed<T>, rows: &[T], count: usize) {
        packed.fill::<L>(rows, count)
    }

    fn load(operands: &Operands<'_, T>, room: &mut Room<T>, walk: &Walk<'_>) -> bool {
        operands.entries::<L, J>(Some(room), walk).is_some()
    }

    fn products(factors: &[(&[T], &Strips<T>)], visit: Visit<'_, T>, panel: &mut [T]) {
        panels::products::<T, V, W, L, J>(factors, visit, panel)
    }

    fn weigh(panels: [&mut [T]; 2], rows: &Rows<'_, T>, sums: &mut [T], visit: Visit<'_, T>) {
        panels::weigh::<T, V, W, L, J>(panels, rows, sums, visit)
    }

    fn slopes(panels: [&mut [T]; 4], rows: &Rows<'_, T>, visit: Visit<'_, T>) {
        panels::slopes::<T, V, W, L, J>(panels, rows, visit)
    }

    fn accumulate(panel: &[T], visit: Visit<'_, T>, strips: &Strips<T>, sums: &mut [T]) {
        panels::accumulate::<T, V, W, L, J>(panel, visit, strips, sums)
    }

    fn key_sums(panel: &[T], rows: &[&[T]], tiles_of: &[Range<usize>], tiles: usize, sums: &mut [T]) {
        panels::key_sums::<T, V, W, L, J>(panel, rows, tiles_of, tiles, sums)
    }

    fn fold(sums: &mut [T], sums64: &mut [f64]) {
        tile::fold(sums, sums64)
    }

    fn fold_keys(sums: &mut [T], padded: usize, sums64: &mut [f64], width: usize) {
        both_sides::fold(sums, padded, sums64, width)
    }
}

impl<T: Float> Kernels<T> {
    /// [`Operands::entries`] for the shape of the tile.
    pub fn entries<'r>(
        &self,
        operands: &Operands<'_, T>,
        room: Option<&'r mut Room<T>>,
        walk: &Walk<'_>,
    ) -> Option<&'r Room<T>> {
        let room = room?;
        self.load(operands, room, walk).then_some(room)
    }

    /// Numbers of a tile.
    pub fn tile(&self) -> usize {
        self.lanes * self.keys
    }
}
