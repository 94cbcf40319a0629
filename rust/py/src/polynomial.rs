//! Polynomials for exp: see attngrad_rs.polynomials.

use attngrad::polynomial::{self, Interval};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;

use crate::errors::{Failure, Result};

type Vector<'py> = Bound<'py, PyArray1<f64>>;

fn slice<'a>(array: &'a PyReadonlyArray1<'_, f64>) -> Result<&'a [f64]> {
    array.as_slice().map_err(|_| Failure::internal("a snapshot is not contiguous"))
}

/// A polynomial, which its coefficients in the Chebyshev basis of an interval define.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Polynomial(pub polynomial::Polynomial);

#[pymethods]
impl Polynomial {
    #[new]
    fn new(interval: (f64, f64), chebyshev: PyReadonlyArray1<'_, f64>) -> Result<Self> {
        let interval = Interval::new(interval.0, interval.1)?;
        Ok(Polynomial(polynomial::Polynomial::from_chebyshev(interval, slice(&chebyshev)?.to_vec())?))
    }

    /// That of a kind for exp; samples and their weights are those of least squares.
    #[staticmethod]
    fn of_exp<'py>(
        py: Python<'py>,
        kind: &str,
        degree: usize,
        interval: (f64, f64),
        samples: Option<(PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>)>,
    ) -> Result<Self> {
        let (kind, interval) = (kind.parse()?, Interval::new(interval.0, interval.1)?);
        Ok(Polynomial(match &samples {
            Some((t, weights)) => {
                let (t, weights) = (slice(t)?, slice(weights)?);
                py.detach(|| polynomial::Polynomial::least_squares(degree, interval, t, weights))?
            }
            None => polynomial::Polynomial::new(kind, degree, interval)?,
        }))
    }

    /// Its values.
    fn __call__<'py>(&self, py: Python<'py>, t: PyReadonlyArray1<'py, f64>) -> Result<Vector<'py>> {
        Ok(self.0.eval_all(slice(&t)?)?.into_pyarray(py))
    }

    /// Enclosure of P(t) e^−t on a range.
    fn ratio_bounds(&self, low: f64, high: f64) -> Result<(f64, f64)> {
        Ok(self.0.ratio_bounds(low, high)?)
    }

    /// A bound of |P(t) − e^t| on a range.
    fn absolute_bound(&self, low: f64, high: f64) -> Result<f64> {
        Ok(self.0.absolute_bound(low, high)?)
    }

    #[getter]
    fn interval(&self) -> (f64, f64) {
        (self.0.interval().low(), self.0.interval().high())
    }

    #[getter]
    fn chebyshev<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.chebyshev_coefficients().to_pyarray(py)
    }

    /// Coefficients of the powers of t.
    #[getter]
    fn power<'py>(&self, py: Python<'py>) -> Vector<'py> {
        self.0.power().into_pyarray(py)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let state = (slf.get().interval(), slf.get().chebyshev(slf.py()));
        Ok((slf.get_type().into_any(), state.into_pyobject(slf.py())?.into_any()))
    }
}
