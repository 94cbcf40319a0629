//! The tile shapes: one table for every kernel, of the level's name, precision, register, its width and the keys beside it.
//!
//! A tile is two registers of queries by as many keys as the level's other registers hold sums of. Under test the shapes of
//! the levels that this processor may lack are there too, on portable vectors, so that what depends on a shape is
//! tested on every machine.

/// Calls `$level!(name, precision, vector, width, keys[, features])` for each shape, whose `Kernels` `$level!` leaves as
/// `KERNELS` in a module of that name, and then defines `Kernels::of`.
///
/// With `integers`, kernels in single precision at AVX-512 are there a second time for processors that have VNNI: one
/// instruction then multiplies and adds pairs of integers, where the same source takes two. No level is made of it, because
/// sums of integers are exact and the bits those of the other.
macro_rules! every_level {
    ($level:ident, integers) => {
        #[cfg(target_arch = "x86_64")]
        $level!(
            f32_avx512_vnni,
            f32,
            $crate::simd::x86::F32x16,
            16,
            12,
            "avx512vnni,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
        );
        $crate::simd::levels::every_level!($level, f32_avx512_vnni);
    };
    ($level:ident) => {
        $crate::simd::levels::every_level!($level, f32_avx512);
    };
    ($level:ident, $f32_avx512_vnni:ident) => {
        // 16 registers of 128 bits and no fused multiply-add: 2 × 4 sums, and room for the unfused products.
        $level!(f32_baseline, f32, $crate::simd::Portable<f32, 4>, 4, 4);
        $level!(f64_baseline, f64, $crate::simd::Portable<f64, 2>, 2, 4);
        // 16 registers of 256 bits: 2 × 6 sums, two vectors of queries, one key.
        #[cfg(target_arch = "x86_64")]
        $level!(f32_avx2, f32, $crate::simd::x86::F32x8, 8, 6, "avx2,fma");
        #[cfg(target_arch = "x86_64")]
        $level!(f64_avx2, f64, $crate::simd::x86::F64x4, 4, 6, "avx2,fma");
        #[cfg(test)]
        $level!(f32_portable_avx2, f32, $crate::simd::Called<f32, 8>, 8, 6);
        #[cfg(test)]
        $level!(f64_portable_avx2, f64, $crate::simd::Called<f64, 4>, 4, 6);
        // 32 registers of 512 bits: 2 × 12 sums.
        #[cfg(target_arch = "x86_64")]
        $level!(
            f32_avx512,
            f32,
            $crate::simd::x86::F32x16,
            16,
            12,
            "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
        );
        #[cfg(target_arch = "x86_64")]
        $level!(f64_avx512, f64, $crate::simd::x86::F64x8, 8, 12, "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma");
        #[cfg(test)]
        $level!(f32_portable_avx512, f32, $crate::simd::Called<f32, 16>, 16, 12);
        #[cfg(test)]
        $level!(f64_portable_avx512, f64, $crate::simd::Called<f64, 8>, 8, 12);

        /// The tables of a level.
        struct Tables($crate::options::Isa);

        impl $crate::float::ByPrecision for Tables {
            type Of<T> = Kernels<T>;

            $crate::simd::levels::of_precision!(
                single, f32: f32_baseline, f32_avx2, f32_portable_avx2, f32_avx512, f32_portable_avx512, $f32_avx512_vnni
            );
            $crate::simd::levels::of_precision!(
                double, f64: f64_baseline, f64_avx2, f64_portable_avx2, f64_avx512, f64_portable_avx512, f64_avx512
            );
        }

        impl<T: $crate::float::Float> Kernels<T> {
            /// Those of a level that the processor has.
            pub fn of(isa: $crate::options::Isa) -> Self {
                T::choose(Tables(isa))
            }
        }
    };
}

macro_rules! of_precision {
    ($choice:ident, $t:ident: $baseline:ident, $avx2:ident, $portable_avx2:ident, $avx512:ident, $portable_avx512:ident,
     $avx512_vnni:ident) => {
        fn $choice(self) -> Kernels<$t> {
            use $crate::options::Level;
            match self.0.level() {
                Level::Baseline => $baseline::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => $avx2::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 if std::arch::is_x86_feature_detected!("avx512vnni") => $avx512_vnni::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => $avx512::KERNELS,
                // No processor of this architecture has them, so that there is no such `Isa`.
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

/// Defines `Kernels<T>`, the compiled kernels of one level and precision, with the numbers of its tile's shape and a method for
/// each kernel.
macro_rules! kernels {
    (shape { $($shape:ident: $of:literal),* } $(fn $kernel:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        /// The compiled kernels of one level and precision.
        #[derive(Clone, Copy)]
        pub struct Kernels<T> {
            $(#[doc = $of] pub $shape: usize,)*
            $($kernel: unsafe fn($($type),*) $(-> $result)?,)*
        }

        impl<T> Kernels<T> {
            $(
                #[inline(always)]
                pub fn $kernel(&self, $($argument: $type),*) $(-> $result)? {
                    // SAFETY: the fields are private to the module that defines the kernels, whose tables only `Kernels::of`
                    // hands out, for an `Isa`: the proof that this processor has the table's instruction set, which is all
                    // that these functions ask of a caller.
                    unsafe { (self.$kernel)($($argument),*) }
                }
            )*
        }
    };
}

pub(crate) use {every_level, kernels, of_precision};
