//! The planner: its decisions, and their execution.

use std::collections::HashMap;

use attngrad::Float;
use attngrad::certificate::rigorous::Steps;
use attngrad::plan::{self, Start, Wanted};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};

use crate::call::Options;
use crate::errors::{Failure, Result};
use crate::halves;
use crate::problem::{Arrays, Problem, inputs};

/// The moments of some keys, to be used again with the same keys, values and weights.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Prepared(plan::Prepared);

/// The request: a method and an accuracy.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Request(pub plan::Request);

#[pymethods]
impl Request {
    #[new]
    #[pyo3(signature = (*, method, degree, rtol, atol, norm, certificate, seed, bound))]
    fn new(
        method: &str,
        degree: Option<usize>,
        rtol: Option<f64>,
        atol: f64,
        norm: &str,
        certificate: &str,
        seed: Option<u64>,
        bound: Option<f64>,
    ) -> Result<Self> {
        let wanted = match method {
            "auto" => Wanted::Auto,
            "exact" => Wanted::Exact,
            "polynomial" => Wanted::Polynomial(degree),
            _ => return Err(Failure::internal("an unknown method came through")),
        };
        let (norm, asked) = (norm.parse()?, certificate.parse()?);
        Ok(Request(plan::Request { wanted, rtol, atol, norm, asked, seed, bound, ..plan::Request::default() }))
    }

    /// Refuses a request that no data could meet in a precision, which is given by the name of its dtype.
    fn check(&self, dtype: &str) -> Result<()> {
        Ok(in_precision!(dtype == f32::NAME, T => self.0.check_in::<T>())?)
    }

    /// The decision for a problem that needs no look at the arrays.
    fn settled(&self) -> Option<Decision> {
        self.0.settled().map(Decision::from)
    }
}

/// A method and its size; sizes are None for the exact method.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
#[derive(Clone)]
pub struct Decision {
    pub method: &'static str,
    pub degree: Option<usize>,
    samples: Option<usize>,
    exact_rows: Option<usize>,
    pub features: Option<usize>,
    pub predicted_error: f64,
    operations: f64,
    pub reason: String,
}

impl From<plan::Decision> for Decision {
    fn from(decision: plan::Decision) -> Self {
        let size = |size: usize| (decision.method != plan::Method::Exact).then_some(size);
        Decision {
            method: decision.method.name(),
            degree: size(decision.degree),
            samples: size(decision.samples),
            exact_rows: size(decision.apart),
            features: size(decision.features),
            predicted_error: decision.predicted_error,
            operations: decision.operations,
            reason: decision.reason,
        }
    }
}

impl From<&Decision> for plan::Decision {
    fn from(decision: &Decision) -> Self {
        let exact = decision.degree.is_none();
        let method = if exact { plan::Method::Exact } else { plan::Method::Polynomial };
        let mut made = plan::Decision::new(method, decision.degree.unwrap_or(0), decision.samples.unwrap_or(0));
        made.features = decision.features.unwrap_or(0);
        made.predicted_error = decision.predicted_error;
        made.operations = decision.operations;
        made.reason.clone_from(&decision.reason);
        made
    }
}

#[pymethods]
impl Decision {
    /// One that was made before, or by hand.
    #[new]
    #[pyo3(signature = (*, method, degree, samples, features, predicted_error, operations, reason))]
    fn new(
        method: &str,
        degree: Option<usize>,
        samples: Option<usize>,
        features: Option<usize>,
        predicted_error: f64,
        operations: f64,
        reason: String,
    ) -> Result<Self> {
        let method = method.parse::<plan::Method>()?.name();
        Ok(Decision { method, degree, samples, exact_rows: None, features, predicted_error, operations, reason })
    }

    /// Expected operations, seconds and bytes for a problem of a shape; the bytes are besides the inputs and their
    /// copies.
    fn forecast(
        &self,
        shape: &Shape,
        dtype: &str,
        wrt: Vec<String>,
        is_causal: bool,
        options: &Options,
    ) -> Result<Forecast> {
        let (wrt, decision) = (inputs(&wrt)?, self.into());
        let found = in_precision!(dtype == f32::NAME, T => {
            plan::forecast::<T>(&shape.0, &wrt, is_causal, &decision, options.get())
        })?;
        let plan::Forecast { operations, seconds, peak_bytes, .. } = found;
        Ok(Forecast { operations, seconds, peak_bytes })
    }
}

