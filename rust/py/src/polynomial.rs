//! Polynomials for exp: see attngrad_rs.polynomials.

use attngrad::polynomial::{Interval, Polynomial};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;

use crate::errors::{Failure, Result};

type Vector<'py> = Bound<'py, PyArray1<f64>>;

/// Coefficients in the Chebyshev basis and of the powers of t, and the interval of the basis.
pub type Parts<'py> = (Vector<'py>, Vector<'py>, (f64, f64));

fn slice<'a>(array: &'a PyReadonlyArray1<'_, f64>) -> Result<&'a [f64]> {
    array.as_slice().map_err(|_| Failure::internal("a snapshot is not contiguous"))
}

pub fn known(interval: (f64, f64), coefficients: &PyReadonlyArray1<'_, f64>) -> Result<Polynomial> {
    Ok(Polynomial::from_chebyshev(Interval::new(interval.0, interval.1)?, slice(coefficients)?.to_vec())?)
}

/// The coefficients of a kind, in the Chebyshev basis and of the powers of t.
#[pyfunction]
pub fn exp_polynomial<'py>(
    py: Python<'py>,
    kind: &str,
    degree: usize,
    interval: (f64, f64),
    samples: Option<(PyReadonlyArray1<'py, f64>, PyReadonlyArray1<'py, f64>)>,
) -> Result<(Vector<'py>, Vector<'py>)> {
    let (kind, interval) = (kind.parse()?, Interval::new(interval.0, interval.1)?);
    let polynomial = match &samples {
        Some((t, weights)) => {
            let (t, weights) = (slice(t)?, slice(weights)?);
            py.detach(|| Polynomial::least_squares(degree, interval, t, weights))?
        }
        None => Polynomial::new(kind, degree, interval)?,
    };
    Ok((polynomial.chebyshev_coefficients().to_vec().into_pyarray(py), polynomial.power().into_pyarray(py)))
}

/// Its values.
#[pyfunction]
pub fn evaluate_polynomial<'py>(
    py: Python<'py>,
    interval: (f64, f64),
    coefficients: PyReadonlyArray1<'py, f64>,
    t: PyReadonlyArray1<'py, f64>,
) -> Result<Vector<'py>> {
    let polynomial = known(interval, &coefficients)?;
    Ok(polynomial.eval_all(slice(&t)?)?.into_pyarray(py))
}

/// Enclosure of P(t) e^−t on a range, and a bound of |P(t) − e^t|.
#[pyfunction]
pub fn polynomial_bounds(
    interval: (f64, f64),
    coefficients: PyReadonlyArray1<'_, f64>,
    range: (f64, f64),
) -> Result<((f64, f64), f64)> {
    let polynomial = known(interval, &coefficients)?;
    Ok((polynomial.ratio_bounds(range.0, range.1)?, polynomial.absolute_bound(range.0, range.1)?))
}

/// A polynomial as Python's class of them holds it.
pub fn parts<'py>(py: Python<'py>, polynomial: &Polynomial) -> Parts<'py> {
    let interval = polynomial.interval();
    let coefficients = polynomial.chebyshev_coefficients().to_pyarray(py);
    (coefficients, polynomial.power().into_pyarray(py), (interval.low(), interval.high()))
}
