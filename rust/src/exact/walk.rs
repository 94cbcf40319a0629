//! The walk of one tile of queries along one block of keys: which strips are full, which need a mask.

use std::ops::Range;

/// A block of keys as one tile of queries sees it.
pub struct Walk {
    /// Keys of the block that some query of the tile may see.
    keys: Range<usize>,
    /// One past the last key that every query of the tile sees.
    all_see: usize,
    first_query: usize,
    is_causal: bool,
}

impl Walk {
    /// The block `keys` for the queries `first_query..first_query + lanes`. Causal is top-left: query j sees keys 0..=j.
    #[inline(always)]
    pub fn new(keys: Range<usize>, first_query: usize, lanes: usize, is_causal: bool) -> Self {
        if !is_causal {
            return Walk { all_see: keys.end, keys, first_query, is_causal };
        }
        let end = keys.end.min(first_query + lanes).max(keys.start);
        let all_see = end.min(first_query + 1).max(keys.start);
        Walk { keys: keys.start..end, all_see, first_query, is_causal }
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
        std::array::from_fn(|l| if self.is_causal { end.min((self.first_query + l) as i32 - key as i32) } else { end })
    }
}
