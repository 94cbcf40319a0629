//! The same polynomial in powers of t.

use super::Polynomial;
use super::double::Double;

impl Polynomial {
    /// P_0 … P_g with P(t) = Σ_a P_a t^a, eq. (43); each is rounded once, from a computation in 106 bits.
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
