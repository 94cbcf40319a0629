//! Masks with an entry for each pair of a query and a key.

use ndarray::{ArrayView2, ArrayViewD, Ix2};

use super::parts::parts;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::halves::Half;

/// A mask with an entry for each pair of a query and a key, of any shape that broadcasts to (..., H, L, S). It is read
/// where it is, tile by tile; nothing is expanded.
#[derive(Debug, Clone)]
pub enum AttnMask<'a, T> {
    /// A query sees the keys whose entry is not zero.
    Seen(ArrayViewD<'a, u8>),
    /// Added to the logits; −∞ hides a key, and so does every entry below an eighth of the lowest number.
    Added(ArrayViewD<'a, T>),
    /// The same in half precision, by its bits: the lowest number is that of the format.
    Halves(Half, ArrayViewD<'a, u16>),
}

/// The part of such a mask that belongs to one head.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entries<'a, T> {
    Seen(ArrayView2<'a, u8>),
    Added(ArrayView2<'a, T>),
    Halves(Half, ArrayView2<'a, u16>),
}

/// Entries below this one hide a key: what is added to them must not leave the range of numbers.
pub(crate) fn least_added<T: Float>() -> f64 {
    -T::MAX / 8.0
}

/// A number that a mask in half precision adds, −∞ where it hides a key.
pub(crate) fn added_by<T: Float>(half: Half) -> impl Fn(T) -> T + Copy {
    let least = T::narrow(-half.largest() / 8.0);
    move |x| if x < least { T::neg_infinity() } else { x }
}

impl<'a, T> Entries<'a, T> {
    /// The same for a shorter time.
    pub fn reborrow<'b>(self) -> Entries<'b, T>
    where
        'a: 'b,
    {
        match self {
            Entries::Seen(entries) => Entries::Seen(entries.reborrow()),
            Entries::Added(entries) => Entries::Added(entries.reborrow()),
            Entries::Halves(half, entries) => Entries::Halves(half, entries.reborrow()),
        }
    }
}

impl<T: Float> AttnMask<'_, T> {
    /// The part of each head of `leading` dimensions, of `n` queries and `m` keys.
    ///
    /// # Errors
    /// [`Error::Shape`] where the mask does not broadcast to them.
    pub(super) fn of_heads<'b>(&'b self, leading: &[usize], n: usize, m: usize) -> Result<Vec<Entries<'b, T>>, Error> {
        let shape = [leading, &[n, m]].concat();
        let misfit = |found: &[usize]| {
            let wanted = format!("expected a shape that broadcasts to {shape:?}, one entry for each query and key");
            Error::Shape { argument: "attn_mask", found: found.to_vec(), wanted }
        };
        Ok(match self {
            AttnMask::Seen(mask) => {
                let whole = mask.broadcast(&shape[..]).ok_or_else(|| misfit(mask.shape()))?;
                parts::<_, Ix2>(&whole)?.into_iter().map(Entries::Seen).collect()
            }
            AttnMask::Added(mask) => {
                let whole = mask.broadcast(&shape[..]).ok_or_else(|| misfit(mask.shape()))?;
                parts::<_, Ix2>(&whole)?.into_iter().map(Entries::Added).collect()
            }
            AttnMask::Halves(half, mask) => {
                let whole = mask.broadcast(&shape[..]).ok_or_else(|| misfit(mask.shape()))?;
                parts::<_, Ix2>(&whole)?.into_iter().map(|part| Entries::Halves(*half, part)).collect()
            }
        })
    }
}
