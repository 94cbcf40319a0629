//! The exponential against double and double-double references.

use super::{ABREAST, exp2};
use crate::float::Float;
use crate::simd::{Portable, Vector};

/// Ulps that one exponential may be off, worst where the result is just above ½ · √2: half an ulp for the last sum;
/// 0.29 for the last step of the polynomial, whose value is at most ln 2 and is multiplied by |r| ≤ ½ at twice the
/// spacing of the result; a quarter of that for the step before it; 0.17 for the rounding of the coefficient next to
/// ln 2; and the fit's own error far below them.
const FUSED_ULPS: f64 = 1.1;

/// The same where products are rounded before they are added.
const UNFUSED_ULPS: f64 = 1.5;

/// Step through the bit patterns of f32: a prime, so that every exponent and every part of a binade is met.
const STRIDE: usize = 61;

/// Samples of f64.
const SAMPLES: u64 = 400_000;

/// One value through every lane of a kernel's vector.
type Kernel<T> = fn(T) -> T;

#[inline(always)]
fn lane<T: Float, V: Vector<T, W>, const W: usize>(x: T) -> T {
    let mut first = None;
    for vector in exp2::<T, V, W, true>([V::splat(x); ABREAST]) {
        let mut out = [T::zero(); W];
        vector.store(&mut out);
        let first = *first.get_or_insert(out[0]);
        assert!(out.iter().all(|y| *y == first), "lanes differ at {x}");
    }
    first.expect("there is a vector")
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::lane;
    use crate::simd::x86::{F32x8, F32x16, F64x4, F64x8};

    #[target_feature(enable = "avx2,fma")]
    pub fn f32_avx2(x: f32) -> f32 {
        lane::<f32, F32x8, 8>(x)
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn f64_avx2(x: f64) -> f64 {
        lane::<f64, F64x4, 4>(x)
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub fn f32_avx512(x: f32) -> f32 {
        lane::<f32, F32x16, 16>(x)
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub fn f64_avx512(x: f64) -> f64 {
        lane::<f64, F64x8, 8>(x)
    }
}

/// The exponentials of this machine, each with its bar.
fn kernels() -> Vec<(Kernel<f32>, Kernel<f64>, f64)> {
    let mut kernels: Vec<(Kernel<f32>, Kernel<f64>, f64)> =
        vec![(lane::<f32, Portable<f32, 4>, 4>, lane::<f64, Portable<f64, 2>, 2>, UNFUSED_ULPS)];
    #[cfg(target_arch = "x86_64")]
    for level in crate::options::Level::available() {
        use crate::options::Level;
        // SAFETY of the calls: the level is one that this processor has.
        match level {
            Level::Baseline | Level::PortableAvx2 | Level::PortableAvx512 => {}
            // SAFETY: as above.
            Level::Avx2 => kernels.push((|x| unsafe { x86::f32_avx2(x) }, |x| unsafe { x86::f64_avx2(x) }, FUSED_ULPS)),
            Level::Avx512 => {
                // SAFETY: as above.
                kernels.push((|x| unsafe { x86::f32_avx512(x) }, |x| unsafe { x86::f64_avx512(x) }, FUSED_ULPS));
            }
        }
    }
    kernels
}

/// Every 61st float of the range in which 2^x is not zero.
#[test]
fn exp2_in_single_precision() {
    let kernels = kernels();
    let mut worst = vec![0.0f64; kernels.len()];
    for x in (0..=u32::MAX).step_by(STRIDE).map(f32::from_bits).filter(|x| (-99.0..127.0).contains(x)) {
        let want = f64::from(x).exp2();
        let ulp = f64::from(f32::EPSILON) * want.log2().floor().exp2();
        for ((single, _, bar), worst) in kernels.iter().zip(&mut worst) {
            let error = (f64::from(single(x)) - want).abs() / ulp;
            assert!(error <= *bar, "2^{x:e} is off by {error} ulp");
            *worst = worst.max(error);
        }
    }
    // Half an ulp is the least that any exponential has: less means that nothing was measured.
    assert!(worst.iter().all(|&worst| worst > 0.5), "{worst:?}");
}

/// Stratified over the range in which 2^x is not zero, and dense where x is small.
#[test]
fn exp2_in_double_precision() {
    for (_, double, bar) in kernels() {
        let mut worst: f64 = 0.0;
        for k in 0..SAMPLES {
            // An irrational step visits every part of the unit interval alike.
            let t = (k as f64 * std::f64::consts::SQRT_2).fract();
            let x = match k % 4 {
                0 => -959.0 + 1982.0 * t,
                1 => t - 0.5,
                2 => 2.0 * t - 1.0 + (k % 64) as f64,
                _ => (2.0 * t - 1.0) * (-((k % 200) as f64)).exp2(),
            };
            let n = x.round();
            let (high, low) = exp2_reference(x - n);
            let scale = n.exp2();
            let ulp = f64::EPSILON * high.log2().floor().exp2();
            // Scaling by a power of two is exact for normal results.
            let error = ((double(x) / scale - high) - low).abs() / ulp;
            assert!(error <= bar, "2^{x:e} is off by {error} ulp");
            worst = worst.max(error);
        }
        assert!(worst > 0.5, "half an ulp is the least that any exponential has; {worst} means nothing was measured");
    }
}

/// Below the range results are zero, or the smallest power of it; 2^−∞ is zero. A weight times the rounding error of
/// terms of size one is zero or normal.
#[test]
fn exp2_below_the_range() {
    for (single, double, _) in kernels() {
        assert_eq!((single(f32::NEG_INFINITY), double(f64::NEG_INFINITY)), (0.0, 0.0));
        assert_eq!((single(f32::MIN), double(f64::MIN)), (0.0, 0.0));
        assert_eq!((single(0.0), double(0.0)), (1.0, 1.0));
        for k in 0..100_000 {
            let below = f64::from(k) / 250.0;
            let (single, double) = (single(-99.0 - below as f32), double(-959.0 - below));
            assert!((0.0..=(-99f32).exp2()).contains(&single) && (0.0..=(-959f64).exp2()).contains(&double));
            assert!(below <= 1.0 || (single, double) == (0.0, 0.0));
            assert!(single == 0.0 || (single * (f32::EPSILON / 2.0)).is_normal());
            assert!(double == 0.0 || (double * (f64::EPSILON / 2.0)).is_normal());
        }
    }
}

/// 2^r for |r| ≤ ½ as a sum of two doubles, by Taylor's series in pairs: wrong by about 2^−100.
fn exp2_reference(r: f64) -> (f64, f64) {
    // ln 2 to 107 bits.
    const LN_2: (f64, f64) = (std::f64::consts::LN_2, 2.319_046_813_846_3e-17);
    let x = multiply(LN_2, (r, 0.0));
    let mut sum = (1.0, 0.0);
    for k in (1..=28).rev() {
        // Horner: 1 + x/k (…)
        let term = divide(multiply(x, sum), f64::from(k));
        sum = add((1.0, 0.0), term);
    }
    sum
}

fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let back = sum - a;
    (sum, (a - (sum - back)) + (b - back))
}

fn add(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let (sum, error) = two_sum(a.0, b.0);
    two_sum(sum, error + a.1 + b.1)
}

fn multiply(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    let product = a.0 * b.0;
    let error = a.0.mul_add(b.0, -product);
    two_sum(product, error + a.0 * b.1 + a.1 * b.0)
}

fn divide(a: (f64, f64), b: f64) -> (f64, f64) {
    let quotient = a.0 / b;
    let rest = (-quotient).mul_add(b, a.0) + a.1;
    two_sum(quotient, rest / b)
}
