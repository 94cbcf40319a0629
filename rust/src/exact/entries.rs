//! A mask with an entry for each pair, as the passes read it: the sizes of its rows first, then tile by tile.

use std::borrow::Cow;
use std::f64::consts::LOG2_E;
use std::ops::Range;

use ndarray::{ArrayView1, ArrayView2};

use super::walk::{Seen, of_query};
use crate::constants::LAZY_SHIFT;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::tile;
use crate::problem::{Entries, Interval, least_added};
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Run;

/// Rows that a thread looks at at a time, at least; parts of such rows, at most, each of which notes the keys that it
/// shows; and entries that a thread reads in a nanosecond.
const LOOK_ROWS: usize = 64;
const LOOK_PARTS: usize = 64;
const ENTRIES_PER_NANOSECOND: usize = 4;

/// Entries that are looked at together in search of the first and the last one that shows its key.
const CHUNK: usize = 64;

/// Numbers that are compared side by side.
const ABREAST: usize = 16;

/// Writes the entries of a row for a range of keys in base-2 units, −∞ for keys that they hide.
type Read<'a, T> = Box<dyn Fn(usize, Range<usize>, &mut [T]) + Send + Sync + 'a>;

/// Access to entries of one kind: functions, as a view may not be lent for a shorter time than it was made for.
struct Reader<'a, T> {
    read: Read<'a, T>,
    /// Whether those of a row show all of a range of keys, and add nothing.
    are_plain: Box<dyn Fn(usize, Range<usize>) -> bool + Send + Sync + 'a>,
}

/// The entries of one head, and the least one of each row that counts.
pub struct Pairs<'a, T> {
    reader: Reader<'a, T>,
    adds: bool,
    rows: Vec<Row>,
    /// Smaller entries hide a key, in base-2 units.
    floors: Vec<T>,
}

/// One row of entries: the keys that it shows, and the largest and the least number that it adds, in base-2 units.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row {
    /// From the first key that it shows to the last; nothing where it shows none.
    pub seen: Interval,
    /// Whether it shows all of these, and adds nothing.
    is_plain: bool,
    most: f64,
    least: f64,
}

/// What the rows show together.
pub struct Shown {
    /// The keys between the first and the last that each row shows, both ends ascending.
    pub intervals: Vec<Interval>,
    /// Whether each row shows all of these, and nothing is added: the entries say no more than the intervals.
    pub is_plain: bool,
    /// Whether each query sees nothing, and whether no query sees each key.
    pub blind: Vec<bool>,
    pub unseen: Vec<bool>,
}

impl<'a, T: Float> Pairs<'a, T> {
    /// Of `n` queries and `m` keys, of which queries see some at most. Time O(n m), a hundredth of that of the passes.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for entries that are NaN or +∞.
    pub fn new(
        entries: Entries<'a, T>,
        (n, m): (usize, usize),
        seen: Seen<'_>,
        run: &mut Run<'_>,
    ) -> Result<(Self, Shown), Error> {
        let mut rows = buffer::filled(n, Row::default())?;
        let look = LOOK_ROWS.max(n.div_ceil(LOOK_PARTS));
        let parts = n.div_ceil(look);
        // Of each part, so that parts do not wait for one another.
        let mut shown = buffer::zeros::<u8>(buffer::size(&[parts, m])?)?;
        let tasks = rows.chunks_mut(look).zip(shown.chunks_mut(m.max(1))).enumerate();
        run.short(n.saturating_mul(m) / ENTRIES_PER_NANOSECOND, tasks, |(part, (rows, shown)), _| {
            for (row, found) in (part * look..).zip(rows) {
                let own = seen.map_or(Interval { begin: 0, end: m }, |seen| of_query(seen, row));
                *found = Row::of(&entries, row, own, &mut shown[own.begin..own.end])?;
            }
            Ok(())
        })?;
        let mut unseen = buffer::filled(m, true)?;
        for shown in shown.chunks(m.max(1)) {
            unseen.iter_mut().zip(shown).for_each(|(unseen, shown)| *unseen &= *shown == 0);
        }
        let adds = matches!(entries, Entries::Added(_));
        let blind = buffer::collected(rows.iter().map(|row| row.seen.len() == 0))?;
        let intervals = hulls(&rows)?;
        let is_plain = rows.iter().zip(&intervals).all(|(row, hull)| match row.seen.len() {
            0 => hull.len() == 0,
            _ => row.is_plain && row.seen == *hull,
        });
        let floors = buffer::filled(n, T::narrow(LOG2_E * least_added::<T>()))?;
        Ok((Pairs { reader: reader(entries), adds, rows, floors }, Shown { intervals, is_plain, blind, unseen }))
    }

