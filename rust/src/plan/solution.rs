//! What the planner gives back.

use ndarray::Array2;

use super::decision::Decision;
use super::prepared::Prepared;
use super::request::Certificate;
use crate::certificate::rigorous::Steps;
use crate::options::Level;
use crate::problem::Wrt;

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
    /// What each step was charged, where a rigorous bound knows.
    pub steps: Option<Steps>,
    /// What was run and why.
    pub decision: Decision,
    /// What another call with the same keys, values and weights can use again.
    pub prepared: Option<Prepared>,
    /// The instruction set that computed them.
    pub level: Level,
}
