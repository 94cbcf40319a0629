//! The rounding estimate of the exact gradient (docs/math.md, section 5).
//!
//! Rounding errors of different entries are taken as independent (squares add up), each step's own error by its
//! size: the statistical law that holds in practice, times [`ROUNDING_SAFETY`] for data where errors line up.

use ndarray::ArrayView2;

use super::Rows;
use super::engine::{Engine, Forward, Values};
use super::residual::Incoming;
use crate::buffer;
use crate::constants::{KEY_BLOCK, ROUNDING_SAFETY};
use crate::error::Error;
use crate::float::Float;
use crate::norms::norm;

/// Roundings of one weight besides its logit: shift, exponential, normaliser.
const WEIGHT_ROUNDINGS: f64 = 4.0;

/// What the products before the passes lost, in units of u.
pub struct Inherited {
    /// Of each row's logits, in natural units: scale · ‖a1_j‖ ‖W‖_F max ‖key‖ and the like.
    pub logits: Vec<f64>,
    /// Of a value: max ‖a3‖ ‖Y‖_F.
    pub values: f64,
}

/// Row by row, what rounding does to o and to p.
pub struct RowErrors {
    u: f64,
    /// Of o_j and c_j.
    c: Vec<f64>,
    /// Of f_j.
    f: Vec<f64>,
    /// Of p_j, entries independent of one another.
    p: Vec<f64>,
    /// Of p_j, the same multiple of f_j in every entry.
    drift: Vec<f64>,
    /// √Σ_i f_ji².
    spread: Vec<f64>,
    /// ‖c_j‖.
    c_norms: Vec<f64>,
    /// Roundings that add up in one block of a sum over keys.
    block: f64,
}

impl RowErrors {
    /// After pass 1: all but the part of p that only pass 2 can measure.
    pub fn new<T: Float>(
        engine: &Engine<'_, T>,
        values: &Values<'_, T>,
        forward: &Forward<T>,
        incoming: &Incoming<T>,
        inherited: &Inherited,
    ) -> Result<Self, Error> {
        let n = engine.count;
        let u = T::UNIT_ROUNDOFF;
        let block = (engine.keys.count.min(KEY_BLOCK) as f64).sqrt();
        let mut errors = RowErrors {
            u,
            c: buffer::with_capacity(n)?,
            f: buffer::with_capacity(n)?,
            p: buffer::with_capacity(n)?,
            drift: buffer::with_capacity(n)?,
            spread: buffer::with_capacity(n)?,
            c_norms: buffer::with_capacity(n)?,
            block,
        };
        let h = values.largest;
        let dimension = (engine.keys.width as f64).sqrt().max(1.0);
        for j in 0..n {
            let logit = engine.bound[j] * std::f64::consts::LN_2 + inherited.logits[j] / dimension;
            let weight = u * (WEIGHT_ROUNDINGS + 2.0 * logit + block);
            let spread = forward.squares[j].sqrt();
            let (c, o) = (incoming.norms[j], incoming.outputs[j]);
            let c_error = weight * spread * h + u * (inherited.values * spread + block * o + 2.0 * c);
            errors.c.push(c_error);
            errors.f.push(weight * spread);
            errors.p.push(u * spread * c * (2.0 * h + inherited.values));
            errors.drift.push(c_error * h + 2.0 * u * c * o);
            errors.spread.push(spread);
            errors.c_norms.push(c);
        }
        Ok(errors)
    }

    /// After pass 2, from Σ_i p_i² of each row.
    pub fn add_second_pass(&mut self, squares: &[f64], unit: f64) {
        for (j, square) in squares.iter().enumerate() {
            // f / spread is the relative error of a weight.
            let weight = if self.spread[j] > 0.0 { self.f[j] / self.spread[j] } else { 0.0 };
            self.p[j] += weight * unit * square.sqrt();
        }
    }

    /// Of the loss.
    pub fn loss(&self, loss: f64) -> f64 {
        let rows = self.c.iter().zip(&self.c_norms).map(|(error, c)| error * c);
        ROUNDING_SAFETY * root_sum(rows) + 4.0 * self.u * loss
    }

    /// Of s Σ_j a_j ⊗ w_j, where w = p K: `left` ‖a_j‖, `keys` max ‖k‖, `w` the norms of w.
    pub fn query_side(&self, left: &[f64], keys: f64, w: &[f64]) -> f64 {
        ROUNDING_SAFETY
            * root_sum((0..left.len()).map(|j| {
                left[j] * ((self.p[j] + self.drift[j]) * keys + self.u * self.block * w[j])
            }))
    }

    /// Of Σ_j p_j ⊗ q_j: `right` ‖q_j‖.
    pub fn key_side(&self, right: &[f64]) -> f64 {
        ROUNDING_SAFETY
            * root_sum((0..right.len()).map(|j| right[j] * (self.p[j] * self.block + self.drift[j] * self.spread[j])))
    }

    /// Of Σ_j f_j ⊗ c_j.
    pub fn value_side(&self) -> f64 {
        ROUNDING_SAFETY
            * root_sum((0..self.c.len()).map(|j| {
                self.f[j] * self.c_norms[j] + self.spread[j] * self.c[j]
            }))
    }

    /// Of Σ_j (f A3)_j ⊗ c_j: `inputs` max ‖a3‖.
    pub fn mixed(&self, inputs: f64) -> f64 {
        ROUNDING_SAFETY
            * inputs
            * root_sum((0..self.c.len()).map(|j| {
                self.f[j] * self.c_norms[j] + self.c[j] + self.u * self.block * self.c_norms[j]
            }))
    }

    /// Of a result of norm `result`: sums of the error `sums`, times a matrix of spectral norm `factor`.
    pub fn finish<T: Float>(&self, sums: f64, factor: f64, result: f64, entries: usize) -> f64 {
        let tiny = (T::MIN_EXP).exp2() * self.u;
        let total = sums * factor + 4.0 * self.u * self.block * result + tiny * (entries as f64).sqrt();
        // NaN must never read as a small error.
        if total.is_nan() { f64::INFINITY } else { total.next_up() }
    }
}

/// √Σ x², scaled so that neither end of the range spoils it.
fn root_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = terms.clone().fold(0.0, |max: f64, x| if x > max || x.is_nan() { x } else { max });
    if largest == 0.0 || !largest.is_finite() {
        return largest;
    }
    largest * terms.map(|x| (x / largest).powi(2)).sum::<f64>().sqrt()
}

/// An upper bound of the spectral norm: the smaller of the Frobenius norm and √(‖·‖₁ ‖·‖_∞).
pub fn spectral_bound<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    let frobenius = root_sum(matrix.iter().map(|x| x.widen().abs()));
    let widest = |lines: ndarray::iter::Lanes<'_, T, ndarray::Ix1>| {
        lines.into_iter().map(|line| line.iter().map(|x| x.widen().abs()).sum::<f64>()).fold(0.0, f64::max)
    };
    let mixed = widest(matrix.rows()).sqrt() * widest(matrix.columns()).sqrt();
    frobenius.min(mixed)
}

/// The Frobenius norm.
pub fn frobenius<T: Float>(matrix: ArrayView2<'_, T>) -> f64 {
    match matrix.as_slice() {
        Some(slice) => norm(slice),
        None => root_sum(matrix.iter().map(|x| x.widen().abs())),
    }
}

/// ‖row‖ of each row, and the largest.
pub fn measured<T: Float>(rows: Rows<'_, T>) -> Result<(Vec<f64>, f64), Error> {
    let norms = crate::norms::row_norms(rows)?;
    let largest = crate::norms::largest(&norms);
    Ok((norms, largest))
}
