//! The walk of one tile of queries along one block of keys: which strips are full, which need a mask.

use std::ops::Range;

/// The index of each query, ascending, where it is not its place.
#[derive(Clone, Copy)]
pub struct Order<'a>(pub Option<&'a [usize]>);

impl Order<'_> {
    /// The index of the query in a place; the places past the last one, which fill up a tile, see what it sees.
    #[inline(always)]
    pub fn index(self, place: usize) -> usize {
        let Some(indices) = self.0 else { return place };
        indices.get(place).or(indices.last()).copied().unwrap_or(place)
    }
}

/// A block of keys as one tile of queries sees it. The lanes that fill up the tile see what its last query sees and no
/// more: the keys that a pass visits depend on its queries alone, not on the width of the tile or the ends of the
/// blocks.
pub struct Walk<'a> {
    /// Keys of the block that some query of the tile sees.
    keys: Range<usize>,
    /// One past the last key that every query of the tile sees.
    all_see: usize,
    first_query: usize,
    /// Of a causal problem.
    order: Option<Order<'a>>,
}

impl<'a> Walk<'a> {
    /// The part of a block of keys that lies before `end`, for a tile whose first query is `first_query`; `end` is one
    /// past the last key that some of its queries sees. Causal is top-left: query j sees keys 0..=j.
    #[inline(always)]
    pub fn new(block: Range<usize>, end: usize, first_query: usize, order: Option<Order<'a>>) -> Self {
        let keys = block.start..block.end.min(end).max(block.start);
        let Some(by) = order else {
            return Walk { all_see: keys.end, keys, first_query, order };
        };
        let all_see = keys.end.min(by.index(first_query) + 1).max(keys.start);
        Walk { keys, all_see, first_query, order }
    }

    /// One past the last key of the block that is visited: the strips that begin before it are, and no other.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.keys.end
    }

    /// The strips that are visited: first keys, in steps of `J`.
    #[inline(always)]
    pub fn strips<const J: usize>(&self) -> Range<usize> {
        self.keys.clone()
    }

    #[inline(always)]
    fn edge_start<const J: usize>(&self) -> usize {
        self.keys.start + (self.all_see - self.keys.start) / J * J
    }

    /// First keys of the strips of `J` that every query sees whole.
    #[inline(always)]
    pub fn full<const J: usize>(&self) -> impl Iterator<Item = usize> + use<J> {
        (self.keys.start..self.edge_start::<J>()).step_by(J)
    }

    /// First keys of the strips that need a mask.
    #[inline(always)]
    pub fn edge<const J: usize>(&self) -> impl Iterator<Item = usize> + use<J> {
        (self.edge_start::<J>()..self.keys.end).step_by(J)
    }

    /// For the strip that begins at `key`, the last index within it that each lane sees.
    #[inline(always)]
    pub fn last<const L: usize>(&self, key: usize) -> [i32; L] {
        let end = (self.keys.end - key) as i32 - 1;
        let Some(order) = self.order else { return [end; L] };
        // An index may be far beyond the block.
        std::array::from_fn(|l| end.min(order.index(self.first_query + l).min(self.keys.end) as i32 - key as i32))
    }
}
