//! Sums over shards of queries, with the moments of all keys: the second pass.

use ndarray::Array2;

use super::bytes::{Kind, Reader, Stamp, Writer};
use super::frame::Frame;
use super::keys::KeyState;
use super::states::{WithRows, all_of, common, counted, read, rows_of, zeros};
use crate::certificate::moments::Buckets;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::moments::QuerySums;
use crate::options::Options;
use crate::problem::{Problem, RowMajor};
use crate::runtime::pool::{Run, Watch};

/// The sums over some queries, with the moments of all keys.
#[derive(Debug, Clone)]
pub struct QueryState {
    pub(super) sums: QuerySums,
    stamp: Stamp,
}

common!(QueryState, Kind::Queries);

impl QueryState {
    /// No queries.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn empty(frame: &Frame) -> Result<Self, Error> {
        let sums = QuerySums { buckets: Buckets::new()?, sums: zeros(Self::sizes(frame)?)?, ..QuerySums::default() };
        Ok(QueryState { sums, stamp: frame.stamp })
    }

    /// Those of a shard, whose first query is number `first` of all of them, and of which A2 and A3 are not looked at;
    /// and the rows of dL/dA1, (rows, d1), where they are wanted. `keys` are all keys. Time as that of the query side in
    /// [`crate::polynomial_gradient`].
    ///
    /// # Errors
    /// [`Error::Option`] for a shard or for keys that do not fit the frame, and where there are no keys;
    /// [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn of<T: Float>(
        frame: &Frame,
        keys: &KeyState,
        shard: &Problem<'_, T>,
        first: usize,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> WithRows<Self, Option<Array2<T>>> {
        compiled!(
            T,
            QueryState::of_shard::<T>
                as fn(
                    &Frame,
                    &KeyState,
                    &Problem<'_, T>,
                    usize,
                    &Options,
                    Option<Watch<'_>>,
                ) -> WithRows<QueryState, Option<Array2<T>>>
        )(frame, keys, shard, first, options, watch)
    }

    fn of_shard<T: Float>(
        frame: &Frame,
        keys: &KeyState,
        shard: &Problem<'_, T>,
        first: usize,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> WithRows<Self, Option<Array2<T>>> {
        frame.admit(shard)?;
        let polynomial = keys.polynomial(frame)?;
        let shard = &RowMajor::of(shard)?;
        let (shard, run) = (&shard.problem(), &mut Run::new(options, watch));
        let (sums, rows) = polynomial.shard_queries(shard, first, &frame.needs(), run)?;
        let rows = rows_of(rows, shard.A1.nrows(), shard.A1.ncols())?;
        Ok((QueryState { sums, stamp: frame.stamp }, rows))
    }

    /// Counts the queries of another state in, those of a later shard.
    ///
    /// # Errors
    /// [`Error::Option`] for a state of another frame.
    pub fn merge(&mut self, other: &QueryState) -> Result<(), Error> {
        self.stamp.require(other.stamp)?;
        self.sums.merge(&other.sums);
        Ok(())
    }

    fn sizes(frame: &Frame) -> Result<[Option<usize>; 2], Error> {
        let [d1, _, _, dv] = frame.widths();
        frame.polynomial.query_sizes(&frame.needs(), d1, dv)
    }

    fn numbers(frame: &Frame) -> Result<usize, Error> {
        Ok(2 + 2 + 4 + Buckets::SIZE + all_of(Self::sizes(frame)?))
    }

    fn write(&self, _: &Frame, to: &mut Writer) -> Result<(), Error> {
        let QuerySums { counted: _, squares, unsafe_rows, first_unsafe, widest, lost, buckets, output, sums } =
            &self.sums;
        to.counts([*unsafe_rows, *first_unsafe]);
        to.floats([*squares, *widest, *lost, *output]);
        to.floats(buckets.numbers());
        sums.iter().flatten().for_each(|sums| to.floats(sums.iter().copied()));
        Ok(())
    }

    fn read(frame: &Frame, from: &mut Reader<'_>) -> Result<QuerySums, Error> {
        Ok(QuerySums {
            counted: counted(from)?,
            unsafe_rows: from.count()?,
            first_unsafe: from.count()?,
            squares: from.float()?,
            widest: from.float()?,
            lost: from.float()?,
            output: from.float()?,
            buckets: Buckets::of(&from.floats(Buckets::SIZE)?)?,
            sums: read(from, Self::sizes(frame)?)?,
        })
    }
}
