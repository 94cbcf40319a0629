//! Statistics of queries and keys, and the planner's answers for them: see attngrad_rs.diagnose.

use attngrad::Float;
use numpy::Element;
use pyo3::prelude::*;

use crate::call::{self, Options, is_single};
use crate::errors::Result;
use crate::plan::Decision;
use crate::problem::{Arrays, Problem, inputs};

/// See attngrad_rs.diagnose.Prediction.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
#[derive(Clone)]
pub struct Prediction {
    rtol: f64,
    method: &'static str,
    degree: Option<usize>,
    features: Option<usize>,
    error: f64,
    reason: String,
    smallest_degree: Option<usize>,
    least_error: f64,
}

/// See attngrad_rs.Diagnosis.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
pub struct Diagnosis {
    n: usize,
    m: usize,
    width: usize,
    scale: f64,
    largest_query: f64,
    largest_key: f64,
    B: f64,
    threshold_ratio: f64,
    logit_bound: f64,
    logit_std: f64,
    logit_range: (f64, f64),
    spectrum: Vec<f64>,
    effective_rank: f64,
    predictions: Vec<Prediction>,
    regime: String,
    findings: Vec<String>,
    advice: String,
    text: String,
}

impl From<attngrad::Diagnosis> for Diagnosis {
    fn from(found: attngrad::Diagnosis) -> Self {
        let prediction = |one: attngrad::plan::Prediction| {
            let attngrad::plan::Prediction { rtol, decision, smallest_degree, least_error, .. } = one;
            let Decision { method, degree, features, predicted_error: error, reason, .. } = decision.into();
            Prediction { rtol, method, degree, features, error, reason, smallest_degree, least_error }
        };
        Diagnosis {
            text: found.to_string(),
            n: found.queries,
            m: found.keys,
            width: found.width,
            scale: found.scale,
            largest_query: found.largest_query,
            largest_key: found.largest_key,
            B: found.bound,
            threshold_ratio: found.threshold_ratio,
            logit_bound: found.logit_bound,
            logit_std: found.logit_std,
            logit_range: found.logit_range,
            spectrum: found.spectrum,
            effective_rank: found.effective_rank,
            predictions: found.predictions.into_iter().map(prediction).collect(),
            regime: found.regime.to_string(),
            findings: found.findings,
            advice: found.advice,
        }
    }
}

/// See attngrad_rs.diagnose.
#[pyfunction]
pub fn diagnose(
    py: Python<'_>,
    query: &Bound<'_, PyAny>,
    key: &Bound<'_, PyAny>,
    scale: Option<f64>,
    seed: u64,
    options: &Options,
) -> Result<Diagnosis> {
    in_precision!(is_single(query), T => of_heads::<T>(py, [query, key], scale, seed, options))
}

fn of_heads<T: Element + Float>(
    py: Python<'_>,
    [query, key]: [&Bound<'_, PyAny>; 2],
    scale: Option<f64>,
    seed: u64,
    options: &Options,
) -> Result<Diagnosis> {
    let (query, key) = (call::read::<T, _>(query)?, call::read::<T, _>(key)?);
    let (query, key) = (query.as_array(), key.as_array());
    let found = options.run(py, |options, watch| attngrad::diagnose(query, key, scale, seed, options, watch))?;
    Ok(found.0.into())
}

/// The same of a problem, with the decisions for the problem itself, also for the accuracies `besides`.
#[pyfunction]
pub fn diagnose_problem(
    py: Python<'_>,
    problem: &Problem,
    wrt: Vec<String>,
    besides: Vec<f64>,
    seed: u64,
    options: &Options,
) -> Result<Diagnosis> {
    let wrt = inputs(&wrt)?;
    in_precision!(problem.is_single(py), T => of_problem::<T>(py, problem, &wrt, &besides, seed, options))
}

fn of_problem<T: Element + Float>(
    py: Python<'_>,
    given: &Problem,
    wrt: &[attngrad::Wrt],
    besides: &[f64],
    seed: u64,
    options: &Options,
) -> Result<Diagnosis> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    let found = options
        .run(py, |options, watch| attngrad::plan::diagnose_problem(&problem, wrt, besides, seed, options, watch))?;
    Ok(found.0.into())
}
