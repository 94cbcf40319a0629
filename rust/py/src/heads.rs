//! Heads of attention: see attngrad_rs.attention.

use attngrad::exact::{self, Incoming};
use attngrad::ndarray::ArrayView2;
use attngrad::{AttnMask, Float, Half, Saved, StackSizes, plan};
use numpy::prelude::*;
use numpy::{Element, PyArrayDyn, PyReadonlyArrayDyn, PyUntypedArray};
use pyo3::{prelude::*, types::PyDict};

use crate::call::{Options, read};
use crate::errors::{Failure, Result};
use crate::halves::{gradients, rounded, shaped};
use crate::masks::{Masks, ReadMask};
use crate::plan::{Certificate, Decision, Request, Solution};

/// Arrays of heads: inputs, the gradient of the output, and the results of the forward pass.
const NAMES: [&str; 6] = ["query", "key", "value", "dout", "output", "lse"];

/// Heads in arrays of any leading dimensions and strides, read where they are, and what comes with them for a
/// vector-Jacobian product.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Stack {
    arrays: [Option<Py<PyUntypedArray>>; NAMES.len()],
    sizes: StackSizes,
    pub is_single: bool,
    /// The usual scale where it is None.
    scale: Option<f64>,
    is_causal: bool,
    /// Other masks, with the causal one.
    masks: Option<Py<Masks>>,
    enable_gqa: bool,
    /// Whether inputs that are not finite are refused.
    pub check_finite: bool,
    /// Results but the logarithms are rounded to it, if it is given.
    pub half: Option<Half>,
}

#[pymethods]
impl Stack {
    /// Of arrays by their names, whose shapes are held against each other; one that is not aligned or not of native
    /// byte order is copied.
    #[new]
    #[pyo3(signature = (arrays, *, scale, is_causal, masks, enable_gqa, check_finite, half=None))]
    fn new(
        arrays: &Bound<'_, PyDict>,
        scale: Option<f64>,
        is_causal: bool,
        masks: Option<Py<Masks>>,
        enable_gqa: bool,
        check_finite: bool,
        half: Option<&str>,
    ) -> Result<Self> {
        let half = half.map(str::parse).transpose()?;
        let found = NAMES.map(|name| arrays.get_item(name).ok()??.cast_into::<PyUntypedArray>().ok());
        let sizes = StackSizes::of_arrays(enable_gqa, |name| {
            let place = NAMES.iter().position(|&one| one == name)?;
            Some(found[place].as_ref()?.shape())
        })?;
        let is_single = found[0].as_ref().is_some_and(|query| query.dtype().itemsize() == size_of::<f32>());
        let mut arrays = [const { None }; NAMES.len()];
        for (array, kept) in found.into_iter().zip(&mut arrays) {
            *kept = array.map(|array| in_precision!(is_single, T => in_place::<T>(array))).transpose()?;
        }
        Ok(Stack { arrays, sizes, is_single, scale, is_causal, masks, enable_gqa, check_finite, half })
    }

    /// The decision that needs no look at the arrays. Refuses a request that no data could meet in their precision.
    fn settled(&self, request: &Request) -> Result<Option<Decision>> {
        let (has_mask, has_saved) = (self.masks.is_some(), self.arrays[4].is_some());
        let beside = plan::Beside { is_causal: self.is_causal, has_mask, has_saved };
        in_precision!(self.is_single, T => {
            request.0.check_in::<T>()?;
            Ok(plan::settled_heads::<T>(&self.sizes, beside, &request.0).map(Decision::from))
        })
    }

    /// Seconds that a decision is expected to take for all heads, and bytes at the peak.
    fn forecast(&self, decision: &Decision, options: &Options) -> Result<(f64, u128)> {
        let found = in_precision!(self.is_single, T => {
            plan::forecast_heads::<T>(&self.sizes, self.is_causal, &decision.into(), options.get())
        })?;
        Ok((found.seconds, found.peak_bytes))
    }

    /// Bytes at the peak of the forward pass.
    fn forward_bytes(&self, options: &Options) -> u128 {
        in_precision!(self.is_single, T => plan::forward_bytes::<T>(&self.sizes, options.get()))
    }

