//! What the states of the polynomial method have in common: sums of known sizes, and bytes with the stamp of a frame.

use ndarray::Array2;

use super::bytes::Reader;
use crate::certificate::moments::Counted;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::runtime::buffer;

/// A state with the rows of a gradient by token, of one side of a shard.
pub type WithRows<S, R> = Result<(S, R), Error>;

/// Rows of a gradient by token as a matrix, if they were wanted.
pub fn rows_of<T: Float>(rows: Option<Vec<T>>, count: usize, width: usize) -> Result<Option<Array2<T>>, Error> {
    rows.map(|rows| matrix(rows, count, width)).transpose()
}

/// Sums of no rows, as far as they are wanted.
pub fn zeros<const N: usize>(sizes: [Option<usize>; N]) -> Result<[Option<Vec<f64>>; N], Error> {
    let mut all = [const { None }; N];
    for (sums, size) in all.iter_mut().zip(sizes) {
        *sums = size.map(buffer::zeros).transpose()?;
    }
    Ok(all)
}

/// Sums as they were written.
pub fn read<const N: usize>(from: &mut Reader<'_>, sizes: [Option<usize>; N]) -> Result<[Option<Vec<f64>>; N], Error> {
    let mut all = [const { None }; N];
    for (sums, size) in all.iter_mut().zip(sizes) {
        *sums = size.map(|size| from.floats(size)).transpose()?;
    }
    Ok(all)
}

/// Numbers of all sums together.
pub fn all_of<const N: usize>(sizes: [Option<usize>; N]) -> usize {
    sizes.into_iter().flatten().sum()
}

/// The rows that a state has seen.
pub fn counted(from: &mut Reader<'_>) -> Result<Counted, Error> {
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
                let (mut from, stamp) = $crate::partial::bytes::Reader::new($kind, given)?;
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
                Ok($crate::partial::bytes::size(Self::numbers(frame)?))
            }

            /// The state as bytes.
            ///
            /// # Errors
            /// [`Error::OutOfMemory`].
            pub fn to_bytes(&self, frame: &Frame) -> Result<Vec<u8>, Error> {
                self.require(frame)?;
                let mut to = $crate::partial::bytes::Writer::new($kind, self.stamp, Self::numbers(frame)?)?;
                to.counts([self.sums.counted.rows, self.sums.counted.merges]);
                self.write(frame, &mut to)?;
                Ok(to.finish())
            }
        }
    };
}

pub(super) use common;
