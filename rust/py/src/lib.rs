//! The Python module `attngrad_rs._core`: convert, detach, call, wrap. Every argument was checked by attngrad_rs.api;
//! the arrays are private snapshots, so that nobody writes to them while the interpreter is released.
#![allow(non_snake_case)]
// The signatures are the Python ones.
#![allow(clippy::too_many_arguments)]

/// The same call for either precision: the first array tells which.
macro_rules! either {
    ($arrays:ident, $call:ident($($argument:expr),*)) => {
        if $arrays[0].as_ref().is_some_and(|first| first.cast::<numpy::PyArray2<f32>>().is_ok()) {
            $call::<f32>($($argument),*)
        } else {
            $call::<f64>($($argument),*)
        }
    };
}

mod call;
mod errors;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;
mod plan;
mod polynomial;

use attngrad::{Gradients, Level, Problem, Weights, Wrt, default_threads};
use numpy::{Element, IntoPyArray, PyReadonlyArray2};
use pyo3::{exceptions::PyImportError, prelude::*, types::PyDict};

use call::{Call, Control};
use errors::{Failure, Result};

type Matrix<'py, T> = PyReadonlyArray2<'py, T>;

/// A1, A2, A3, X, W_Q, W_K, Y and E, or dout in its place: those that there are.
type Given<'py> = [Option<Bound<'py, PyAny>>; 9];

/// Their names are those of attngrad::Problem.
struct Arrays<'py, T: Element> {
    a: [Matrix<'py, T>; 3],
    x: Option<Matrix<'py, T>>,
    pair: Option<(Matrix<'py, T>, Matrix<'py, T>)>,
    y: Matrix<'py, T>,
    e: Matrix<'py, T>,
    is_target: bool,
}

impl<'py, T: Element + attngrad::Float> Arrays<'py, T> {
    fn read(given: &Given<'py>) -> Result<Self> {
        let [Some(a1), Some(a2), Some(a3), x, w_q, w_k, Some(y), target, dout] = given else {
            return Err(Failure::internal("an array that every problem has was not given"));
        };
        let Some(e) = target.as_ref().or(dout.as_ref()) else {
            return Err(Failure::internal("neither E nor dout was given"));
        };
        let read = |array: &Bound<'py, PyAny>| call::read::<T>(array);
        let pair = w_q.as_ref().zip(w_k.as_ref());
        Ok(Arrays {
            a: [read(a1)?, read(a2)?, read(a3)?],
            x: x.as_ref().map(read).transpose()?,
            pair: pair.map(|(w_q, w_k)| Ok::<_, Failure>((read(w_q)?, read(w_k)?))).transpose()?,
            y: read(y)?,
            e: read(e)?,
            is_target: target.is_some(),
        })
    }

    fn problem(&self, (scale, is_causal): (f64, bool)) -> Result<Problem<'_, T>> {
        let [a1, a2, a3] = &self.a;
        let weights = match (&self.x, &self.pair) {
            (_, Some((w_q, w_k))) => Weights::Pair(w_q.as_array(), w_k.as_array()),
            (Some(x), None) => Weights::Product(x.as_array()),
            (None, None) => return Err(Failure::internal("neither X nor a pair was given")),
        };
        let problem =
            Problem::new(a1.as_array(), a2.as_array(), a3.as_array(), weights, self.y.as_array(), self.e.as_array())?;
        let problem = if self.is_target { problem } else { problem.with_incoming() };
        Ok(problem.with_scale(scale).with_causal(is_causal))
    }
}

/// Inputs by their names.
fn inputs(names: &[String]) -> Result<Vec<Wrt>> {
    Ok(names.iter().map(|name| Wrt::parse(name)).collect::<std::result::Result<_, _>>()?)
}

fn differentiate<'py, T: Element + attngrad::Float>(
    py: Python<'py>,
    given: &Given<'py>,
    wrt: &[Wrt],
    form: (f64, bool),
    call: Call,
) -> Result<Bound<'py, PyDict>> {
    let arrays = Arrays::<T>::read(given)?;
    let problem = arrays.problem(form)?;
    let (result, seconds) = call.run(py, |options, watch| attngrad::loss_gradient(&problem, wrt, options, watch))?;
    let Gradients { loss, loss_rounding, gradients, level } = result;
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