/// The sizes of a problem, or of one head of attention.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Shape(attngrad::Shape);

#[pymethods]
impl Shape {
    /// Held against each other by the names of the arrays.
    #[staticmethod]
    fn of_problem(shapes: HashMap<String, Vec<usize>>) -> Result<Self> {
        Ok(Shape(attngrad::Shape::of_arrays(|name| shapes.get(name).map(Vec::as_slice))?))
    }

    /// The same for query, key and, where it is given, value of one head or several.
    #[staticmethod]
    fn of_heads(shapes: HashMap<String, Vec<usize>>) -> Result<Self> {
        Ok(Shape(attngrad::Shape::of_heads(|name| shapes.get(name).map(Vec::as_slice))?))
    }

    /// Whether these inputs can be differentiated by.
    fn check(&self, wrt: Vec<String>) -> Result<()> {
        Ok(inputs(&wrt)?.into_iter().try_for_each(|wrt| self.0.check(wrt))?)
    }
}

/// Expected cost of a decision.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
pub struct Forecast {
    operations: f64,
    seconds: f64,
    peak_bytes: u128,
}

/// See attngrad_rs.Certificate.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
pub struct Certificate {
    method: &'static str,
    kind: &'static str,
    absolute: f64,
    relative: f64,
    norm: &'static str,
    size: f64,
    confidence: Option<f64>,
    terms: Py<PyDict>,
    steps: Py<PyDict>,
    rtol_requested: Option<f64>,
    best_rtol: f64,
    success: Option<bool>,
    message: String,
}

impl Certificate {
    /// That of an output made by a method.
    pub fn new(
        py: Python<'_>,
        found: &plan::Certificate,
        request: &plan::Request,
        method: &'static str,
        norm: &'static str,
        steps: Option<Steps>,
    ) -> Result<Self> {
        let bounds = steps.map(|s| [("f", s.f), ("c", s.c), ("q", s.q), ("p1", s.p1), ("p2", s.p2)]);
        let (terms, steps) = (PyDict::new(py), bounds.into_iter().flatten().into_py_dict(py)?);
        if found.kind != plan::Kind::Exact {
            terms.set_item("truncation", found.truncation)?;
            terms.set_item("sampling", found.sampling)?;
        }
        terms.set_item("rounding", found.rounding)?;
        Ok(Certificate {
            method,
            kind: found.kind.name(),
            absolute: found.absolute,
            relative: found.relative,
            norm,
            size: found.size,
            confidence: found.confidence,
            terms: terms.unbind(),
            steps: steps.unbind(),
            rtol_requested: request.rtol,
            best_rtol: found.best_rtol,
            success: found.reached,
            message: found.message(request),
        })
    }
}

/// That of an exact result of norm `size`, with nothing but this rounding error.
#[pyfunction]
pub fn exact_certificate(py: Python<'_>, rounding: f64, size: f64) -> Result<Certificate> {
    let request = plan::Request::default();
    let found = plan::Certificate::exact(&request, rounding, size);
    Certificate::new(py, &found, &request, plan::Method::Exact.name(), request.norm.name(), None)
}

