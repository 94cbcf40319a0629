//! The tile shapes: one table for every kernel, of the level's name, precision, register, its width and the keys beside it.
//!
//! A tile is two registers of queries by as many keys as the level's other registers hold sums of. Under test the shapes of
//! the levels that this processor may lack are there too, on portable vectors, so that what depends on a shape is
//! tested on every machine.

/// Calls `$level!(name, precision, vector, width, keys[, features])` for each shape, and then defines functions `f32` and
/// `f64` from a level to its `Kernels`, which `$level!` leaves as `KERNELS` in a module of that name.
macro_rules! every_level {
    ($level:ident) => {
        // 16 registers of 128 bits and no fused multiply-add: 2 × 4 sums, and room for the unfused products.
        $level!(f32_baseline, f32, $crate::tile::simd::Portable<f32, 4>, 4, 4);
        $level!(f64_baseline, f64, $crate::tile::simd::Portable<f64, 2>, 2, 4);
        // 16 registers of 256 bits: 2 × 6 sums, two vectors of queries, one key.
        #[cfg(target_arch = "x86_64")]
        $level!(f32_avx2, f32, $crate::tile::simd::x86::F32x8, 8, 6, "avx2,fma");
        #[cfg(target_arch = "x86_64")]
        $level!(f64_avx2, f64, $crate::tile::simd::x86::F64x4, 4, 6, "avx2,fma");
        #[cfg(test)]
        $level!(f32_portable_avx2, f32, $crate::tile::simd::Called<f32, 8>, 8, 6);
        #[cfg(test)]
        $level!(f64_portable_avx2, f64, $crate::tile::simd::Called<f64, 4>, 4, 6);
        // 32 registers of 512 bits: 2 × 12 sums.
        #[cfg(target_arch = "x86_64")]
        $level!(
            f32_avx512,
            f32,
            $crate::tile::simd::x86::F32x16,
            16,
            12,
            "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
        );
        #[cfg(target_arch = "x86_64")]
        $level!(f64_avx512, f64, $crate::tile::simd::x86::F64x8, 8, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
        #[cfg(test)]
        $level!(f32_portable_avx512, f32, $crate::tile::simd::Called<f32, 16>, 16, 12);
        #[cfg(test)]
        $level!(f64_portable_avx512, f64, $crate::tile::simd::Called<f64, 8>, 8, 12);
        $crate::tile::levels::of_precision!(
            f32: f32_baseline, f32_avx2, f32_portable_avx2, f32_avx512, f32_portable_avx512
        );
        $crate::tile::levels::of_precision!(
            f64: f64_baseline, f64_avx2, f64_portable_avx2, f64_avx512, f64_portable_avx512
        );
    };
}

macro_rules! of_precision {
    ($t:ident: $baseline:ident, $avx2:ident, $portable_avx2:ident, $avx512:ident, $portable_avx512:ident) => {
        /// The kernels of this precision at `level`.
        pub fn $t(level: $crate::options::Level) -> Kernels<$t> {
            use $crate::options::Level;
            match level {
                Level::Baseline => $baseline::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => $avx2::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => $avx512::KERNELS,
                // Not available there, as `Level::available` says, which is asked before.
                #[cfg(not(target_arch = "x86_64"))]
                Level::Avx2 | Level::Avx512 => $baseline::KERNELS,
                #[cfg(test)]
                Level::PortableAvx2 => $portable_avx2::KERNELS,
                #[cfg(test)]
                Level::PortableAvx512 => $portable_avx512::KERNELS,
            }
        }
    };
}

pub(crate) use {every_level, of_precision};
