//! The loops over a tile or a block of rows, compiled once for every level: the drivers of a level share them, where
//! each would hold a copy of every loop that it uses.

use super::collect::Collector;
use super::evaluate::{Evaluator, Moments};
use crate::features::Monomials;
use crate::kernels::InputMap;
use crate::kernels::chunk::Chunk;
use crate::kernels::outputs::{Outer, Product};
use crate::kernels::rhs::Rhs;
use crate::simd::levels::kernels;

kernels! {
    integers
    shape { keys: "Keys of a tile." = J }

    fn coordinates(map: &InputMap<'_, T>, first: usize, count: usize, scratch: &mut [T], out: &mut [T], stride: usize) {
        map.coordinates::<V, W, L, J>(first, count, scratch, out, stride)
    }

    fn set(evaluator: &mut Evaluator<T>, tree: &Monomials, x: &[T]) {
        evaluator.set::<V, W, L>(tree, x)
    }

    fn values(evaluator: &mut Evaluator<T>, tree: &Monomials, moments: Option<&Moments<T>>, x: &[T], out: &mut [T]) {
        evaluator.values::<V, W, L, J>(tree, moments, x, out)
    }

    fn slopes(
        evaluator: &mut Evaluator<T>,
        tree: &Monomials,
        moments: Option<&Moments<T>>,
        payload: &[T],
        x: &[T],
        out: &mut [T],
    ) {
        evaluator.slopes::<V, W, L, J>(tree, moments, payload, x, out)
    }

    fn collect(
        collector: &mut Collector<T>,
        tree: &Monomials,
        x: &mut [T],
        count: usize,
        payload: &Rhs<T>,
        sums: &mut [f64],
    ) {
        collector.add::<V, W, L, J>(tree, x, count, payload, sums)
    }

    fn add_outer(outer: &Outer<T>, sums: &mut [f64]) {
        outer.add::<V, W, L, J>(sums)
    }

    fn map_rows(product: &Product<T>, x: &[T], first: usize, rows: usize, output: &mut [T]) {
        product.rows::<V, W, L, J>(x, first, rows, output)
    }

    fn near_values(chunk: &mut Chunk<T>, x: &[T], used: &[bool], last: &[i32], out: &mut [T]) {
        if let (Some(used), Some(last)) = (used.first_chunk::<L>(), last.first_chunk::<L>()) {
            chunk.set(x, used);
            chunk.values::<V, W, L, J>(last, out);
        }
    }

    fn near_slopes(chunk: &mut Chunk<T>, payload: &[T], out: &mut [T]) {
        chunk.slopes::<V, W, L, J>(payload, out)
    }

    fn gather(chunk: &Chunk<T>, payload: &[T], sums: &mut [f64]) {
        chunk.gather::<V, W, L, J>(payload, sums)
    }
}
