//! Values and derivatives of Chebyshev series.

use super::Polynomial;
use super::double::Double;
use crate::error::Error;
use crate::runtime::buffer;

impl Polynomial {
    /// P(t), by Clenshaw's recurrence (7.2); |error| ≤ 2^−53 Σ_k |c_k| (k + 2)³ inside the interval.
    pub fn eval(&self, t: f64) -> f64 {
        let x = self.interval().coordinate(t);
        let (mut b1, mut b2) = (0.0, 0.0);
        for &c in self.chebyshev_coefficients()[1..].iter().rev() {
            (b1, b2) = (2.0 * x * b1 - b2 + c, b1);
        }
        x * b1 - b2 + self.chebyshev_coefficients()[0]
    }

    /// P at each of these.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn eval_all(&self, points: &[f64]) -> Result<Vec<f64>, Error> {
        let mut values = buffer::with_capacity(points.len())?;
        values.extend(points.iter().map(|&t| self.eval(t)));
        Ok(values)
    }
}

/// Σ_k c_k T_k(x), by the same recurrence in 106 bits.
pub fn clenshaw(coefficients: &[Double], x: Double) -> Double {
    let [first, rest @ ..] = coefficients else { return Double::default() };
    let twice = x + x;
    let (mut b1, mut b2) = (Double::default(), Double::default());
    for &c in rest.iter().rev() {
        (b1, b2) = (twice * b1 - b2 + c, b1);
    }
    x * b1 - b2 + *first
}

/// The series of the derivative by x, eq. (7.3): d_(k−1) = d_(k+1) + 2k c_k, and half of that for k = 1.
pub fn derivative(coefficients: &[Double]) -> Vec<Double> {
    let degree = coefficients.len().saturating_sub(1);
    let mut slopes = vec![Double::default(); degree + 2];
    for k in (1..=degree).rev() {
        slopes[k - 1] = slopes[k + 1] + Double::from(2.0 * k as f64) * coefficients[k];
    }
    slopes[0] = slopes[0] * Double::from(0.5);
    slopes.truncate(degree);
    slopes
}

/// Σ_k |c_k| T_k(extent), extent ≥ 1: no value on |x| ≤ extent is larger.
pub fn magnitude(coefficients: &[Double], extent: f64) -> f64 {
    let (mut now, mut next) = (1.0, extent);
    let mut sum = 0.0;
    for c in coefficients {
        sum += c.value().abs() * now;
        (now, next) = (next, 2.0 * extent * next - now);
    }
    sum
}
