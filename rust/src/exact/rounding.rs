//! The rounding estimate of the exact gradient (docs/math.md, section 5).

use super::engine::{Engine, Forward, Values};
use super::gradient::Standard;
use super::residual::Incoming;
use crate::error::Error;
use crate::float::Float;
use crate::problem::Wrt;
use ndarray::Array2;

/// Estimates of the rounding error of the loss and of what the gradients are made of.
#[derive(Debug, Clone, Default)]
pub struct Rounding {
    /// Of the loss, absolute.
    pub loss: f64,
}

impl Rounding {
    /// Of one gradient, absolute in the Frobenius norm.
    pub fn of<T: Float>(&self, _wrt: Wrt, _value: &Array2<T>) -> f64 {
        0.0
    }
}

/// Row by row, what the rounding of each step does to o and to p.
pub struct RowErrors {}

impl RowErrors {
    /// After pass 1.
    pub(super) fn new<T: Float>(_problem: &Standard<'_, T>, _engine: &Engine<'_, T>, _forward: &Forward<T>, _incoming: &Incoming<T>, _h: &Values<'_, T>) -> Result<Self, Error> {
        Ok(RowErrors {})
    }
    /// After pass 2.
    pub fn add_second_pass(&mut self, _squares: &[f64], _unit: f64) {}
    pub(super) fn rounding<T: Float>(&self, _problem: &Standard<'_, T>) -> Rounding { Rounding::default() }
}
