//! The paper's low-rank factors: see attngrad_rs.factors.

use attngrad::Float;
use numpy::{Element, IntoPyArray, PyArray1, ToPyArray};
use pyo3::prelude::*;

use crate::call::{self, Options, is_single};
use crate::errors::Result;
use crate::features::FeatureRequest;
use crate::polynomial::Polynomial;
use crate::problem::{Arrays, Problem, inputs};

/// The factors of one problem, of its precision.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Factors(Either);

enum Either {
    Single(attngrad::Factors<f32>),
    Double(attngrad::Factors<f64>),
}

/// The same for the factors of either precision.
macro_rules! each {
    ($self:ident, $factors:ident => $body:expr) => {
        match &$self.0 {
            Either::Single($factors) => $body,
            Either::Double($factors) => $body,
        }
    };
}

#[pymethods]
impl Factors {
    /// One of U1, V1, …, U4, V4.
    fn factor<'py>(&self, py: Python<'py>, name: &str, options: &Options) -> Result<Bound<'py, PyAny>> {
        each!(self, factors => made(py, factors, name, options))
    }

    fn gradient<'py>(&self, py: Python<'py>, wrt: String, options: &Options) -> Result<Bound<'py, PyAny>> {
        let wrt = inputs(&[wrt])?[0];
        each!(self, factors => {
            let (found, _) = options.run(py, |options, watch| factors.gradient(wrt, options, watch))?;
            Ok(found.into_pyarray(py).into_any())
        })
    }

    #[getter]
    fn ranks(&self) -> [usize; 4] {
        each!(self, factors => factors.ranks())
    }

    #[getter]
    fn loss(&self) -> f64 {
        each!(self, factors => factors.loss())
    }

    #[getter]
    fn error(&self) -> f64 {
        each!(self, factors => factors.error())
    }

    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        each!(self, factors => factors.mean().to_pyarray(py))
    }

    #[getter]
    fn polynomial(&self) -> Polynomial {
        Polynomial(each!(self, factors => factors.polynomial().clone()))
    }

    #[getter]
    fn scale(&self) -> f64 {
        each!(self, factors => factors.scale())
    }
}

fn made<'py, T: Element + Float>(
    py: Python<'py>,
    factors: &attngrad::Factors<T>,
    name: &str,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let view = match name {
        "U1" => factors.U1(),
        "V1" => factors.V1(),
        "U2" => factors.U2(),
        "V2" => factors.V2(),
        "V4" => factors.V4(),
        _ => {
            let (found, _) = options.run(py, |options, watch| match name {
                "U3" => factors.U3(options, watch),
                "V3" => factors.V3(options, watch),
                "U4" => factors.U4(options, watch),
                _ => Err(attngrad::Error::Internal("a factor of an unknown name came through".into())),
            })?;
            return Ok(found.into_pyarray(py).into_any());
        }
    };
    Ok(view.to_pyarray(py).into_any())
}

/// See attngrad_rs.factors.
#[pyfunction]
pub fn factors(py: Python<'_>, problem: &Problem, request: &FeatureRequest, options: &Options) -> Result<Factors> {
    Ok(Factors(if problem.is_single(py) {
        Either::Single(computed(py, problem, request, options)?)
    } else {
        Either::Double(computed(py, problem, request, options)?)
    }))
}

fn computed<T: Element + Float>(
    py: Python<'_>,
    given: &Problem,
    request: &FeatureRequest,
    options: &Options,
) -> Result<attngrad::Factors<T>> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    Ok(options.run(py, |options, watch| attngrad::factors(&problem, &request.0, options, watch))?.0)
}

/// Bytes that the factors of a degree take.
#[pyfunction]
pub fn factors_bytes(py: Python<'_>, problem: &Problem, degree: usize) -> Result<u128> {
    in_precision!(problem.is_single(py), T => taken::<T>(py, problem, degree))
}

fn taken<T: Element + Float>(py: Python<'_>, given: &Problem, degree: usize) -> Result<u128> {
    Ok(attngrad::factors_bytes(&Arrays::<T>::read(py, given)?.problem(given)?, degree))
}

/// Row j is U_j ⊗ W_j.
#[pyfunction]
pub fn row_kronecker<'py>(
    py: Python<'py>,
    U: &Bound<'py, PyAny>,
    W: &Bound<'py, PyAny>,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    in_precision!(is_single(U), T => multiplied::<T>(py, U, W, options))
}

fn multiplied<'py, T: Element + Float>(
    py: Python<'py>,
    U: &Bound<'py, PyAny>,
    W: &Bound<'py, PyAny>,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let (U, W) = (call::read::<T, _>(U)?, call::read::<T, _>(W)?);
    let (U, W) = (U.as_array(), W.as_array());
    let (product, _) = options.run(py, |options, watch| attngrad::row_kronecker(U, W, options, watch))?;
    Ok(product.into_pyarray(py).into_any())
}
