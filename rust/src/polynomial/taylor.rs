//! Taylor's polynomial.

use super::series::check_degree;
use super::{Interval, Polynomial};
use crate::error::Error;

impl Polynomial {
    /// e^middle Σ_j (t − middle)^j / j!, eq. (7.5): the paper's choice on an interval [−b, b].
    ///
    /// # Errors
    /// [`Error::Option`] for a degree above [`super::MAX_DEGREE`].
    pub fn taylor(degree: usize, interval: Interval) -> Result<Self, Error> {
        check_degree(degree)?;
        let mut coefficients = vec![0.0; degree + 1];
        let mut term = interval.middle().exp();
        for j in 0..=degree {
            // x^j = 2^(1−j) Σ_i C(j, i) T_(j−2i), the last one halved where it is T_0: positive, so nothing cancels.
            let mut share = term * 2.0 * 0.5f64.powi(j as i32);
            for i in 0..=j / 2 {
                let k = j - 2 * i;
                coefficients[k] += if k == 0 { 0.5 * share } else { share };
                share *= (j - i) as f64 / (i + 1) as f64;
            }
            term *= interval.half() / (j + 1) as f64;
        }
        Ok(Polynomial { interval, coefficients })
    }
}
