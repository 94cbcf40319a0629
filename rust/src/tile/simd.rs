//! One vector register as a type, for each instruction set. The only module with intrinsics.
//!
//! Arrays of scalars in generic code gave the same speed where LLVM vectorised along the lanes, but it is free to
//! vectorise along another loop, and did: with AVX2 the second product of a tile became shuffles, at half the speed.
//! With the register as a type there is nothing left to choose.

use crate::float::Float;

#[cfg(test)]
mod called;
#[cfg(test)]
pub use called::Called;

/// `W` pairs of 16-bit integers in one register.
pub trait Pairs<const W: usize>: Copy {
    /// The same pair in every lane.
    fn splat(pair: i32) -> Self;
    /// From memory of any alignment.
    fn load(from: &[i32; W]) -> Self;
    /// To memory of any alignment: pairs, or what [`Pairs::multiply_add`] gives.
    fn store(self, to: &mut [i32; W]);
    /// Both products of the pairs of self and b, added to the 32-bit integers of `c`.
    fn multiply_add(self, b: Self, c: Self) -> Self;
}

/// `W` numbers in one register.
pub trait Vector<T, const W: usize>: Copy {
    /// Its integers.
    type Pairs: Pairs<W>;
    /// Whether sums of products of these take less time than those of `T`: two thirds of it, measured with AVX2.
    const HALVES: bool;
    /// The integers next to self and to `other`, all of them below 2^15.
    fn pairs(self, other: Self) -> Self::Pairs;
    /// The numbers of 32-bit integers, rounded.
    fn from_sums(sums: Self::Pairs) -> Self;
    /// The same number in every lane.
    fn splat(x: T) -> Self;
    /// From memory of any alignment.
    fn load(from: &[T; W]) -> Self;
    /// To memory of any alignment.
    fn store(self, to: &mut [T; W]);
    /// Lane by lane.
    fn add(self, other: Self) -> Self;
    /// Lane by lane.
    fn sub(self, other: Self) -> Self;
    /// Lane by lane.
    fn mul(self, other: Self) -> Self;
    /// self · b + c, rounded once where the instruction set can.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger, lane by lane; `other` where self is NaN.
    fn max(self, other: Self) -> Self;
    /// Whether some lane exceeds that of `other`.
    fn any_above(self, other: Self) -> bool;
    /// 2^n / [`Float::EXP2_SCALE`] in each lane from n + [`Float::ROUNDING_SHIFT`].
    fn pow2(self) -> Self;
}

/// What every processor can do: an array, in whatever registers the compiler has for it.
#[derive(Clone, Copy)]
pub struct Portable<T, const W: usize>([T; W]);

impl<T: Float, const W: usize> Portable<T, W> {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(T, T) -> T) -> Self {
        Portable(std::array::from_fn(|l| f(self.0[l], other.0[l])))
    }
}

/// The pair of one lane in a word.
fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}

/// The integers next to `low` and `high`, by way of memory.
#[inline(always)]
fn stored_pairs<T: Float, V: Vector<T, W>, const W: usize>(low: V, high: V) -> PortablePairs<W> {
    let (mut lanes, mut others) = ([T::zero(); W], [T::zero(); W]);
    low.store(&mut lanes);
    high.store(&mut others);
    let integer = |x: T| x.widen().round_ties_even() as i32;
    PortablePairs(std::array::from_fn(|l| pair(integer(lanes[l]), integer(others[l]))))
}

/// The numbers of 32-bit integers, by way of memory.
#[inline(always)]
fn stored_sums<T: Float, V: Vector<T, W>, const W: usize>(sums: PortablePairs<W>) -> V {
    V::load(&sums.0.map(|sum| T::narrow(f64::from(sum))))
}

/// Pairs in whatever registers the compiler has for them.
#[derive(Clone, Copy)]
pub struct PortablePairs<const W: usize>([i32; W]);

impl<const W: usize> Pairs<W> for PortablePairs<W> {
    #[inline(always)]
    fn splat(pair: i32) -> Self {
        PortablePairs([pair; W])
    }
    #[inline(always)]
    fn load(from: &[i32; W]) -> Self {
        PortablePairs(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [i32; W]) {
        *to = self.0;
    }
    #[inline(always)]
    fn multiply_add(self, b: Self, c: Self) -> Self {
        let halves = |pair: i32| [i32::from(pair as i16), pair >> 16];
        PortablePairs(std::array::from_fn(|l| {
            let ([a0, a1], [b0, b1]) = (halves(self.0[l]), halves(b.0[l]));
            c.0[l] + a0 * b0 + a1 * b1
        }))
    }
}

impl<T: Float, const W: usize> Vector<T, W> for Portable<T, W> {
    type Pairs = PortablePairs<W>;
    const HALVES: bool = false;
    #[inline(always)]
    fn pairs(self, other: Self) -> PortablePairs<W> {
        stored_pairs(self, other)
    }
    #[inline(always)]
    fn from_sums(sums: PortablePairs<W>) -> Self {
        stored_sums(sums)
    }
    #[inline(always)]
    fn splat(x: T) -> Self {
        Portable([x; W])
    }
    #[inline(always)]
    fn load(from: &[T; W]) -> Self {
        Portable(*from)
    }
    #[inline(always)]
    fn store(self, to: &mut [T; W]) {
        *to = self.0;
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // Unfused: without the instruction a fused one is a library call.
        self.mul(b).add(c)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn any_above(self, other: Self) -> bool {
        let mut any = false;
        for l in 0..W {
            any |= self.0[l] > other.0[l];
        }
        any
    }
    #[inline(always)]
    fn pow2(self) -> Self {
        Portable(self.0.map(T::pow2))
    }
}

/// The vectors of x86-64.
#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use std::arch::x86_64::*;

