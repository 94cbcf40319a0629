//! The kernels of each dispatch level: one generic source, compiled under three instruction sets.
//!
//! The tile's shape belongs to the level: two vectors of queries, and as many keys as its registers hold beside them.

use super::backward::{self, Again, BackwardTask};
use super::both_sides::{self, ChunkTask, Wave};
use super::forward::{self, Forget, ForwardTask};
use super::fused::{self, FirstTask, FusedTask};
use super::{Kernels, Operands};
use crate::error::Error;
use crate::options::Level;
use crate::pool::Cancel;
use crate::tile::simd::Portable;
#[cfg(target_arch = "x86_64")]
use crate::tile::simd::x86;

macro_rules! level {
    ($name:ident, $t:ident, $vector:ty, $width:literal, $keys:literal $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            pub fn forward(operands: &Operands<'_, $t>, task: ForwardTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                forward::forward::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Forget, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn first(operands: &Operands<'_, $t>, task: FirstTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                fused::first::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn fused(operands: &Operands<'_, $t>, task: FusedTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                fused::fused::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn backward(operands: &Operands<'_, $t>, task: BackwardTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                backward::backward::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Again, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn both_sides(
                operands: &Operands<'_, $t>,
                wave: &Wave<'_, $t>,
                task: ChunkTask<'_, $t>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                both_sides::both_sides::<$t, $vector, $width, { 2 * $width }, $keys>(operands, wave, task, cancel)
            }

            pub const KERNELS: Kernels<$t> =
                Kernels { lanes: 2 * $width, keys: $keys, forward, first, backward, fused, both_sides };
        }
    };
}

macro_rules! precision {
    ($t:ident, $baseline:ident, $avx2:ident, $avx512:ident) => {
        /// The kernels of this precision at `level`.
        pub fn $t(level: Level) -> Kernels<$t> {
            match level {
                Level::Baseline => $baseline::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => $avx2::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => $avx512::KERNELS,
            }
        }
    };
}

// Baseline: 16 registers of 128 bits and no fused multiply-add: 2 × 4 sums, and room for the unfused products.
level!(f32_baseline, f32, Portable<f32, 4>, 4, 4);
level!(f64_baseline, f64, Portable<f64, 2>, 2, 4);
// AVX2: 16 registers of 256 bits: 2 × 6 sums, two vectors of queries, one key.
#[cfg(target_arch = "x86_64")]
level!(f32_avx2, f32, x86::F32x8, 8, 6, "avx2,fma");
#[cfg(target_arch = "x86_64")]
level!(f64_avx2, f64, x86::F64x4, 4, 6, "avx2,fma");
// AVX-512: 32 registers of 512 bits: 2 × 12 sums.
#[cfg(target_arch = "x86_64")]
level!(f32_avx512, f32, x86::F32x16, 16, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
#[cfg(target_arch = "x86_64")]
level!(f64_avx512, f64, x86::F64x8, 8, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
precision!(f32, f32_baseline, f32_avx2, f32_avx512);
precision!(f64, f64_baseline, f64_avx2, f64_avx512);
