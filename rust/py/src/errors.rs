//! Errors cross the boundary once: each variant of the core becomes one class of attngrad_rs.errors.

use attngrad::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(attngrad_rs.errors, ShapeError);
import_exception!(attngrad_rs.errors, OptionError);
import_exception!(attngrad_rs.errors, NonFiniteError);
import_exception!(attngrad_rs.errors, ToleranceError);
import_exception!(attngrad_rs.errors, RangeError);
import_exception!(attngrad_rs.errors, OutOfMemoryError);
import_exception!(attngrad_rs.errors, DeadlineError);
import_exception!(attngrad_rs.errors, ThreadError);
import_exception!(attngrad_rs.errors, InternalError);

/// A Python exception; the newtype lets both libraries' errors turn into it with `?`.
pub struct Failure(PyErr);

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn internal(what: &str) -> Self {
        Error::Internal(what.to_owned()).into()
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Failure(error)
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        Failure(match error {
            // A shape as Python writes a tuple.
            Error::Shape { argument, found, wanted } => {
                let comma = if found.len() == 1 { "," } else { "" };
                let found = found.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
                ShapeError::new_err(format!("{argument}: found shape ({found}{comma}); {wanted}"))
            }
            Error::Option { .. } => OptionError::new_err(text),
            Error::NonFinite { .. } => NonFiniteError::new_err(text),
            Error::Tolerance { least, .. } => ToleranceError::new_err((text, least)),
            Error::Unreached { best, .. } => ToleranceError::new_err((text, best)),
            Error::Range { .. } => RangeError::new_err(text),
            Error::OutOfMemory { .. } | Error::Memory { .. } => OutOfMemoryError::new_err(text),
            Error::Deadline(_) => DeadlineError::new_err(text),
            Error::Internal(_) => InternalError::new_err(text),
            Error::Threads(_) => ThreadError::new_err(text),
            // The binding's own watch is the only one that stops a computation, and raises in its place.
            Error::Cancelled => PyRuntimeError::new_err(text),
            // One that the core has and this binding does not know of.
            _ => InternalError::new_err(text),
        })
    }
}
