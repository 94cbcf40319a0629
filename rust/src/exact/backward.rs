//! Pass 2 for the query side: w = p K, for a group of query tiles.

use std::ops::Range;

use super::entries::Room;
use super::walk::{Cover, Walk};
use super::{Operands, Residual};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::tile::{self, Pair, Tile};
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Inputs and outputs of pass 2 for the queries `first..first + residual.shift.len()`.
pub struct BackwardTask<'a, T> {
    /// Index of the first query.
    pub first: usize,
    /// The keys, from the start of a block on.
    pub keys: Range<usize>,
    pub queries: Queries<'a, T>,
    /// The rows of c with the results of pass 1 for them.
    pub residual: Residual<'a, T>,
    /// Σ_i p_i².
    pub squares: &'a mut [f64],
}

/// Queries times scale · log2 e, row-major, and room for w.
pub enum Queries<'a, T> {
    /// In: the queries. Out: w = p K, where the task has all keys.
    Replaced(&'a mut [T]),
    /// The queries, and Σ_i p_i k_i over the keys of the task.
    Part(&'a [T], &'a mut [f64]),
}

/// The state of one tile of queries.
#[repr(align(64))]
pub(super) struct Lanes<T, const L: usize> {
    shift: [T; L],
    /// r / α, so that P (q̂ − r̂) is p.
    r: [T; L],
    squares: [T; L],
    pub(super) squares64: [f64; L],
    unshifted: bool,
}

/// Packed operands and the sums of one tile.
pub(super) struct Block<'a, T> {
    pub(super) queries: &'a [T],
    pub(super) residual: &'a [T],
    pub(super) sums: &'a mut [T],
}

/// Source of the weights P of a strip.
pub(super) trait Source<T, V, const W: usize, const L: usize, const J: usize> {
    /// Moves to the `t`-th tile of queries.
    fn tile(&mut self, t: usize);
    fn weights<const SHIFTED: bool, const MASKED: bool>(
        &self,
        queries: &[T],
        keys: &[T],
        shift: Pair<V>,
        cover: &impl Cover<T, V, W, L, J>,
        key: usize,
    ) -> Tile<V, J>;
}

/// From the logits, with the operations of pass 1 in their order: the same bits.
pub(super) struct Again;

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Source<T, V, W, L, J> for Again {
    #[inline(always)]
    fn tile(&mut self, _: usize) {}
    #[inline(always)]
    fn weights<const SHIFTED: bool, const MASKED: bool>(
        &self,
        queries: &[T],
        keys: &[T],
        shift: Pair<V>,
        cover: &impl Cover<T, V, W, L, J>,
        _: usize,
    ) -> Tile<V, J> {
        let mut weights: Tile<V, J> = tile::products::<T, V, W, L, J>(queries, keys);
        if MASKED {
            cover.hide_logits(&mut weights);
        }
        tile::exponentiate::<T, V, W, SHIFTED, MASKED, J>(&mut weights, shift);
        weights
    }
}

/// Takes the weights P and the tile of p of each strip; the key-side pass keeps both for its own products.
pub(super) trait Sink<V, const J: usize> {
    fn take(&mut self, key: usize, weights: &Tile<V, J>, p: &Tile<V, J>);
}

/// For the query side alone nothing is kept.
struct Discard;

impl<V, const J: usize> Sink<V, J> for Discard {
    #[inline(always)]
    fn take(&mut self, _: usize, _: &Tile<V, J>, _: &Tile<V, J>) {}
}

impl<T: Float, const L: usize> Lanes<T, L> {
    pub(super) fn new(residual: &Residual<'_, T>, unshifted: bool) -> Self {
        // Lanes past the last query have a zero residual, so any finite shift serves them.
        let pick = |values: &[T]| std::array::from_fn(|l| values.get(l).copied().unwrap_or(T::zero()));
        Lanes {
            shift: pick(residual.shift),
            r: pick(residual.r),
            squares: [T::zero(); L],
            squares64: [0.0; L],
            unshifted,
        }
    }

    #[inline(always)]
    fn strip<V: Vector<T, W>, const W: usize, const SHIFTED: bool, const MASKED: bool, const J: usize>(
        &mut self,
        block: &mut Block<'_, T>,
        (keys, values): (&[T], &[T]),
        cover: &impl Cover<T, V, W, L, J>,
        key: usize,
        source: &impl Source<T, V, W, L, J>,
        sink: &mut impl Sink<V, J>,
    ) {
        let shift = tile::load(&self.shift);
        let weights: Tile<V, J> = source.weights::<SHIFTED, MASKED>(block.queries, keys, shift, cover, key);
        // so: p = P (c·h − r) / α, with c and r divided by α beforehand
        let mut p: Tile<V, J> = tile::products::<T, V, W, L, J>(block.residual, values);
        let r = tile::load(&self.r);
        let mut squares = tile::load(&self.squares);
        for (p, weight) in p.iter_mut().zip(weights) {
            *p = tile::zip(tile::zip(*p, r, V::sub), weight, V::mul);
        }
        if MASKED {
            // The weight is zero, but c·h of a hidden key may overflow.
            cover.hide_p(&mut p);
        }
        for p in &p {
            squares = tile::add_square(*p, squares);
        }
        tile::store(squares, &mut self.squares);
        sink.take(key, &weights, &p);
        tile::accumulate::<T, V, W, L, J>(block.sums, &p, keys);
    }

