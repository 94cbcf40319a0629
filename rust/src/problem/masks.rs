//! The masks of a stack of heads as they are asked for, and what is refused.

use ndarray::ArrayD;

use super::mask::{Align, Mask};
use crate::error::Error;
use crate::runtime::buffer;

/// Masks of a stack of heads; all that are given hold at once. A query that sees nothing has an output of zeros, and
/// gradients of zeros.
///
/// ```
/// use attngrad::{Masks, Stack, exact};
/// use ndarray::Array2;
///
/// let x = Array2::from_shape_fn((6, 2), |(j, i)| (2 * j + i) as f64).into_dyn();
/// // A query of each of two sequences sees its own token and the one before.
/// let masks = Masks::new().causal(true).window([Some(1), None]).sequences(&[0, 2, 6], &[0, 2, 6])?;
/// let stack = Stack::new(&x.view(), &x.view(), &x.view(), false)?.with_masks(&masks, None)?;
/// let found = exact::attention_stack(&stack, (true, true), &Default::default(), None)?;
/// assert_eq!(found.output.row(2), ndarray::array![4.0, 5.0]);
/// # Ok::<(), attngrad::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Masks {
    is_causal: bool,
    align: Align,
    window: [Option<usize>; 2],
    key_lengths: Option<ArrayD<i64>>,
    sequences: Option<[Vec<usize>; 2]>,
}

impl Masks {
    /// Every query sees every key.
    #[must_use]
    pub fn new() -> Self {
        Masks::default()
    }

    /// Queries see the key on the diagonal and those before it.
    #[must_use]
    pub fn causal(self, is_causal: bool) -> Self {
        Masks { is_causal, ..self }
    }

    /// The place of the diagonal: of the whole head, of the keys that there are, or of each sequence.
    #[must_use]
    pub fn align(self, align: Align) -> Self {
        Masks { align, ..self }
    }

    /// Queries see the key on the diagonal and so many before and after it; all of them where there is no number.
    #[must_use]
    pub fn window(self, window: [Option<usize>; 2]) -> Self {
        Masks { window, ..self }
    }

    /// Numbers of keys that there are, of any shape that broadcasts to the leading dimensions of the query but the last
    /// one, which counts the heads of a batch: the others hold nothing.
    #[must_use]
    pub fn key_lengths(self, lengths: ArrayD<i64>) -> Self {
        Masks { key_lengths: Some(lengths), ..self }
    }

    /// Sequences packed one after the other: where those of queries, and those of keys, begin, and where the last one
    /// ends. Queries see keys of their own sequence.
    ///
    /// # Errors
    /// [`Error::Option`] for numbers that do not ascend from 0, or are not as many for keys as for queries.
    pub fn sequences(self, queries: &[i64], keys: &[i64]) -> Result<Self, Error> {
        let refused =
            |found: String, wanted: &str| Err(Error::Option { option: "cu_seqlens", found, wanted: wanted.into() });
        for ends in [queries, keys] {
            if ends.first() != Some(&0) {
                let found = ends.first().map_or_else(|| "no number".into(), i64::to_string);
                return refused(found, "sums of lengths from 0 on: 0, the first length, ...");
            }
            if let Some(pair) = ends.windows(2).find(|pair| pair[1] < pair[0]) {
                return refused(format!("{} after {}", pair[1], pair[0]), "sums of lengths, which do not descend");
            }
        }
        if queries.len() != keys.len() {
            let found = format!("{} sequences of queries and {} of keys", queries.len() - 1, keys.len() - 1);
            return refused(found, "as many of both");
        }
        if self.key_lengths.is_some() {
            return refused("key_lengths beside it".into(), "one of both: the sequences have lengths of their own");
        }
        // None is below zero.
        let sums = |ends: &[i64]| buffer::collected(ends.iter().map(|&end| end as usize));
        Ok(Masks { sequences: Some([sums(queries)?, sums(keys)?]), ..self })
    }

    /// Refuses a causal mask beside one with an entry for each pair.
    pub(super) fn check_beside_entries(&self) -> Result<(), Error> {
        if !self.is_causal {
            return Ok(());
        }
        let wanted = "one of both: a mask hides what it is told to, and a window of (-1, 0) is causal".into();
        Err(Error::Option { option: "is_causal", found: "True beside attn_mask".into(), wanted })
    }

    /// The mask of each head of `leading` dimensions, of `n` queries and `m` keys.
    pub(super) fn of_heads<'a>(&'a self, leading: &[usize], [n, m]: [usize; 2]) -> Result<Vec<Mask<'a>>, Error> {
        let count: usize = leading.iter().product();
        let [before, after] = self.window;
        let after = if self.is_causal { Some(0) } else { after };
        let sequences = self.sequences.as_ref().map(|[queries, keys]| [&queries[..], &keys[..]]);
        if let Some([queries, keys]) = sequences {
            for (ends, rows, of) in [(queries, n, "query"), (keys, m, "key")] {
                let end = ends.last().copied().unwrap_or_default();
                if end != rows {
                    let wanted = format!("{rows}, the number of rows of {of}");
                    return Err(Error::Option { option: "cu_seqlens", found: format!("an end of {end}"), wanted });
                }
            }
        }
        let one = Mask { window: [before, after], align: self.align, keys: None, sequences };
        let mut masks = buffer::filled(count, one)?;
        if let Some(lengths) = &self.key_lengths {
            let batch = &leading[..leading.len().saturating_sub(1)];
            let Some(lengths) = lengths.broadcast(batch) else {
                let wanted = format!("one number for all heads of each batch, so of shape {batch:?}");
                return Err(Error::Shape { argument: "key_lengths", found: lengths.shape().to_vec(), wanted });
            };
            let heads = leading.last().copied().unwrap_or(1).max(1);
            for (masks, &length) in masks.chunks_mut(heads).zip(lengths) {
                let known = usize::try_from(length).ok().filter(|&length| length <= m);
                let Some(length) = known else {
                    let wanted = format!("from 0 to {m}, the number of keys");
                    return Err(Error::Option { option: "key_lengths", found: length.to_string(), wanted });
                };
                masks.iter_mut().for_each(|mask| mask.keys = Some(length));
            }
        }
        Ok(masks)
    }
}
