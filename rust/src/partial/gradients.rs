//! Sums over shards of keys again, with those over all queries: the third pass.

use ndarray::Array2;

use super::bytes::{Kind, Reader, Stamp, Writer};
use super::frame::Frame;
use super::queries::QueryState;
use super::states::{WithRows, all_of, common, counted, read, rows_of, zeros};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::moments::GradientSums;
use crate::options::Options;
use crate::problem::{OutputSet, Problem, RowMajor};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The sums over some keys for dL/dW_K and dL/dY, with the sums over all queries.
#[derive(Debug, Clone)]
pub struct GradientState {
    pub(super) sums: GradientSums,
    stamp: Stamp,
}

common!(GradientState, Kind::Gradients);

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
