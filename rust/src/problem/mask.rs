//! Masks of one head of attention: the keys that each query sees (docs/math.md, Definition 6.5).

use crate::error::Error;
use crate::runtime::buffer;

/// The place of the diagonal of a mask where queries and keys differ in number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Align {
    /// The first query is on the diagonal with the first key.
    #[default]
    TopLeft,
    /// The last query is on the diagonal with the last key.
    BottomRight,
}

/// A range of keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    /// The first of them.
    pub begin: usize,
    /// One past the last of them.
    pub end: usize,
}

impl Interval {
    /// How many keys there are.
    pub fn len(self) -> usize {
        self.end - self.begin
    }
}

/// The mask of one head, as a law from queries to keys; all that it says holds at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask<'a> {
    /// Keys before and after the one on the diagonal that a query sees; all of them where there is no number.
    pub window: [Option<usize>; 2],
    pub align: Align,
    /// The first keys, which are all that there are.
    pub keys: Option<usize>,
    /// Where sequences of queries, and of keys, begin and the last one ends; queries see keys of their own sequence.
    pub sequences: Option<[&'a [usize]; 2]>,
}

impl Mask<'_> {
    /// Of a head in which every query sees every key.
    pub const NONE: Self = Mask { window: [None; 2], align: Align::TopLeft, keys: None, sequences: None };

    /// Of a head in which query j sees keys 0..=j, or all keys.
    pub fn causal(is_causal: bool) -> Self {
        Mask { window: [None, is_causal.then_some(0)], ..Mask::NONE }
    }

    /// Whether the head is causal, aligned at the top left, where it has no other mask.
    pub fn plain(&self) -> Option<bool> {
        match *self {
            Mask { window: [None, None], keys: None, sequences: None, .. } => Some(false),
            Mask { window: [None, Some(0)], keys: None, sequences: None, align: Align::TopLeft } => Some(true),
            _ => None,
        }
    }

    /// The keys that each of `n` queries sees, of `m`: both ends ascend, and lie at one place where it sees nothing.
    /// `None` where every query sees every key.
    pub fn intervals(&self, n: usize, m: usize) -> Result<Option<Vec<Interval>>, Error> {
        if self.plain() == Some(false) {
            return Ok(None);
        }
        let mut found = buffer::with_capacity(n)?;
        let whole = [[0, n], [0, m.min(self.keys.unwrap_or(m))]];
        let [queries, keys] = self.sequences.unwrap_or([&whole[0], &whole[1]]);
        for (queries, keys) in queries.windows(2).zip(keys.windows(2)) {
            let (queries, keys) = ([queries[0], queries[1]], [keys[0], keys[1]]);
            found.extend((queries[0]..queries[1]).map(|query| self.seen(query, queries, keys)));
        }
        Ok(Some(found))
    }

    /// Pairs of a query and a key that it sees; those of a causal head are half of all.
    pub fn pairs(&self, n: usize, m: usize) -> Result<f64, Error> {
        let share = self.plain().map(|is_causal| if is_causal { 0.5 } else { 1.0 });
        if let Some(share) = share {
            return Ok(share * n as f64 * m as f64);
        }
        let seen = self.intervals(n, m)?;
        Ok(seen.iter().flatten().map(|seen| seen.len() as f64).sum())
    }

    /// One past the last key, of `m`, that some of `n` queries sees.
    pub fn end(&self, n: usize, m: usize) -> usize {
        let keys = m.min(self.keys.unwrap_or(m));
        let last = match (n.checked_sub(1), self.sequences) {
            (None, _) => return if self.plain() == Some(false) { m } else { 0 },
            (Some(last), None) => self.seen(last, [0, n], [0, keys]),
            (Some(last), Some([queries, keys])) => {
                // The sequence that holds the last query: others after it have none.
                let after = queries.partition_point(|&begin| begin <= last).clamp(1, queries.len() - 1);
                self.seen(last, [queries[after - 1], queries[after]], [keys[after - 1], keys[after]])
            }
        };
        last.end
    }

    /// The keys that a query sees, of its own sequence.
    fn seen(&self, query: usize, queries: [usize; 2], keys: [usize; 2]) -> Interval {
        let corner = usize::from(self.align == Align::BottomRight);
        // No array has so many rows that this overflows.
        let diagonal = query as i64 - queries[corner] as i64 + keys[corner] as i64;
        let place = |key: i64| key.clamp(keys[0] as i64, keys[1] as i64) as usize;
        let reach = |keys: usize| i64::try_from(keys).unwrap_or(i64::MAX);
        let [before, after] = self.window;
        let end = after.map_or(keys[1], |after| place(diagonal.saturating_add(reach(after)).saturating_add(1)));
        let begin = before.map_or(keys[0], |before| place(diagonal.saturating_sub(reach(before))));
        Interval { begin: begin.min(end), end }
    }
}
