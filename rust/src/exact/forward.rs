//! Pass 1: o = f h and the row normaliser, for a group of query tiles.

use std::ops::Range;

use super::Operands;
use super::entries::Room;
use super::walk::{Cover, Walk};
use crate::constants::{KEY_BLOCK, LAZY_SHIFT, SMALL_STRIP};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::tile::{self, Pair, Tile};
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Inputs and outputs of pass 1 for the queries `first..first + shift.len()`.
pub struct ForwardTask<'a, T> {
    /// Index of the first query.
    pub first: usize,
    /// Queries times scale · log2 e, row-major.
    pub queries: &'a [T],
    /// ‖query‖ · max ‖key‖, in the units of the logits.
    pub bound: &'a [f64],
    /// The keys, from the start of a block on.
    pub keys: Range<usize>,
    pub output: Output<'a, T>,
    /// Shift that is subtracted from the logits of a row.
    pub shift: &'a mut [T],
    /// Σ_i 2^(S_i − shift).
    pub total: &'a mut [f64],
    /// Spread of the weights of each row.
    pub spread: &'a mut [Spread],
}

/// Room for the sums over keys, row-major.
pub enum Output<'a, T> {
    /// o, where the task has all keys.
    Whole(&'a mut [T]),
    /// Σ_i 2^(S_i − shift) h_i; where there are no more than some of the keys, the spread is as it was summed, too.
    Part(&'a mut [f64]),
}

/// Spread of the weights f of a row over the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// Σ_i f_i².
    pub squares: f64,
    /// Roundings that may all go the same way, of the whole sum: strips that are few roundings of the sum before them
    /// lose a rounding of that sum, or all of themselves where that is less.
    pub small: f64,
}

/// The number that sums over keys are divided by, from a normaliser: a row that sees nothing has sums of zero, which
/// are its output.
#[inline(always)]
pub(super) fn divisor(total: f64) -> f64 {
    if total == 0.0 { 1.0 } else { total }
}

/// A number divided by one of which the reciprocal is known, as rounded to the precision. Where that is single, the
/// product with the reciprocal is as good: its own roundings are 2^-29 of the last one. Divisions take several times as
/// long.
#[inline(always)]
pub(super) fn quotient<T: Float>(x: f64, divisor: f64, reciprocal: f64) -> T {
    T::narrow(if T::UNIT_ROUNDOFF > f64::UNIT_ROUNDOFF { x * reciprocal } else { x / divisor })
}

impl Spread {
    /// Of weights that are divided by their sum.
    pub fn of(self, total: f64) -> Self {
        Spread { squares: self.squares / (total * total), small: self.small / total }
    }
}

/// The running state of one tile of queries.
#[repr(align(64))]
struct Lanes<T, const L: usize> {
    shift: [T; L],
    total: [T; L],
    squares: [T; L],
    small: [T; L],
    total64: [f64; L],
    squares64: [f64; L],
    small64: [f64; L],
    unshifted: bool,
    may_be_small: bool,
}

/// Packed queries and the output sums of one tile.
struct Block<'a, T> {
    queries: &'a [T],
    sums: &'a mut [T],
    sums64: &'a mut [f64],
}

/// Takes the tiles that pass 2 would otherwise compute again: the weights of a strip, or its logits where the shift
/// still moves.
pub(super) trait Keep<T, V, const W: usize, const J: usize> {
    /// Moves to the `t`-th tile of queries.
    fn tile(&mut self, t: usize);
    fn keep(&mut self, key: usize, tile: &Tile<V, J>);
}

/// Nothing is kept.
pub(super) struct Forget;

impl<T, V, const W: usize, const J: usize> Keep<T, V, W, J> for Forget {
    #[inline(always)]
    fn tile(&mut self, _: usize) {}
    #[inline(always)]
    fn keep(&mut self, _: usize, _: &Tile<V, J>) {}
}

impl<T: Float, const L: usize> Lanes<T, L> {
    /// Of queries whose logits `bound` bounds.
    fn new(unshifted: bool, bound: &[f64]) -> Self {
        // Below every logit, and finite: a lane that sees no key yet has weights of zero, not NaN.
        let shift = if unshifted { T::zero() } else { T::min_value() };
        Lanes {
            shift: [shift; L],
            total: [T::zero(); L],
            squares: [T::zero(); L],
            small: [T::zero(); L],
            total64: [0.0; L],
            squares64: [0.0; L],
            small64: [0.0; L],
            unshifted,
            may_be_small: bound.iter().any(|&bound| may_be_small::<T>(bound)),
        }
    }

