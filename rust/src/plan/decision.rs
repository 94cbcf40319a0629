//! What is decided: a method and its size, and how a certificate is to be had.

use super::request::{Asked, Request};
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

/// What to run, and why.
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
            Backing::Estimated => matches!(wrt, Wrt::X | Wrt::WQ | Wrt::WK | Wrt::Y | Wrt::A1),
        }
    }
}
