//! The Python module `attngrad_rs._core`: convert, detach, call, wrap. Every argument was checked by attngrad_rs.api;
//! the arrays are private snapshots, so that nobody writes to them while the interpreter is released.
#![allow(non_snake_case)]
// The signatures are the Python ones.
#![allow(clippy::too_many_arguments)]

/// An expression in the precision of an array, or of a problem: T is f32 or f64 in it.
macro_rules! in_precision {
    ($is_single:expr, $T:ident => $body:expr) => {
        if $is_single {
            type $T = f32;
            $body
        } else {
            type $T = f64;
            $body
        }
    };
}

mod call;
mod diagnose;
mod errors;
mod factors;
mod features;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod plan;
mod polynomial;
mod problem;

use attngrad::{Float, Gradients, Level, default_threads};
use numpy::{Element, IntoPyArray};
use pyo3::{exceptions::PyImportError, prelude::*, types::PyDict};

use call::{Options, is_single};
use errors::{Failure, Result};
use problem::{Arrays, Problem, inputs};

fn differentiate<'py, T: Element + Float>(
    py: Python<'py>,
    given: &Problem,
    wrt: &[attngrad::Wrt],
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    let (result, seconds) = options.run(py, |options, watch| attngrad::loss_gradient(&problem, wrt, options, watch))?;
    let Gradients { loss, loss_rounding, gradients, level, .. } = result;
    let (values, rounding) = (PyDict::new(py), PyDict::new(py));
    for gradient in gradients {
        values.set_item(gradient.wrt.name(), gradient.value.into_pyarray(py))?;
        rounding.set_item(gradient.wrt.name(), gradient.rounding)?;
    }
    let out = wrap(py, values, rounding, seconds, level)?;
    out.set_item("loss", loss)?;
    out.set_item("loss_rounding", loss_rounding)?;
    Ok(out)
}

fn wrap<'py>(
    py: Python<'py>,
    gradients: Bound<'py, PyDict>,
    rounding: Bound<'py, PyDict>,
    seconds: f64,
    level: Level,
) -> Result<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("gradients", gradients)?;
    out.set_item("rounding", rounding)?;
    out.set_item("seconds", seconds)?;
    out.set_item("level", level.name())?;
    Ok(out)
}

/// See attngrad_rs.loss_gradient.
#[pyfunction]
fn loss_gradient<'py>(
    py: Python<'py>,
    problem: &Problem,
    wrt: Vec<String>,
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    let wrt = inputs(&wrt)?;
    in_precision!(problem.is_single(py), T => differentiate::<T>(py, problem, &wrt, options))
}

fn attend<'py, T: Element + Float>(
    py: Python<'py>,
    [q, k, v]: &[Bound<'py, PyAny>; 3],
    form: (f64, bool),
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let (q, k, v) = (call::read::<T>(q)?, call::read::<T>(k)?, call::read::<T>(v)?);
    let heads = attngrad::Heads::new(q.as_array(), k.as_array(), v.as_array())?.with_scale(form.0).with_causal(form.1);
    let (output, _) = options.run(py, |options, watch| attngrad::attention(&heads, options, watch))?;
    Ok(output.into_pyarray(py).into_any())
}

/// See attngrad_rs.attention; `heads` is query, key, value.
#[pyfunction]
fn attention<'py>(
    py: Python<'py>,
    heads: [Bound<'py, PyAny>; 3],
    form: (f64, bool),
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    in_precision!(is_single(&heads[0]), T => attend::<T>(py, &heads, form, options))
}

fn pull_back<'py, T: Element + Float>(
    py: Python<'py>,
    [q, k, v, dout]: &[Bound<'py, PyAny>; 4],
    form: (f64, bool),
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    let (q, k, v, dout) = (call::read::<T>(q)?, call::read::<T>(k)?, call::read::<T>(v)?, call::read::<T>(dout)?);
    let heads = attngrad::Heads::new(q.as_array(), k.as_array(), v.as_array())?.with_scale(form.0).with_causal(form.1);
    let dout = dout.as_array();
    let (result, seconds) = options.run(py, |options, watch| attngrad::attention_vjp(&heads, dout, options, watch))?;
    let (values, rounding) = (PyDict::new(py), PyDict::new(py));
    for (name, (value, error)) in [("query", result.query), ("key", result.key), ("value", result.value)] {
        values.set_item(name, value.into_pyarray(py))?;
        rounding.set_item(name, error)?;
    }
    wrap(py, values, rounding, seconds, result.level)
}

/// See attngrad_rs.attention_vjp; `heads` is query, key, value, dout.
#[pyfunction]
fn attention_vjp<'py>(
    py: Python<'py>,
    heads: [Bound<'py, PyAny>; 4],
    form: (f64, bool),
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    in_precision!(is_single(&heads[0]), T => pull_back::<T>(py, &heads, form, options))
}

