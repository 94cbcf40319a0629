//! Heads of attention, one after the other: see attngrad_rs.attention.

use attngrad::{Float, Heads, plan};
use numpy::{Element, IntoPyArray};
use pyo3::prelude::*;

use crate::call::{Matrix, Options, is_single, read};
use crate::errors::{Failure, Result};
use crate::plan::{Decision, Request, Solution};

/// query, key and value of each head, and dout for a vector-Jacobian product.
type Stack<'py> = Vec<Vec<Bound<'py, PyAny>>>;

/// The factor of the logits, the usual one where it is None, and whether there is a causal mask.
type Form = (Option<f64>, bool);

/// The arrays of heads while the core reads them.
struct Read<'py, T: Element>(Vec<Vec<Matrix<'py, T>>>, Form);

impl<'py, T: Element + Float> Read<'py, T> {
    fn new(stack: &Stack<'py>, form: Form) -> Result<Self> {
        Ok(Read(stack.iter().map(|head| head.iter().map(read).collect()).collect::<Result<_>>()?, form))
    }

    fn heads(&self) -> Result<Vec<Heads<'_, T>>> {
        let (scale, is_causal) = self.1;
        let mut heads = Vec::with_capacity(self.0.len());
        for arrays in &self.0 {
            let [query, key, value, ..] = &arrays[..] else {
                return Err(Failure::internal("a head of too few arrays came through"));
            };
            let head = Heads::new(query.as_array(), key.as_array(), value.as_array())?;
            heads.push(scale.map_or(head, |scale| head.with_scale(scale)).with_causal(is_causal));
        }
        Ok(heads)
    }

    fn pulled(&self) -> Result<Vec<plan::Pulled<'_, T>>> {
        let douts = self.0.iter().filter_map(|head| Some(head.get(3)?.as_array()));
        Ok(self.heads()?.into_iter().zip(douts).collect())
    }
}

fn is_single_stack(stack: &Stack<'_>) -> bool {
    stack.first().and_then(|head| head.first()).is_some_and(is_single)
}

/// The output of all heads, rows of one head after those of the one before.
#[pyfunction]
pub fn attention<'py>(
    py: Python<'py>,
    stack: Stack<'py>,
    scale: Option<f64>,
    is_causal: bool,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    in_precision!(is_single_stack(&stack), T => attended::<T>(py, &stack, (scale, is_causal), options))
}

fn attended<'py, T: Element + Float>(
    py: Python<'py>,
    stack: &Stack<'py>,
    form: Form,
    options: &Options,
) -> Result<Bound<'py, PyAny>> {
    let read = Read::<T>::new(stack, form)?;
    let heads = read.heads()?;
    let (output, _) = options.run(py, |options, watch| plan::attend_heads(&heads, options, watch))?;
    Ok(output.into_pyarray(py).into_any())
}

/// The decision for all heads, before anything is run.
#[pyfunction]
pub fn decide_heads(
    py: Python<'_>,
    stack: Stack<'_>,
    scale: Option<f64>,
    is_causal: bool,
    request: &Request,
) -> Result<Decision> {
    in_precision!(is_single_stack(&stack), T => decided::<T>(py, &stack, (scale, is_causal), &request.0))
}

fn decided<T: Element + Float>(
    py: Python<'_>,
    stack: &Stack<'_>,
    form: Form,
    request: &plan::Request,
) -> Result<Decision> {
    let read = Read::<T>::new(stack, form)?;
    let heads = read.pulled()?;
    Ok(py.detach(|| plan::decide_heads(&heads, request))?.into())
}

/// dq, dk and dv of all heads, by a decision: rows of one head after those of the one before.
#[pyfunction]
pub fn solve_heads(
    py: Python<'_>,
    stack: Stack<'_>,
    scale: Option<f64>,
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
    form: Form,
    request: &plan::Request,
    decision: &Decision,
    options: &Options,
) -> Result<Solution> {
    let read = Read::<T>::new(stack, form)?;
    let heads = read.pulled()?;
    let decision = plan::Decision::from(decision);
    let (found, _) =
        options.run(py, |options, watch| plan::solve_heads(&heads, decision, &request.options(*options), watch))?;
    Solution::new(py, request, found)
}
