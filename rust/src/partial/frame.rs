//! The frame: all that the shards of one problem have in common, fixed before the first of them is read.

use ndarray::ArrayView2;

use super::bytes::{self, Kind, Reader, Stamp, Writer};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::moments::Polynomial;
use crate::options::Options;
use crate::plan::Logits;
use crate::problem::{Approximation, OutputSet, Problem, RowMajor, Shape, Weights, Wrt};

/// All that the shards of a problem have in common: widths, weights, scale, outputs, coordinates and polynomial.
///
/// Shards are problems of the same weights whose A1 and E, or A2 and A3, hold some of the rows; the other side may have
/// none.
pub struct Frame {
    pub(super) polynomial: Polynomial,
    pub(super) wrt: Vec<Wrt>,
    pub(super) stamp: Stamp,
    shape: Shape,
    scale: f64,
    is_target: bool,
    /// Of the weights.
    weights: u32,
    /// Relative error of the gradient that the sample lets expect.
    predicted_error: f64,
}

/// Refuses what cannot be put together from shards.
fn check_wrt(shape: &Shape, wrt: &[Wrt]) -> Result<(), Error> {
    if wrt.contains(&Wrt::A) {
        let wanted = "'A1', 'A2' and 'A3': shards of queries are not those of keys".into();
        return Err(Error::Option { option: "wrt", found: "'A'".into(), wanted });
    }
    wrt.iter().try_for_each(|&wrt| shape.check(wrt))
}

/// Checksum of the numbers of the weights.
fn sum_of<T: Float>(problem: &Problem<'_, T>) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let mut add = |array: &ArrayView2<'_, T>| {
        array.iter().for_each(|x| sum.update(&x.widen().to_le_bytes()));
    };
    match &problem.weights {
        Weights::Product(X) => add(X),
        Weights::Pair(W_Q, W_K) => {
            add(W_Q);
            add(W_K);
        }
    }
    add(&problem.Y);
    sum.finalize()
}

impl Frame {
    /// Chooses coordinates and a polynomial of `degree` from some rows of both sides, for these outputs. Time O(rows d²
    /// + d³).
    ///
    /// # Errors
    /// [`Error::Option`] for an output that the problem does not have or that shards do not make, for a causal problem,
    /// for a sample without queries or keys, and where logits are too large for any polynomial; [`Error::OutOfMemory`].
    pub fn fit<T: Float>(
        sample: &Problem<'_, T>,
        wrt: &[Wrt],
        degree: usize,
        options: &Options,
    ) -> Result<Self, Error> {
        compiled!(T, Frame::fit_in::<T> as fn(&Problem<'_, T>, &[Wrt], usize, &Options) -> Result<Frame, Error>)(
            sample, wrt, degree, options,
        )
    }

    fn fit_in<T: Float>(sample: &Problem<'_, T>, wrt: &[Wrt], degree: usize, options: &Options) -> Result<Self, Error> {
        let refused = |option, found: &str, wanted: &str| {
            Err(Error::Option { option, found: found.into(), wanted: wanted.into() })
        };
        check_wrt(&Shape::of(sample), wrt)?;
        if sample.is_causal {
            return refused("is_causal", "true", "false: shards of a causal problem are not sums");
        }
        let sample = &sample.admitted()?;
        if sample.A1.nrows() == 0 || sample.A2.nrows() == 0 {
            return refused("sample", "no rows on one side", "some rows of A1 and E, and some of A2 and A3");
        }
        let rows = RowMajor::of(sample)?;
        let sample = &rows.problem();
        let logits = Logits::draw(sample, &[]);
        let Some(polynomial) = logits.least_squares(degree) else {
            return refused("degree", &degree.to_string(), "the exact method: logits are too large for any polynomial");
        };
        let approximation = Approximation { coefficients: polynomial.power(), integers: true, exact_keys: Vec::new() };
        let polynomial = Polynomial::of_sample(sample, &approximation, options)?;
        let shape = Shape { n: 0, m: 0, ..Shape::of(sample) };
        let frame = Frame {
            polynomial,
            wrt: wrt.to_vec(),
            stamp: Stamp::new::<T>(degree, shape.d),
            shape,
            scale: sample.scale,
            is_target: sample.is_target,
            weights: sum_of(sample),
            predicted_error: logits.error(degree),
        };
        let stamp = frame.stamp.with_common(&frame.to_bytes()?);
        Ok(Frame { stamp, ..frame })
    }

    /// g.
    pub fn degree(&self) -> usize {
        self.polynomial.parts().1.len() - 1
    }

    /// Features of the degree.
    pub fn features(&self) -> usize {
        self.polynomial.features()
    }

    /// The outputs.
    pub fn wrt(&self) -> &[Wrt] {
        &self.wrt
    }

    /// The precision of the inputs, as NumPy spells it.
    pub fn precision(&self) -> &'static str {
        self.stamp.precision()
    }

