//! States of the polynomial method: sums over shards of keys, of queries, and of keys again.

use ndarray::Array2;

use super::bytes::{self, Kind, Reader, Stamp, Writer};
use super::frame::Frame;
use crate::certificate::moments::{Ball, Buckets, Counted};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::products::matrix;
use crate::moments::{GradientSums, KeySums, QuerySums};
use crate::options::Options;
use crate::problem::{OutputSet, Problem, RowMajor};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The moments of some keys.
#[derive(Debug, Clone)]
pub struct KeyState {
    pub(super) sums: KeySums,
    stamp: Stamp,
}

/// The sums over some queries, with the moments of all keys.
#[derive(Debug, Clone)]
pub struct QueryState {
    pub(super) sums: QuerySums,
    stamp: Stamp,
}

/// The sums over some keys for dL/dW_K and dL/dY, with the sums over all queries.
#[derive(Debug, Clone)]
pub struct GradientState {
    pub(super) sums: GradientSums,
    stamp: Stamp,
}

/// A state with the rows of a gradient by token, of one side of a shard.
type WithRows<S, R> = Result<(S, R), Error>;

fn rows_of<T: Float>(rows: Option<Vec<T>>, count: usize, width: usize) -> Result<Option<Array2<T>>, Error> {
    rows.map(|rows| matrix(rows, count, width)).transpose()
}

fn zeros<const N: usize>(sizes: [Option<usize>; N]) -> Result<[Option<Vec<f64>>; N], Error> {
    let mut all = [const { None }; N];
    for (sums, size) in all.iter_mut().zip(sizes) {
        *sums = size.map(buffer::zeros).transpose()?;
    }
    Ok(all)
}

fn read<const N: usize>(from: &mut Reader<'_>, sizes: [Option<usize>; N]) -> Result<[Option<Vec<f64>>; N], Error> {
    let mut all = [const { None }; N];
    for (sums, size) in all.iter_mut().zip(sizes) {
        *sums = size.map(|size| from.floats(size)).transpose()?;
    }
    Ok(all)
}

fn all_of<const N: usize>(sizes: [Option<usize>; N]) -> usize {
    sizes.into_iter().flatten().sum()
}

fn counted(from: &mut Reader<'_>) -> Result<Counted, Error> {
    Ok(Counted { rows: from.count()?, merges: from.count()? })
}

/// What the three states have in common, with the name that a message has for the state.
macro_rules! common {
    ($state:ident, $kind:expr) => {
        impl $state {
            /// How many rows.
            pub fn rows(&self) -> usize {
                self.sums.counted.rows
            }

            /// Refuses the state of another frame.
            ///
            /// # Errors
            /// [`Error::Option`] that names the first difference.
            pub fn require(&self, frame: &Frame) -> Result<(), Error> {
                frame.stamp.require(self.stamp)
            }

            /// Reads the bytes of a state of a frame.
            ///
            /// # Errors
            /// [`Error::Option`] for other bytes, for those that were cut or changed, and for a state of another frame;
            /// [`Error::OutOfMemory`].
            pub fn from_bytes(frame: &Frame, given: &[u8]) -> Result<Self, Error> {
                let (mut from, stamp) = Reader::new($kind, given)?;
                frame.stamp.require(stamp)?;
                let sums = Self::read(frame, &mut from)?;
                from.end()?;
                Ok($state { sums, stamp })
            }

            /// Bytes of every state of a frame.
            ///
            /// # Errors
            /// [`Error::OutOfMemory`] for a size beyond all memory.
            pub fn size(frame: &Frame) -> Result<usize, Error> {
                Ok(bytes::size(Self::numbers(frame)?))
            }

            /// The state as bytes.
            ///
            /// # Errors
            /// [`Error::OutOfMemory`].
            pub fn to_bytes(&self, frame: &Frame) -> Result<Vec<u8>, Error> {
                self.require(frame)?;
                let mut to = Writer::new($kind, self.stamp, Self::numbers(frame)?)?;
                to.counts([self.sums.counted.rows, self.sums.counted.merges]);
                self.write(frame, &mut to)?;
                Ok(to.finish())
            }
        }
    };
}

common!(KeyState, Kind::Keys);
common!(QueryState, Kind::Queries);
common!(GradientState, Kind::Gradients);

