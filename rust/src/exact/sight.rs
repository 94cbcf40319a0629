//! The keys that each query of an engine sees, and the rows that nothing is made of.

use std::collections::VecDeque;
use std::ops::Range;

use ndarray::{ArrayView2, CowArray, Ix2};

use super::entries::Pairs;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{row_major, rows};
use crate::linalg::norms::largest;
use crate::linalg::products::matrix;
use crate::problem::{Heads, Interval, Mask, blame_not_finite};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Mask: the keys that each query sees.
pub struct Sight<'a, T> {
    /// Those of each query lie between these, both ends ascending; all of them where this is `None`.
    pub intervals: Option<Vec<Interval>>,
    /// A mask with an entry for each pair, which hides some of them.
    pub pairs: Option<Pairs<'a, T>>,
    /// Queries that see nothing, and keys that no query sees, where the intervals do not say it.
    hidden: Option<[Vec<bool>; 2]>,
}

impl<'a, T: Float> Sight<'a, T> {
    fn between(intervals: Option<Vec<Interval>>) -> Self {
        Sight { intervals, pairs: None, hidden: None }
    }

    /// Of a head.
    pub fn of(heads: &Heads<'a, T>, run: &mut Run<'_>) -> Result<Self, Error> {
        let (n, m) = (heads.query.nrows(), heads.key.nrows());
        let intervals = heads.mask.intervals(n, m)?;
        let Some(entries) = heads.entries else { return Ok(Sight::between(intervals)) };
        if n == 0 {
            let hidden = Some([Vec::new(), buffer::filled(m, true)?]);
            return Ok(Sight { intervals, pairs: None, hidden });
        }
        let (pairs, shown) = Pairs::new(entries, (n, m), intervals.as_deref(), run)?;
        if shown.is_plain {
            // The passes need not read what the intervals say.
            let is_whole = m > 0 && shown.intervals.iter().all(|&seen| seen == Interval { begin: 0, end: m });
            return Ok(Sight::between((!is_whole).then_some(shown.intervals)));
        }
        let hidden = Some([shown.blind, shown.unseen]);
        Ok(Sight { intervals: Some(shown.intervals), pairs: Some(pairs), hidden })
    }

    /// Of `n` queries and `m` keys: all of them, or those up to the query's own place.
    pub fn causal(is_causal: bool, n: usize, m: usize) -> Result<Self, Error> {
        Ok(Sight::between(Mask::causal(is_causal).intervals(n, m)?))
    }

    /// The same of the queries with these indices, which ascend.
    pub fn of_rows(is_causal: bool, indices: &[usize], m: usize) -> Result<Self, Error> {
        let seen = indices.iter().map(|&index| Interval { begin: 0, end: m.min(index + 1) });
        Ok(Sight::between(if is_causal { Some(buffer::collected(seen)?) } else { None }))
    }

    /// Whether a mask adds something to logits.
    pub fn adds(&self) -> bool {
        self.pairs.as_ref().is_some_and(Pairs::adds)
    }

    /// The largest of these numbers, one a key, that each of `count` queries sees: keys that a mask hides from a query
    /// must not matter to it. NaN comes through; zero where nothing is seen.
    pub fn largest(&self, numbers: &[f64], count: usize) -> Result<Vec<f64>, Error> {
        let Some(intervals) = &self.intervals else { return buffer::filled(count, largest(numbers)) };
        // Those that may still be the largest, each one smaller than those before it.
        let (mut known, mut end) = (VecDeque::new(), 0);
        buffer::collected(intervals.iter().map(|seen| {
            while end < seen.end {
                let number = numbers[end];
                while known.back().is_some_and(|&last: &usize| number.is_nan() || numbers[last] <= number) {
                    known.pop_back();
                }
                known.push_back(end);
                end += 1;
            }
            while known.front().is_some_and(|&first| first < seen.begin) {
                known.pop_front();
            }
            known.front().filter(|_| seen.len() > 0).map_or(0.0, |&first| numbers[first])
        }))
    }

    /// Queries that see nothing.
    pub fn blind(&self) -> Box<dyn Iterator<Item = Range<usize>> + '_> {
        if let Some([blind, _]) = &self.hidden {
            return Box::new(places(blind));
        }
        let all = self.intervals.iter().flatten().enumerate();
        Box::new(all.filter(|(_, seen)| seen.len() == 0).map(|(query, _)| query..query + 1))
    }

    /// Keys, of `m`, that no query sees.
    pub fn unseen(&self, m: usize) -> Box<dyn Iterator<Item = Range<usize>> + '_> {
        if let Some([_, unseen]) = &self.hidden {
            return Box::new(places(unseen));
        }
        let (mut known, end) = (0, if self.intervals.is_some() { m } else { 0 });
        let seen = self.intervals.iter().flatten().filter(|seen| seen.len() > 0).copied();
        Box::new(seen.chain([Interval { begin: end, end }]).filter_map(move |seen| {
            let gap = known..seen.begin;
            known = seen.end.max(known);
            (!gap.is_empty()).then_some(gap)
        }))
    }
}

/// Where something is true.
fn places(flags: &[bool]) -> impl Iterator<Item = Range<usize>> {
    flags.iter().enumerate().filter(|(_, flag)| **flag).map(|(place, _)| place..place + 1)
}

/// An array by its name.
pub type Named<'a, T> = (&'static str, ArrayView2<'a, T>);

/// Arrays besides query, key and value: those with a row for each query, and those with one for each key.
pub type Others<'m, 'a, T> = [&'m [Named<'a, T>]; 2];

/// An error that names the first number that is not finite of those that something is made of: in query, key and value,
/// and in other arrays.
pub fn check_seen<T: Float>(
    heads: &Heads<'_, T>,
    [by_query, by_key]: Others<'_, '_, T>,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let (m, sight) = (heads.key.nrows(), Sight::of(heads, run)?);
    for (name, array) in [("query", heads.query)].iter().chain(by_query) {
        blame_not_finite(name, &without(*array, sight.blind())?.view())?;
    }
    for (name, array) in [("key", heads.key), ("value", heads.value)].iter().chain(by_key) {
        blame_not_finite(name, &without(*array, sight.unseen(m))?.view())?;
    }
    Ok(())
}

/// An overflow in a head, or its cause.
pub fn blamed<T: Float>(heads: &Heads<'_, T>, others: Others<'_, '_, T>, error: Error, run: &mut Run<'_>) -> Error {
    match (heads.plain(), &error) {
        (None, Error::Range { .. }) => check_seen(heads, others, run).err().unwrap_or(error),
        (None, _) => error,
        _ => heads.blame(others.into_iter().flatten().map(|(name, array)| (*name, array)), error),
    }
}

/// An array in row-major order with zeros in the rows that nothing may be made of, whatever they hold.
pub fn without<'a, T: Float>(
    array: ArrayView2<'a, T>,
    mut hidden: impl Iterator<Item = Range<usize>>,
) -> Result<CowArray<'a, T, Ix2>, Error> {
    let known = row_major(array)?;
    let Some(first) = hidden.next() else { return Ok(known) };
    let (count, width) = known.dim();
    let mut data = buffer::copied(rows(&known)?.data)?;
    for hidden in [first].into_iter().chain(hidden) {
        data[hidden.start * width..hidden.end * width].fill(T::zero());
    }
    Ok(matrix(data, count, width)?.into())
}

#[cfg(test)]
mod tests;