/// The dispatch levels of this machine, best last.
#[pyfunction]
fn levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// The level that calls run at: the best of this machine, unless ATTNGRAD_LEVEL names another one.
#[pyfunction]
fn level() -> Result<&'static str> {
    Ok(attngrad::Options::from_env()?.level.or_else(|| Level::available().pop()).map_or("baseline", Level::name))
}

/// Queries and keys of the register tile at a level, by dtype name.
#[pyfunction]
fn tile_shape(level: &str, dtype: &str) -> Result<(usize, usize)> {
    let level = level.parse()?;
    let shape =
        if dtype == "float32" { attngrad::exact::tile_shape::<f32> } else { attngrad::exact::tile_shape::<f64> };
    Ok(shape(level)?)
}

/// Threads that the process may use.
#[pyfunction(name = "default_threads")]
fn threads() -> usize {
    default_threads()
}

/// Test builds only: the k-th reservation fails, or the k-th task panics; 0 switches off.
#[cfg(feature = "failpoints")]
#[pyfunction]
fn arm(kind: &str, k: usize) -> Result<()> {
    match kind {
        "reservation" => {
            attngrad::failpoint::fail_reservation(k);
        }
        "task" => attngrad::failpoint::panic_in_task(k),
        _ => return Err(Failure::internal("an unknown fail point")),
    }
    Ok(())
}

/// The main interpreter's number.
const MAIN_INTERPRETER: i64 = 0;

/// NumPy has one state a process, so a second interpreter must not come in, nor be the first.
fn require_main_interpreter() -> PyResult<()> {
    // SAFETY: called while a module is imported, so this thread is attached to an interpreter, and has its state.
    let number = unsafe { pyo3::ffi::PyInterpreterState_GetID(pyo3::ffi::PyInterpreterState_Get()) };
    if number == MAIN_INTERPRETER {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "attngrad_rs works in the main interpreter only: import it there, not in a sub-interpreter",
    ))
}

fn finite<T: Element + Float>(py: Python<'_>, array: &Bound<'_, PyAny>, options: &Options) -> Result<bool> {
    let array = call::read::<T>(array)?;
    let values = array.as_array().to_slice().ok_or_else(|| Failure::internal("a snapshot is not contiguous"))?;
    Ok(options.run(py, |options, watch| attngrad::all_finite(values, options, watch))?.0)
}

/// Whether a snapshot, as one row, has numbers only.
#[pyfunction]
fn all_finite(py: Python<'_>, row: Bound<'_, PyAny>, options: &Options) -> Result<bool> {
    in_precision!(is_single(&row), T => finite::<T>(py, &row, options))
}

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    require_main_interpreter()?;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    memory::keep();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_function(wrap_pyfunction!(loss_gradient, module)?)?;
    module.add_function(wrap_pyfunction!(attention, module)?)?;
    module.add_function(wrap_pyfunction!(attention_vjp, module)?)?;
    module.add_class::<Options>()?;
    module.add_class::<Problem>()?;
    module.add_class::<features::IndexSet>()?;
    module.add_class::<features::Balance>()?;
    module.add_class::<features::LogitSample>()?;
    module.add_class::<features::FeatureRequest>()?;
    module.add_class::<features::ExpFeatures>()?;
    module.add_class::<factors::Factors>()?;
    module.add_class::<plan::Decision>()?;
    module.add_class::<diagnose::Diagnosis>()?;
    module.add_class::<diagnose::Prediction>()?;
    module.add_function(wrap_pyfunction!(diagnose::diagnose, module)?)?;
    module.add_function(wrap_pyfunction!(diagnose::diagnose_problem, module)?)?;
    module.add_function(wrap_pyfunction!(factors::factors, module)?)?;
    module.add_function(wrap_pyfunction!(factors::factors_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(factors::row_kronecker, module)?)?;
    module.add_function(wrap_pyfunction!(level, module)?)?;
    module.add_function(wrap_pyfunction!(plan::decide, module)?)?;
    module.add_function(wrap_pyfunction!(plan::foresee, module)?)?;
    module.add_function(wrap_pyfunction!(plan::planned_gradient, module)?)?;
    module.add_function(wrap_pyfunction!(plan::exact_operations, module)?)?;
    module.add_function(wrap_pyfunction!(plan::judge, module)?)?;
    module.add_function(wrap_pyfunction!(plan::check_request, module)?)?;
    module.add_class::<plan::Prepared>()?;
    module.add_function(wrap_pyfunction!(all_finite, module)?)?;
    module.add_function(wrap_pyfunction!(levels, module)?)?;
    module.add_function(wrap_pyfunction!(tile_shape, module)?)?;
    module.add_function(wrap_pyfunction!(threads, module)?)?;
    module.add_function(wrap_pyfunction!(polynomial::exp_polynomial, module)?)?;
    module.add_function(wrap_pyfunction!(polynomial::evaluate_polynomial, module)?)?;
    module.add_function(wrap_pyfunction!(polynomial::polynomial_bounds, module)?)?;
    #[cfg(feature = "failpoints")]
    module.add_function(wrap_pyfunction!(arm, module)?)?;
    Ok(())
}
