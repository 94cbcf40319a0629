//! Score cache that pass 1 leaves to pass 2: the weights of a tile of queries, or its logits where the shift still
//! moves.
//!
//! Pass 2 then needs neither the logits nor, without a shift, the exponentials again. The cached numbers have the bits
//! that would be computed again, so whether there is room for them changes no result.

use super::backward::Source;
use super::forward::Keep;
use super::walk::Cover;
use crate::float::Float;
use crate::kernels::tile::{self, Pair, Tile};
use crate::simd::Vector;

/// Weights or logits of some tiles, `[tile][strip][J][L]`, to be written.
pub struct Written<'a, T> {
    data: &'a mut [T],
    stride: usize,
    /// Start of the current tile.
    at: usize,
}

/// The same to be read.
pub struct Read<'a, T> {
    data: &'a [T],
    stride: usize,
    at: usize,
}

impl<'a, T> Written<'a, T> {
    /// Tiles of `stride` numbers in `data`.
    pub fn new(data: &'a mut [T], stride: usize) -> Self {
        Written { data, stride, at: 0 }
    }
}

impl<'a, T> Read<'a, T> {
    /// Tiles of `stride` numbers in `data`.
    pub fn new(data: &'a [T], stride: usize) -> Self {
        Read { data, stride, at: 0 }
    }
}

/// Numbers that a tile of `lanes` queries keeps of `keys` keys in strips of `strip`.
#[inline(always)]
pub fn stride(lanes: usize, keys: usize, strip: usize) -> usize {
    keys.next_multiple_of(strip).saturating_mul(lanes)
}

impl<T: Float, V: Vector<T, W>, const W: usize, const J: usize> Keep<T, V, W, J> for Written<'_, T> {
    #[inline(always)]
    fn tile(&mut self, t: usize) {
        self.at = t * self.stride;
    }

    #[inline(always)]
    fn keep(&mut self, key: usize, tile: &Tile<V, J>) {
        let lanes = 2 * W;
        let strip = &mut self.data[self.at + key * lanes..][..J * lanes];
        for (to, pair) in strip.chunks_exact_mut(lanes).zip(tile) {
            let to = to.as_chunks_mut::<W>().0;
            pair[0].store(&mut to[0]);
            pair[1].store(&mut to[1]);
        }
    }
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Source<T, V, W, L, J> for Read<'_, T> {
    #[inline(always)]
    fn tile(&mut self, t: usize) {
        self.at = t * self.stride;
    }

    #[inline(always)]
    fn weights<const SHIFTED: bool, const MASKED: bool>(
        &self,
        _: &[T],
        _: &[T],
        shift: Pair<V>,
        _: &impl Cover<T, V, W, L, J>,
        key: usize,
    ) -> Tile<V, J> {
        let strip = &self.data[self.at + key * L..][..J * L];
        let mut tile = [shift; J];
        for (pair, from) in tile.iter_mut().zip(strip.as_chunks::<L>().0) {
            *pair = tile::load(from);
        }
        if SHIFTED {
            tile::exponentiate::<T, V, W, SHIFTED, MASKED, J>(&mut tile, shift);
        }
        tile
    }
}