    /// Bytes at the peak of second derivatives.
    fn second_bytes(&self, options: &Options) -> u128 {
        in_precision!(self.is_single, T => plan::second_bytes::<T>(&self.sizes, options.get()))
    }
}

/// The array, or a copy that can be read as one of T.
pub fn in_place<T: Element>(array: Bound<'_, PyUntypedArray>) -> Result<Py<PyUntypedArray>> {
    let is_readable = array.cast::<PyArrayDyn<T>>().is_ok_and(|array| {
        let strides = array.strides().iter().map(|stride| stride.unsigned_abs());
        strides.chain([array.data().addr()]).all(|bytes| bytes % align_of::<T>() == 0)
    });
    if is_readable {
        return Ok(array.unbind());
    }
    let copy = array.call_method1("astype", (T::get_dtype(array.py()),))?;
    Ok(copy.cast_into::<PyUntypedArray>().map_err(PyErr::from)?.unbind())
}

/// The arrays of heads while the core reads them.
pub struct Read<'py, T: Element> {
    arrays: [Option<PyReadonlyArrayDyn<'py, T>>; NAMES.len()],
    mask: Option<ReadMask<'py, T>>,
}

impl<'py, T: Element + Float> Read<'py, T> {
    /// Those of a stack.
    pub fn new(py: Python<'py>, given: &Stack) -> Result<Self> {
        let mut arrays = [const { None }; NAMES.len()];
        for (array, kept) in given.arrays.iter().zip(&mut arrays) {
            *kept = array.as_ref().map(|array| read(array.bind(py).as_any())).transpose()?;
        }
        Ok(Read { arrays, mask: ReadMask::of(py, given.masks.as_ref().map(Py::get))? })
    }

    /// The array in a place of the names.
    pub fn at(&self, place: usize) -> Result<&PyReadonlyArrayDyn<'py, T>> {
        self.arrays[place].as_ref().ok_or_else(|| Failure::internal("an input did not come through"))
    }

    /// The entries of a mask for each pair, if there are some.
    pub fn mask(&self) -> Option<AttnMask<'_, T>> {
        self.mask.as_ref().map(ReadMask::mask)
    }

    /// The heads, with the entries of their mask.
    pub fn stack<'a>(&'a self, given: &'a Stack, mask: Option<&'a AttnMask<'a, T>>) -> Result<attngrad::Stack<'a, T>> {
        let [query, key, value] = [self.at(0)?.as_array(), self.at(1)?.as_array(), self.at(2)?.as_array()];
        let stack = attngrad::Stack::new(&query, &key, &value, given.enable_gqa)?;
        let stack = match &given.masks {
            Some(masks) => stack.with_masks(&masks.get().masks, mask)?,
            None => stack.with_causal(given.is_causal),
        };
        Ok(match given.scale {
            Some(scale) => stack.with_scale(scale),
            None => stack,
        })
    }

    /// The results of the forward pass, if they are given.
    pub fn saved<'a>(&'a self, stack: &attngrad::Stack<'a, T>) -> Result<Option<Saved<'a, T>>> {
        let [.., Some(output), Some(lse)] = &self.arrays else { return Ok(None) };
        Ok(Some(stack.saved(&output.as_array(), &lse.as_array())?))
    }

    /// The gradient of the output of each head, if it is given.
    pub fn dout<'a>(&'a self, stack: &attngrad::Stack<'a, T>, name: &'static str) -> Result<Option<Outputs<'a, T>>> {
        let Some(dout) = &self.arrays[3] else { return Ok(None) };
        Ok(Some(stack.outputs(name, &dout.as_array())?))
    }

    /// All that comes with the heads for a vector-Jacobian product.
    pub fn incoming<'a>(&'a self, stack: &attngrad::Stack<'a, T>) -> Result<Incoming<'a, T>> {
        let dout = self.dout(stack, NAMES[3])?;
        let dout = dout.ok_or_else(|| Failure::internal("no gradient of the output came through"))?;
        Ok(Incoming { dout, saved: self.saved(stack)? })
    }

    /// The shape of the output.
    pub fn output_shape(&self, given: &Stack) -> Result<Vec<usize>> {
        let query = self.at(0)?.shape();
        Ok([&query[..query.len() - 1], &[given.sizes.head.dv]].concat())
    }
}

