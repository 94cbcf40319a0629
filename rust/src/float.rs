//! The two precisions, and the facts of each that a kernel needs.

use ndarray::{LinalgScalar, NdFloat};

mod sealed {
    /// Kernels are compiled for two precisions: there is nothing to implement for another type.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A value for each precision, such as a table of compiled kernels: the implementor says where each one is, and
/// [`Float::choose`] picks one, so that [`Float`] does not depend on its users.
pub trait ByPrecision {
    /// The thing in one precision.
    type Of<T: Float>;
    /// That of `f32`.
    fn single(self) -> Self::Of<f32>;
    /// That of `f64`.
    fn double(self) -> Self::Of<f64>;
}

/// A function in the precision of its caller, compiled in this crate. A generic function is compiled in every crate that
/// calls it, with all that it calls: the programs of users, tests, examples and benches would take a minute each.
macro_rules! compiled {
    ($t:ident, $function:path as $signature:ty) => {{
        struct Compiled;

        impl $crate::float::ByPrecision for Compiled {
            type Of<$t: $crate::float::Float> = $signature;

            // A function as small as this would be compiled by its callers too.
            #[inline(never)]
            fn single(self) -> Self::Of<f32> {
                type $t = f32;
                $function
            }

            #[inline(never)]
            fn double(self) -> Self::Of<f64> {
                type $t = f64;
                $function
            }
        }

        <$t as $crate::float::Float>::choose(Compiled)
    }};
}

pub(crate) use compiled;

/// `f32` or `f64`; no other type can implement it.
pub trait Float:
    bytemuck::Zeroable + LinalgScalar + NdFloat + Default + Send + Sync + sealed::Sealed + 'static
{
    /// Unit roundoff u, half the spacing of floats at 1.
    const UNIT_ROUNDOFF: f64;
    /// Largest finite value.
    const MAX: f64;
    /// log2 of the smallest positive normal number.
    const MIN_EXP: f64;
    /// Added to x it rounds x to an integer n, and leaves n − [`Float::EXP2_MIN`] in the low bits.
    const ROUNDING_SHIFT: Self;
    /// 2^x is zero from here down, long before it would be too small for a normal number: so that its product with a
    /// number that is nothing but the rounding error of terms of size one is normal too, or zero. Arithmetic on other
    /// numbers takes up to a hundred times as long, and what is dropped is as far below rounding.
    const EXP2_MIN: Self;
    /// The power of two that [`Float::pow2`] leaves out for that: its exponent field becomes zero at `EXP2_MIN`.
    const EXP2_SCALE: Self;
    /// Coefficients of r, r², … in the polynomial for 2^r − 1 on [−½, ½], times [`Float::EXP2_SCALE`].
    const EXP2: &'static [Self];
    /// Where |logit| in base-2 units may be exponentiated with no shift: 2^±this stays far from overflow.
    const UNSHIFTED_MAX: f64;
    /// log2 of the size up to which values leave room for unshifted weights.
    const UNSHIFTED_VALUES: f64;
    /// Name as NumPy spells it.
    const NAME: &'static str;

    /// Rounds from double precision.
    fn narrow(x: f64) -> Self;
    /// Widens to double precision.
    fn widen(self) -> f64;
    /// 2^n / `EXP2_SCALE` from `n + ROUNDING_SHIFT`; zero where n is `EXP2_MIN`.
    fn pow2(shifted: Self) -> Self;
    /// The thing of this precision.
    #[doc(hidden)]
    fn choose<C: ByPrecision>(choice: C) -> C::Of<Self>;
}

macro_rules! float {
    ($t:ident, $name:literal, $choose:ident, mantissa: $mantissa:literal, bias: $bias:literal, zero_below: $zero:literal,
     unshifted: $unshifted:literal, exp2: $exp2:expr) => {
        #[allow(clippy::approx_constant, reason = "the first coefficient is fitted with the others, and near ln 2")]
        impl Float for $t {
            const UNIT_ROUNDOFF: f64 = $t::EPSILON as f64 / 2.0;
            const MAX: f64 = $t::MAX as f64;
            const MIN_EXP: f64 = ($t::MIN_EXP - 1) as f64;
            const ROUNDING_SHIFT: Self = 1.5 * (1u64 << $mantissa) as $t + $zero as $t;
            const EXP2_MIN: Self = -($zero as $t);
            const EXP2_SCALE: Self = (1u64 << ($bias - $zero)) as $t;
            const EXP2: &'static [Self] = &{
                // Exact, so the bits of a result are those of the coefficients as they stand.
                let (mut scaled, mut k) = ($exp2, 0);
                while k < scaled.len() {
                    scaled[k] *= Self::EXP2_SCALE;
                    k += 1;
                }
                scaled
            };
            const UNSHIFTED_MAX: f64 = $unshifted;
            const UNSHIFTED_VALUES: f64 = $unshifted;
            const NAME: &'static str = $name;

            #[inline(always)]
            fn narrow(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn widen(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn pow2(shifted: Self) -> Self {
                $t::from_bits(shifted.to_bits() << $mantissa)
            }
            #[inline(always)]
            fn choose<C: ByPrecision>(choice: C) -> C::Of<Self> {
                choice.$choose()
            }
        }
    };
}

// Minimax for the relative error of 1 + Σ EXP2[k] r^(k+1) against 2^r, from tools/exp2_minimax.py:
// 2.6e-9 at degree 6 and 1.8e-17 at degree 11, both far below the unit roundoff.
float!(f32, "float32", single, mantissa: 23, bias: 127, zero_below: 100, unshifted: 40.0, exp2: [
    0.693_147_24,
    0.240_226_52,
    0.055_503_104,
    0.009_617_693,
    0.001_340_664_3,
    0.000_155_946_78,
]);
float!(f64, "float64", double, mantissa: 52, bias: 1023, zero_below: 960, unshifted: 300.0, exp2: [
    0.693_147_180_559_945_7,
    0.240_226_506_959_100_97,
    0.055_504_108_664_790_39,
    0.009_618_129_107_607_003,
    0.001_333_355_815_343_996_6,
    0.000_154_035_304_415_721_3,
    1.525_272_738_519_386_8e-5,
    1.321_544_267_532_982_3e-6,
    1.018_064_765_923_413_9e-7,
    7.072_570_412_814_423e-9,
    4.078_071_929_588_337e-10,
]);
