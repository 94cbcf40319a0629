//! The planner: what it would run, and running it.

use attngrad::plan::cost::{Cost, Shape};
use attngrad::plan::{self, Asked, Certificate, Kind, Norm, Planned, Request, Start, Verdict, Wanted};
use attngrad::{Float, Wrt};
use numpy::{Element, IntoPyArray};
use pyo3::{prelude::*, types::PyDict};

use crate::call::Options;
use crate::errors::{Failure, Result};
use crate::problem::{Arrays, Problem, inputs};

/// The moments of some keys, to be used again with the same keys, values and weights.
#[pyclass(frozen)]
pub struct Prepared(plan::Prepared);

/// method ("auto", "exact" or "polynomial"), degree, rtol, atol, norm, certificate, seed.
type Asking = (String, Option<usize>, Option<f64>, f64, String, String, Option<u64>);

fn request((method, degree, rtol, atol, norm, certificate, seed): Asking) -> Result<Request> {
    Ok(Request {
        wanted: match method.as_str() {
            "polynomial" => Wanted::Polynomial(degree),
            // The exact method serves for every request: it is judged, and refused, as where it was chosen.
            _ => Wanted::Auto,
        },
        rtol,
        atol,
        norm: if norm == "max" { Norm::Largest } else { Norm::Frobenius },
        asked: match certificate.as_str() {
            "any" => Asked::Any,
            "estimated" => Asked::Estimated,
            "statistical" => Asked::Statistical,
            "rigorous" => Asked::Rigorous,
            _ => return Err(Failure::internal("an unknown kind of certificate came through")),
        },
        seed,
    })
}

/// A method and its size; sizes are None for the exact method.
#[pyclass(frozen, get_all, module = "attngrad_rs._core")]
#[derive(Clone)]
pub struct Decision {
    method: &'static str,
    degree: Option<usize>,
    samples: Option<usize>,
    exact_rows: Option<usize>,
    features: Option<usize>,
    predicted_error: f64,
    operations: f64,
    reason: String,
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

/// relative, reached, best_rtol, message.
type Judged = (f64, Option<bool>, f64, String);

/// kind, absolute, truncation, sampling, rounding, confidence, verdict.
type Known = (&'static str, f64, f64, f64, f64, Option<f64>, Judged);

fn known(request: &Request, certificate: &Certificate) -> Known {
    let Certificate { kind, absolute, truncation, sampling, rounding, confidence, .. } = *certificate;
    let judged = (certificate.relative, certificate.reached, certificate.best_rtol, certificate.message(request));
    (kind.name(), absolute, truncation, sampling, rounding, confidence, judged)
}

/// An error of some kind and of at most `absolute`, of a result of norm `size`, held against what is asked.
#[pyfunction]
pub fn judge(asking: Asking, kind: &str, absolute: f64, size: f64) -> Result<Judged> {
    let request = request(asking)?;
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
    let kind = kind.ok_or_else(|| Failure::internal("an unknown kind of error came through"))?;
    let Verdict { relative, reached, best_rtol, .. } = request.judge(kind, absolute, size);
    Ok((relative, reached, best_rtol, request.message(kind, absolute, size, reached)))
}

/// Operations of the exact passes for shapes n, m, d, d3 and dv.
#[pyfunction]
pub fn exact_operations(shape: (usize, usize, usize, usize, usize), wrt: Vec<String>, is_causal: bool) -> Result<f64> {
    let (n, m, d, d3, dv) = shape;
    Ok(Cost::of_shape(Shape { n, m, d, d3, dv }, &inputs(&wrt)?, is_causal).exact())
}

/// Refuses what no data could reach in a precision, by the name of its dtype.
#[pyfunction]
pub fn check_request(dtype: &str, asking: Asking) -> Result<()> {
    let request = request(asking)?;
    let check = if dtype == f32::NAME { Request::check_in::<f32> } else { Request::check_in::<f64> };
    Ok(check(&request)?)
}

fn choose<T: Element + Float>(py: Python<'_>, given: &Problem, wrt: &[Wrt], request: &Request) -> Result<Decision> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    Ok(py.detach(|| plan::decide(&problem, wrt, request))?.into())
}

/// What would be run, and why.
#[pyfunction]
pub fn decide(py: Python<'_>, problem: &Problem, wrt: Vec<String>, asking: Asking) -> Result<Decision> {
    let (wrt, request) = (inputs(&wrt)?, request(asking)?);
    in_precision!(problem.is_single(py), T => choose::<T>(py, problem, &wrt, &request))
}

fn look<T: Element + Float>(
    py: Python<'_>,
    given: &Problem,
    wrt: &[Wrt],
    request: &Request,
    options: &Options,
) -> Result<Decision> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    let found = options.run(py, |options, watch| plan::foresee(&problem, wrt, request, options, watch))?;
    Ok(found.0.into())
}

/// The same, with all that is known before anything big is computed.
#[pyfunction]
pub fn foresee(
    py: Python<'_>,
    problem: &Problem,
    wrt: Vec<String>,
    asking: Asking,
    options: &Options,
) -> Result<Decision> {
    let (wrt, request) = (inputs(&wrt)?, request(asking)?);
    in_precision!(problem.is_single(py), T => look::<T>(py, problem, &wrt, &request, options))
}

fn run<'py, T: Element + Float>(
    py: Python<'py>,
    given: &Problem,
    wrt: &[Wrt],
    request: &Request,
    start: (Option<&Prepared>, (usize, usize)),
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    let arrays = Arrays::<T>::read(py, given)?;
    let problem = arrays.problem(given)?;
    let (prepared, (degree, samples)) = start;
    let (result, _) = options.run(py, |options, watch| {
        let start = match prepared {
            Some(prepared) if prepared.0.fits(&problem, wrt, request, options)? => Start::Prepared(&prepared.0),
            _ => Start::Sized { degree, samples },
        };
        plan::planned_gradient(&problem, wrt, request, start, options, watch)
    })?;
    let Planned { loss, loss_certificate, gradients, steps, decision, prepared, .. } = result;
    let (values, certificates) = (PyDict::new(py), PyDict::new(py));
    for one in gradients {
        values.set_item(one.wrt.name(), one.value.into_pyarray(py))?;
        certificates.set_item(one.wrt.name(), known(request, &one.certificate))?;
    }
    let out = PyDict::new(py);
    out.set_item("gradients", values)?;
    out.set_item("certificates", certificates)?;
    out.set_item("loss", loss)?;
    out.set_item("loss_certificate", known(&request.without_tolerance(), &loss_certificate))?;
    out.set_item("steps", steps.map(|steps| [steps.f, steps.c, steps.q, steps.p1, steps.p2]))?;
    out.set_item("decision", Bound::new(py, Decision::from(decision))?)?;
    out.set_item("prepared", prepared.map(|prepared| Bound::new(py, Prepared(prepared))).transpose()?)?;
    Ok(out)
}

/// Loss and gradients by the method that the request leads to; `start` is a degree and a number of rows to begin
/// with; what was prepared is used where it fits.
#[pyfunction]
pub fn planned_gradient<'py>(
    py: Python<'py>,
    problem: &Problem,
    wrt: Vec<String>,
    asking: Asking,
    start: (usize, usize),
    prepared: Option<&Prepared>,
    options: &Options,
) -> Result<Bound<'py, PyDict>> {
    let (wrt, request) = (inputs(&wrt)?, request(asking)?);
    in_precision!(problem.is_single(py), T => run::<T>(py, problem, &wrt, &request, (prepared, start), options))
}
