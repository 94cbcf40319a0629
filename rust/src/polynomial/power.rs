//! The same polynomial in powers of t.

use super::double::Double;
use super::{Interval, Polynomial};
use crate::error::Error;

/// Σ_a p_a t^a, by Horner's rule in double precision.
pub(crate) fn horner(powers: &[f64], t: f64) -> f64 {
    powers.iter().rev().fold(0.0, |sum, p| sum * t + p)
}

/// The largest b such that Σ_a |p_a| b^a ≤ `most`, or near it: the terms of P at |t| ≤ b do not exceed that together.
pub(crate) fn reach(powers: &[f64], most: f64) -> f64 {
    let terms = |b: f64| powers.iter().rev().fold(0.0, |sum, p| sum * b + p.abs());
    // Bisection over the exponents of double precision, then within one.
    let (mut low, mut high) = (-1000.0f64, 1000.0f64);
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if terms(middle.exp2()) <= most { low = middle } else { high = middle }
    }
    low.exp2()
}

impl Polynomial {
    /// P_0 … P_g with P(t) = Σ_a P_a t^a, eq. (7.4); each is rounded once, from a computation in 106 bits.
    ///
    /// Evaluating with them costs a rounding error of up to g · 2^−53 Σ_a |P_a| |t|^a: little on an interval around
    /// zero, all digits on one far from it.
    pub fn power(&self) -> Vec<f64> {
        let interval = self.interval();
        let mut powers = of_basis(self.chebyshev_coefficients());
        let mut shrink = Double::from(1.0);
        for p in &mut powers {
            *p = *p * shrink;
            shrink = shrink.over(interval.half());
        }
        shift(&mut powers, Double::from(-interval.middle()));
        powers.into_iter().map(Double::value).collect()
    }

    /// The polynomial Σ_a `powers`_a t^a in the basis of |t| ≤ `range`, and an upper bound of the difference between
    /// its values there and that sum, eq. (9.32).
    ///
    /// # Errors
    /// [`Error::Option`] unless 0 ≤ range ≤ 256, and for powers that are none, too many or not finite.
    pub(crate) fn from_power(powers: &[f64], range: f64) -> Result<(Self, f64), Error> {
        let interval = Interval::symmetric(range)?;
        let size = powers.len();
        let mut chebyshev = vec![0.0; size];
        // x^a in the basis: dyadic numbers, exact for every degree there is.
        let mut basis = vec![0.0; size + 1];
        basis[0] = 1.0;
        let (mut stretch, mut absolute) = (1.0, 0.0);
        for &power in powers {
            for (c, x) in chebyshev.iter_mut().zip(&basis) {
                *c += power * stretch * x;
            }
            absolute += power.abs() * stretch;
            stretch *= interval.half();
            let times_x = |k: usize| match k {
                0 => 0.5 * basis[1],
                1 => basis[0] + 0.5 * basis.get(2).unwrap_or(&0.0),
                k => 0.5 * (basis[k - 1] + basis.get(k + 1).unwrap_or(&0.0)),
            };
            basis = (0..=size).map(times_x).collect();
        }
        let roundings = (2 * size + 4) as f64;
        Ok((Polynomial::from_chebyshev(interval, chebyshev)?, roundings * f64::EPSILON * absolute))
    }
}

/// Coefficients of x^0 … x^g; those of T_k are integers below 2^53.
fn of_basis(chebyshev: &[f64]) -> Vec<Double> {
    let size = chebyshev.len();
    let mut powers = vec![Double::default(); size];
    let (mut now, mut next) = (vec![0.0; size + 1], vec![0.0; size + 1]);
    (now[0], next[1]) = (1.0, 1.0);
    for &c in chebyshev {
        for (power, &integer) in powers.iter_mut().zip(&now) {
            *power = *power + Double::from(c) * Double::from(integer);
        }
        let after = (0..=size).map(|j| if j == 0 { 0.0 } else { 2.0 * next[j - 1] } - now[j]).collect();
        now = std::mem::replace(&mut next, after);
    }
    powers
}

/// Replaces p(y) by p(t + by).
fn shift(powers: &mut [Double], by: Double) {
    let size = powers.len();
    for start in 0..size {
        for j in (start..size.saturating_sub(1)).rev() {
            powers[j] = powers[j] + by * powers[j + 1];
        }
    }
}
