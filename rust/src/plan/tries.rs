//! Tries held against each other and against what was asked.

use super::request::{Certificate, Certified, Planned, Request};
use crate::float::Float;

/// By what factor more rows or another degree must make the worst error smaller; what rounding leaves of the tolerance may be
/// nothing, which no factor does.
pub fn missed<T: Float>(request: &Request, planned: &Planned<T>) -> f64 {
    let of = |one: &Certified<T>| {
        let Certificate { absolute, rounding, size, reached, .. } = one.certificate;
        let left = request.allowed(absolute, size) - rounding;
        match reached {
            Some(false) if left > 0.0 => (absolute - rounding) / left,
            Some(false) => f64::INFINITY,
            _ => 1.0,
        }
    };
    planned.gradients.iter().map(of).fold(1.0, f64::max)
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
