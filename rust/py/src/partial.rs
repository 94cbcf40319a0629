//! Partial states: see attngrad_rs.partial.

use std::mem::take;

use attngrad::Float;
use attngrad::partial;
use numpy::{Element, IntoPyArray};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::call::Options;
use crate::errors::Result;
use crate::heads::{Read, Stack};
use crate::plan::{Request, Solution};
use crate::problem::{Arrays, Problem, inputs};

/// A gradient by token, if it was wanted.
type Rows<'py> = Option<Bound<'py, PyAny>>;

fn rows<'py, T: Element + Float>(py: Python<'py>, rows: Option<attngrad::ndarray::Array2<T>>) -> Rows<'py> {
    rows.map(|rows| rows.into_pyarray(py).into_any())
}

/// All that the shards of a problem have in common, but for the weights themselves.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Frame(partial::Frame);

#[pymethods]
impl Frame {
    /// From some rows of both sides.
    #[staticmethod]
    fn fit(py: Python<'_>, sample: &Problem, wrt: Vec<String>, degree: usize, options: &Options) -> Result<Self> {
        let wrt = inputs(&wrt)?;
        in_precision!(sample.is_single(py), T => {
            let arrays = Arrays::<T>::read(py, sample)?;
            let sample = arrays.problem(sample)?;
            Ok(Frame(py.detach(|| partial::Frame::fit(&sample, &wrt, degree, options.get()))?))
        })
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.to_bytes()?))
    }

    #[staticmethod]
    fn from_bytes(data: &[u8], options: &Options) -> Result<Self> {
        Ok(Frame(partial::Frame::from_bytes(data, options.get())?))
    }

    #[getter]
    fn degree(&self) -> usize {
        self.0.degree()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.0.precision()
    }

    #[getter]
    fn wrt(&self) -> Vec<&'static str> {
        self.0.wrt().iter().map(|wrt| wrt.name()).collect()
    }

    #[getter]
    fn predicted_error(&self) -> f64 {
        self.0.predicted_error()
    }

    /// The moments of the keys of a shard.
    fn keys(&self, py: Python<'_>, shard: &Problem, options: &Options) -> Result<KeyState> {
        in_precision!(shard.is_single(py), T => {
            let arrays = Arrays::<T>::read(py, shard)?;
            let shard = arrays.problem(shard)?;
            Ok(KeyState(options.run(py, |options, watch| partial::KeyState::of(&self.0, &shard, options, watch))?.0))
        })
    }

    /// The sums over the queries of a shard, and rows of dL/dA1.
    fn queries<'py>(
        &self,
        py: Python<'py>,
        keys: &KeyState,
        shard: &Problem,
        first: usize,
        options: &Options,
    ) -> Result<(QueryState, Rows<'py>)> {
        in_precision!(shard.is_single(py), T => {
            let arrays = Arrays::<T>::read(py, shard)?;
            let shard = arrays.problem(shard)?;
            let ((state, found), _) = options.run(py, |options, watch| {
                partial::QueryState::of(&self.0, &keys.0, &shard, first, options, watch)
            })?;
            Ok((QueryState(state), rows(py, found)))
        })
    }

    /// The sums over the keys of a shard, and rows of dL/dA2 and dL/dA3.
    fn gradients<'py>(
        &self,
        py: Python<'py>,
        queries: &QueryState,
        shard: &Problem,
        options: &Options,
    ) -> Result<(GradientState, Rows<'py>, Rows<'py>)> {
        in_precision!(shard.is_single(py), T => {
            let arrays = Arrays::<T>::read(py, shard)?;
            let shard = arrays.problem(shard)?;
            let ((state, [keys, values]), _) = options.run(py, |options, watch| {
                partial::GradientState::of(&self.0, &queries.0, &shard, options, watch)
            })?;
            Ok((GradientState(state), rows(py, keys), rows(py, values)))
        })
    }

    /// The loss, the gradients and their certificates; `problem` has no rows.
    fn gather(
        &self,
        py: Python<'_>,
        problem: &Problem,
        states: (PyRef<'_, KeyState>, PyRef<'_, QueryState>, PyRef<'_, GradientState>),
        request: &Request,
        options: &Options,
    ) -> Result<Solution> {
        in_precision!(problem.is_single(py), T => {
            let arrays = Arrays::<T>::read(py, problem)?;
            let problem = arrays.problem(problem)?;
            let states = (&states.0.0, &states.1.0, &states.2.0);
            let (mut found, _) = options.run(py, |options, watch| {
                partial::gather(&self.0, &problem, states, &request.0.options(*options), watch)
            })?;
            let mut gradients = Vec::with_capacity(found.gradients.len());
            for one in &mut found.gradients {
                gradients.push((one.wrt.name(), take(&mut one.value).into_pyarray(py).into_any().unbind()));
            }
            Solution::new(py, &request.0, found, gradients)
        })
    }
}

