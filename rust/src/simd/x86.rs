//! The vectors of x86-64. The only module with intrinsics.

use std::arch::x86_64::*;

use super::{Pairs, PortablePairs, Vector, stored_pairs, stored_sums};

macro_rules! vector {
    ($name:ident, $t:ident, $w:literal, $register:ident, $splat:ident, $load:ident, $store:ident, $add:ident,
     $sub:ident, $mul:ident, $fma:ident, $max:ident, |$a:ident, $b:ident| $above:expr, |$x:ident| $pow2:expr,
     halves: $halves:literal, $pairs:ty, |$low:ident, $high:ident| $to_pairs:expr, |$sums:ident| $from_sums:expr) => {
        /// One register of this level.
        #[derive(Clone, Copy)]
        pub struct $name($register);

        // SAFETY of every block below: the type is named by the kernels of its level alone, and a table of those is
        // given out for an `Isa`, so that they run only where the processor has their instruction set; memory is
        // reached through references to arrays of its length.
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

macro_rules! pairs {
    ($name:ident, $w:literal, $register:ident, $splat:ident, $load:ident, $store:ident,
     |$a:ident, $b:ident, $c:ident| $multiply_add:expr) => {
        /// One register of pairs.
        #[derive(Clone, Copy)]
        pub struct $name($register);

        impl Pairs<$w> for $name {
            #[inline(always)]
            fn splat(pair: i32) -> Self {
                // SAFETY: as above.
                Self(unsafe { $splat(pair) })
            }
            #[inline(always)]
            fn load(from: &[i32; $w]) -> Self {
                // SAFETY: as above.
                Self(unsafe { $load(from.as_ptr().cast()) })
            }
            #[inline(always)]
            fn store(self, to: &mut [i32; $w]) {
                // SAFETY: as above.
                unsafe { $store(to.as_mut_ptr().cast(), self.0) }
            }
            #[inline(always)]
            fn multiply_add(self, b: Self, c: Self) -> Self {
                let ($a, $b, $c) = (self.0, b.0, c.0);
                // SAFETY: as above.
                Self(unsafe { $multiply_add })
            }
        }
    };
}

pairs!(I16x16, 8, __m256i, _mm256_set1_epi32, _mm256_loadu_si256, _mm256_storeu_si256, |a, b, c| {
    _mm256_add_epi32(_mm256_madd_epi16(a, b), c)
});
pairs!(I16x32, 16, __m512i, _mm512_set1_epi32, _mm512_loadu_si512, _mm512_storeu_si512, |a, b, c| {
    _mm512_add_epi32(_mm512_madd_epi16(a, b), c)
});

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
    halves: true,
    I16x32,
    |low, high| {
        // SAFETY: as above.
        I16x32(unsafe {
            let (low, high) = (_mm512_cvtps_epi32(low.0), _mm512_cvtps_epi32(high.0));
            _mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_slli_epi32::<16>(high))
        })
    },
    |sums| {
        // SAFETY: as above.
        Self(unsafe { _mm512_cvtepi32_ps(sums.0) })
    }
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

/// A block, transposed by shuffles that every processor of this architecture has.
#[inline(always)]
pub fn transpose_block(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    let mut columns = [[0.0; 4]; 4];
    // SAFETY: SSE is part of the architecture; memory is reached through arrays of four numbers.
    unsafe {
        let (a, b) = (_mm_loadu_ps(rows[0].as_ptr()), _mm_loadu_ps(rows[1].as_ptr()));
        let (c, d) = (_mm_loadu_ps(rows[2].as_ptr()), _mm_loadu_ps(rows[3].as_ptr()));
        let (low, high) =
            ([_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d)], [_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d)]);
        _mm_storeu_ps(columns[0].as_mut_ptr(), _mm_movelh_ps(low[0], low[1]));
        _mm_storeu_ps(columns[1].as_mut_ptr(), _mm_movehl_ps(low[1], low[0]));
        _mm_storeu_ps(columns[2].as_mut_ptr(), _mm_movelh_ps(high[0], high[1]));
        _mm_storeu_ps(columns[3].as_mut_ptr(), _mm_movehl_ps(high[1], high[0]));
    }
    columns
}
