//! The planner: what it would run, and running it.

use attngrad::plan::cost::{Cost, Shape};
use attngrad::plan::{self, Asked, Certificate, Decision, Kind, Norm, Planned, Request, Start, Verdict, Wanted};
use attngrad::{Float, Wrt};
use numpy::{Element, IntoPyArray};
use pyo3::{prelude::*, types::PyDict};

use super::{Arrays, Given, inputs};
use crate::call::{Call, Control};
use crate::errors::{Failure, Result};

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

/// method, degree, samples, exact_rows, features, predicted_error, operations, reason.
type Chosen = (&'static str, usize, usize, usize, usize, f64, f64, String);

fn chosen(decision: Decision) -> Chosen {
    let Decision { method, degree, samples, apart, features, predicted_error, operations, reason, .. } = decision;
    (method.name(), degree, samples, apart, features, predicted_error, operations, reason)
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
    let Verdict { relative, reached, best_rtol } = request.judge(kind, absolute, size);
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

fn look<T: Element + Float>(
    py: Python<'_>,
    given: &Given<'_>,
    wrt: &[Wrt],
    form: (f64, bool),
    request: &Request,
    call: Call,
) -> Result<Chosen> {
    let arrays = Arrays::<T>::read(given)?;
    let problem = arrays.problem(form)?;
    let found = call.run(py, |options, watch| plan::foresee(&problem, wrt, request, options, watch))?;
    Ok(chosen(found.0))
}

/// The same, with all that is known before anything big is computed.
#[pyfunction]
pub fn foresee(
    py: Python<'_>,
    given: Given<'_>,
    wrt: Vec<String>,
    form: (f64, bool),
    asking: Asking,
    control: Control,
) -> Result<Chosen> {
    let (wrt, request, call) = (inputs(&wrt)?, request(asking)?, Call::new(control)?);
    either!(given, look(py, &given, &wrt, form, &request, call))
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
        certificates.set_item(one.wrt.name(), known(request, &one.certificate))?;
    }
    let out = PyDict::new(py);
    out.set_item("gradients", values)?;
    out.set_item("certificates", certificates)?;
    out.set_item("loss", loss)?;
    out.set_item("loss_certificate", known(&request.without_tolerance(), &loss_certificate))?;
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
