//! Arithmetic on unevaluated sums of two doubles, 106 bits: so that bounds of a polynomial are those of the
//! polynomial, and not of the rounding of its evaluation.
//!
//! Each operation is one of Joldes, Muller and Popescu, *Tight and rigorous error bounds for basic building blocks of
//! double-word arithmetic* (ACM TOMS 44, 2017), with a relative error of at most 5u², u = 2^−53.

use std::ops::{Add, Mul, Neg, Sub};
use std::sync::LazyLock;

/// high + low, |low| ≤ half an ulp of high.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Double {
    high: f64,
    low: f64,
}

/// Halvings that bring 256 down to ¼.
const HALVINGS: i32 = 10;

/// Terms of the series of exp for |y| ≤ ¼: ¼^23 / 23! is below 2^−120.
const EXP_TERMS: usize = 22;

/// 1 / k!, made once: divisions would take most of the time of a bound.
static INVERSE_FACTORIALS: LazyLock<[Double; EXP_TERMS + 1]> = LazyLock::new(|| {
    let mut terms = [Double::from(1.0); EXP_TERMS + 1];
    for k in 1..terms.len() {
        terms[k] = terms[k - 1].over(k as f64);
    }
    terms
});

/// a + b exactly, for |a| ≥ |b|.
fn fast_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    Double { high, low: b - (high - a) }
}

/// a + b exactly.
fn exact_sum(a: f64, b: f64) -> Double {
    let high = a + b;
    let of_b = high - a;
    Double { high, low: (a - (high - of_b)) + (b - of_b) }
}

/// a · b exactly.
fn exact_product(a: f64, b: f64) -> Double {
    let high = a * b;
    Double { high, low: a.mul_add(b, -high) }
}

impl Double {
    /// The nearest double.
    pub fn value(self) -> f64 {
        self.high
    }

    /// self / divisor.
    pub fn over(self, divisor: f64) -> Double {
        let quotient = self.high / divisor;
        let back = exact_product(quotient, divisor);
        let rest = (self.high - back.high - back.low + self.low) / divisor;
        fast_sum(quotient, rest)
    }

    /// e^t for |t| ≤ 256, with a relative error below 2^−88: 2^10 times that of the series.
    pub fn exp(t: f64) -> Double {
        let y = Double::from(t / f64::from(1 << HALVINGS));
        let [terms @ .., last] = &*INVERSE_FACTORIALS;
        let mut power = terms.iter().rev().fold(*last, |sum, term| *term + y * sum);
        for _ in 0..HALVINGS {
            power = power * power;
        }
        power
    }
}

impl From<f64> for Double {
    fn from(high: f64) -> Double {
        Double { high, low: 0.0 }
    }
}

impl Add for Double {
    type Output = Double;
    fn add(self, other: Double) -> Double {
        let (s, t) = (exact_sum(self.high, other.high), exact_sum(self.low, other.low));
        let first = fast_sum(s.high, s.low + t.high);
        fast_sum(first.high, first.low + t.low)
    }
}

impl Neg for Double {
    type Output = Double;
    fn neg(self) -> Double {
        Double { high: -self.high, low: -self.low }
    }
}

impl Sub for Double {
    type Output = Double;
    fn sub(self, other: Double) -> Double {
        self + -other
    }
}

impl Mul for Double {
    type Output = Double;
    fn mul(self, other: Double) -> Double {
        let product = exact_product(self.high, other.high);
        fast_sum(product.high, product.low + (self.high * other.low + self.low * other.high))
    }
}
