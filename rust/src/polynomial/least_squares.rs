//! Weighted least squares over samples.

use super::interval::MAX_RANGE;
use super::triangle::{BLOCK_ROWS, Triangle};
use super::{Interval, Polynomial};
use crate::error::Error;

impl Polynomial {
    /// The least Σ_i w_i (P(t_i) − e^(t_i))², eq. (7.8): of all polynomials that reach it, the one whose coefficients
    /// are closest to those of the interpolant (7.6).
    ///
    /// So samples that are few, equal (to rounding too), or of weight zero correct exp where they are and leave it alone
    /// elsewhere.
    /// Samples may lie outside of the interval, though the basis is made for it. Memory O(degree²) besides the samples,
    /// time O(samples · degree²).
    ///
    /// # Errors
    /// [`Error::Option`] for a degree above [`super::MAX_DEGREE`], a sample beyond ±256 or a weight that is negative or
    /// not finite; [`Error::Shape`] where there are not as many weights as samples.
    pub fn least_squares(degree: usize, interval: Interval, samples: &[f64], weights: &[f64]) -> Result<Self, Error> {
        let mut fitted = Self::chebyshev(degree, interval)?;
        check(samples, weights)?;
        let heaviest = weights.iter().fold(0.0, |max: f64, &w| max.max(w));
        let mut triangle = Triangle::new(degree + 2);
        // Where none has a weight, none has a say.
        let root = |&w: &f64| if w > 0.0 { (w / heaviest).sqrt() } else { 0.0 };
        let mut size = 0.0_f64;
        for (samples, weights) in samples.chunks(BLOCK_ROWS).zip(weights.chunks(BLOCK_ROWS)) {
            let roots: Vec<f64> = weights.iter().map(root).collect();
            size = samples.iter().zip(&roots).fold(size, |size, (t, root)| size.hypot(root * t.exp()));
            triangle.push(&columns(&fitted, samples, &roots));
        }
        // e^t − P(t) has degree + 2 roundings of e^t in it.
        let changes = triangle.solve((degree + 2) as f64 * f64::EPSILON * size);
        fitted.coefficients.iter_mut().zip(changes).for_each(|(c, change)| *c += change);
        Ok(Polynomial::without_noise(interval, fitted.coefficients))
    }
}

/// √w [T_0(x) … T_g(x), e^t − P(t)] of some samples, column by column.
fn columns(start: &Polynomial, samples: &[f64], roots: &[f64]) -> Vec<Vec<f64>> {
    let x: Vec<f64> = samples.iter().map(|&t| start.interval().coordinate(t)).collect();
    let mut missing: Vec<f64> = samples.iter().zip(roots).map(|(t, root)| root * t.exp()).collect();
    let mut columns: Vec<Vec<f64>> = Vec::with_capacity(start.degree() + 2);
    for (k, coefficient) in start.coefficients.iter().enumerate() {
        let column: Vec<f64> = match k {
            0 => roots.to_vec(),
            1 => roots.iter().zip(&x).map(|(root, x)| root * x).collect(),
            _ => {
                let before = columns[k - 2].iter().zip(&columns[k - 1]);
                before.zip(&x).map(|((second, first), x)| 2.0 * x * first - second).collect()
            }
        };
        missing.iter_mut().zip(&column).for_each(|(rest, term)| *rest -= coefficient * term);
        columns.push(column);
    }
    columns.push(missing);
    columns
}

fn check(samples: &[f64], weights: &[f64]) -> Result<(), Error> {
    if samples.len() != weights.len() {
        return Err(Error::Shape {
            argument: "weights",
            found: vec![weights.len()],
            wanted: format!("one for each of the {} samples is wanted", samples.len()),
        });
    }
    let refuse = |option, found: &f64, wanted: String| Err(Error::Option { option, found: format!("{found}"), wanted });
    if let Some(t) = samples.iter().find(|t| t.is_nan() || t.abs() > MAX_RANGE) {
        return refuse("samples", t, format!("finite numbers within ±{MAX_RANGE}"));
    }
    if let Some(w) = weights.iter().find(|w| !(w.is_finite() && **w >= 0.0)) {
        return refuse("weights", w, "finite numbers, 0 or more".to_owned());
    }
    Ok(())
}
