//! The Python module `attngrad_rs._core`: convert, detach, call, wrap. Every argument was checked by the Python front;
//! the arrays are private snapshots, so that nobody writes to them while the interpreter is released, but for heads of
//! attention, which are read where they are.
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
mod halves;
mod heads;
mod masks;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod partial;
mod plan;
mod polynomial;
mod problem;
mod sample;
mod second;

use attngrad::{Float, Level, default_threads};
use numpy::Element;
use pyo3::{exceptions::PyImportError, prelude::*};

use call::{Options, is_single};
use errors::{Failure, Result};
use problem::Problem;

/// The dispatch levels of this machine, best last.
#[pyfunction]
fn levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// The level that calls run at: the best of this machine, unless ATTNGRAD_LEVEL names another one.
#[pyfunction]
fn level() -> Result<&'static str> {
    Ok(attngrad::Options::from_env()?.runs_on().name())
}

/// Queries and keys of the register tile at a level, by dtype name.
#[pyfunction]
fn tile_shape(level: &str, dtype: &str) -> Result<(usize, usize)> {
    let level = level.parse()?;
    Ok(in_precision!(dtype == f32::NAME, T => attngrad::exact::tile_shape::<T>(level))?)
}

/// Threads that the process may use.
#[pyfunction(name = "default_threads")]
fn threads() -> usize {
    default_threads()
}

/// Bytes that limits of memory leave to the process, if there are any.
#[pyfunction]
fn limited_memory() -> Option<u64> {
    attngrad::limited_memory()
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

fn finite<T: Element + Float>(
    py: Python<'_>,
    row: &Bound<'_, PyAny>,
    copy: Option<&Bound<'_, PyAny>>,
    options: &Options,
) -> Result<bool> {
    let not_contiguous = || Failure::internal("an array is not contiguous");
    let row: call::Matrix<'_, T> = call::read(row)?;
    let values = row.as_array().to_slice().ok_or_else(not_contiguous)?;
    let Some(copy) = copy else {
        return Ok(options.run(py, |options, watch| attngrad::all_finite(values, options, watch))?.0);
    };
    let mut copy = call::write::<T>(copy)?;
    // With the interpreter held: the array is the caller's, whose other threads wait.
    Ok(attngrad::snapshot(values, copy.as_slice_mut().map_err(|_| not_contiguous())?, options.get())?)
}

/// Whether an array, as one row, has numbers only; with `copy`, copies it there first, and looks at that.
#[pyfunction]
#[pyo3(signature = (row, options, copy=None))]
fn all_finite(
    py: Python<'_>,
    row: Bound<'_, PyAny>,
    options: &Options,
    copy: Option<Bound<'_, PyAny>>,
) -> Result<bool> {
    in_precision!(is_single(&row), T => finite::<T>(py, &row, copy.as_ref(), options))
}

#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    require_main_interpreter()?;
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    memory::keep();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<Options>()?;
    module.add_class::<Problem>()?;
    module.add_class::<features::IndexSet>()?;
    module.add_class::<sample::Balance>()?;
    module.add_class::<sample::LogitSample>()?;
    module.add_class::<features::FeatureRequest>()?;
    module.add_class::<features::ExpFeatures>()?;
    module.add_class::<factors::Factors>()?;
    module.add_class::<heads::Stack>()?;
    module.add_function(wrap_pyfunction!(halves::widened, module)?)?;
    module.add_class::<masks::Masks>()?;
    module.add_class::<plan::Request>()?;
    module.add_class::<plan::Shape>()?;
    module.add_class::<plan::Forecast>()?;
    module.add_class::<plan::Decision>()?;
    module.add_class::<plan::Certificate>()?;
    module.add_class::<plan::Solution>()?;
    module.add_function(wrap_pyfunction!(plan::solve, module)?)?;
    module.add_function(wrap_pyfunction!(plan::foresee, module)?)?;
    module.add_function(wrap_pyfunction!(plan::exact_certificate, module)?)?;
    module.add_function(wrap_pyfunction!(heads::attention, module)?)?;
    module.add_function(wrap_pyfunction!(second::attention_jvp, module)?)?;
    module.add_function(wrap_pyfunction!(second::attention_hvp, module)?)?;
    module.add_function(wrap_pyfunction!(heads::decide_heads, module)?)?;
    module.add_function(wrap_pyfunction!(heads::solve_heads, module)?)?;
    module.add_class::<diagnose::Diagnosis>()?;
    module.add_class::<diagnose::Prediction>()?;
    module.add_function(wrap_pyfunction!(diagnose::diagnose, module)?)?;
    module.add_function(wrap_pyfunction!(diagnose::diagnose_problem, module)?)?;
    module.add_function(wrap_pyfunction!(factors::factors, module)?)?;
    module.add_function(wrap_pyfunction!(factors::factors_bytes, module)?)?;
    module.add_function(wrap_pyfunction!(factors::row_kronecker, module)?)?;
    module.add_function(wrap_pyfunction!(level, module)?)?;
    module.add_class::<plan::Prepared>()?;
    module.add_function(wrap_pyfunction!(all_finite, module)?)?;
    module.add_function(wrap_pyfunction!(levels, module)?)?;
    module.add_function(wrap_pyfunction!(tile_shape, module)?)?;
    module.add_function(wrap_pyfunction!(threads, module)?)?;
    module.add_function(wrap_pyfunction!(limited_memory, module)?)?;
    module.add_class::<polynomial::Polynomial>()?;
    module.add_class::<partial::Frame>()?;
    module.add_class::<partial::KeyState>()?;
    module.add_class::<partial::QueryState>()?;
    module.add_class::<partial::GradientState>()?;
    module.add_class::<partial::SoftmaxState>()?;
    #[cfg(feature = "failpoints")]
    module.add_function(wrap_pyfunction!(arm, module)?)?;
    Ok(())
}