    /// Whether something is added to logits.
    pub fn adds(&self) -> bool {
        self.adds
    }

    /// Adds the largest entry that counts to the bound of the other part of the logits of each row: one whose weight is
    /// zero beside the largest does not.
    pub fn bound(&mut self, bound: &mut [f64]) {
        if !self.adds {
            return;
        }
        for ((row, floor), bound) in self.rows.iter().zip(&mut self.floors).zip(bound) {
            if row.seen.len() == 0 {
                continue;
            }
            let dropped = LAZY_SHIFT + 1.0 - T::EXP2_MIN.widen();
            let least = (row.most - 2.0 * *bound - dropped).max(floor.widen());
            *floor = T::narrow(least);
            *bound += row.most.abs().max(row.least.max(least).abs());
        }
    }

    /// The entries of a row for a range of keys in base-2 units, −∞ for keys that they hide.
    #[inline(always)]
    fn read(&self, row: usize, keys: Range<usize>, to: &mut [T]) {
        (self.reader.read)(row, keys, to);
        let floor = self.floors[row];
        for to in to {
            *to = if *to < floor { T::neg_infinity() } else { *to };
        }
    }

    /// Whether a row shows all of a range of keys, and adds nothing.
    #[inline(always)]
    fn are_plain(&self, row: usize, keys: Range<usize>) -> bool {
        let Row { seen, is_plain, .. } = self.rows[row];
        let is_within = seen.begin <= keys.start && keys.end <= seen.end;
        // A row may add so much elsewhere that nothing is too little.
        is_within && self.floors[row] <= T::zero() && (is_plain || (self.reader.are_plain)(row, keys))
    }
}

/// Of entries of either kind, by any strides.
fn reader<T: Float>(entries: Entries<'_, T>) -> Reader<'_, T> {
    fn of<'a, T: Float, X: Copy + Send + Sync>(
        entries: ArrayView2<'a, X>,
        one: impl Fn(X) -> T + Send + Sync + 'a,
        is_plain: impl Fn(X) -> bool + Send + Sync + 'a,
    ) -> Reader<'a, T> {
        let read = move |row, keys: Range<usize>, to: &mut [T]| {
            let row = entries.row(row);
            match row.as_slice() {
                Some(row) => to.iter_mut().zip(&row[keys]).for_each(|(to, &x)| *to = one(x)),
                None => to.iter_mut().zip(keys).for_each(|(to, key)| *to = one(row[key])),
            }
        };
        let are_plain = move |row, keys: Range<usize>| {
            let row = entries.row(row);
            match row.as_slice() {
                Some(row) => all(&row[keys], &is_plain),
                None => keys.into_iter().all(|key| is_plain(row[key])),
            }
        };
        Reader { read: Box::new(read), are_plain: Box::new(are_plain) }
    }
    let unit = T::narrow(LOG2_E);
    match entries {
        Entries::Seen(entries) => of(entries, |x| if x == 0 { T::neg_infinity() } else { T::zero() }, |x| x != 0),
        Entries::Added(entries) => of(entries, move |x| x * unit, |x| x == T::zero()),
    }
}

/// Whether all of some numbers are of a kind: without a way out, so that they are looked at side by side.
#[inline(always)]
fn all<X: Copy>(numbers: &[X], is_one: impl Fn(X) -> bool) -> bool {
    numbers.iter().fold(true, |all, &x| all & is_one(x))
}

