//! The planner: what it would run, and running it.

use attngrad::plan::{self, Asked, Certificate, Decision, Norm, Planned, Request, Start, Wanted};
use attngrad::{Float, Wrt};
use numpy::{Element, IntoPyArray};
use pyo3::{prelude::*, types::PyDict};

use super::{Arrays, Given, inputs};
use crate::call::{Call, Control};
use crate::errors::{Failure, Result};

/// The moments of some keys, to be used again with the same keys, values and weights.
#[pyclass(frozen)]
pub struct Prepared(plan::Prepared);

/// method ("auto" or "polynomial"), degree, rtol, atol, norm, certificate, seed.
type Asking = (String, Option<usize>, Option<f64>, f64, String, String, u64);

fn request((method, degree, rtol, atol, norm, certificate, seed): Asking) -> Result<Request> {
    Ok(Request {
        wanted: if method == "auto" { Wanted::Auto } else { Wanted::Polynomial(degree) },
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

/// method, degree, samples, exact_rows, features, predicted_error, operations, reason.
type Chosen = (&'static str, usize, usize, usize, usize, f64, f64, String);

fn chosen(decision: Decision) -> Chosen {
    let Decision { method, degree, samples, apart, features, predicted_error, operations, reason } = decision;
    (method.name(), degree, samples, apart, features, predicted_error, operations, reason)
}

/// kind, absolute, truncation, sampling, rounding, confidence.
type Known = (&'static str, f64, f64, f64, f64, Option<f64>);

fn known(certificate: &Certificate) -> Known {
    let Certificate { kind, absolute, truncation, sampling, rounding, confidence, .. } = *certificate;
    (kind.name(), absolute, truncation, sampling, rounding, confidence)
}

fn choose<T: Element + Float>(
    py: Python<'_>,
    given: &Given<'_>,
    wrt: &[Wrt],
    form: (f64, bool),
    request: &Request,
) -> Result<Chosen> {
    let arrays = Arrays::<T>::read(given)?;
    let problem = arrays.problem(form)?;
    Ok(chosen(py.detach(|| plan::decide(&problem, wrt, request))?))
}

/// What would be run, and why.
#[pyfunction]
pub fn decide(py: Python<'_>, given: Given<'_>, wrt: Vec<String>, form: (f64, bool), asking: Asking) -> Result<Chosen> {
    let (wrt, request) = (inputs(&wrt)?, request(asking)?);
    either!(given, choose(py, &given, &wrt, form, &request))
}

fn run<'py, T: Element + Float>(
    py: Python<'py>,
    given: &Given<'py>,
    wrt: &[Wrt],
    form: (f64, bool),
    request: &Request,
    start: (Option<&Prepared>, (usize, usize)),
    call: Call,
) -> Result<Bound<'py, PyDict>> {
    let arrays = Arrays::<T>::read(given)?;
    let problem = arrays.problem(form)?;
    let (prepared, (degree, samples)) = start;
    let (result, _) = call.run(py, |options, watch| {
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
        certificates.set_item(one.wrt.name(), known(&one.certificate))?;
    }
    let out = PyDict::new(py);
    out.set_item("gradients", values)?;
    out.set_item("certificates", certificates)?;
    out.set_item("loss", loss)?;
    out.set_item("loss_certificate", known(&loss_certificate))?;
    out.set_item("steps", steps.map(|steps| [steps.f, steps.c, steps.q, steps.p1, steps.p2]))?;
    out.set_item("decision", chosen(decision))?;
    out.set_item("prepared", prepared.map(|prepared| Bound::new(py, Prepared(prepared))).transpose()?)?;
    Ok(out)
}

/// Loss and gradients by the method that the request leads to; `start` is a degree and a number of rows to begin
/// with; what was prepared is used where it fits.
#[pyfunction]
pub fn planned_gradient<'py>(
    py: Python<'py>,
    given: Given<'py>,
    wrt: Vec<String>,
    form: (f64, bool),
    asking: Asking,
    start: (usize, usize),
    prepared: Option<&Prepared>,
    control: Control,
) -> Result<Bound<'py, PyDict>> {
    let (wrt, request, call) = (inputs(&wrt)?, request(asking)?, Call::new(control)?);
    either!(given, run(py, &given, &wrt, form, &request, (prepared, start), call))
}
