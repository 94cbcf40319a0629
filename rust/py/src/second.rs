//! Second derivatives of attention: see attngrad_rs.attention_jvp and attngrad_rs.attention_hvp.

use attngrad::exact;
use numpy::prelude::*;
use pyo3::prelude::*;

use crate::call::Options;
use crate::errors::Result;
use crate::halves::rounded;
use crate::heads::{Read, Stack};

/// The output of all heads, unless it was given, and its change.
#[pyfunction]
pub fn attention_jvp(
    py: Python<'_>,
    stack: &Stack,
    direction: &Stack,
    options: &Options,
) -> Result<(Option<Py<PyAny>>, Py<PyAny>)> {
    in_precision!(stack.is_single, T => {
        let (read, along) = (Read::<T>::new(py, stack)?, Read::<T>::new(py, direction)?);
        let mask = read.mask();
        let (heads, direction) = (read.stack(stack, mask.as_ref())?, along.stack(direction, None)?);
        let saved = read.saved(&heads)?;
        let (found, _) = options.run(py, |options, watch| {
            exact::attention_stack_jvp(&heads, &direction, saved.as_ref(), stack.check_finite, options, watch)
        })?;
        let shape = read.output_shape(stack)?;
        let output = |of, one| rounded(py, one, &shape, (stack.half, of), options, None);
        let made = found.output.map(|made| output("the output", made)).transpose()?;
        Ok((made, output("the change of the output", found.tangent)?))
    })
}

/// The Hessian of ⟨dout, o⟩ in query, key, value and dout times a direction, whose part of dout may be missing.
#[pyfunction]
pub fn attention_hvp(py: Python<'_>, stack: &Stack, direction: &Stack, options: &Options) -> Result<[Py<PyAny>; 4]> {
    in_precision!(stack.is_single, T => {
        let (read, along) = (Read::<T>::new(py, stack)?, Read::<T>::new(py, direction)?);
        let mask = read.mask();
        let (heads, direction) = (read.stack(stack, mask.as_ref())?, along.stack(direction, None)?);
        let (incoming, ddout) = (read.incoming(&heads)?, along.dout(&direction, "ddout")?);
        let (found, _) = options.run(py, |options, watch| {
            let moved = (&incoming, ddout.as_deref());
            exact::attention_stack_hvp(&heads, &direction, moved, stack.check_finite, options, watch)
        })?;
        let [query, key, value, dout] = found;
        let part = |of, one, shape: &[usize]| rounded(py, one, shape, (stack.half, of), options, None);
        Ok([
            part("the part of query", query, read.at(0)?.shape())?,
            part("the part of key", key, read.at(1)?.shape())?,
            part("the part of value", value, read.at(2)?.shape())?,
            part("the part of dout", dout, &read.output_shape(stack)?)?,
        ])
    })
}