    /// Relative error of the gradient that the sample lets expect.
    pub fn predicted_error(&self) -> f64 {
        self.predicted_error
    }

    /// Sums that the outputs are made of.
    pub(super) fn needs(&self) -> OutputSet {
        OutputSet::of(&self.wrt)
    }

    /// d, of the coordinates.
    pub(super) fn dimension(&self) -> usize {
        self.shape.d
    }

    /// d1, d2, d3 and dv.
    pub(super) fn widths(&self) -> [usize; 4] {
        let Shape { d1, d2, d3, dv, .. } = self.shape;
        [d1, d2, d3, dv]
    }

    /// Refuses a shard of another problem; the message names the first difference.
    pub(super) fn admit<T: Float>(&self, shard: &Problem<'_, T>) -> Result<(), Error> {
        let differs = |option, found: String, wanted: String| {
            Err(Error::Option { option, found, wanted: format!("{wanted}, as in the frame") })
        };
        if self.precision() != T::NAME {
            return differs("shard", T::NAME.into(), self.precision().into());
        }
        let found = Shape { n: 0, m: 0, ..Shape::of(shard) };
        if found != self.shape {
            let widths =
                |Shape { d1, d2, d3, dv, .. }: Shape| format!("widths of A1, A2, A3 and E {d1}, {d2}, {d3}, {dv}");
            return differs("shard", widths(found), widths(self.shape));
        }
        if shard.scale != self.scale {
            return differs("scale", shard.scale.to_string(), self.scale.to_string());
        }
        if (shard.is_causal, shard.is_target) != (false, self.is_target) {
            return differs("shard", "a mask, or dout in the place of E".into(), "the same kind of problem".into());
        }
        if sum_of(shard) != self.weights {
            return differs("weights", "other numbers".into(), "the same ones".into());
        }
        Ok(())
    }

    /// The frame as bytes, for other processes and machines.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let (coordinates, coefficients, integers) = self.polynomial.parts();
        let numbers = bytes::coordinates_size(coordinates) + 1 + coefficients.len() + 1 + 8 + 4 + self.wrt.len() + 1;
        let mut to = Writer::new(Kind::Frame, self.stamp, numbers)?;
        bytes::write_coordinates(coordinates, &mut to);
        to.counts([coefficients.len()]);
        to.floats(coefficients.iter().copied());
        to.counts([usize::from(integers)]);
        let Shape { n, m, d, d1, d2, d3, dv, pair } = self.shape;
        to.counts([n, m, d, d1, d2, d3, dv, usize::from(pair)]);
        to.floats([self.scale, self.predicted_error]);
        to.counts([usize::from(self.is_target), self.weights as usize, self.wrt.len()]);
        to.counts(self.wrt.iter().map(|&wrt| wrt as usize));
        Ok(to.finish())
    }

    /// The frame from its bytes.
    ///
    /// # Errors
    /// [`Error::Option`] for other bytes, and for those that were cut or changed; [`Error::OutOfMemory`].
    pub fn from_bytes(given: &[u8], options: &Options) -> Result<Self, Error> {
        let (mut from, stamp) = Reader::new(Kind::Frame, given)?;
        let coordinates = bytes::read_coordinates(&mut from)?;
        let count = from.count()?;
        let coefficients = from.floats(count)?;
        let integers = from.count()? == 1;
        let mut next = || from.count();
        let [n, m, d, d1, d2, d3, dv] = [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
        let shape = Shape { n, m, d, d1, d2, d3, dv, pair: next()? == 1 };
        let (scale, predicted_error) = (from.float()?, from.float()?);
        let (is_target, weights, outputs) = (from.count()? == 1, from.count()? as u32, from.count()?);
        let mut wrt = Vec::new();
        for _ in 0..outputs {
            let code = from.count()?;
            let known = Wrt::ALL.iter().find(|&&wrt| wrt as usize == code);
            wrt.push(*known.ok_or_else(|| bytes::refused("an unknown output".into(), "those of `wrt`".into()))?);
        }
        from.end()?;
        let polynomial = Polynomial::of_parts(coordinates, &coefficients, integers, options)?;
        Ok(Frame { polynomial, wrt, stamp, shape, scale, is_target, weights, predicted_error })
    }
}
