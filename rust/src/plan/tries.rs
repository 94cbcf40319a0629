//! Tries compared with each other and with the request.

use super::prepared::Prepared;
use super::request::{Certificate, Request};
use super::solution::Solution;
use crate::linalg::norms::largest;

/// Results of a try.
pub trait Tried {
    /// The certificate of each.
    fn certificates(&self) -> impl Iterator<Item = &Certificate>;

    /// Keeps the parts that another call can reuse, where results have room for them.
    fn keep(&mut self, prepared: Option<Prepared>);
}

impl<T> Tried for Solution<T> {
    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.gradients.iter().map(|one| &one.certificate)
    }

    fn keep(&mut self, prepared: Option<Prepared>) {
        self.prepared = prepared;
    }
}

/// Factor by which more rows or another degree must reduce the worst error; rounding may leave nothing of the
/// tolerance, which no factor reaches.
pub fn missed(request: &Request, tried: &impl Tried) -> f64 {
    let of = |one: &Certificate| {
        let Certificate { absolute, rounding, size, reached, .. } = *one;
        let left = request.allowed(absolute, size) - rounding;
        match reached {
            Some(false) if left > 0.0 => (absolute - rounding) / left,
            Some(false) => f64::INFINITY,
            _ => 1.0,
        }
    };
    largest(tried.certificates().map(of))
}

/// Whether no output misses its tolerance.
pub fn reached(tried: &impl Tried) -> bool {
    tried.certificates().all(|one| one.reached != Some(false))
}

/// The one that reached its tolerance, or else whose worst output needs the smaller one.
pub fn better<R: Tried>(one: Option<R>, other: R) -> R {
    let worst = |tried: &R| {
        let all = |of: fn(&Certificate) -> f64| largest(tried.certificates().map(of));
        (all(|one| one.best_rtol), all(|one| one.absolute))
    };
    match one {
        Some(one) if !reached(&other) && worst(&one) <= worst(&other) => one,
        _ => other,
    }
}