/// A loss and its gradients with their certificates, by the names of the inputs.
#[pyclass(frozen, module = "attngrad_rs._core")]
pub struct Solution {
    #[pyo3(get)]
    loss: f64,
    #[pyo3(get)]
    gradients: Py<PyDict>,
    #[pyo3(get)]
    decision: Decision,
    #[pyo3(get)]
    prepared: Option<Py<Prepared>>,
    /// The largest entry of A1 X and A2, where it was measured.
    #[pyo3(get)]
    bound: Option<f64>,
    request: plan::Request,
    /// Error bounds of the steps, where a rigorous bound provides them.
    steps: Option<Steps>,
    /// Certificates become objects when they are looked at: that takes longer than a short call.
    certificates: Vec<(&'static str, plan::Certificate)>,
    of_loss: plan::Certificate,
}

impl Solution {
    /// The findings of the core, with the arrays of their gradients by name and in their order.
    pub fn new<T: Float>(
        py: Python<'_>,
        request: &plan::Request,
        found: plan::Solution<T>,
        gradients: Vec<(&'static str, Py<PyAny>)>,
    ) -> Result<Self> {
        let certificates = gradients.iter().zip(&found.gradients).map(|((name, _), one)| (*name, one.certificate));
        Ok(Solution {
            loss: found.loss,
            certificates: certificates.collect(),
            gradients: gradients.into_py_dict(py)?.unbind(),
            decision: found.decision.into(),
            prepared: found.prepared.map(|prepared| Py::new(py, Prepared(prepared))).transpose()?,
            bound: found.entries.map(|entries| entries.bound()),
            request: *request,
            steps: found.steps,
            of_loss: found.loss_certificate,
        })
    }
}

#[pymethods]
impl Solution {
    #[getter]
    fn certificates<'py>(&self, py: Python<'py>) -> Result<Bound<'py, PyDict>> {
        let (made, norm) = (PyDict::new(py), self.request.norm.name());
        for (name, found) in &self.certificates {
            made.set_item(name, Certificate::new(py, found, &self.request, self.decision.method, norm, self.steps)?)?;
        }
        Ok(made)
    }

    #[getter]
    fn loss_certificate(&self, py: Python<'_>) -> Result<Certificate> {
        Certificate::new(py, &self.of_loss, &self.request.without_tolerance(), self.decision.method, "abs", None)
    }
}

/// Loss and gradients by the method that the request leads to, or by a decision that was made before; what was prepared
/// is used where it fits. The gradients are rounded to `half`, if it is given.
#[pyfunction]
#[pyo3(signature = (problem, wrt, request, decision, prepared, options, half=None))]
pub fn solve(
    py: Python<'_>,
    problem: &Problem,
    wrt: Vec<String>,
    request: &Request,
    decision: Option<&Decision>,
    prepared: Option<&Prepared>,
    options: &Options,
    half: Option<&str>,
) -> Result<Solution> {
    let (wrt, half) = (inputs(&wrt)?, half.map(str::parse).transpose()?);
    in_precision!(problem.is_single(py), T => {
        let arrays = Arrays::<T>::read(py, problem)?;
        let problem = arrays.problem(problem)?;
        let (mut found, _) = options.run(py, |options, watch| {
            let start = match (prepared, decision) {
                (Some(one), _) if one.0.fits(&problem, &wrt, &request.0, options)? => Start::Prepared(&one.0),
                (_, Some(Decision { degree: Some(degree), samples, .. })) => {
                    Start::Sized { degree: *degree, samples: samples.unwrap_or(0) }
                }
                _ => Start::Fresh,
            };
            // A decision without a degree is the exact method.
            let is_exact = matches!(decision, Some(one) if one.degree.is_none());
            let wanted = if is_exact { Wanted::Exact } else { request.0.wanted };
            plan::solve(&problem, &wrt, &plan::Request { wanted, options: *options, ..request.0 }, start, watch)
        })?;
        if let Some(Decision { degree: None, reason, .. }) = decision {
            found.decision.reason.clone_from(reason);
        }
        let shapes: Vec<[usize; 2]> = found.gradients.iter().map(|one| one.value.dim().into()).collect();
        let named = found.gradients.iter().zip(&shapes).map(|(one, shape)| (one.wrt.name(), &shape[..]));
        let named: Vec<(&'static str, &[usize])> = named.collect();
        let gradients = halves::gradients(py, &mut found, &named, half, &request.0.options(*options.get()))?;
        Solution::new(py, &request.0, found, gradients)
    })
}

/// The decision from all that is known before anything big is computed.
#[pyfunction]
pub fn foresee(
    py: Python<'_>,
    problem: &Problem,
    wrt: Vec<String>,
    request: &Request,
    options: &Options,
) -> Result<Decision> {
    let wrt = inputs(&wrt)?;
    in_precision!(problem.is_single(py), T => {
        let arrays = Arrays::<T>::read(py, problem)?;
        let problem = arrays.problem(problem)?;
        let foreseen = |options: &attngrad::Options, watch: Option<attngrad::Watch<'_>>| {
            plan::foresee(&problem, &wrt, &request.0.options(*options), watch)
        };
        Ok(options.run(py, foreseen)?.0.into())
    })
}
