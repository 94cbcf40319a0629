//! How much a monomial is expected to contribute to e^t, coordinate by coordinate (docs/math.md, equation 10.6).

use crate::error::Error;
use crate::runtime::buffer;

/// Contributions are multiples of this: their sums are exact, so that monomials that contribute the same have the same
/// sum, in whichever order it is made.
const UNIT: f64 = 1.0 / (1u64 << 30) as f64;

/// Logarithms of max_{b' ≥ b} φ_i(b') / max φ_i for the powers b of each coordinate i: they begin with 0 and never
/// rise.
pub(super) struct Contributions {
    /// `[dimension][stride]`.
    logs: Vec<f64>,
    stride: usize,
    degree: usize,
    dimension: usize,
}

impl Contributions {
    /// For Gaussian coordinates of these variances.
    pub fn new(spectrum: &[f64], degree: usize) -> Result<Self, Error> {
        let stride = degree.saturating_add(1);
        let mut logs = buffer::zeros::<f64>(buffer::size(&[spectrum.len(), stride])?)?;
        for (logs, variance) in logs.chunks_mut(stride).zip(spectrum) {
            let step = variance.max(f64::MIN_POSITIVE).ln();
            // ln φ(b) = Σ_{k ≤ b} ln((2k − 1)/k σ).
            for b in 1..stride {
                logs[b] = logs[b - 1] + step + ((2 * b - 1) as f64 / b as f64).ln();
            }
            // A larger power needs the smaller one too: the envelope from above.
            for b in (1..stride).rev() {
                logs[b - 1] = logs[b - 1].max(logs[b]);
            }
            let largest = logs[0];
            logs.iter_mut().for_each(|log| *log = ((*log - largest) / UNIT).round() * UNIT);
        }
        Ok(Contributions { logs, stride, degree, dimension: spectrum.len() })
    }

    /// How many coordinates.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The largest power.
    pub fn degree(&self) -> usize {
        self.degree
    }

    /// One power fewer.
    pub fn lower(&mut self) {
        self.degree = self.degree.saturating_sub(1);
    }

    /// The logarithm for a power of a coordinate.
    pub fn of(&self, coordinate: usize, power: usize) -> f64 {
        self.logs[coordinate * self.stride + power]
    }
}
