//! Heads of attention, one after the other: see attngrad_rs.attention.

use attngrad::{Float, Heads, plan};
use numpy::{Element, IntoPyArray};
use pyo3::prelude::*;

use crate::call::{Matrix, Options, is_single, read};
use crate::errors::{Failure, Result};
use crate::plan::{Decision, Request, Solution};

/// query, key, value and dout of each head.
type Stack<'py> = Vec<[Bound<'py, PyAny>; 4]>;

/// The arrays of heads while the core reads them.
struct Read<'py, T: Element>(Vec<[Matrix<'py, T>; 4]>, f64, bool);

impl<'py, T: Element + Float> Read<'py, T> {
    fn new(stack: &Stack<'py>, (scale, is_causal): (f64, bool)) -> Result<Self> {
        let head = |[q, k, v, dout]: &[Bound<'py, PyAny>; 4]| Ok([read(q)?, read(k)?, read(v)?, read(dout)?]);
        Ok(Read(stack.iter().map(head).collect::<Result<_>>()?, scale, is_causal))
    }

    fn heads(&self) -> Result<Vec<plan::Pulled<'_, T>>> {
        let mut heads = Vec::with_capacity(self.0.len());
        for [q, k, v, dout] in &self.0 {
            let head = Heads::new(q.as_array(), k.as_array(), v.as_array())?;
            heads.push((head.with_scale(self.1).with_causal(self.2), dout.as_array()));
        }
        Ok(heads)
    }
}

/// The output of all heads, rows of one head after those of the one before.
#[pyfunction]
pub fn attention<'py>(
    py: Python<'py>,
    stack: Vec<[Bound<'py, PyAny>; 3]>,
    scale: f64,
    is_causal: bool,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let single = stack.first().is_some_and(|head| is_single(&head[0]));
    in_precision!(single, T => attended::<T>(py, &stack, scale, is_causal, options))
}

fn attended<'py, T: Element + Float>(
    py: Python<'py>,
    stack: &[[Bound<'py, PyAny>; 3]],
    scale: f64,
    is_causal: bool,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let head = |[q, k, v]: &[Bound<'py, PyAny>; 3]| Ok::<[Matrix<'py, T>; 3], Failure>([read(q)?, read(k)?, read(v)?]);
    let arrays = stack.iter().map(head).collect::<Result<Vec<_>>>()?;
    let mut heads = Vec::with_capacity(arrays.len());
    for [q, k, v] in &arrays {
        let head = Heads::new(q.as_array(), k.as_array(), v.as_array())?;
        heads.push(head.with_scale(scale).with_causal(is_causal));
    }
    let (output, _) = options.run(py, |options, watch| plan::attend_heads(&heads, options, watch))?;
    Ok(output.into_pyarray(py).into_any())
}

fn is_single_stack(stack: &Stack<'_>) -> bool {
    stack.first().is_some_and(|head| is_single(&head[0]))
}

/// The decision for all heads, before anything is run.
#[pyfunction]
pub fn decide_heads(
    py: Python<'_>,
    stack: Stack<'_>,
    scale: f64,
    is_causal: bool,
    request: &Request,
) -> Result<Decision> {
    in_precision!(is_single_stack(&stack), T => decided::<T>(py, &stack, (scale, is_causal), &request.0))
}

fn decided<T: Element + Float>(
    py: Python<'_>,
    stack: &Stack<'_>,
    form: (f64, bool),
    request: &plan::Request,
) -> Result<Decision> {
    let read = Read::<T>::new(stack, form)?;
    let heads = read.heads()?;
    Ok(py.detach(|| plan::decide_heads(&heads, request))?.into())
}

/// dq, dk and dv of all heads, by a decision: rows of one head after those of the one before.
#[pyfunction]
pub fn solve_heads(
    py: Python<'_>,
    stack: Stack<'_>,
    scale: f64,
    is_causal: bool,
    request: &Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    let form = (scale, is_causal);
    in_precision!(is_single_stack(&stack), T => solved_heads::<T>(py, &stack, form, &request.0, decision, options))
}

fn solved_heads<T: Element + Float>(
    py: Python<'_>,
    stack: &Stack<'_>,
    form: (f64, bool),
    request: &plan::Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    let read = Read::<T>::new(stack, form)?;
    let heads = read.heads()?;
    let decision = plan::Decision::from(decision);
    let (found, _) =
        options.run(py, |options, watch| plan::solve_heads(&heads, decision, &request.options(*options), watch))?;
    Solution::new(py, request, found)
}