/// A state of the core, with what all states have.
macro_rules! state {
    ($(#[$doc:meta] $state:ident),*) => {$(
        #[$doc]
        #[pyclass(frozen, module = "attngrad_rs._core")]
        pub struct $state(partial::$state);

        #[pymethods]
        impl $state {
            #[staticmethod]
            fn empty(frame: &Frame) -> Result<Self> {
                Ok($state(partial::$state::empty(&frame.0)?))
            }

            #[staticmethod]
            fn size(frame: &Frame) -> Result<usize> {
                Ok(partial::$state::size(&frame.0)?)
            }

            #[staticmethod]
            fn from_bytes(frame: &Frame, data: &[u8]) -> Result<Self> {
                Ok($state(partial::$state::from_bytes(&frame.0, data)?))
            }

            fn to_bytes<'py>(&self, py: Python<'py>, frame: &Frame) -> Result<Bound<'py, PyBytes>> {
                Ok(PyBytes::new(py, &self.0.to_bytes(&frame.0)?))
            }

            /// Both together, the rows of `other` after these.
            fn merge(&self, other: &Self) -> Result<Self> {
                let mut merged = self.0.clone();
                merged.merge(&other.0)?;
                Ok($state(merged))
            }

            #[getter]
            fn rows(&self) -> usize {
                self.0.rows()
            }
        }
    )*};
}

state!(
    /// The moments of some keys.
    KeyState,
    /// The sums over some queries.
    QueryState,
    /// The sums over some keys for weights, once all queries are known.
    GradientState
);

/// A softmax over some keys.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct SoftmaxState(partial::SoftmaxState);

/// Contributions to dq, dk and dv, and the rounding estimate of each.
type Pulled<'py> = [(Bound<'py, PyAny>, f64); 3];

#[pymethods]
impl SoftmaxState {
    /// Of one head in a stack of one.
    #[staticmethod]
    fn of(py: Python<'_>, stack: &Stack, options: &Options) -> Result<Self> {
        in_precision!(stack.is_single, T => {
            let read = Read::<T>::new(py, stack)?;
            let heads = read.stack(stack, None)?;
            let found = options.run(py, |options, watch| partial::SoftmaxState::of(&heads.heads()[0], options, watch));
            Ok(SoftmaxState(found?.0))
        })
    }

    fn pull_back<'py>(&self, py: Python<'py>, stack: &Stack, options: &Options) -> Result<Pulled<'py>> {
        in_precision!(stack.is_single, T => {
            let read = Read::<T>::new(py, stack)?;
            let heads = read.stack(stack, None)?;
            let dout = read.incoming(&heads)?.dout;
            let (found, _) = options.run(py, |options, watch| {
                self.0.pull_back(&heads.heads()[0], dout[0].reborrow(), options, watch)
            })?;
            Ok([found.query, found.key, found.value].map(|(value, rounding)| (value.into_pyarray(py).into_any(), rounding)))
        })
    }

    fn merge(&self, other: &Self) -> Result<Self> {
        let mut merged = self.0.clone();
        merged.merge(&other.0)?;
        Ok(SoftmaxState(merged))
    }

    fn output<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        in_precision!(self.0.precision() == f32::NAME, T => Ok(self.0.output::<T>()?.into_pyarray(py).into_any()))
    }

    fn lse<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyAny>> {
        Ok(self.0.lse()?.into_pyarray(py).into_any())
    }

    #[getter]
    fn rows(&self) -> usize {
        self.0.rows()
    }

    #[getter]
    fn keys(&self) -> usize {
        self.0.keys()
    }

    #[staticmethod]
    fn size(rows: usize, width: usize) -> usize {
        partial::SoftmaxState::size(rows, width)
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.to_bytes()?))
    }

    #[staticmethod]
    fn from_bytes(data: &[u8]) -> Result<Self> {
        Ok(SoftmaxState(partial::SoftmaxState::from_bytes(data)?))
    }
}