impl Row {
    /// Of the entries of a row for some keys, which it notes in `shown`.
    fn of<T: Float>(entries: &Entries<'_, T>, row: usize, own: Interval, shown: &mut [u8]) -> Result<Self, Error> {
        let mut found = Row::default();
        let (ends, is_plain) = match entries {
            Entries::Seen(entries) => {
                let entries = in_a_row(entries.row(row), own)?;
                let ends = noted(&entries, shown, |x| x != 0);
                (ends, ends.is_some_and(|(first, last)| all(&entries[first..=last], |x| x != 0)))
            }
            Entries::Added(entries) => {
                let entries = in_a_row(entries.row(row), own)?;
                let floor = T::narrow(least_added::<T>());
                let [most, least] = extremes(&entries, floor);
                if most.is_nan() || most == T::infinity() {
                    let bad = entries.iter().enumerate().find(|(_, x)| x.is_nan() || **x == T::infinity());
                    let (column, x) = bad.map_or((0, most), |(column, x)| (column, *x));
                    let (argument, column) = ("attn_mask", own.begin + column);
                    return Err(Error::NonFinite { argument, found: x.to_string(), row, column });
                }
                (found.most, found.least) = (LOG2_E * most.widen(), LOG2_E * least.widen());
                let ends = noted(&entries, shown, |x| x >= floor);
                let adds = most != T::zero() || least != T::zero();
                (ends, !adds && ends.is_some_and(|(first, last)| all(&entries[first..=last], |x| x >= floor)))
            }
        };
        found.is_plain = is_plain;
        if let Some((first, last)) = ends {
            found.seen = Interval { begin: own.begin + first, end: own.begin + last + 1 };
        }
        Ok(found)
    }
}

/// Some entries of a row side by side: a copy where they are not.
fn in_a_row<'b, X: Copy>(row: ArrayView1<'b, X>, own: Interval) -> Result<Cow<'b, [X]>, Error> {
    Ok(match row.to_slice() {
        Some(row) => Cow::Borrowed(&row[own.begin..own.end]),
        None => Cow::Owned(buffer::collected((own.begin..own.end).map(|key| row[key]))?),
    })
}

/// The first and the last entry that shows its key; `shown` is one where one does.
#[inline(always)]
fn noted<X: Copy>(entries: &[X], shown: &mut [u8], shows: impl Fn(X) -> bool) -> Option<(usize, usize)> {
    for (shown, &x) in shown.iter_mut().zip(entries) {
        *shown |= u8::from(shows(x));
    }
    // By as many as are looked at side by side first.
    let any = |chunk: &[X]| chunk.iter().fold(false, |any, &x| any | shows(x));
    let first = entries.chunks(CHUNK).position(any)? * CHUNK;
    let first = first + entries[first..].iter().position(|&x| shows(x))?;
    let end = entries.len() - entries.rchunks(CHUNK).position(any)? * CHUNK;
    Some((first, entries[..end].iter().rposition(|&x| shows(x))?))
}

/// The largest of some numbers, and the least of those that are no less than `floor`; NaN comes through.
fn extremes<T: Float>(numbers: &[T], floor: T) -> [T; 2] {
    let (mut most, mut least, mut sums) =
        ([T::neg_infinity(); ABREAST], [T::infinity(); ABREAST], [T::zero(); ABREAST]);
    let mut add = |chunk: &[T]| {
        for (l, &x) in chunk.iter().enumerate() {
            most[l] = if x > most[l] { x } else { most[l] };
            least[l] = if x >= floor && x < least[l] { x } else { least[l] };
            // Nothing but for NaN: the smaller of a number and zero times zero.
            sums[l] += if x < floor { T::zero() } else { x * T::zero() };
        }
    };
    let (chunks, rest) = numbers.as_chunks::<ABREAST>();
    chunks.iter().for_each(|chunk| add(chunk));
    add(rest);
    let most = most.iter().fold(T::neg_infinity(), |most, &x| if x > most { x } else { most });
    let least = least.iter().fold(T::infinity(), |least, &x| if x < least { x } else { least });
    let is_number = sums.iter().all(|&sum| sum == T::zero());
    [if is_number { most } else { T::nan() }, least]
}

