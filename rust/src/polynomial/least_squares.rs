//! Weighted least squares over samples.

use super::interval::MAX_RANGE;
use super::triangle::Triangle;
use super::{Interval, Polynomial};
use crate::error::Error;

impl Polynomial {
    /// The least Σ_i w_i (P(t_i) − e^(t_i))², eq. (48): of all polynomials that reach it, the one whose coefficients
    /// are closest to those of the interpolant (45).
    ///
    /// So samples that are few, equal, or of weight zero correct exp where they are and leave it alone elsewhere. Samples
    /// may lie outside of the interval, though the basis is made for it. Memory O(degree²) besides the samples,
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
        for (&t, &weight) in samples.iter().zip(weights) {
            if weight > 0.0 {
                triangle.push(row(&fitted, t, (weight / heaviest).sqrt()));
            }
        }
        let changes = triangle.solve();
        fitted.coefficients.iter_mut().zip(changes).for_each(|(c, change)| *c += change);
        Ok(Polynomial::without_noise(interval, fitted.coefficients))
    }
}

/// √w [T_0(x) … T_g(x), e^t − P(t)].
fn row(start: &Polynomial, t: f64, root: f64) -> Vec<f64> {
    let x = start.interval().coordinate(t);
    let (mut now, mut next) = (root, root * x);
    let mut row = Vec::with_capacity(start.degree() + 2);
    for _ in 0..=start.degree() {
        row.push(now);
        (now, next) = (next, 2.0 * x * next - now);
    }
    row.push(root * (t.exp() - start.eval(t)));
    row
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
