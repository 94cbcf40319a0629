//! The result of the planner.

use ndarray::Array2;

use super::decision::Decision;
use super::entries::Entries;
use super::prepared::Prepared;
use super::request::{Certificate, Kind, Request};
use crate::certificate::rigorous::Steps;
use crate::certificate::statistical::MISS;
use crate::float::Float;
use crate::options::Level;
use crate::problem::Wrt;

/// Roundings that adding exact rows and a correction to an output takes.
pub(super) const ADDITIONS: f64 = 8.0;

/// One output and its error.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradient<T> {
    /// The input it is the gradient by.
    pub wrt: Wrt,
    /// dL/d(input).
    pub value: Array2<T>,
    /// Its error.
    pub certificate: Certificate,
}

/// A loss and its gradients with their certificates.
#[derive(Debug)]
#[non_exhaustive]
pub struct Solution<T> {
    /// L.
    pub loss: f64,
    /// Its error.
    pub loss_certificate: Certificate,
    /// In the order in which they were asked for.
    pub gradients: Vec<Gradient<T>>,
    /// Error bounds of the steps, where a rigorous bound provides them.
    pub steps: Option<Steps>,
    /// The method that was run, and the reason.
    pub decision: Decision,
    /// The parts that another call with the same keys, values and weights can reuse.
    pub prepared: Option<Prepared>,
    /// The largest entries of A1 X and A2, where B is given or the request is the paper's problem AAttLGC.
    pub entries: Option<Entries>,
    /// The instruction set that computed them.
    pub level: Level,
}

impl<T: Float> Gradient<T> {
    /// Takes the estimate from rows where it is less than its bound.
    pub(super) fn offer(
        &mut self,
        request: &Request,
        kind: Kind,
        sampling: f64,
        rounding: f64,
        change: impl FnOnce(&mut Array2<T>),
    ) {
        // NaN is less than nothing.
        let is_less = sampling + rounding < self.certificate.absolute;
        if !is_less {
            return;
        }
        change(&mut self.value);
        let size = request.norm.of(&self.value);
        let confidence = (kind == Kind::Statistical).then_some(1.0 - MISS);
        let rounding = rounding + ADDITIONS * T::UNIT_ROUNDOFF * size;
        let terms = if kind == Kind::Rigorous { [sampling, 0.0, rounding] } else { [0.0, sampling, rounding] };
        self.certificate = Certificate { confidence, ..Certificate::new(request, kind, terms, size) };
    }
}
