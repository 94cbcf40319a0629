//! Tries compared with each other and with the request.

use super::request::{Certificate, Request};
use super::solution::{Gradient, Solution};
use crate::float::Float;
use crate::linalg::norms::largest;

/// Factor by which more rows or another degree must reduce the worst error; rounding may leave nothing of the
/// tolerance, which no factor reaches.
pub fn missed<T: Float>(request: &Request, planned: &Solution<T>) -> f64 {
    let of = |one: &Gradient<T>| {
        let Certificate { absolute, rounding, size, reached, .. } = one.certificate;
        let left = request.allowed(absolute, size) - rounding;
        match reached {
            Some(false) if left > 0.0 => (absolute - rounding) / left,
            Some(false) => f64::INFINITY,
            _ => 1.0,
        }
    };
    largest(planned.gradients.iter().map(of))
}

/// Whether no output misses its tolerance.
pub fn reached<T>(planned: &Solution<T>) -> bool {
    planned.gradients.iter().all(|one| one.certificate.reached != Some(false))
}

/// The one that reached its tolerance, or else whose worst output needs the smaller one.
pub fn better<T: Float>(one: Option<Solution<T>>, other: Solution<T>) -> Solution<T> {
    let worst = |planned: &Solution<T>| {
        let all = |of: fn(&Certificate) -> f64| largest(planned.gradients.iter().map(|one| of(&one.certificate)));
        (all(|one| one.best_rtol), all(|one| one.absolute))
    };
    match one {
        Some(one) if !reached(&other) && worst(&one) <= worst(&other) => one,
        _ => other,
    }
}