    use super::{Pairs, PortablePairs, Vector, stored_pairs, stored_sums};

    macro_rules! vector {
        ($name:ident, $t:ident, $w:literal, $register:ident, $splat:ident, $load:ident, $store:ident, $add:ident,
         $sub:ident, $mul:ident, $fma:ident, $max:ident, |$a:ident, $b:ident| $above:expr, |$x:ident| $pow2:expr,
         halves: $halves:literal, $pairs:ty, |$low:ident, $high:ident| $to_pairs:expr, |$sums:ident| $from_sums:expr) => {
            /// One register of this level.
            #[derive(Clone, Copy)]
            pub struct $name($register);

            // SAFETY of every block below: the type is private to the kernels of its level, which run only where
            // the processor has their instruction set; memory is reached through references to arrays of its length.
            impl Vector<$t, $w> for $name {
                type Pairs = $pairs;
                const HALVES: bool = $halves;
                #[inline(always)]
                fn pairs(self, other: Self) -> $pairs {
                    let ($low, $high) = (self, other);
                    $to_pairs
                }
                #[inline(always)]
                fn from_sums($sums: $pairs) -> Self {
                    $from_sums
                }
                #[inline(always)]
                fn splat(x: $t) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $splat(x) })
                }
                #[inline(always)]
                fn load(from: &[$t; $w]) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $load(from.as_ptr()) })
                }
                #[inline(always)]
                fn store(self, to: &mut [$t; $w]) {
                    // SAFETY: as above.
                    unsafe { $store(to.as_mut_ptr(), self.0) }
                }
                #[inline(always)]
                fn add(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                fn sub(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $sub(self.0, other.0) })
                }
                #[inline(always)]
                fn mul(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $mul(self.0, other.0) })
                }
                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $fma(self.0, b.0, c.0) })
                }
                #[inline(always)]
                fn max(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $max(self.0, other.0) })
                }
                #[inline(always)]
                fn any_above(self, other: Self) -> bool {
                    let ($a, $b) = (self.0, other.0);
                    // SAFETY: as above.
                    unsafe { $above }
                }
                #[inline(always)]
                fn pow2(self) -> Self {
                    let $x = self.0;
                    // SAFETY: as above.
                    Self(unsafe { $pow2 })
                }
            }
        };
    }

    /// One register of pairs.
    #[derive(Clone, Copy)]
    pub struct I16x16(__m256i);

    impl Pairs<8> for I16x16 {
        #[inline(always)]
        fn splat(pair: i32) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_set1_epi32(pair) })
        }
        #[inline(always)]
        fn load(from: &[i32; 8]) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_loadu_si256(from.as_ptr().cast()) })
        }
        #[inline(always)]
        fn store(self, to: &mut [i32; 8]) {
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), self.0) }
        }
        #[inline(always)]
        fn multiply_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as above.
            Self(unsafe { _mm256_add_epi32(_mm256_madd_epi16(self.0, b.0), c.0) })
        }
    }

    vector!(
        F32x8,
        f32,
        8,
        __m256,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_fmadd_ps,
        _mm256_max_ps,
        |a, b| _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) != 0,
        |x| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(x))),
        halves: true,
        I16x16,
        |low, high| {
            // SAFETY: as above.
            I16x16(unsafe {
                let (low, high) = (_mm256_cvtps_epi32(low.0), _mm256_cvtps_epi32(high.0));
                _mm256_blend_epi16::<0xaa>(low, _mm256_slli_epi32::<16>(high))
            })
        },
        |sums| {
            // SAFETY: as above.
            Self(unsafe { _mm256_cvtepi32_ps(sums.0) })
        }
    );
    vector!(
        F64x4,
        f64,
        4,
        __m256d,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        _mm256_mul_pd,
        _mm256_fmadd_pd,
        _mm256_max_pd,
        |a, b| _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_GT_OQ>(a, b)) != 0,
        |x| _mm256_castsi256_pd(_mm256_slli_epi64::<52>(_mm256_castpd_si256(x))),
        halves: false,
        PortablePairs<4>,
        |low, high| stored_pairs(low, high),
        |sums| stored_sums(sums)
    );
    vector!(
        F32x16,
        f32,
        16,
        __m512,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_fmadd_ps,
        _mm512_max_ps,
        |a, b| _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) != 0,
        |x| _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(x))),
        halves: false,
        PortablePairs<16>,
        |low, high| stored_pairs(low, high),
        |sums| stored_sums(sums)
    );
    vector!(
        F64x8,
        f64,
        8,
        __m512d,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        _mm512_mul_pd,
        _mm512_fmadd_pd,
        _mm512_max_pd,
        |a, b| _mm512_cmp_pd_mask::<_CMP_GT_OQ>(a, b) != 0,
        |x| _mm512_castsi512_pd(_mm512_slli_epi64::<52>(_mm512_castpd_si512(x))),
        halves: false,
        PortablePairs<8>,
        |low, high| stored_pairs(low, high),
        |sums| stored_sums(sums)
    );
}
