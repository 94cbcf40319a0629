//! Sums over shards of keys: the first pass.

use super::bytes::{self, Kind, Reader, Stamp, Writer};
use super::frame::Frame;
use super::states::{common, counted};
use crate::certificate::moments::Ball;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::products::matrix;
use crate::moments::{KeySums, Polynomial};
use crate::options::Options;
use crate::problem::{Problem, RowMajor};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The moments of some keys.
#[derive(Debug, Clone)]
pub struct KeyState {
    pub(super) sums: KeySums,
    stamp: Stamp,
}

common!(KeyState, Kind::Keys);

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

    /// The polynomial of the frame with these moments, which are those of all keys.
    ///
    /// # Errors
    /// [`Error::Option`] for the keys of another frame, and where there are none.
    pub(super) fn polynomial(&self, frame: &Frame) -> Result<Polynomial, Error> {
        self.require(frame)?;
        if self.rows() == 0 {
            return Err(bytes::refused("one without keys".into(), "one with the keys of all shards".into()));
        }
        frame.polynomial.with_keys(&self.sums)
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
