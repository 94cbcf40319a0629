//! The kernels of the second derivatives, compiled for every level: small ones, that the passes put together.

use super::panels::{self, Rows, Visit};
use crate::exact::both_sides;
use crate::exact::slot::Packed;
use crate::float::Float;
use crate::kernels::Strips;
use crate::kernels::tile;
use crate::simd::levels::kernels;

kernels! {
    shape { lanes: "Queries of a tile." = L, keys: "Keys of a tile." = J }

    fn pack(packed: &mut Packed<T>, rows: &[T], count: usize) {
        packed.fill::<L>(rows, count)
    }

    fn products(factors: &[(&[T], &Strips<T>)], visit: Visit<'_>, panel: &mut [T]) {
        panels::products::<T, V, W, L, J>(factors, visit, panel)
    }

    fn weigh(panels: [&mut [T]; 2], rows: &Rows<'_, T>, sums: &mut [T], visit: Visit<'_>) {
        panels::weigh::<T, V, W, L, J>(panels, rows, sums, visit)
    }

    fn slopes(panels: [&mut [T]; 4], rows: &Rows<'_, T>, visit: Visit<'_>) {
        panels::slopes::<T, V, W, L, J>(panels, rows, visit)
    }

    fn accumulate(panel: &[T], visit: Visit<'_>, strips: &Strips<T>, sums: &mut [T]) {
        panels::accumulate::<T, V, W, L, J>(panel, visit, strips, sums)
    }

    fn key_sums(panel: &[T], rows: &[&[T]], first: usize, ends: &[usize], tiles: usize, sums: &mut [T]) {
        panels::key_sums::<T, V, W, L, J>(panel, rows, (first, ends), tiles, sums)
    }

    fn fold(sums: &mut [T], sums64: &mut [f64]) {
        tile::fold(sums, sums64)
    }

    fn fold_keys(sums: &mut [T], padded: usize, sums64: &mut [f64], width: usize) {
        both_sides::fold(sums, padded, sums64, width)
    }
}

impl<T: Float> Kernels<T> {
    /// Numbers of a tile.
    pub fn tile(&self) -> usize {
        self.lanes * self.keys
    }
}