/// The smallest ranges with ascending ends around those of the rows; of rows that show nothing, none that is larger.
fn hulls(rows: &[Row]) -> Result<Vec<Interval>, Error> {
    let mut end = 0;
    let mut hulls = buffer::collected(rows.iter().map(|row| {
        end = if row.seen.len() > 0 { row.seen.end.max(end) } else { end };
        Interval { begin: end, end }
    }))?;
    let mut begin = usize::MAX;
    for (hull, row) in hulls.iter_mut().zip(rows).rev() {
        begin = if row.seen.len() > 0 { row.seen.begin.min(begin) } else { begin };
        hull.begin = begin.min(hull.end);
    }
    Ok(hulls)
}

/// Room for the entries of one tile of queries and one block of keys.
pub struct Room<T> {
    /// `[L][key]`.
    rows: Aligned<T>,
    /// `[key][L]`.
    lanes: Aligned<T>,
    keys: Range<usize>,
    /// First keys of the strips that some query sees.
    firsts: Vec<usize>,
}

impl<T: Float> Room<T> {
    /// For `lanes` queries and `keys` keys.
    pub fn new(lanes: usize, keys: usize) -> Result<Self, Error> {
        let size = buffer::size(&[lanes, keys])?;
        let firsts = buffer::with_capacity(keys)?;
        Ok(Room { rows: buffer::aligned(size)?, lanes: buffer::aligned(size)?, keys: 0..0, firsts })
    }

    /// Takes the entries of the tile that begins with a query, for the keys of some strips; false where they show all
    /// of them that the tile may see and add nothing, so that nobody need look.
    #[inline(always)]
    pub fn load<const L: usize, const J: usize>(
        &mut self,
        pairs: &Pairs<'_, T>,
        seen: &[Interval],
        first_query: usize,
        keys: Range<usize>,
    ) -> bool {
        let own = |l: usize| {
            let query = (first_query + l).min(pairs.rows.len() - 1);
            let own = of_query(seen, query);
            let begin = own.begin.clamp(keys.start, keys.end);
            (query, begin..own.end.clamp(begin, keys.end))
        };
        // Strips that no query sees are not visited, in this tile or in the same one cut in other blocks.
        let mut reached = keys.start;
        let are_plain = (0..L).map(own).filter(|(_, own)| !own.is_empty()).all(|(query, own)| {
            let is_joined = own.start < reached + J;
            reached = reached.max(own.end);
            is_joined && pairs.are_plain(query, own)
        });
        if are_plain && keys.end < reached + J {
            return false;
        }
        let count = keys.len().next_multiple_of(J);
        let rows = &mut self.rows[..L * count];
        rows.fill(T::neg_infinity());
        for (l, to) in rows.chunks_exact_mut(count.max(1)).enumerate() {
            let (query, own) = own(l);
            let to = &mut to[own.start - keys.start..own.end - keys.start];
            pairs.read(query, own, to);
        }
        tile::transpose::<T, L>(rows, count, &mut self.lanes[..count * L]);
        let is_seen = |strip: &[T]| strip.iter().fold(false, |any, &x| any | (x > T::neg_infinity()));
        let strips = self.lanes[..count * L].chunks_exact(J * L);
        self.firsts.clear();
        self.firsts.extend(keys.clone().step_by(J).zip(strips).filter(|(_, strip)| is_seen(strip)).map(|(key, _)| key));
        self.keys = keys;
        true
    }

    /// First keys of the strips that some query sees.
    pub fn firsts(&self) -> &[usize] {
        &self.firsts
    }

    /// The same, and their entries.
    #[inline(always)]
    pub fn strips<const L: usize, const J: usize>(&self) -> impl Iterator<Item = (usize, &[[T; L]; J])> {
        let (strips, _) = self.lanes.as_chunks::<L>().0.as_chunks::<J>();
        self.firsts.iter().map(move |&key| (key, &strips[(key - self.keys.start) / J]))
    }
}

#[cfg(test)]
mod tests;
