//! The kernels of each dispatch level: one generic source, compiled under three instruction sets.
//!
//! The tiles are those of the exact kernels: two vectors of rows, and as many keys as the registers hold beside them.

use super::Kernels;
use super::causal::keys::{self as causal_keys, Answered, CausalKeyTask, CausalKeys, QueryMoments};
use super::causal::queries::{self as causal_queries, CausalQueries, CausalTask};
use super::collect::{self, KeyMoments, Keys};
use super::keys::{self, KeySide, KeyTask};
use super::near::Nothing;
use super::queries::{self, Queries, QueryTask};
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
            pub fn key_moments(operands: &Keys<'_, $t>, task: KeyMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
                collect::key_moments::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn queries(operands: &Queries<'_, $t>, task: QueryTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                queries::queries::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Nothing, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn key_side(operands: &KeySide<'_, $t>, task: KeyTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                keys::key_side::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Nothing, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn causal_queries(
                operands: &CausalQueries<'_, $t>,
                task: CausalTask<'_, $t>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                causal_queries::causal_queries::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn query_moments(operands: &Answered<'_, $t>, task: QueryMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
                causal_keys::query_moments::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn causal_keys(
                operands: &CausalKeys<'_, $t>,
                task: CausalKeyTask<'_, $t>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                causal_keys::causal_keys::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            pub const KERNELS: Kernels<$t> = Kernels {
                keys: $keys,
                key_moments,
                queries,
                key_side,
                causal_queries,
                query_moments,
                causal_keys,
            };
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

level!(f32_baseline, f32, Portable<f32, 4>, 4, 4);
level!(f64_baseline, f64, Portable<f64, 2>, 2, 4);
#[cfg(target_arch = "x86_64")]
level!(f32_avx2, f32, x86::F32x8, 8, 6, "avx2,fma");
#[cfg(target_arch = "x86_64")]
level!(f64_avx2, f64, x86::F64x4, 4, 6, "avx2,fma");
#[cfg(target_arch = "x86_64")]
level!(f32_avx512, f32, x86::F32x16, 16, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
#[cfg(target_arch = "x86_64")]
level!(f64_avx512, f64, x86::F64x8, 8, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
precision!(f32, f32_baseline, f32_avx2, f32_avx512);
precision!(f64, f64_baseline, f64_avx2, f64_avx512);
