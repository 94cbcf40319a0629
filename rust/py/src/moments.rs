//! The polynomial method, and single rows of it and of the exact one.

use attngrad::{Approximation, Polynomial, RowValues, Wrt, polynomial_gradient};
use numpy::{Element, IntoPyArray};
use pyo3::{IntoPyObjectExt, prelude::*, types::PyDict};

use super::{Arrays, arrays, call::Call, errors::Failure, errors::Result};

/// A1, A2, A3, X, W_Q, W_K, Y and E, those that there are.
type Given<'py> = [Option<Bound<'py, PyAny>>; 8];

fn read<'py, T: Element>(given: &Given<'py>) -> Result<Arrays<'py, T>> {
    let [Some(a1), Some(a2), Some(a3), x, w_q, w_k, Some(y), Some(e)] = given else {
        return Err(Failure::internal("an array that every problem has was not given"));
    };
    arrays([a1, a2, a3, y, e], [x.as_ref(), w_q.as_ref(), w_k.as_ref()])
}

/// w, output and the places of the unsafe rows.
fn wrap<T: Element>(py: Python<'_>, rows: RowValues<T>) -> PyResult<Bound<'_, PyAny>> {
    (rows.w.into_pyarray(py), rows.output.into_pyarray(py), rows.unsafe_rows).into_bound_py_any(py)
}

fn approximate<'py, T: Element + attngrad::Float>(
    given: &Given<'py>,
    wrt: &[Wrt],
    (scale, is_causal): (f64, bool),
    approximation: Approximation,
    rows: Option<Vec<usize>>,
    call: Call,
    py: Python<'py>,
) -> Result<Bound<'py, PyDict>> {
    let arrays = read::<T>(given)?;
    let problem = arrays.problem(scale, is_causal)?;
    let ((result, rows), seconds) = call.run(py, |options, mut watch| {
        let Some(rows) = rows else {
            return Ok((polynomial_gradient(&problem, wrt, &approximation, options, watch)?, None));
        };
        let fit = Polynomial::fit(&problem, &approximation, options, watch.as_deref_mut().map(|watch| watch as _))?;
        let result = fit.gradient(&problem, wrt, options, watch.as_deref_mut().map(|watch| watch as _))?;
        Ok((result, Some(fit.rows(&problem, &rows, options, watch)?)))
    })?;
    let (out, gradients) = (PyDict::new(py), PyDict::new(py));
    for (wrt, value) in result.gradients {
        gradients.set_item(wrt.name(), value.into_pyarray(py))?;
    }
    out.set_item("gradients", gradients)?;
    out.set_item("unsafe_rows", result.unsafe_rows)?;
    out.set_item("rows", rows.map(|rows| wrap(py, rows)).transpose()?)?;
    out.set_item("loss", result.loss)?;
    out.set_item("lengths", (result.largest_query, result.largest_key))?;
    out.set_item("seconds", seconds)?;
    out.set_item("level", result.level.name())?;
    Ok(out)
}

/// The gradient with P = Σ coefficients[a] t^a in the place of exp; `rows` are query rows to return too.
#[pyfunction(name = "polynomial_gradient")]
pub fn polynomial<'py>(
    given: Given<'py>,
    wrt: Vec<String>,
    scale: f64,
    is_causal: bool,
    coefficients: Vec<f64>,
    rows: Option<Vec<usize>>,
    threads: Option<usize>,
    progress: Option<Py<PyAny>>,
    timeout: Option<f64>,
    level: Option<&str>,
    py: Python<'py>,
) -> Result<Bound<'py, PyDict>> {
    let wrt = wrt.iter().map(|name| Wrt::parse(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let call = Call::new(threads, progress, timeout, level, None)?;
    let [Some(a1), ..] = &given else { return Err(Failure::internal("A1 was not given")) };
    either!(a1, approximate(&given, &wrt, (scale, is_causal), Approximation { coefficients }, rows, call, py))
}

fn exact<'py, T: Element + attngrad::Float>(
    given: &Given<'py>,
    (scale, is_causal): (f64, bool),
    rows: &[usize],
    call: Call,
    py: Python<'py>,
) -> Result<Bound<'py, PyAny>> {
    let arrays = read::<T>(given)?;
    let problem = arrays.problem(scale, is_causal)?;
    Ok(wrap(py, call.run(py, |options, watch| attngrad::exact_rows(&problem, rows, options, watch))?.0)?)
}

/// w = p K and o of some query rows, exact.
#[pyfunction]
pub fn exact_rows<'py>(
    given: Given<'py>,
    rows: Vec<usize>,
    scale: f64,
    is_causal: bool,
    threads: Option<usize>,
    timeout: Option<f64>,
    level: Option<&str>,
    py: Python<'py>,
) -> Result<Bound<'py, PyAny>> {
    let [Some(a1), ..] = &given else { return Err(Failure::internal("A1 was not given")) };
    either!(a1, exact(&given, (scale, is_causal), &rows, Call::new(threads, None, timeout, level, None)?, py))
}
