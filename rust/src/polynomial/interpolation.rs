//! Chebyshev interpolation.

use std::f64::consts::PI;

use super::series::check_degree;
use super::{Interval, Polynomial};
use crate::error::Error;

impl Polynomial {
    /// Equal to e^t at the zeros of T_(g+1) on the interval, eq. (7.6).
    ///
    /// # Errors
    /// [`Error::Option`] for a degree above [`super::MAX_DEGREE`].
    pub fn chebyshev(degree: usize, interval: Interval) -> Result<Self, Error> {
        check_degree(degree)?;
        let coefficients = interpolate(degree, |x| interval.point(x).exp());
        Ok(Polynomial::without_noise(interval, coefficients))
    }
}

/// Coefficients of the interpolant of degree g to f(x) at the zeros of T_(g+1): a cosine transform.
pub fn interpolate(degree: usize, f: impl Fn(f64) -> f64) -> Vec<f64> {
    let count = degree + 1;
    let angle = |i: usize, k: usize| {
        // The angle is reduced in integers, exactly.
        let quarter_turns = (2 * i + 1) * k % (4 * count);
        PI * quarter_turns as f64 / (2 * count) as f64
    };
    let values: Vec<f64> = (0..count).map(|i| f(angle(i, 1).cos())).collect();
    (0..count)
        .map(|k| {
            let sum: f64 = values.iter().enumerate().map(|(i, value)| value * angle(i, k).cos()).sum();
            sum * if k == 0 { 1.0 } else { 2.0 } / count as f64
        })
        .collect()
}