    /// One tile of queries against one block of keys; the sums are added to those of `block`.
    #[inline(always)]
    pub(super) fn visit<V: Vector<T, W>, const W: usize, const J: usize>(
        &mut self,
        block: &mut Block<'_, T>,
        operands: &Operands<'_, T>,
        walk: &Walk,
        entries: Option<&Room<T>>,
        source: &impl Source<T, V, W, L, J>,
        sink: &mut impl Sink<V, J>,
    ) {
        if let Some(entries) = entries {
            for (k, cover) in entries.strips::<L, J>() {
                let strip = operands.strip::<J>(k);
                if self.unshifted {
                    self.strip::<V, W, false, true, J>(block, strip, cover, k, source, sink);
                } else {
                    self.strip::<V, W, true, true, J>(block, strip, cover, k, source, sink);
                }
            }
        } else {
            for k in walk.full::<J>() {
                let strip = operands.strip::<J>(k);
                if self.unshifted {
                    self.strip::<V, W, false, false, J>(block, strip, &[[0; L]; 2], k, source, sink);
                } else {
                    self.strip::<V, W, true, false, J>(block, strip, &[[0; L]; 2], k, source, sink);
                }
            }
            for k in walk.edges::<J>() {
                let strip = operands.strip::<J>(k);
                let seen = walk.lanes::<L, J>(k);
                if self.unshifted {
                    self.strip::<V, W, false, true, J>(block, strip, &seen, k, source, sink);
                } else {
                    self.strip::<V, W, true, true, J>(block, strip, &seen, k, source, sink);
                }
            }
        }
        for l in 0..L {
            self.squares64[l] += self.squares[l].widen();
        }
        self.squares = [T::zero(); L];
    }
}

/// Pass 2 for one task. Time rows · m · (4 d + 2 dv), scratch rows · (4 d + dv).
#[inline(always)]
pub fn backward<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    task: BackwardTask<'_, T>,
    source: &mut impl Source<T, V, W, L, J>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (width, value_width) = (operands.keys.width, operands.values.width);
    let rows = task.residual.shift.len();
    let tiles = rows.div_ceil(L);
    let mut queries = buffer::aligned::<T>(tiles * width * L)?;
    let mut residual = buffer::aligned::<T>(tiles * value_width * L)?;
    let mut sums = buffer::aligned::<T>(tiles * width * L)?;
    let mut sums64 = buffer::aligned::<f64>(tiles * width * L)?;
    let mut lanes = buffer::with_capacity(tiles)?;
    let mut room = operands.room(L)?;
    let rows_of_queries = match &task.queries {
        Queries::Replaced(queries) => &**queries,
        Queries::Part(queries, _) => queries,
    };
    for t in 0..tiles {
        let range = t * L..rows.min((t + 1) * L);
        let rows = task.residual.rows(range.clone());
        tile::transpose::<T, L>(
            &rows_of_queries[range.start * width..range.end * width],
            width,
            &mut queries[t * width * L..][..width * L],
        );
        tile::transpose::<T, L>(rows.c, value_width, &mut residual[t * value_width * L..][..value_width * L]);
        lanes.push(Lanes::<T, L>::new(&rows, operands.unshifted(rows.bound)));
    }
    for keys in operands.key_blocks(task.keys, task.first..task.first + rows) {
        cancel.check()?;
        for (t, lanes) in lanes.iter_mut().enumerate() {
            let mut block = Block {
                queries: &queries[t * width * L..][..width * L],
                residual: &residual[t * value_width * L..][..value_width * L],
                sums: &mut sums[t * width * L..][..width * L],
            };
            let walk = operands.walk(keys.clone(), task.first + t * L..task.first + rows.min((t + 1) * L));
            if walk.is_empty() {
                continue;
            }
            let entries = operands.entries::<L, J>(room.as_mut(), &walk);
            source.tile(t);
            lanes.visit::<V, W, J>(&mut block, operands, &walk, entries, source, &mut Discard);
            tile::fold(block.sums, &mut sums64[t * width * L..][..width * L]);
        }
    }
    for (row, square) in task.squares.iter_mut().enumerate() {
        let (t, l) = (row / L, row % L);
        *square = lanes[t].squares64[l];
    }
    match task.queries {
        Queries::Replaced(queries) => {
            for (row, w) in queries.chunks_exact_mut(width.max(1)).enumerate() {
                let sums64 = &sums64[row / L * width * L + row % L..];
                w.iter_mut().zip(sums64.iter().step_by(L)).for_each(|(w, &sum)| *w = T::narrow(sum));
            }
        }
        Queries::Part(_, w) => {
            for (t, sums64) in sums64.chunks_exact(width.max(1) * L).enumerate() {
                tile::untranspose::<f64, L>(sums64, (t * L, L.min(rows - t * L)), w);
            }
        }
    }
    Ok(())
}
