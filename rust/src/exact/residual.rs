//! Between the passes: c = o − E, r = ⟨c, o⟩, and their scaling for pass 2.

use super::engine::{Forward, Prepared};
use crate::buffer;
use crate::error::Error;
use crate::float::Float;
use crate::norms::{largest, norm};

/// Most binary orders of magnitude that c may grow by when it is scaled for tiny values.
const GROWTH: f64 = 60.0;

/// The incoming gradient, row by row, before scaling.
pub struct Incoming<T> {
    /// c, (n, dv).
    pub c: Vec<T>,
    /// r_j = ⟨c_j, o_j⟩, which needs no pass of its own (docs/math.md, section 2).
    pub r: Vec<f64>,
    /// ‖c_j‖.
    pub norms: Vec<f64>,
    /// ‖o_j‖.
    pub outputs: Vec<f64>,
    width: usize,
}

impl<T: Float> Incoming<T> {
    /// From o, replaced by c = o − E, or from any `incoming` gradient.
    pub fn new(mut output: Vec<T>, width: usize, n: usize, incoming: impl Fn(usize, T) -> T) -> Result<Self, Error> {
        let mut r = buffer::zeros(n)?;
        let mut norms = buffer::zeros(n)?;
        let mut outputs = buffer::zeros(n)?;
        if width > 0 {
            for (j, row) in output.chunks_exact_mut(width).enumerate() {
                outputs[j] = norm(row);
                let mut sum = 0.0;
                for (i, entry) in row.iter_mut().enumerate() {
                    let c = incoming(j * width + i, *entry);
                    sum += c.widen() * entry.widen();
                    *entry = c;
                }
                r[j] = sum;
                norms[j] = norm(row);
            }
        }
        Ok(Incoming { c: output, r, norms, outputs, width })
    }

    /// ½ ‖c‖²_F.
    pub fn loss(&self) -> f64 {
        0.5 * self.norms.iter().map(|norm| norm * norm).sum::<f64>()
    }

    /// Divides c and r by the row's normaliser and by a power of two that brings p near f.
    pub fn prepare(self, forward: &Forward<T>, largest_value: f64) -> Result<Prepared<T>, Error> {
        let (c, h) = (largest(&self.norms).log2(), largest_value.log2());
        let exponent = if c.is_finite() && h.is_finite() { (c + h).max(c - GROWTH).floor() } else { 0.0 };
        let unit = exponent.exp2();
        let mut prepared = Prepared { c: self.c, r: buffer::zeros(self.r.len())?, unit };
        for (j, r) in prepared.r.iter_mut().enumerate() {
            let divisor = forward.total[j] * unit;
            *r = T::narrow(self.r[j] / divisor);
            for c in &mut prepared.c[j * self.width..(j + 1) * self.width] {
                *c = T::narrow(c.widen() / divisor);
            }
        }
        Ok(prepared)
    }
}
