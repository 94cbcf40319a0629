//! Both passes over a shard of the keys: sums that add up over shards (docs/math.md, equation 3.5).

use std::f64::consts::LN_2;

use ndarray::{Array1, Array2, ArrayView2};

use super::attention::{AttentionGradients, pulled_back};
use super::engine::Engine;
use super::forward::divisor;
use super::measured::queries;
use super::pull_back::{Normaliser, Pulled};
use super::sight::{Sight, blamed};
use crate::constants::LOGARITHM_ROUNDING;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{in_range, row_major, rows};
use crate::linalg::outward::FOLD_UNIT;
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::Heads;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Pass 1 of some queries over some keys, before anything is divided by the normaliser.
#[derive(Debug, Clone, Default)]
pub(crate) struct SoftmaxSums {
    /// How many keys.
    pub keys: usize,
    /// dv.
    pub width: usize,
    /// Σ_i 2^(S_i − shift) h_i of each row, in base-2 units, `[rows][dv]`.
    pub sums: Vec<f64>,
    /// The shift; of no meaning where the total is zero.
    pub shift: Vec<f64>,
    /// Σ_i 2^(S_i − shift); zero where there are no keys.
    pub total: Vec<f64>,
}

impl SoftmaxSums {
    /// Those of a head without a mask.
    pub fn of<T: Float>(heads: &Heads<'_, T>, options: &Options, run: &mut Run<'_>) -> Result<Self, Error> {
        let heads = heads.admitted()?;
        Self::of_all(&heads, options, run).map_err(|error| blamed(&heads, [&[], &[]], error, run))
    }

    fn of_all<T: Float>(heads: &Heads<'_, T>, options: &Options, run: &mut Run<'_>) -> Result<Self, Error> {
        let (n, m, dv) = (heads.query.nrows(), heads.key.nrows(), heads.value.ncols());
        let sight = Sight::of(heads, run)?;
        let (key, value) = (row_major(heads.key)?, row_major(heads.value)?);
        let engine = Engine::new(queries(heads, &sight, options)?, n, rows(&key)?, sight, options, run)?;
        let values = engine.values(rows(&value)?, None, run)?;
        let mut sums = buffer::zeros(buffer::size(&[n, dv])?)?;
        let found = engine.forward_part(&values, &mut sums, run)?;
        in_range("the output", T::NAME, sums.iter().chain(&found.total).all(|x| x.is_finite()))?;
        let shift = buffer::collected(found.shift.iter().map(|shift| shift.widen()))?;
        Ok(SoftmaxSums { keys: m, width: dv, sums, shift, total: found.total })
    }

    /// Counts other keys in, for the same queries. No keys change no bit.
    pub fn merge(&mut self, other: &SoftmaxSums) {
        self.keys += other.keys;
        let width = self.width;
        for row in 0..self.total.len() {
            let (own, theirs) = (self.total[row], other.total[row]);
            if theirs == 0.0 {
                continue;
            }
            let shift = if own == 0.0 { other.shift[row] } else { self.shift[row].max(other.shift[row]) };
            let ratios = [(own, self.shift[row]), (theirs, other.shift[row])]
                .map(|(total, shift_of)| if total == 0.0 { 0.0 } else { (shift_of - shift).exp2() });
            let add = |own: &mut f64, theirs: f64| *own = ratios[0] * *own + ratios[1] * theirs;
            let sums = self.sums[row * width..][..width].iter_mut();
            sums.zip(&other.sums[row * width..]).for_each(|(own, &theirs)| add(own, theirs));
            add(&mut self.total[row], theirs);
            self.shift[row] = shift;
        }
    }

    /// o of every row, (rows, dv); zero where there are no keys.
    pub fn output<T: Float>(&self) -> Result<Array2<T>, Error> {
        let (n, width) = (self.total.len(), self.width);
        let output = self.sums.iter().enumerate();
        let output = output.map(|(at, sum)| T::narrow(sum / divisor(self.total[at / width])));
        matrix(buffer::collected(output)?, n, width)
    }

    /// ln Σ_i exp(logit_i) of every row; −∞ where there are no keys.
    pub fn lse(&self) -> Result<Array1<f64>, Error> {
        let of = |(shift, total): (&f64, &f64)| {
            if *total == 0.0 { f64::NEG_INFINITY } else { (shift + total.log2()) * LN_2 }
        };
        Ok(buffer::collected(self.shift.iter().zip(&self.total).map(of))?.into())
    }

    /// The contributions of the pairs of these queries with some of the keys to dL/dquery, dL/dkey and dL/dvalue, each
    /// with its rounding estimate. `heads` has the queries and those keys; these sums are over all keys.
    pub fn pull_back<T: Float>(
        &self,
        heads: &Heads<'_, T>,
        dout: ArrayView2<'_, T>,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<AttentionGradients<T>, Error> {
        let (output, lse) = (self.output::<T>()?, self.lse()?);
        let lse = lse.as_slice().unwrap_or_default();
        let largest = lse.iter().filter(|lse| lse.is_finite()).fold(0.0, |most: f64, lse| most.max(lse.abs()));
        in_range("a logit for shards", T::NAME, largest * FOLD_UNIT <= LOGARITHM_ROUNDING)?;
        let saved = Some((output.view(), Normaliser::Whole(lse)));
        let pulled = Pulled { heads: heads.reborrow(), dout: dout.reborrow(), saved, is_coarse: true };
        pulled_back(&pulled, options, run)
    }
}
