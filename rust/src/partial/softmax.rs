//! The state of the exact method: a softmax over some of the keys.

use ndarray::{Array1, Array2, ArrayView2};

use super::bytes::{self, Kind, Reader, Stamp, Writer};
use crate::error::Error;
use crate::exact::{AttentionGradients, SoftmaxSums};
use crate::float::{Float, compiled};
use crate::options::Options;
use crate::problem::Heads;
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// Row maxima, row sums and outputs of a block of queries over some of the keys.
#[derive(Debug, Clone)]
pub struct SoftmaxState {
    sums: SoftmaxSums,
    stamp: Stamp,
}

type Pulled<T> = Result<AttentionGradients<T>, Error>;

impl SoftmaxState {
    /// Of the queries and keys of a head without a mask; it may have no keys. Time 2 n m (d + dv), memory
    /// O((n + m)(d + dv)).
    ///
    /// # Errors
    /// Those of [`crate::attention`], and [`Error::Option`] for a mask.
    pub fn of<T: Float>(heads: &Heads<'_, T>, options: &Options, watch: Option<Watch<'_>>) -> Result<Self, Error> {
        compiled!(
            T,
            SoftmaxState::of_shard::<T>
                as fn(&Heads<'_, T>, &Options, Option<Watch<'_>>) -> Result<SoftmaxState, Error>
        )(heads, options, watch)
    }

    fn of_shard<T: Float>(heads: &Heads<'_, T>, options: &Options, watch: Option<Watch<'_>>) -> Result<Self, Error> {
        let stamp = stamp(heads)?;
        Ok(SoftmaxState { sums: SoftmaxSums::of(heads, options, &mut Run::new(options, watch))?, stamp })
    }

    /// Counts the keys of another state in, for the same queries.
    ///
    /// # Errors
    /// [`Error::Option`] for a state of other queries.
    pub fn merge(&mut self, other: &SoftmaxState) -> Result<(), Error> {
        self.stamp.require(other.stamp)?;
        self.sums.merge(&other.sums);
        Ok(())
    }

    /// How many queries.
    pub fn rows(&self) -> usize {
        self.sums.total.len()
    }

    /// How many keys it has seen.
    pub fn keys(&self) -> usize {
        self.sums.keys
    }

    /// o, (rows, dv); zero where there are no keys.
    ///
    /// # Errors
    /// [`Error::Option`] for another precision than that of the queries; [`Error::OutOfMemory`].
    pub fn output<T: Float>(&self) -> Result<Array2<T>, Error> {
        self.in_precision::<T>()?;
        self.sums.output()
    }

    /// ln Σ_i exp(logit_i) of every query, (rows); −∞ where there are no keys.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn lse(&self) -> Result<Array1<f64>, Error> {
        self.sums.lse()
    }

    /// Contributions of some keys to the gradients of ⟨dout, o⟩: those to dL/dquery add up over shards of keys, those to
    /// dL/dkey and dL/dvalue over shards of queries, and so do the rounding estimates. The state has all keys; `heads`
    /// has its queries and the keys of a shard. Time 14 n m d.
    ///
    /// # Errors
    /// [`Error::Option`] for other queries than those of the state, and for a mask; [`Error::Shape`]; those of
    /// [`crate::attention`].
    pub fn pull_back<T: Float>(
        &self,
        heads: &Heads<'_, T>,
        dout: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Pulled<T> {
        compiled!(
            T,
            SoftmaxState::pull_shard::<T>
                as fn(&SoftmaxState, &Heads<'_, T>, ArrayView2<'_, T>, &Options, Option<Watch<'_>>) -> Pulled<T>
        )(self, heads, dout, options, watch)
    }

    fn pull_shard<T: Float>(
        &self,
        heads: &Heads<'_, T>,
        dout: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Pulled<T> {
        self.stamp.require(stamp(heads)?)?;
        let wanted = (heads.query.nrows(), heads.value.ncols());
        if dout.dim() != wanted {
            let wanted = format!("the output has shape {wanted:?}, so dout needs it too");
            return Err(Error::Shape { argument: "dout", found: dout.shape().to_vec(), wanted });
        }
        self.sums.pull_back(heads, dout, options, &mut Run::new(options, watch))
    }

    fn in_precision<T: Float>(&self) -> Result<(), Error> {
        if self.stamp.precision() == T::NAME {
            return Ok(());
        }
        Err(bytes::refused(format!("one of {}", self.stamp.precision()), format!("one of {}", T::NAME)))
    }

    /// The precision of the queries, as NumPy spells it.
    pub fn precision(&self) -> &'static str {
        self.stamp.precision()
    }

    /// Bytes of every state of so many queries and values of this width.
    pub fn size(rows: usize, width: usize) -> usize {
        bytes::size(3 + rows.saturating_mul(width.saturating_add(2)))
    }

    /// The state as bytes.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let SoftmaxSums { keys, width, sums, shift, total } = &self.sums;
        let mut to = Writer::new(Kind::Softmax, self.stamp, 3 + sums.len() + shift.len() + total.len())?;
        to.counts([*keys, total.len(), *width]);
        [sums, shift, total].into_iter().for_each(|numbers| to.floats(numbers.iter().copied()));
        Ok(to.finish())
    }

    /// The state from its bytes.
    ///
    /// # Errors
    /// [`Error::Option`] for other bytes, and for those that were cut or changed; [`Error::OutOfMemory`].
    pub fn from_bytes(given: &[u8]) -> Result<Self, Error> {
        let (mut from, stamp) = Reader::new(Kind::Softmax, given)?;
        let (keys, rows, width) = (from.count()?, from.count()?, from.count()?);
        let numbers = buffer::size(&[rows, width])?;
        let (sums, shift, total) = (from.floats(numbers)?, from.floats(rows)?, from.floats(rows)?);
        from.end()?;
        Ok(SoftmaxState { sums: SoftmaxSums { keys, width, sums, shift, total }, stamp })
    }
}

/// The stamp of the states of some queries. A state of a mask would not be a sum over keys.
fn stamp<T: Float>(heads: &Heads<'_, T>) -> Result<Stamp, Error> {
    if heads.plain() != Some(false) {
        let wanted = "none: what a mask hides depends on where a shard begins".into();
        return Err(Error::Option { option: "mask", found: "a mask".into(), wanted });
    }
    let mut sum = crc32fast::Hasher::new();
    sum.update(&heads.scale.to_le_bytes());
    heads.query.iter().for_each(|x| sum.update(&x.widen().to_le_bytes()));
    Ok(Stamp::new::<T>(0, heads.value.ncols()).with_sum(sum.finalize()))
}
