//! Masks of heads of attention: see attngrad_rs.attention.

use attngrad::{Align, AttnMask, Float, Half};
use numpy::prelude::*;
use numpy::{Element, PyReadonlyArrayDyn, PyUntypedArray};
use pyo3::prelude::*;

use crate::call::read;
use crate::errors::Result;

/// Masks of heads of attention; all that are given hold at once.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Masks {
    pub masks: attngrad::Masks,
    /// Of bytes, which are not zero for keys that are seen, of the type of the heads, or of bits of half precision.
    attn_mask: Option<Py<PyUntypedArray>>,
    /// The format that the bits of the mask are in.
    half: Option<Half>,
}

#[pymethods]
impl Masks {
    #[new]
    #[pyo3(signature = (*, is_causal, is_bottom_right, window, key_lengths, cu_seqlens, attn_mask, half=None))]
    fn new(
        is_causal: bool,
        is_bottom_right: bool,
        window: [Option<usize>; 2],
        key_lengths: Option<PyReadonlyArrayDyn<'_, i64>>,
        cu_seqlens: Option<[Vec<i64>; 2]>,
        attn_mask: Option<Py<PyUntypedArray>>,
        half: Option<&str>,
    ) -> Result<Self> {
        let align = if is_bottom_right { Align::BottomRight } else { Align::TopLeft };
        let mut masks = attngrad::Masks::new().causal(is_causal).align(align).window(window);
        if let Some(lengths) = key_lengths {
            masks = masks.key_lengths(lengths.as_array().to_owned());
        }
        if let Some([queries, keys]) = cu_seqlens {
            masks = masks.sequences(&queries, &keys)?;
        }
        Ok(Masks { masks, attn_mask, half: half.map(str::parse).transpose()? })
    }
}

/// A mask with an entry for each pair while the core reads it.
pub enum ReadMask<'py, T: Element> {
    Seen(PyReadonlyArrayDyn<'py, u8>),
    Added(PyReadonlyArrayDyn<'py, T>),
    Halves(Half, PyReadonlyArrayDyn<'py, u16>),
}

impl<'py, T: Element + Float> ReadMask<'py, T> {
    /// That of some masks, if they have one.
    pub fn of(py: Python<'py>, masks: Option<&Masks>) -> Result<Option<Self>> {
        let Some((masks, mask)) = masks.and_then(|masks| Some((masks, masks.attn_mask.as_ref()?))) else {
            return Ok(None);
        };
        let mask = mask.bind(py);
        let is_seen = mask.dtype().itemsize() == size_of::<u8>();
        Ok(Some(match masks.half {
            _ if is_seen => ReadMask::Seen(read(mask.as_any())?),
            Some(half) => ReadMask::Halves(half, read(mask.as_any())?),
            None => ReadMask::Added(read(mask.as_any())?),
        }))
    }

    /// The mask of the core.
    pub fn mask(&self) -> AttnMask<'_, T> {
        match self {
            ReadMask::Seen(mask) => AttnMask::Seen(mask.as_array()),
            ReadMask::Added(mask) => AttnMask::Added(mask.as_array()),
            ReadMask::Halves(half, mask) => AttnMask::Halves(*half, mask.as_array()),
        }
    }
}
