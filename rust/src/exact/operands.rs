//! Shared inputs of the tasks of a pass.

use std::num::NonZeroUsize;
use std::ops::Range;

use super::entries::{Pairs, Room};
use super::walk::{Seen, Walk, of_query};
use crate::constants::{KEY_BLOCK, KEY_BLOCK_BYTES, KEY_BLOCK_MIN, KEY_BLOCK_SQUARES, LAZY_SHIFT, LEAST_TASK_QUERIES};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::Strips;

/// The rows of the residual that some task works on, all divided by the row's normaliser.
#[derive(Clone, Copy)]
pub struct Residual<'a, T> {
    /// c / α (or the incoming gradient / α), row-major.
    pub c: &'a [T],
    /// ⟨c, o⟩ / α.
    pub r: &'a [T],
    /// Shift that pass 1 subtracted from the logits.
    pub shift: &'a [T],
    /// ‖query‖ · max ‖key‖, in the units of the logits.
    pub bound: &'a [f64],
}

impl<'a, T> Residual<'a, T> {
    /// Some of these rows.
    #[inline(always)]
    pub fn rows(&self, range: Range<usize>) -> Residual<'a, T> {
        let width = self.c.len() / self.r.len().max(1);
        Residual {
            c: &self.c[range.start * width..range.end * width],
            r: &self.r[range.clone()],
            shift: &self.shift[range.clone()],
            bound: &self.bound[range],
        }
    }
}

/// Keys and values, and how to walk them.
pub struct Operands<'a, T> {
    pub keys: &'a Strips<T>,
    pub values: &'a Strips<T>,
    /// The keys that each query sees.
    pub sight: Seen<'a>,
    /// A mask with an entry for each pair, beside it.
    pub pairs: Option<&'a Pairs<'a, T>>,
    /// Keys per block, whole strips, and no more than there are.
    pub key_block: usize,
    /// Whether the values leave room for weights without a shift.
    pub values_in_range: bool,
}

impl<T: Float> Operands<'_, T> {
    /// Whether these rows need no shift: their logits are known to be small.
    #[inline(always)]
    pub fn unshifted(&self, bound: &[f64]) -> bool {
        self.values_in_range && bound.iter().all(|&bound| bound <= T::UNSHIFTED_MAX)
    }

    /// The strip of keys, and of values, that begins at `key`.
    #[inline(always)]
    pub fn strip<const J: usize>(&self, key: usize) -> (&[T], &[T]) {
        (self.keys.strip::<J>(key), self.values.strip::<J>(key))
    }

    /// The keys between the first and the last that some of these queries sees.
    #[inline(always)]
    pub fn seen(&self, queries: Range<usize>) -> Range<usize> {
        let Some(seen) = self.sight else { return 0..self.keys.count };
        of_query(seen, queries.start).begin..of_query(seen, queries.end.saturating_sub(1)).end
    }

    /// The blocks of `keys`, which begin where a block does, that some of these queries may see. They begin where they
    /// begin for all queries: sums do not depend on which queries share a task.
    #[inline(always)]
    pub fn key_blocks(&self, keys: Range<usize>, queries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let (block, seen) = (self.key_block, self.seen(queries));
        let (start, end) = ((seen.start / block * block).max(keys.start), seen.end.min(keys.end));
        (start..end).step_by(block).map(move |start| start..end.min(start + block))
    }

    /// Room for the entries of a mask, where there is one.
    pub fn room(&self, lanes: usize) -> Result<Option<Room<T>>, Error> {
        self.pairs.map(|_| Room::new(lanes, self.key_block)).transpose()
    }

    /// The entries of the mask that a walk meets, in the room for them; nothing where there is no such mask, or it says
    /// no more than the walk.
    #[inline(always)]
    pub fn entries<'r, const L: usize, const J: usize>(
        &self,
        room: Option<&'r mut Room<T>>,
        walk: &Walk<'_>,
    ) -> Option<&'r Room<T>> {
        let (room, pairs, seen) = (room?, self.pairs?, self.sight?);
        room.load::<L, J>(pairs, seen, walk.first_query(), walk.strips::<J>()).then_some(room)
    }

    /// One block of keys as a tile of these queries sees it.
    #[inline(always)]
    pub fn walk(&self, block: Range<usize>, queries: Range<usize>) -> Walk<'_> {
        Walk::new(block, queries, self.sight)
    }
}

/// Keys per block of whole strips of `strip` keys: the number asked for, or one that suits the caches for rows of
/// `width` entries in keys and values together, and no more than the rounding estimate allows for.
pub fn key_block<T>(asked: Option<NonZeroUsize>, width: usize, strip: usize) -> usize {
    let blocks = |keys: usize| keys / KEY_BLOCK_MIN * KEY_BLOCK_MIN;
    let most = blocks(KEY_BLOCK_SQUARES * strip * strip).min(KEY_BLOCK);
    let fit = || blocks(KEY_BLOCK_BYTES / (width.max(1) * size_of::<T>())).max(KEY_BLOCK_MIN);
    asked.map_or_else(fit, NonZeroUsize::get).min(most).next_multiple_of(strip)
}

/// Sums that a term of a block of keys passes through: those of its strip, and one for every strip.
pub fn block_steps(block: usize, strip: usize) -> usize {
    (block.div_ceil(strip) + strip).min(block)
}

/// Upper bound of the number of rescales of the sums of a row, where no logit is above `bound` in base 2 and the
/// largest value is between `values`. A lane of a tile asks for it when its shift has been outgrown by [`LAZY_SHIFT`],
/// and then those of all lanes follow; the first one finds nothing that was summed.
pub fn most_rescalings<T: Float>(bound: f64, values: [f64; 2], keys: usize) -> f64 {
    let room = T::UNSHIFTED_VALUES.exp2();
    let [least, most] = values;
    if bound <= T::UNSHIFTED_MAX && (most == 0.0 || least > room.recip() && most < room) {
        return 0.0;
    }
    // No tile is wider.
    let lanes = LEAST_TASK_QUERIES as f64;
    // And once where the sums of parts of the keys meet.
    (lanes * (2.0 * bound / LAZY_SHIFT + 1.0)).min(keys as f64) + 1.0
}
