//! A group of queries: what the passes need of them, packed once.

use std::ops::Range;

use super::kernels::Kernels;
use super::panels;
use crate::constants::KEY_SIDE_QUERIES;
use crate::error::Error;
use crate::exact::Operands;
use crate::exact::slot::Packed;
use crate::float::Float;
use crate::kernels::Strips;
use crate::runtime::buffer;

/// Rows of a group: those whose panels are kept at a time.
pub const GROUP: usize = KEY_SIDE_QUERIES;

/// Both sides of the keys with their changes.
#[derive(Clone, Copy)]
pub struct Sides<'a, T> {
    pub operands: &'a Operands<'a, T>,
    /// k̇.
    pub keys: &'a Strips<T>,
    /// v̇.
    pub values: &'a Strips<T>,
}

/// Row-major rows of the query side.
#[derive(Clone, Copy)]
pub struct Given<'a, T> {
    /// Q̂ = q times scale · log2 e, and its change.
    pub queries: [&'a [T]; 2],
    /// c and its change, where they are wanted.
    pub dout: Option<(&'a [T], Option<&'a [T]>)>,
    /// Logarithm of the normaliser in base 2; −∞ where a row sees nothing.
    pub log: &'a [f64],
    /// ‖Q̂‖ · max ‖k‖.
    pub bound: &'a [f64],
    pub width: usize,
    pub value_width: usize,
}

/// Up to [`GROUP`] queries.
pub struct Group<T> {
    /// Index of the first, and how many.
    pub first: usize,
    pub count: usize,
    /// Q̂ and its change.
    pub queries: [Packed<T>; 2],
    /// c, and its change where there is one.
    pub dout: Vec<Packed<T>>,
    pub shift: Vec<T>,
    pub factor: Vec<T>,
    pub t: Vec<T>,
    pub r: Vec<T>,
    pub dr: Vec<T>,
    lanes: usize,
}

impl<T: Float> Group<T> {
    /// The rows `range`, packed; t, r and ṙ are zero.
    pub fn new(given: &Given<'_, T>, range: Range<usize>, kernels: &Kernels<T>) -> Result<Self, Error> {
        let (count, lanes) = (range.len(), kernels.lanes);
        let tiles = count.div_ceil(lanes);
        let packed = |rows: &[T], width: usize| {
            let mut packed = Packed::new(width, tiles, lanes)?;
            kernels.pack(&mut packed, &rows[range.start * width..range.end * width], count);
            Ok::<_, Error>(packed)
        };
        let room = || buffer::zeros::<T>(tiles * lanes);
        let [query, change] = given.queries;
        let mut dout = buffer::with_capacity(2)?;
        for rows in given.dout.iter().flat_map(|&(rows, change)| [Some(rows), change]).flatten() {
            dout.push(packed(rows, given.value_width)?);
        }
        let mut group = Group {
            first: range.start,
            count,
            queries: [packed(query, given.width)?, packed(change, given.width)?],
            dout,
            shift: room()?,
            factor: room()?,
            t: room()?,
            r: room()?,
            dr: room()?,
            lanes,
        };
        for (place, j) in range.enumerate() {
            // In a row that sees nothing any shift will do that keeps its weights finite.
            let is_blind = given.log[j] == f64::NEG_INFINITY;
            let (log, is_seen) = if is_blind { (given.bound[j], 0.0) } else { (given.log[j], 1.0) };
            let shift = T::narrow(log);
            group.shift[place] = shift;
            group.factor[place] = T::narrow(is_seen * (shift.widen() - log).exp2());
        }
        Ok(group)
    }

    /// Tiles of queries.
    pub fn tiles(&self) -> usize {
        self.count.div_ceil(self.lanes)
    }

    /// The indices of all rows.
    pub fn all(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// The indices of the rows of a tile.
    pub fn rows(&self, tile: usize) -> Range<usize> {
        let first = self.first + tile * self.lanes;
        first..(first + self.lanes).min(self.first + self.count)
    }

    /// The numbers of the rows of a tile.
    pub fn lanes(&self, tile: usize) -> panels::Rows<'_, T> {
        let own = tile * self.lanes..(tile + 1) * self.lanes;
        panels::Rows {
            shift: &self.shift[own.clone()],
            factor: &self.factor[own.clone()],
            t: &self.t[own.clone()],
            r: &self.r[own.clone()],
            dr: &self.dr[own],
        }
    }
}
