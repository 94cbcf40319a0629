//! Heads of attention in arrays of any leading dimensions, as views of one head each.

use ndarray::{ArrayView1, ArrayView2, ArrayViewD, Ix1, Ix2};

use super::parts::{leading, parts};
use super::{AttnMask, Heads, Mask, Masks, Shape, StackSizes};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;

/// Heads of one shape, in the order of their leading indices.
///
/// Query (..., H, L, E), key (..., Hk, S, E) and value (..., Hk, S, Ev) may have any strides, 0 included: nothing is
/// copied here. With grouped queries H is a multiple of Hk, and H / Hk query heads in a row share a key head.
#[derive(Debug, Clone)]
pub struct Stack<'a, T> {
    heads: Vec<Heads<'a, T>>,
    sizes: StackSizes,
    /// The leading dimensions of the query.
    leading: Vec<usize>,
}

/// The output and the logarithm of the normaliser that the forward pass returned, as the vector-Jacobian product takes
/// them back. They are inputs: that they belong to the heads is not checked.
#[derive(Debug, Clone)]
pub struct Saved<'a, T> {
    /// o, (L, Ev), of each head.
    pub output: Vec<ArrayView2<'a, T>>,
    /// ln Σ_i exp(logit_i), (L), of each head; −∞ where a row sees nothing.
    pub lse: Vec<ArrayView1<'a, T>>,
}

impl<T: Float> Saved<'_, T> {
    /// o and the logarithms of one head.
    pub(crate) fn of_head(&self, number: usize) -> (ArrayView2<'_, T>, ArrayView1<'_, T>) {
        (self.output[number].reborrow(), self.lse[number].reborrow())
    }
}

impl<'a, T: Float> Stack<'a, T> {
    /// Not causal, with torch's scale 1/√E. With `enable_gqa` the heads of the query, its last leading dimension, may
    /// be a multiple of those of key and value.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn new(
        query: &ArrayViewD<'a, T>,
        key: &ArrayViewD<'a, T>,
        value: &ArrayViewD<'a, T>,
        enable_gqa: bool,
    ) -> Result<Self, Error> {
        let sizes = StackSizes::of_arrays(enable_gqa, |name| match name {
            "query" => Some(query.shape()),
            "key" => Some(key.shape()),
            "value" => Some(value.shape()),
            _ => None,
        })?;
        let (keys, values) = (matrices(key)?, matrices(value)?);
        let mut heads = buffer::with_capacity(sizes.heads)?;
        for (number, query) in matrices(query)?.into_iter().enumerate() {
            let shared = number / sizes.group;
            heads.push(Heads::fitting(query, keys[shared], values[shared]));
        }
        let leading = query.shape()[..query.ndim() - 2].to_vec();
        Ok(Stack { heads, sizes, leading })
    }

    /// Heads that share no keys.
    ///
    /// # Errors
    /// [`Error::Shape`] for a head of another shape than the first.
    pub fn of(heads: Vec<Heads<'a, T>>) -> Result<Self, Error> {
        let shapes = |head: &Heads<'a, T>| (head.query.dim(), head.value.dim());
        let first = heads.first().map(shapes);
        let ((n, width), (m, dv)) = first.unwrap_or_default();
        if let Some(other) = heads.iter().find(|head| Some(shapes(head)) != first) {
            let wanted = format!("the first head has shape [{n}, {width}], and value [{m}, {dv}]");
            return Err(Error::Shape { argument: "query", found: other.query.shape().to_vec(), wanted });
        }
        let sizes = StackSizes { head: Shape::of_head(n, m, width, dv), heads: heads.len(), group: 1 };
        let leading = vec![heads.len()];
        Ok(Stack { heads, sizes, leading })
    }

    /// The same heads with another scale of the logits.
    #[must_use]
    pub fn with_scale(mut self, scale: f64) -> Self {
        self.heads.iter_mut().for_each(|head| head.scale = scale);
        self
    }

    /// The same heads where query j sees keys 0..=j only.
    #[must_use]
    pub fn with_causal(mut self, is_causal: bool) -> Self {
        let mask = Mask::causal(is_causal);
        self.heads.iter_mut().for_each(|head| (head.mask, head.entries) = (mask, None));
        self
    }

    /// The same heads with these masks alone, and with entries for each pair of a query and a key.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Option`] for masks that are not of these heads, and for a causal mask beside
    /// entries, which torch refuses too.
    pub fn with_masks(mut self, masks: &'a Masks, attn_mask: Option<&'a AttnMask<'a, T>>) -> Result<Self, Error> {
        let of_heads = masks.of_heads(&self.leading, [self.sizes.head.n, self.sizes.head.m])?;
        self.heads.iter_mut().zip(of_heads).for_each(|(head, mask)| (head.mask, head.entries) = (mask, None));
        let Some(attn_mask) = attn_mask else { return Ok(self) };
        masks.check_beside_entries()?;
        let of_heads = attn_mask.of_heads(&self.leading, self.sizes.head.n, self.sizes.head.m)?;
        self.heads.iter_mut().zip(of_heads).for_each(|(head, entries)| head.entries = Some(entries));
        Ok(self)
    }

    /// The heads, one for each of the query.
    pub fn heads(&self) -> &[Heads<'a, T>] {
        &self.heads
    }

    /// Query heads that share one key head.
    pub fn group(&self) -> usize {
        self.sizes.group
    }

    /// The shape of one head.
    pub fn shape(&self) -> Shape {
        self.sizes.head
    }

    /// How many heads of which sizes there are.
    pub fn sizes(&self) -> &StackSizes {
        &self.sizes
    }

    /// The output of each head, or its gradient: (..., H, L, Ev).
    ///
    /// # Errors
    /// [`Error::Shape`] where it has not that shape.
    pub fn outputs(&self, name: &'static str, array: &ArrayViewD<'a, T>) -> Result<Vec<ArrayView2<'a, T>>, Error> {
        self.require(name, array.shape(), &[self.sizes.head.n, self.sizes.head.dv])?;
        matrices(array)
    }

    /// What the forward pass returned: output (..., H, L, Ev) and lse (..., H, L).
    ///
    /// # Errors
    /// [`Error::Shape`] where they have not those shapes.
    pub fn saved(&self, output: &ArrayViewD<'a, T>, lse: &ArrayViewD<'a, T>) -> Result<Saved<'a, T>, Error> {
        self.require("lse", lse.shape(), &[self.sizes.head.n])?;
        Ok(Saved { output: self.outputs("output", output)?, lse: parts::<T, Ix1>(lse)? })
    }

    fn require(&self, argument: &'static str, found: &[usize], last: &[usize]) -> Result<(), Error> {
        if found.len() >= last.len() && found.ends_with(last) && leading(found, last.len()) == self.heads.len() {
            return Ok(());
        }
        let (count, last) = (self.heads.len(), last.iter().map(usize::to_string).collect::<Vec<_>>().join(", "));
        let wanted = format!("query has {count} heads, so {argument} needs as many of shape ({last})");
        Err(Error::Shape { argument, found: found.to_vec(), wanted })
    }
}

fn matrices<'a, T>(array: &ArrayViewD<'a, T>) -> Result<Vec<ArrayView2<'a, T>>, Error> {
    parts::<T, Ix2>(array)
}
