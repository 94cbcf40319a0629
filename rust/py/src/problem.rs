//! The arrays of a problem, and what the core makes of them.

use attngrad::{Float, Weights, Wrt};
use numpy::Element;
use pyo3::prelude::*;

use crate::call::{self, Matrix};
use crate::errors::{Failure, Result};

/// A problem: private snapshots of its arrays, the scale, and whether it is causal.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Problem {
    a: [Py<PyAny>; 3],
    x: Option<Py<PyAny>>,
    pair: Option<(Py<PyAny>, Py<PyAny>)>,
    y: Py<PyAny>,
    /// E, or dout where that is given.
    target: Py<PyAny>,
    is_target: bool,
    /// The usual scale where it is None.
    scale: Option<f64>,
    is_causal: bool,
}

#[pymethods]
impl Problem {
    #[new]
    #[pyo3(signature = (*, A1, A2, A3, Y, X=None, W_Q=None, W_K=None, E=None, dout=None, scale, is_causal))]
    fn new(
        A1: Py<PyAny>,
        A2: Py<PyAny>,
        A3: Py<PyAny>,
        Y: Py<PyAny>,
        X: Option<Py<PyAny>>,
        W_Q: Option<Py<PyAny>>,
        W_K: Option<Py<PyAny>>,
        E: Option<Py<PyAny>>,
        dout: Option<Py<PyAny>>,
        scale: Option<f64>,
        is_causal: bool,
    ) -> Result<Self> {
        let is_target = E.is_some();
        let target = E.or(dout).ok_or_else(|| Failure::internal("neither E nor dout was given"))?;
        Ok(Problem { a: [A1, A2, A3], x: X, pair: W_Q.zip(W_K), y: Y, target, is_target, scale, is_causal })
    }
}

impl Problem {
    /// Whether its arrays are of single precision.
    pub fn is_single(&self, py: Python<'_>) -> bool {
        call::is_single(self.a[0].bind(py))
    }
}

/// The arrays of a problem while the core reads them; their names are those of attngrad::Problem.
pub struct Arrays<'py, T: Element> {
    a: [Matrix<'py, T>; 3],
    x: Option<Matrix<'py, T>>,
    pair: Option<(Matrix<'py, T>, Matrix<'py, T>)>,
    y: Matrix<'py, T>,
    target: Matrix<'py, T>,
}

impl<'py, T: Element + Float> Arrays<'py, T> {
    pub fn read(py: Python<'py>, given: &Problem) -> Result<Self> {
        let read = |array: &Py<PyAny>| call::read::<T, _>(array.bind(py));
        let [a1, a2, a3] = &given.a;
        Ok(Arrays {
            a: [read(a1)?, read(a2)?, read(a3)?],
            x: given.x.as_ref().map(read).transpose()?,
            pair: match &given.pair {
                Some((w_q, w_k)) => Some((read(w_q)?, read(w_k)?)),
                None => None,
            },
            y: read(&given.y)?,
            target: read(&given.target)?,
        })
    }

    pub fn problem(&self, given: &Problem) -> Result<attngrad::Problem<'_, T>> {
        let [a1, a2, a3] = &self.a;
        let weights = match (&self.x, &self.pair) {
            (_, Some((w_q, w_k))) => Weights::Pair(w_q.as_array(), w_k.as_array()),
            (Some(x), None) => Weights::Product(x.as_array()),
            (None, None) => return Err(Failure::internal("neither X nor a pair was given")),
        };
        let (y, target) = (self.y.as_array(), self.target.as_array());
        let problem = attngrad::Problem::new(a1.as_array(), a2.as_array(), a3.as_array(), weights, y, target)?;
        let problem = if given.is_target { problem } else { problem.with_incoming() };
        let problem = given.scale.map_or(problem, |scale| problem.with_scale(scale));
        Ok(problem.with_causal(given.is_causal))
    }
}

/// Inputs by their names.
pub fn inputs(names: &[String]) -> Result<Vec<Wrt>> {
    Ok(names.iter().map(|name| name.parse()).collect::<std::result::Result<_, _>>()?)
}
