//! Query, key and value of attention itself, their shapes checked once at the door.

use ndarray::{ArrayView2, s};

use crate::error::Error;
use crate::float::Float;
use crate::problem::{Entries, Mask, Shape, Wrt, blame, check_scale};

/// The inputs that a vector-Jacobian product is with respect to: query, key and value, by their names in the problem
/// with unit weights.
pub const HEAD_INPUTS: [Wrt; 3] = [Wrt::A1, Wrt::A2, Wrt::A3];

/// Query (n, d), key (m, d) and value (m, dv) of one attention head: o = softmax(scale · query keyᵀ) value.
#[derive(Debug, Clone, Copy)]
pub struct Heads<'a, T> {
    pub(crate) query: ArrayView2<'a, T>,
    pub(crate) key: ArrayView2<'a, T>,
    pub(crate) value: ArrayView2<'a, T>,
    pub(crate) scale: f64,
    pub(crate) mask: Mask<'a>,
    /// A mask with an entry for each pair, beside the other one.
    pub(crate) entries: Option<Entries<'a, T>>,
}

impl<'a, T: Float> Heads<'a, T> {
    /// Not causal, with torch's scale 1/√d.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn new(query: ArrayView2<'a, T>, key: ArrayView2<'a, T>, value: ArrayView2<'a, T>) -> Result<Self, Error> {
        Shape::of_heads(|name| match name {
            "query" => Some(query.shape()),
            "key" => Some(key.shape()),
            "value" => Some(value.shape()),
            _ => None,
        })?;
        Ok(Heads::fitting(query, key, value))
    }

    /// The same for arrays that are known to fit.
    pub(super) fn fitting(query: ArrayView2<'a, T>, key: ArrayView2<'a, T>, value: ArrayView2<'a, T>) -> Self {
        let scale = (query.ncols().max(1) as f64).sqrt().recip();
        Heads { query, key, value, scale, mask: Mask::NONE, entries: None }
    }

    /// The same head with another scale of the logits.
    #[must_use]
    pub fn with_scale(self, scale: f64) -> Self {
        Heads { scale, ..self }
    }

    /// The same head where query j sees keys 0..=j only (top-left, also where n ≠ m).
    #[must_use]
    pub fn with_causal(self, is_causal: bool) -> Self {
        Heads { mask: Mask::causal(is_causal), entries: None, ..self }
    }

    /// Whether the head is causal, aligned at the top left, where it has no other mask.
    pub(crate) fn plain(&self) -> Option<bool> {
        if self.entries.is_some() { None } else { self.mask.plain() }
    }

    /// The same head for a shorter time.
    pub(crate) fn reborrow<'b>(&self) -> Heads<'b, T>
    where
        'a: 'b,
    {
        let Heads { query, key, value, scale, mask, entries } = *self;
        let entries = entries.map(Entries::reborrow);
        Heads { query: query.reborrow(), key: key.reborrow(), value: value.reborrow(), scale, mask, entries }
    }

    /// The head as every function works on it: see [`crate::Problem`] for both steps.
    pub(crate) fn admitted(&self) -> Result<Self, Error> {
        check_scale(self.scale)?;
        let end = self.mask.end(self.query.nrows(), self.key.nrows());
        if end == self.key.nrows() {
            return Ok(*self);
        }
        Ok(Heads { key: self.key.slice_move(s![..end, ..]), value: self.value.slice_move(s![..end, ..]), ..*self })
    }

    /// An overflow, or its cause in the head or in other arrays.
    pub(crate) fn blame<'b>(
        &'b self,
        others: impl Iterator<Item = (&'static str, &'b ArrayView2<'b, T>)>,
        error: Error,
    ) -> Error {
        let inputs = [("query", &self.query), ("key", &self.key), ("value", &self.value)];
        blame(error, inputs.into_iter().chain(others))
    }
}