    /// Moves the shift of the lanes whose logits outgrew it, and rescales their sums.
    #[cold]
    #[inline(never)]
    fn raise(&mut self, high: &[T; L], block: &mut Block<'_, T>) {
        let mut ratio = [T::one(); L];
        for l in 0..L {
            if high[l] > self.shift[l] {
                // As long as nothing has been summed the ratio is zero.
                ratio[l] = (self.shift[l] - high[l]).exp2();
                self.shift[l] = high[l];
            }
            let square = ratio[l] * ratio[l];
            self.total[l] *= ratio[l];
            self.squares[l] *= square;
            self.small[l] *= ratio[l];
            self.total64[l] *= ratio[l].widen();
            self.squares64[l] *= square.widen();
            self.small64[l] *= ratio[l].widen();
        }
        for sums in block.sums.as_chunks_mut::<L>().0 {
            for l in 0..L {
                sums[l] *= ratio[l];
            }
        }
        for sums in block.sums64.as_chunks_mut::<L>().0 {
            for l in 0..L {
                sums[l] *= ratio[l].widen();
            }
        }
    }

    #[inline(always)]
    fn strip<V: Vector<T, W>, const W: usize, const SHIFTED: bool, const MASKED: bool, const J: usize>(
        &mut self,
        block: &mut Block<'_, T>,
        (keys, values): (&[T], &[T]),
        cover: &impl Cover<T, V, W, L, J>,
        key: usize,
        kept: &mut impl Keep<T, V, W, J>,
    ) {
        let mut weights: Tile<V, J> = tile::products::<T, V, W, L, J>(block.queries, keys);
        if MASKED {
            cover.hide_logits(&mut weights);
        }
        if SHIFTED {
            kept.keep(key, &weights);
            self.follow(&weights, block);
        }
        let shift = tile::load(&self.shift);
        let total = tile::load(&self.total);
        let mut squares = tile::load(&self.squares);
        tile::exponentiate::<T, V, W, SHIFTED, MASKED, J>(&mut weights, shift);
        if !SHIFTED {
            kept.keep(key, &weights);
        }
        let mut sum = weights[0];
        squares = tile::add_square(weights[0], squares);
        for weight in &weights[1..] {
            sum = tile::zip(sum, *weight, V::add);
            squares = tile::add_square(*weight, squares);
        }
        let total = tile::zip(total, sum, V::add);
        tile::store(total, &mut self.total);
        tile::store(squares, &mut self.squares);
        tile::accumulate::<T, V, W, L, J>(block.sums, &weights, values);
        if self.may_be_small {
            let more = small::<T, V, W>(total, sum);
            tile::store(tile::zip(tile::load(&self.small), more, V::add), &mut self.small);
        }
    }

    /// Raises the shift if a logit has outgrown it.
    #[inline(always)]
    fn follow<V: Vector<T, W>, const W: usize, const J: usize>(
        &mut self,
        logits: &Tile<V, J>,
        block: &mut Block<'_, T>,
    ) {
        let mut high = logits[0];
        for row in &logits[1..] {
            high = tile::zip(*row, high, V::max);
        }
        let lag = V::splat(T::narrow(LAZY_SHIFT));
        let limit = tile::zip(tile::load::<T, V, W, L>(&self.shift), [lag; 2], V::add);
        if high[0].any_above(limit[0]) | high[1].any_above(limit[1]) {
            let mut lanes = [T::zero(); L];
            tile::store(high, &mut lanes);
            self.raise(&lanes, block);
        }
    }

    /// Adds the sums of one block of keys to those in double precision.
    #[inline(always)]
    fn fold(&mut self, block: &mut Block<'_, T>) {
        for l in 0..L {
            self.total64[l] += self.total[l].widen();
            self.squares64[l] += self.squares[l].widen();
            self.small64[l] += self.small[l].widen();
        }
        self.total = [T::zero(); L];
        self.squares = [T::zero(); L];
        self.small = [T::zero(); L];
        tile::fold(block.sums, block.sums64);
    }

    /// One tile of queries against one block of keys.
    #[inline(always)]
    fn visit<V: Vector<T, W>, const W: usize, const J: usize>(
        &mut self,
        block: &mut Block<'_, T>,
        operands: &Operands<'_, T>,
        walk: &Walk,
        entries: Option<&Room<T>>,
        kept: &mut impl Keep<T, V, W, J>,
    ) {
        if let Some(entries) = entries {
            for (k, cover) in entries.strips::<L, J>() {
                let strip = operands.strip::<J>(k);
                if self.unshifted {
                    self.strip::<V, W, false, true, J>(block, strip, cover, k, kept);
                } else {
                    self.strip::<V, W, true, true, J>(block, strip, cover, k, kept);
                }
            }
            return self.fold(block);
        }
        for k in walk.full::<J>() {
            let strip = operands.strip::<J>(k);
            if self.unshifted {
                self.strip::<V, W, false, false, J>(block, strip, &[[0; L]; 2], k, kept);
            } else {
                self.strip::<V, W, true, false, J>(block, strip, &[[0; L]; 2], k, kept);
            }
        }
        for k in walk.edges::<J>() {
            let strip = operands.strip::<J>(k);
            let seen = walk.lanes::<L, J>(k);
            if self.unshifted {
                self.strip::<V, W, false, true, J>(block, strip, &seen, k, kept);
            } else {
                self.strip::<V, W, true, true, J>(block, strip, &seen, k, kept);
            }
        }
        self.fold(block);
    }
}