impl KeyState {
    /// No keys.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn empty(frame: &Frame) -> Result<Self, Error> {
        let sums = buffer::zeros(frame.polynomial.key_size(frame.widths()[3])?)?;
        Ok(KeyState { sums: KeySums { sums, ..KeySums::default() }, stamp: frame.stamp })
    }

    /// Those of a shard, of which A1 and E are not looked at. Time as [`crate::Polynomial::fit`].
    ///
    /// # Errors
    /// [`Error::Option`] for a shard that does not fit the frame; [`Error::OutOfMemory`], [`Error::Deadline`],
    /// [`Error::Cancelled`].
    pub fn of<T: Float>(
        frame: &Frame,
        shard: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        compiled!(
            T,
            KeyState::of_shard::<T>
                as fn(&Frame, &Problem<'_, T>, &Options, Option<Watch<'_>>) -> Result<KeyState, Error>
        )(frame, shard, options, watch)
    }

    fn of_shard<T: Float>(
        frame: &Frame,
        shard: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        frame.admit(shard)?;
        let sums = frame.polynomial.shard_keys(&RowMajor::of(shard)?.problem(), &mut Run::new(options, watch))?;
        Ok(KeyState { sums, stamp: frame.stamp })
    }

    /// Counts the keys of another state in, those of a later shard.
    ///
    /// # Errors
    /// [`Error::Option`] for a state of another frame; [`Error::OutOfMemory`].
    pub fn merge(&mut self, other: &KeyState) -> Result<(), Error> {
        self.stamp.require(other.stamp)?;
        self.sums.merge(&other.sums)
    }

    /// Numbers of A3ᵀ A3, which is kept where it is no larger than the moments.
    fn gram(frame: &Frame) -> Result<usize, Error> {
        let [_, _, d3, dv] = frame.widths();
        Ok(if d3 * d3 <= frame.polynomial.key_size(dv)? { d3 * d3 } else { 0 })
    }

    fn numbers(frame: &Frame) -> Result<usize, Error> {
        let found = 2 + 2 * KeySums::default().found.balls.len();
        Ok(2 + frame.polynomial.key_size(frame.widths()[3])? + found + Self::gram(frame)?)
    }

    fn write(&self, frame: &Frame, to: &mut Writer) -> Result<(), Error> {
        let KeySums { sums, found, gram, .. } = &self.sums;
        to.floats(sums.iter().copied());
        to.floats([found.widest, found.lost]);
        to.floats(found.balls.iter().flat_map(|ball| [ball.squares, ball.widest]));
        match gram {
            Some(gram) => to.floats(gram.iter().copied()),
            None => to.floats((0..Self::gram(frame)?).map(|_| 0.0)),
        }
        Ok(())
    }

    fn read(frame: &Frame, from: &mut Reader<'_>) -> Result<KeySums, Error> {
        let [_, _, d3, dv] = frame.widths();
        let mut sums = KeySums { counted: counted(from)?, ..KeySums::default() };
        sums.sums = from.floats(frame.polynomial.key_size(dv)?)?;
        (sums.found.widest, sums.found.lost) = (from.float()?, from.float()?);
        for ball in &mut sums.found.balls {
            *ball = Ball { squares: from.float()?, widest: from.float()? };
        }
        let gram = from.floats(Self::gram(frame)?)?;
        sums.gram = if gram.is_empty() || sums.counted.rows == 0 { None } else { Some(matrix(gram, d3, d3)?) };
        Ok(sums)
    }
}

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
        let polynomial = frame.with_keys(keys)?;
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

impl GradientState {
    /// No keys.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn empty(frame: &Frame) -> Result<Self, Error> {
        let sums = GradientSums { sums: zeros(Self::sizes(frame)?)?, ..GradientSums::default() };
        Ok(GradientState { sums, stamp: frame.stamp })
    }

    /// Those of a shard, of which A1 and E are not looked at; and the rows of dL/dA2, (rows, d2), and of dL/dA3,
    /// (rows, d3), where they are wanted. `queries` are all queries. Time as that of the key side in
    /// [`crate::polynomial_gradient`].
    ///
    /// # Errors
    /// [`Error::Option`] for a shard or for queries that do not fit the frame; [`Error::Range`],
    /// [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn of<T: Float>(
        frame: &Frame,
        queries: &QueryState,
        shard: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> WithRows<Self, [Option<Array2<T>>; 2]> {
        compiled!(
            T,
            GradientState::of_shard::<T>
                as fn(
                    &Frame,
                    &QueryState,
                    &Problem<'_, T>,
                    &Options,
                    Option<Watch<'_>>,
                ) -> WithRows<GradientState, [Option<Array2<T>>; 2]>
        )(frame, queries, shard, options, watch)
    }

    fn of_shard<T: Float>(
        frame: &Frame,
        queries: &QueryState,
        shard: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> WithRows<Self, [Option<Array2<T>>; 2]> {
        frame.admit(shard)?;
        queries.require(frame)?;
        let shard = &RowMajor::of(shard)?;
        let (shard, run) = (&shard.problem(), &mut Run::new(options, watch));
        let found = frame.polynomial.shard_gradients(shard, &queries.sums, &frame.needs(), run)?;
        let (sums, [keys, values]) = found;
        let (m, [_, d2, d3, _]) = (shard.A2.nrows(), frame.widths());
        Ok((GradientState { sums, stamp: frame.stamp }, [rows_of(keys, m, d2)?, rows_of(values, m, d3)?]))
    }

    /// Counts the keys of another state in, those of a later shard.
    ///
    /// # Errors
    /// [`Error::Option`] for a state of another frame.
    pub fn merge(&mut self, other: &GradientState) -> Result<(), Error> {
        self.stamp.require(other.stamp)?;
        self.sums.merge(&other.sums);
        Ok(())
    }

    fn sizes(frame: &Frame) -> Result<[Option<usize>; 2], Error> {
        let ([_, d2, d3, dv], OutputSet { W_K, Y, .. }) = (frame.widths(), frame.needs());
        let size = |is_wanted: bool, height, width| is_wanted.then(|| buffer::size(&[height, width])).transpose();
        Ok([size(W_K, frame.dimension(), d2)?, size(Y, dv, d3)?])
    }

    fn numbers(frame: &Frame) -> Result<usize, Error> {
        Ok(2 + 2 + all_of(Self::sizes(frame)?))
    }

    fn write(&self, _: &Frame, to: &mut Writer) -> Result<(), Error> {
        to.floats(self.sums.outputs);
        self.sums.sums.iter().flatten().for_each(|sums| to.floats(sums.iter().copied()));
        Ok(())
    }

    fn read(frame: &Frame, from: &mut Reader<'_>) -> Result<GradientSums, Error> {
        let (counted, outputs) = (counted(from)?, [from.float()?, from.float()?]);
        Ok(GradientSums { counted, outputs, sums: read(from, Self::sizes(frame)?)? })
    }
}
