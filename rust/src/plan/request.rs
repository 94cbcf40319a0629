//! What is asked of the planner, and what it gives back.

use ndarray::Array2;

use super::decide::Decision;
use super::execute::Prepared;
use crate::certificate::rigorous::Steps;
use crate::error::Error;
use crate::float::Float;
use crate::norms::norm;
use crate::options::Level;
use crate::polynomial::MAX_DEGREE;
use crate::problem::Wrt;

/// The least kind of certificate that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Whatever the method brings along.
    Any,
    /// A standard error with a safety factor.
    Estimated,
    /// A stated confidence that a rigorous cap on every row backs.
    Statistical,
    /// A bound, rounding included.
    Rigorous,
}

/// The norm in which errors are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Frobenius.
    Frobenius,
    /// Largest entry; bounds of the Frobenius norm serve for it.
    Largest,
}

impl Norm {
    /// Of an array.
    pub fn of<T: Float>(self, array: &Array2<T>) -> f64 {
        match (self, array.as_slice()) {
            (Norm::Frobenius, Some(entries)) => norm(entries),
            // NaN is not smaller than anything: it comes through.
            _ => {
                array.iter().map(|x| x.widen().abs()).fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
            }
        }
    }
}

/// The method wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The cheapest that reaches the tolerance.
    Auto,
    /// The polynomial method, of a given degree or the cheapest that reaches the tolerance.
    Polynomial(Option<usize>),
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// The method.
    pub wanted: Wanted,
    /// ‖ĝ − g‖ ≤ rtol ‖g‖ + atol for each output; without it, nothing is required.
    pub rtol: Option<f64>,
    /// See `rtol`.
    pub atol: f64,
    /// The norm of both.
    pub norm: Norm,
    /// The least kind of certificate.
    pub asked: Asked,
    /// Rows are drawn from the sequence that belongs to it.
    pub seed: u64,
}

impl Request {
    /// Whether an error of at most `absolute` is what was asked of a result of norm `size`.
    pub fn reached(&self, absolute: f64, size: f64) -> Option<bool> {
        self.rtol.map(|rtol| absolute <= self.atol + rtol * (size - absolute))
    }

    /// Refuses numbers that mean nothing.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<(), Error> {
        for (option, value) in [("rtol", self.rtol.unwrap_or(0.0)), ("atol", self.atol)] {
            if !(value >= 0.0 && value.is_finite()) {
                let wanted = "a finite number >= 0".into();
                return Err(Error::Option { option, found: value.to_string(), wanted });
            }
        }
        if let Wanted::Polynomial(Some(degree)) = self.wanted {
            check_degree(degree)?;
        }
        if self.wanted == Wanted::Polynomial(None) && self.rtol.is_none_or(|rtol| rtol == 0.0) {
            let wanted = "a degree, or rtol > 0 to choose it by".into();
            return Err(Error::Option { option: "degree", found: "none for the polynomial method".into(), wanted });
        }
        Ok(())
    }
}

/// Refuses a degree that no polynomial has.
pub(super) fn check_degree(degree: usize) -> Result<(), Error> {
    if degree <= MAX_DEGREE {
        return Ok(());
    }
    Err(Error::Option {
        option: "degree",
        found: degree.to_string(),
        wanted: format!("an integer from 0 to {MAX_DEGREE}"),
    })
}

/// What backs a certificate; kinds are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Rounding only.
    Exact,
    /// A bound that always holds.
    Rigorous,
    /// One that holds at a stated confidence.
    Statistical,
    /// A standard error with a safety factor.
    Estimated,
}

impl Kind {
    /// Its name in the Python API.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exact => "exact",
            Kind::Rigorous => "rigorous",
            Kind::Statistical => "statistical",
            Kind::Estimated => "estimated",
        }
    }
}

/// The error of one output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// What backs it.
    pub kind: Kind,
    /// The error is at most this: the sum of the terms below.
    pub absolute: f64,
    /// Of the polynomial in the place of exp.
    pub truncation: f64,
    /// Of what sampled rows say instead.
    pub sampling: f64,
    /// Of the arithmetic.
    pub rounding: f64,
    /// Of a statement of kind [`Kind::Statistical`].
    pub confidence: Option<f64>,
    /// Whether the tolerance was reached, where one was asked for.
    pub reached: Option<bool>,
}

impl Certificate {
    /// That of a result with no error but rounding.
    pub fn exact(request: &Request, rounding: f64, size: f64) -> Self {
        Certificate::new(request, Kind::Exact, [0.0, 0.0, rounding], size)
    }

    /// From the terms truncation, sampling and rounding, for a result of norm `size`; NaN is not known, hence infinite.
    pub fn new(request: &Request, kind: Kind, terms: [f64; 3], size: f64) -> Self {
        let [truncation, sampling, rounding] = terms.map(|term| if term.is_nan() { f64::INFINITY } else { term });
        let absolute = truncation + sampling + rounding;
        // Nothing tells such a result from zero, and zero is what it is to the accuracy of the arithmetic. Only the exact
        // method estimates its rounding; a bound of it is far above.
        let small = if kind == Kind::Exact { size <= absolute } else { size == 0.0 };
        let zero = small && truncation + sampling <= rounding && absolute.is_finite();
        let reached = request.reached(absolute, size).map(|reached| reached || zero);
        Certificate { kind, absolute, truncation, sampling, rounding, confidence: None, reached }
    }
}

/// One output and its error.
#[derive(Debug, Clone)]
pub struct Certified<T> {
    /// The input it is the gradient by.
    pub wrt: Wrt,
    /// dL/d(input).
    pub value: Array2<T>,
    /// Its error.
    pub certificate: Certificate,
}

/// A loss and its gradients with their certificates.
#[derive(Debug)]
pub struct Planned<T> {
    /// L.
    pub loss: f64,
    /// Its error.
    pub loss_certificate: Certificate,
    /// In the order in which they were asked for.
    pub gradients: Vec<Certified<T>>,
    /// What each step was charged, where a rigorous bound knows.
    pub steps: Option<Steps>,
    /// What was run and why.
    pub decision: Decision,
    /// What another call with the same keys, values and weights can use again.
    pub prepared: Option<Prepared>,
    /// The instruction set that computed them.
    pub level: Level,
}