/// One matrix for each head.
type Outputs<'a, T> = Vec<ArrayView2<'a, T>>;

/// The output of all heads, the logarithm of the normaliser of each row where it is asked for, and for a request the
/// certificate, the decision, and the seconds and bytes that were expected.
#[pyfunction]
pub fn attention(
    py: Python<'_>,
    stack: &Stack,
    return_lse: bool,
    request: Option<&Request>,
    options: &Options,
) -> Result<Attended> {
    in_precision!(stack.is_single, T => {
        let read = Read::<T>::new(py, stack)?;
        let mask = read.mask();
        let (heads, asked) = (read.stack(stack, mask.as_ref())?, (return_lse, stack.check_finite));
        let ((output, lse, found), _) = options.run(py, |options, watch| {
            let Some(Request(request)) = request else {
                let found = exact::attention_stack(&heads, asked, options, watch)?;
                return Ok((found.output, found.lse, None));
            };
            let found = plan::certified_attention(&heads, asked, &request.options(*options), watch)?;
            Ok((found.output, found.lse, Some((found.certificate, found.decision, found.forecast, request))))
        })?;
        let shape = read.output_shape(stack)?;
        let lse = lse.map(|lse| shaped(py, lse, &shape[..shape.len() - 1])).transpose()?;
        let half = (stack.half, "the output");
        let Some((mut certificate, decision, expected, request)) = found else {
            return Ok((rounded(py, output, &shape, half, options, None)?, lse, None));
        };
        let certified = Some((&mut certificate, request));
        let output = rounded(py, output, &shape, half, options, certified)?;
        let made = Certificate::new(py, &certificate, request, decision.method.name(), request.norm.name(), None)?;
        Ok((output, lse, Some((made, decision.into(), expected.seconds, expected.peak_bytes))))
    })
}

/// Output, logarithms, and what is certified.
type Attended = (Py<PyAny>, Option<Py<PyAny>>, Option<Certified>);

/// A certificate, the decision behind it, seconds and bytes.
type Certified = (Certificate, Decision, f64, u128);

/// The decision for all heads, before anything is run.
#[pyfunction]
pub fn decide_heads(py: Python<'_>, stack: &Stack, request: &Request) -> Result<Decision> {
    in_precision!(stack.is_single, T => {
        let read = Read::<T>::new(py, stack)?;
        let mask = read.mask();
        let heads = read.stack(stack, mask.as_ref())?;
        let incoming = read.incoming(&heads)?;
        let heads: Vec<plan::Pulled<'_, T>> = heads.heads().iter().copied().zip(incoming.dout).collect();
        Ok(py.detach(|| plan::decide_heads(&heads, &request.0))?.into())
    })
}

/// dq, dk and dv of all heads, by a decision.
#[pyfunction]
pub fn solve_heads(
    py: Python<'_>,
    stack: &Stack,
    request: &Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    in_precision!(stack.is_single, T => {
        let read = Read::<T>::new(py, stack)?;
        let mask = read.mask();
        let heads = read.stack(stack, mask.as_ref())?;
        let (incoming, decision) = (read.incoming(&heads)?, plan::Decision::from(decision));
        let (mut found, _) = options.run(py, |options, watch| {
            let asked = (&request.0.options(*options), stack.check_finite);
            plan::solve_stack(&heads, &incoming, decision, asked, watch)
        })?;
        let shapes = [read.at(0)?.shape(), read.at(1)?.shape(), read.at(2)?.shape()];
        let named = [0, 1, 2].map(|place| (NAMES[place], shapes[place]));
        let gradients = gradients(py, &mut found, &named, stack.half, &request.0.options(*options.get()))?;
        Solution::new(py, &request.0, found, gradients)
    })
}
