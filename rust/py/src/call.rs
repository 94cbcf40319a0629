//! One call of the core: options in, the interpreter released, signals and progress watched.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use attngrad::{Error, Watch};
use numpy::ndarray::Dimension;
use numpy::{Element, PyArray, PyArray2, PyArrayMethods, PyReadonlyArray, PyReadonlyArray2, PyReadwriteArray2};
use pyo3::prelude::*;

use crate::errors::{Failure, Result};

/// Threads, progress and time of a call; the settings of the environment belong to it too.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Options {
    options: attngrad::Options,
    progress: Option<Py<PyAny>>,
}

#[pymethods]
impl Options {
    #[new]
    #[pyo3(signature = (*, threads=None, progress=None, timeout=None, memory=None))]
    fn new(
        threads: Option<usize>,
        progress: Option<Py<PyAny>>,
        timeout: Option<f64>,
        memory: Option<u64>,
    ) -> Result<Self> {
        let options = attngrad::Options {
            memory,
            threads: threads.and_then(NonZeroUsize::new),
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            ..attngrad::Options::from_env()?
        };
        Ok(Options { options, progress })
    }
}

impl Options {
    /// The options of the core.
    pub fn get(&self) -> &attngrad::Options {
        &self.options
    }

    /// Runs `work` with the interpreter released; also returns the seconds it took. This thread waits, and looks for
    /// signals; what a signal handler or the progress callback raises is what the caller sees.
    pub fn run<R: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&attngrad::Options, Option<Watch<'_>>) -> std::result::Result<R, Error> + Send,
    ) -> Result<(R, f64)> {
        let start = Instant::now();
        let mut raised = None;
        let result = py.detach(|| {
            let mut watch = |fraction: f64| match Python::attach(|py| self.look(py, fraction)) {
                Ok(()) => true,
                Err(error) => {
                    raised = Some(error);
                    false
                }
            };
            work(&self.options, Some(&mut watch))
        });
        match (raised, result) {
            (Some(error), _) => Err(error.into()),
            (None, result) => Ok((result?, start.elapsed().as_secs_f64())),
        }
    }

    fn look(&self, py: Python<'_>, fraction: f64) -> PyResult<()> {
        py.check_signals()?;
        if let Some(progress) = &self.progress {
            progress.call1(py, (fraction,))?;
        }
        Ok(())
    }
}

/// A snapshot while the core reads it.
pub type Matrix<'py, T> = PyReadonlyArray2<'py, T>;

/// An array of the type that the Python front has checked.
fn typed<'a, 'py, T: Element, D: Dimension>(array: &'a Bound<'py, PyAny>) -> Result<&'a Bound<'py, PyArray<T, D>>> {
    array.cast().map_err(|_| Failure::internal("an array of another type came through"))
}

/// An array that is read.
pub fn read<'py, T: Element, D: Dimension>(array: &Bound<'py, PyAny>) -> Result<PyReadonlyArray<'py, T, D>> {
    typed(array)?.try_readonly().map_err(|_| Failure::internal("an array is shared with a writer"))
}

/// A new array, of which nobody else knows, to be written.
pub fn write<'py, T: Element>(array: &Bound<'py, PyAny>) -> Result<PyReadwriteArray2<'py, T>> {
    typed(array)?.try_readwrite().map_err(|_| Failure::internal("a new array is shared"))
}

/// Whether an array is one of single precision; those of a call are all of one.
pub fn is_single(array: &Bound<'_, PyAny>) -> bool {
    array.cast::<PyArray2<f32>>().is_ok()
}