/// See attngrad_rs.loss_gradient; `form` is the scale, and whether the problem is causal.
#[pyfunction]
fn loss_gradient<'py>(
    py: Python<'py>,
    given: Given<'py>,
    wrt: Vec<String>,
    form: (f64, bool),
    control: Control,
) -> Result<Bound<'py, PyDict>> {
    let (wrt, call) = (inputs(&wrt)?, Call::new(control)?);
    either!(given, differentiate(py, &given, &wrt, form, call))
}

fn attend<'py, T: Element + attngrad::Float>(
    py: Python<'py>,
    [q, k, v]: &[Option<Bound<'py, PyAny>>; 3],
    form: (f64, bool),
    call: Call,
) -> Result<Bound<'py, PyAny>> {
    let (q, k, v) = (head::<T>(q)?, head::<T>(k)?, head::<T>(v)?);
    let heads = attngrad::Heads::new(q.as_array(), k.as_array(), v.as_array())?.with_scale(form.0).with_causal(form.1);
    let (output, _) = call.run(py, |options, watch| attngrad::attention(&heads, options, watch))?;
    Ok(output.into_pyarray(py).into_any())
}

fn head<'py, T: Element>(array: &Option<Bound<'py, PyAny>>) -> Result<Matrix<'py, T>> {
    call::read(array.as_ref().ok_or_else(|| Failure::internal("an array of the head was not given"))?)
}

/// See attngrad_rs.attention; `heads` is query, key, value.
#[pyfunction]
fn attention<'py>(
    py: Python<'py>,
    heads: [Option<Bound<'py, PyAny>>; 3],
    form: (f64, bool),
    control: Control,
) -> Result<Bound<'py, PyAny>> {
    let call = Call::new(control)?;
    either!(heads, attend(py, &heads, form, call))
}

fn pull_back<'py, T: Element + attngrad::Float>(
    py: Python<'py>,
    [q, k, v, dout]: &[Option<Bound<'py, PyAny>>; 4],
    form: (f64, bool),
    call: Call,
) -> Result<Bound<'py, PyDict>> {
    let (q, k, v, dout) = (head::<T>(q)?, head::<T>(k)?, head::<T>(v)?, head::<T>(dout)?);
    let heads = attngrad::Heads::new(q.as_array(), k.as_array(), v.as_array())?.with_scale(form.0).with_causal(form.1);
    let dout = dout.as_array();
    let (result, seconds) = call.run(py, |options, watch| attngrad::attention_vjp(&heads, dout, options, watch))?;
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
    heads: [Option<Bound<'py, PyAny>>; 4],
    form: (f64, bool),
    control: Control,
) -> Result<Bound<'py, PyDict>> {
    let call = Call::new(control)?;
    either!(heads, pull_back(py, &heads, form, call))
}

/// The dispatch levels of this machine, best last.
#[pyfunction]
fn levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// Queries and keys of the register tile at a level, by dtype name.
#[pyfunction]
fn tile_shape(level: &str, dtype: &str) -> Result<(usize, usize)> {
    let level = Level::parse(level)?;
    let shape =
        if dtype == "float32" { attngrad::exact::tile_shape::<f32> } else { attngrad::exact::tile_shape::<f64> };
    Ok(shape(level))
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

fn finite<T: Element + attngrad::Float>(py: Python<'_>, array: &Bound<'_, PyAny>, call: Call) -> Result<bool> {
    let array = call::read::<T>(array)?;
    let values = array.as_array().to_slice().ok_or_else(|| Failure::internal("a snapshot is not contiguous"))?;
    Ok(call.run(py, |options, watch| attngrad::all_finite(values, options, watch))?.0)
}

/// Whether a snapshot, as one row, has numbers only.
#[pyfunction]
fn all_finite(py: Python<'_>, row: Bound<'_, PyAny>, control: Control) -> Result<bool> {
    let (rows, call) = ([Some(row.clone())], Call::new(control)?);
    either!(rows, finite(py, &row, call))
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
