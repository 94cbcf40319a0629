//! The polynomial in the place of exp, as the moment form and its definition take it.

use crate::constants::MOMENT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::problem::Problem;
use crate::runtime::buffer;

/// A polynomial P ≈ exp, as the moments use it.
#[derive(Debug, Clone, PartialEq)]
pub struct Approximation {
    /// P_0, …, P_g: P(t) = Σ_a P_a t^a.
    pub coefficients: Vec<f64>,
    /// Whether sums of the highest grade may be of 16-bit integers, where their error is smaller than that of P on
    /// logits like those of the problem (docs/math.md, equation 8.13). Single precision on AVX2 and AVX-512 has a use
    /// for them.
    pub integers: bool,
    /// Keys, in rising order and at most [`MOMENT_ROWS`], that are left to exp in every pass: those that stand out.
    /// They cost 4 n (d + dv + 1) operations each; no bound is known of a gradient with any, and there are none under a
    /// mask.
    pub exact_keys: Vec<usize>,
}

impl Approximation {
    /// g.
    ///
    /// # Errors
    /// [`Error::Option`] where there is no coefficient, or one that is not finite.
    pub fn degree(&self) -> Result<usize, Error> {
        match self.coefficients.len().checked_sub(1) {
            Some(degree) if self.coefficients.iter().all(|x| x.is_finite()) => Ok(degree),
            _ => Err(Error::Option {
                option: "approximation",
                found: format!("coefficients {:?}", self.coefficients),
                wanted: "one finite coefficient or more, P_0 first".into(),
            }),
        }
    }

    /// The keys that are left to exp.
    pub(crate) fn checked_keys<T: Float>(&self, problem: &Problem<'_, T>) -> Result<Vec<usize>, Error> {
        let keys = &self.exact_keys;
        let (m, most) = (problem.A2.nrows(), if problem.is_causal { 0 } else { MOMENT_ROWS });
        let rising = keys.windows(2).all(|two| two[0] < two[1]);
        if keys.len() > most || !rising || keys.last().is_some_and(|&last| last >= m) {
            let wanted = format!("at most {most} keys below {m} in rising order (none under a mask)");
            return Err(Error::Option { option: "exact_keys", found: format!("{} keys", keys.len()), wanted });
        }
        let mut copy = buffer::with_capacity(keys.len())?;
        copy.extend_from_slice(keys);
        Ok(copy)
    }
}
