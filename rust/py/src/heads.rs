//! Heads of attention: see attngrad_rs.attention.

use attngrad::exact::{self, Incoming};
use attngrad::{Float, plan};
use numpy::{Element, IntoPyArray, PyArrayDyn, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::call::{Options, read};
use crate::errors::{Failure, Result};
use crate::plan::{Decision, Request, Solution};

/// Heads in arrays of any leading dimensions and strides, read where they are; what comes with them for a
/// vector-Jacobian product.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Stack {
    query: Py<PyAny>,
    key: Py<PyAny>,
    value: Py<PyAny>,
    dout: Option<Py<PyAny>>,
    /// The results of the forward pass.
    saved: Option<(Py<PyAny>, Py<PyAny>)>,
    /// The usual scale where it is None.
    scale: Option<f64>,
    is_causal: bool,
    enable_gqa: bool,
    /// Whether inputs that are not finite are refused.
    check_finite: bool,
}

#[pymethods]
impl Stack {
    #[new]
    #[pyo3(signature = (*, query, key, value, dout=None, output=None, lse=None, scale, is_causal, enable_gqa, check_finite))]
    fn new(
        query: Py<PyAny>,
        key: Py<PyAny>,
        value: Py<PyAny>,
        dout: Option<Py<PyAny>>,
        output: Option<Py<PyAny>>,
        lse: Option<Py<PyAny>>,
        scale: Option<f64>,
        is_causal: bool,
        enable_gqa: bool,
        check_finite: bool,
    ) -> Self {
        Stack { query, key, value, dout, saved: output.zip(lse), scale, is_causal, enable_gqa, check_finite }
    }
}

impl Stack {
    fn is_single(&self, py: Python<'_>) -> bool {
        self.query.bind(py).cast::<PyArrayDyn<f32>>().is_ok()
    }
}

/// The arrays of heads while the core reads them.
struct Read<'py, T: Element> {
    heads: [PyReadonlyArrayDyn<'py, T>; 3],
    dout: Option<PyReadonlyArrayDyn<'py, T>>,
    saved: Option<[PyReadonlyArrayDyn<'py, T>; 2]>,
}

impl<'py, T: Element + Float> Read<'py, T> {
    fn new(py: Python<'py>, given: &Stack) -> Result<Self> {
        let read = |array: &Py<PyAny>| read::<T, _>(array.bind(py));
        Ok(Read {
            heads: [read(&given.query)?, read(&given.key)?, read(&given.value)?],
            dout: given.dout.as_ref().map(read).transpose()?,
            saved: match &given.saved {
                Some((output, lse)) => Some([read(output)?, read(lse)?]),
                None => None,
            },
        })
    }

    fn stack(&self, given: &Stack) -> Result<attngrad::Stack<'_, T>> {
        let [query, key, value] = self.heads.each_ref().map(|array| array.as_array());
        let stack = attngrad::Stack::new(&query, &key, &value, given.enable_gqa)?.with_causal(given.is_causal);
        Ok(match given.scale {
            Some(scale) => stack.with_scale(scale),
            None => stack,
        })
    }

    fn incoming<'a>(&'a self, stack: &attngrad::Stack<'a, T>) -> Result<Incoming<'a, T>> {
        let dout = self.dout.as_ref().ok_or_else(|| Failure::internal("no gradient of the output came through"))?;
        let saved = self.saved.as_ref().map(|[output, lse]| stack.saved(&output.as_array(), &lse.as_array()));
        Ok(Incoming { dout: stack.outputs("dout", &dout.as_array())?, saved: saved.transpose()? })
    }
}

/// The output of all heads, rows of one head after those of the one before, and the logarithm of the normaliser of
/// each row.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
pub struct Attended {
    output: Py<PyAny>,
    lse: Option<Py<PyAny>>,
}

/// The output of all heads.
#[pyfunction]
pub fn attention(py: Python<'_>, stack: &Stack, return_lse: bool, options: &Options) -> Result<Attended> {
    in_precision!(stack.is_single(py), T => attended::<T>(py, stack, return_lse, options))
}

fn attended<T: Element + Float>(py: Python<'_>, given: &Stack, has_lse: bool, options: &Options) -> Result<Attended> {
    let read = Read::<T>::new(py, given)?;
    let stack = read.stack(given)?;
    let asked = (has_lse, given.check_finite);
    let (found, _) = options.run(py, |options, watch| exact::attention_stack(&stack, asked, options, watch))?;
    let array = |array: attngrad::ndarray::Array2<T>| array.into_pyarray(py).into_any().unbind();
    Ok(Attended { output: array(found.output), lse: found.lse.map(array) })
}

/// The decision for all heads, before anything is run.
#[pyfunction]
pub fn decide_heads(py: Python<'_>, stack: &Stack, request: &Request) -> Result<Decision> {
    in_precision!(stack.is_single(py), T => decided::<T>(py, stack, &request.0))
}

fn decided<T: Element + Float>(py: Python<'_>, given: &Stack, request: &plan::Request) -> Result<Decision> {
    let read = Read::<T>::new(py, given)?;
    let stack = read.stack(given)?;
    let incoming = read.incoming(&stack)?;
    let heads: Vec<plan::Pulled<'_, T>> = stack.heads().iter().copied().zip(incoming.dout).collect();
    Ok(py.detach(|| plan::decide_heads(&heads, request))?.into())
}

/// dq, dk and dv of all heads, by a decision: rows of one head after those of the one before.
#[pyfunction]
pub fn solve_heads(
    py: Python<'_>,
    stack: &Stack,
    request: &Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    in_precision!(stack.is_single(py), T => solved::<T>(py, stack, &request.0, decision, options))
}

fn solved<T: Element + Float>(
    py: Python<'_>,
    given: &Stack,
    request: &plan::Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    let read = Read::<T>::new(py, given)?;
    let stack = read.stack(given)?;
    let (incoming, decision) = (read.incoming(&stack)?, plan::Decision::from(decision));
    let (found, _) = options.run(py, |options, watch| {
        plan::solve_stack(&stack, &incoming, decision, (&request.options(*options), given.check_finite), watch)
    })?;
    Solution::new(py, request, found)
}
