//! The walk of one tile of queries along one block of keys: which strips are full, which need a mask.

use std::ops::Range;

use crate::float::Float;
use crate::kernels::tile::{self, Tile};
use crate::problem::Interval;
use crate::simd::Vector;

/// The keys that each query sees, both ends ascending; all of them where this is `None`.
pub type Seen<'a> = Option<&'a [Interval]>;

/// The keys that the query in a place sees; those past the last one, which fill up a tile, see what it sees.
#[inline(always)]
pub fn of_query(seen: &[Interval], place: usize) -> Interval {
    seen.get(place).or(seen.last()).copied().unwrap_or_default()
}

/// A block of keys as one tile of queries sees it. The lanes that fill up the tile see what its last query sees and no
/// more: the keys that a pass visits depend on its queries alone, not on the width of the tile or the ends of the
/// blocks.
pub struct Walk<'a> {
    /// Keys of the block between the first and the last that some query of the tile sees.
    keys: Range<usize>,
    /// Those that every query of the tile sees.
    all_see: Range<usize>,
    first_query: usize,
    seen: Seen<'a>,
}

impl<'a> Walk<'a> {
    /// The part of a block of keys, which begins with a strip, that these queries see.
    #[inline(always)]
    pub fn new(block: Range<usize>, queries: Range<usize>, seen: Seen<'a>) -> Self {
        let first_query = queries.start;
        let Some(by) = seen else {
            return Walk { keys: block.clone(), all_see: block, first_query, seen };
        };
        let (first, last) = (of_query(by, first_query), of_query(by, queries.end.saturating_sub(1)));
        let within = |begin: usize, end: usize| {
            let begin = begin.clamp(block.start, block.end);
            begin..end.clamp(begin, block.end)
        };
        Walk { keys: within(first.begin, last.end), all_see: within(last.begin, first.end), first_query, seen }
    }

    /// Whether there is nothing to visit.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The index of the first query of the tile.
    #[inline(always)]
    pub fn first_query(&self) -> usize {
        self.first_query
    }

    /// The keys of the strips that are visited, from the start of the first one on.
    #[inline(always)]
    pub fn strips<const J: usize>(&self) -> Range<usize> {
        self.strips_of(J)
    }

    /// The same for strips of so many keys.
    #[inline(always)]
    pub fn strips_of(&self, keys: usize) -> Range<usize> {
        // No strip for no key.
        if self.keys.is_empty() { 0..0 } else { self.keys.start / keys * keys..self.keys.end }
    }

    /// First keys of the strips of `J` that every query sees whole.
    #[inline(always)]
    pub fn full<const J: usize>(&self) -> impl Iterator<Item = usize> + use<J> {
        self.full_strips::<J>().step_by(J)
    }

    #[inline(always)]
    fn full_strips<const J: usize>(&self) -> Range<usize> {
        let start = self.all_see.start.next_multiple_of(J);
        start..self.all_see.end.max(start) / J * J
    }

    /// First keys of the strips that need a mask.
    #[inline(always)]
    pub fn edges<const J: usize>(&self) -> impl Iterator<Item = usize> + use<J> {
        let (strips, full) = (self.strips::<J>(), self.full_strips::<J>());
        let (before, after) =
            if full.is_empty() { (strips.clone(), 0..0) } else { (strips.start..full.start, full.end..strips.end) };
        before.step_by(J).chain(after.step_by(J))
    }

    /// The keys of the strip that begins at `key`, by their indices within it, that each lane sees.
    #[inline(always)]
    pub fn lanes<const L: usize, const J: usize>(&self, key: usize) -> [[i32; L]; 2] {
        let place = |of: usize| of.clamp(key, key + J) as i32 - key as i32;
        let Some(seen) = self.seen else { return [[0; L], [place(self.keys.end); L]] };
        let own: [Interval; L] = std::array::from_fn(|l| of_query(seen, self.first_query + l));
        [own.map(|own| place(own.begin)), own.map(|own| place(own.end))]
    }
}

/// Mask of one strip of keys for a tile of queries.
pub trait Cover<T, V, const W: usize, const L: usize, const J: usize> {
    /// Sets the logits of hidden keys to −∞, and adds to the others what is added to them.
    fn hide_logits(&self, logits: &mut Tile<V, J>);
    /// Sets p of hidden keys to zero.
    fn hide_p(&self, p: &mut Tile<V, J>);
}

/// The keys from a first one on, and up to one past a last one, that each lane sees: [`Walk::lanes`].
impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Cover<T, V, W, L, J> for [[i32; L]; 2] {
    #[inline(always)]
    fn hide_logits(&self, logits: &mut Tile<V, J>) {
        tile::mask(logits, self, T::neg_infinity());
    }

    #[inline(always)]
    fn hide_p(&self, p: &mut Tile<V, J>) {
        tile::mask(p, self, T::zero());
    }
}

/// Numbers that are added to the logits.
impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Cover<T, V, W, L, J> for [[T; L]; J] {
    #[inline(always)]
    fn hide_logits(&self, logits: &mut Tile<V, J>) {
        for j in 0..J {
            logits[j] = tile::zip(logits[j], tile::load(&self[j]), V::add);
        }
    }

    #[inline(always)]
    fn hide_p(&self, p: &mut Tile<V, J>) {
        tile::clear(p, self);
    }
}
