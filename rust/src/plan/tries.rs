//! Tries held against each other and against what was asked.

use super::request::{Certificate, Certified, Planned, Request};
use crate::float::Float;

/// By what factor the error of an output is above what was allowed.
pub fn missed<T: Float>(request: &Request, one: &Certified<T>) -> f64 {
    let Certificate { absolute, size, reached, .. } = one.certificate;
    if reached == Some(false) { absolute / request.allowed(absolute, size) } else { 1.0 }
}

/// Whether no output misses its tolerance.
pub fn reached<T>(planned: &Planned<T>) -> bool {
    planned.gradients.iter().all(|one| one.certificate.reached != Some(false))
}

/// The one that reached its tolerance, or else whose worst output needs the smaller one.
pub fn better<T: Float>(one: Option<Planned<T>>, other: Planned<T>) -> Planned<T> {
    let worst = |planned: &Planned<T>| {
        let needed = planned.gradients.iter().map(|one| (one.certificate.best_rtol, one.certificate.absolute));
        needed.fold((0.0, 0.0), |(rtol, error): (f64, f64), one| (rtol.max(one.0), error.max(one.1)))
    };
    match one {
        Some(one) if !reached(&other) && worst(&one) <= worst(&other) => one,
        _ => other,
    }
}
