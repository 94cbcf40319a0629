//! Half precision at the border: bits come in and go out as integers, whose dtype the Python front knows.

use std::any::Any;
use std::mem::take;

use attngrad::ndarray::{Array, Array1, Array2, Dimension};
use attngrad::{Float, Half, Solution, plan};
use numpy::{Element, IntoPyArray, PyReadonlyArrayDyn};
use pyo3::prelude::*;

use crate::call::Options;
use crate::errors::{Failure, Result};

/// The numbers of an array of bits, in single precision. With the interpreter held: the array is the caller's.
#[pyfunction]
pub fn widened(py: Python<'_>, bits: PyReadonlyArrayDyn<'_, u16>, half: &str, options: &Options) -> Result<Py<PyAny>> {
    let bits = bits.as_array();
    let numbers = half.parse::<Half>()?.widened(&bits, options.get())?;
    shaped(py, Array1::from_vec(numbers), bits.shape())
}

/// Numbers as an array of this shape.
pub fn shaped<T: Element, D: Dimension>(py: Python<'_>, found: Array<T, D>, shape: &[usize]) -> Result<Py<PyAny>> {
    let misfit = |_| Failure::internal("a result has another size than its shape");
    Ok(found.into_shape_with_order(shape).map_err(misfit)?.into_pyarray(py).into_any().unbind())
}

/// The same in half precision, if it is wanted; the certificate becomes that of what was rounded.
pub fn rounded<T: Element + Float>(
    py: Python<'_>,
    found: Array2<T>,
    shape: &[usize],
    (half, quantity): (Option<Half>, &str),
    options: &Options,
    certified: Option<(&mut plan::request::Certificate, &plan::Request)>,
) -> Result<Py<PyAny>> {
    let Some(half) = half else { return shaped(py, found, shape) };
    let numbers = (&found as &dyn Any).downcast_ref::<Array2<f32>>().and_then(|found| found.as_slice());
    let numbers = numbers.ok_or_else(|| Failure::internal("a result is not of single precision"))?;
    let found = half.halved(numbers, quantity, options.get())?;
    if let Some((certificate, request)) = certified {
        *certificate = certificate.halved(&found, request);
    }
    shaped(py, Array1::from_vec(found.bits), shape)
}

/// The gradients of a solution as arrays of these names and shapes; of half precision, if it is wanted, and then
/// certified as such.
pub fn gradients<T: Element + Float>(
    py: Python<'_>,
    found: &mut Solution<T>,
    named: &[(&'static str, &[usize])],
    half: Option<Half>,
    request: &plan::Request,
) -> Result<Vec<(&'static str, Py<PyAny>)>> {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    let mut bits = match half {
        Some(half) => {
            let single = (found as &mut dyn Any).downcast_mut::<Solution<f32>>();
            let single = single.ok_or_else(|| Failure::internal("a result is not of single precision"))?;
            single.halved(half, &names, request)?.into_iter()
        }
        None => Vec::new().into_iter(),
    };
    let mut made = Vec::with_capacity(named.len());
    for ((name, shape), one) in named.iter().zip(&mut found.gradients) {
        let array = match bits.next() {
            Some(bits) => shaped(py, Array1::from_vec(bits), shape)?,
            None => shaped(py, take(&mut one.value), shape)?,
        };
        made.push((*name, array));
    }
    Ok(made)
}