/// Whether logits of at most `bound` in base 2 can make a strip so small beside a block.
fn may_be_small<T: Float>(bound: f64) -> bool {
    2.0 * bound > -(SMALL_STRIP * T::UNIT_ROUNDOFF * KEY_BLOCK as f64).log2()
}

/// Possible loss, in roundings, where a strip of sum `strip` brings a sum to `total`: the more roundings of the total
/// the strip is, the less, since the last bits of strips of many roundings differ from strip to strip.
#[inline(always)]
fn small<T: Float, V: Vector<T, W>, const W: usize>(total: Pair<V>, strip: Pair<V>) -> Pair<V> {
    let zero = V::splat(T::zero());
    let few = V::splat(T::narrow(-1.0 / (SMALL_STRIP * T::UNIT_ROUNDOFF)));
    let all = V::splat(T::narrow(-1.0 / T::UNIT_ROUNDOFF));
    tile::zip(total, strip, |total, strip| {
        let most = strip.mul_add(few, total).max(zero);
        // The smaller of the two, from their difference.
        most.sub(strip.mul_add(all, most).max(zero))
    })
}

/// Pass 1 for one task. Time 2 · rows · m · (d + dv), scratch rows · (d + 3 dv).
#[inline(always)]
pub fn forward<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Operands<'_, T>,
    task: ForwardTask<'_, T>,
    kept: &mut impl Keep<T, V, W, J>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let (width, value_width) = (operands.keys.width, operands.values.width);
    let rows = task.shift.len();
    let tiles = rows.div_ceil(L);
    let mut queries = buffer::aligned::<T>(tiles * width * L)?;
    let mut sums = buffer::aligned::<T>(tiles * value_width * L)?;
    let mut sums64 = buffer::aligned::<f64>(tiles * value_width * L)?;
    let mut lanes = buffer::with_capacity(tiles)?;
    let mut room = operands.room(L)?;
    for t in 0..tiles {
        let range = t * L..rows.min((t + 1) * L);
        tile::transpose::<T, L>(
            &task.queries[range.start * width..range.end * width],
            width,
            &mut queries[t * width * L..][..width * L],
        );
        let bound = &task.bound[range];
        lanes.push(Lanes::<T, L>::new(operands.unshifted(bound), bound));
    }
    for keys in operands.key_blocks(task.keys, task.first..task.first + rows) {
        cancel.check()?;
        for (t, lanes) in lanes.iter_mut().enumerate() {
            let mut block = Block {
                queries: &queries[t * width * L..][..width * L],
                sums: &mut sums[t * value_width * L..][..value_width * L],
                sums64: &mut sums64[t * value_width * L..][..value_width * L],
            };
            let walk = operands.walk(keys.clone(), task.first + t * L..task.first + rows.min((t + 1) * L));
            if walk.is_empty() {
                continue;
            }
            let entries = operands.entries::<L, J>(room.as_mut(), &walk);
            kept.tile(t);
            lanes.visit::<V, W, J>(&mut block, operands, &walk, entries, kept);
        }
    }
    let mut output = task.output;
    for (t, lane) in lanes.iter().enumerate() {
        let first = t * L;
        let count = L.min(rows - first);
        let sums = &mut sums[t * value_width * L..][..value_width * L];
        let sums64 = &sums64[t * value_width * L..][..value_width * L];
        for l in 0..count {
            task.shift[first + l] = lane.shift[l];
            task.total[first + l] = lane.total64[l];
            task.spread[first + l] = Spread { squares: lane.squares64[l], small: lane.small64[l] };
        }
        match &mut output {
            Output::Whole(output) => {
                let divisors = lane.total64.map(divisor);
                let reciprocals = divisors.map(f64::recip);
                // A loop of a length that is known is unrolled, and the one around it made one of gathers and scatters.
                let lanes = std::hint::black_box(L);
                for (sums, sums64) in sums.chunks_exact_mut(lanes).zip(sums64.chunks_exact(lanes)) {
                    let known = divisors.iter().zip(&reciprocals);
                    for ((to, from), (divisor, reciprocal)) in sums.iter_mut().zip(sums64).zip(known) {
                        *to = quotient(*from, *divisor, *reciprocal);
                    }
                }
                tile::untranspose::<T, L>(sums, (first, count), output);
                for (spread, total) in task.spread[first..][..count].iter_mut().zip(&divisors) {
                    *spread = spread.of(*total);
                }
            }
            Output::Part(output) => tile::untranspose::<f64, L>(sums64, (first, count), output),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
