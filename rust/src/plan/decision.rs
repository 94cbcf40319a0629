//! The decision: a method and its size, and how a certificate is obtained.

use super::request::{Asked, Request, Wanted};
use crate::names::named;
use crate::problem::Wrt;

/// A method of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// Two passes over tiles.
    Exact,
    /// The moment form.
    Polynomial,
}

named!(Method, "method": Exact = "exact", Polynomial = "polynomial");

/// The method to run, and the reason.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Decision {
    /// The method.
    pub method: Method,
    /// Degree of the polynomial; 0 for the exact passes.
    pub degree: usize,
    /// Rows computed exactly to certify; 0 where a bound needs none.
    pub samples: usize,
    /// Rows computed exactly because the polynomial is not trusted with them; known afterwards.
    pub apart: usize,
    /// Number of features of the degree.
    pub features: usize,
    /// Relative error beyond rounding that is expected.
    pub predicted_error: f64,
    /// Operations in those of the exact passes.
    pub operations: f64,
    /// Operations of all that was looked at and tried before, and led to nothing; known afterwards.
    pub spent: f64,
    /// In words.
    pub reason: String,
}

impl Decision {
    /// A method and its size, and nothing known of its cost yet; the exact passes have the size 0.
    pub fn new(method: Method, degree: usize, samples: usize) -> Self {
        Decision {
            method,
            degree,
            samples,
            apart: 0,
            features: 0,
            predicted_error: 0.0,
            operations: f64::INFINITY,
            spent: 0.0,
            reason: String::new(),
        }
    }

    /// One decision for two heads: the exact passes if either needs them, and otherwise the costlier degree with as many
    /// rows as either takes.
    pub(super) fn or_dearer(self, other: Self) -> Self {
        if [&self, &other].iter().any(|one| one.method == Method::Exact) {
            return if self.method == Method::Exact { self } else { other };
        }
        let samples = self.samples.max(other.samples);
        let is_dearer = (other.degree, other.operations) > (self.degree, self.operations);
        Decision { samples, ..if is_dearer { other } else { self } }
    }

    /// The exact passes, because …
    pub(super) fn exact(reason: String) -> Self {
        Decision { reason, ..Decision::new(Method::Exact, 0, 0) }
    }
}

/// Reasons for the exact passes that need no look at the data.
const BY_NAME: &str = "it was asked for by name";
const WITHOUT: &str = "rtol is None: nothing but rounding is allowed";
const ZERO: &str = "rtol is 0: nothing but rounding is allowed";

impl Request {
    /// Why the exact passes, whatever the problem; nothing where that depends on it.
    pub(super) fn exact_because(&self) -> Option<&'static str> {
        match self.wanted {
            Wanted::Exact => Some(BY_NAME),
            Wanted::Auto if self.is_exact() => Some(if self.rtol.is_none() { WITHOUT } else { ZERO }),
            _ => None,
        }
    }

    /// The decision where not even the shapes matter: no number of the arrays is read for it, nor to hold it against B.
    pub fn settled(&self) -> Option<Decision> {
        self.exact_because().filter(|_| self.bound.is_none()).map(|reason| Decision::exact(reason.into()))
    }
}

/// How a certificate is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    Rigorous,
    Statistical,
    Estimated,
}

impl Backing {
    pub fn of(request: &Request) -> Self {
        match request.asked {
            Asked::Rigorous => Backing::Rigorous,
            Asked::Statistical => Backing::Statistical,
            Asked::Estimated => Backing::Estimated,
            Asked::Any if request.tolerates() => Backing::Estimated,
            Asked::Any => Backing::Rigorous,
        }
    }

    /// The outputs that it can speak of.
    pub fn covers(self, wrt: Wrt) -> bool {
        match self {
            Backing::Rigorous => true,
            Backing::Statistical => matches!(wrt, Wrt::X | Wrt::WQ),
            // A is a sum of three, whose errors may meet.
            Backing::Estimated => wrt != Wrt::A,
        }
    }
}
