//! The tile shapes: one table for every kernel, of the level's name, precision, register, its width and the keys beside
//! it.
//!
//! A tile is two registers of queries by as many keys as the level's other registers hold sums of. Under test the
//! shapes of the levels that this processor may lack are there too, on portable vectors, so that code that depends on a
//! shape is tested on every machine.

/// Defines `Kernels<T>`, the compiled kernels of one level and precision, with the numbers of its tile's shape and a
/// method for each kernel. Each function given is compiled once for every level: in its body `T` is the precision, `V`
/// the register, `W` its width, `L = 2 W` and `J` the keys beside it.
///
/// With `integers`, kernels in single precision at AVX-512 are there a second time for processors that have VNNI: one
/// instruction then multiplies and adds pairs of integers, where the same source takes two. No level is made of it,
/// because sums of integers are exact and the bits those of the other.
macro_rules! kernels {
    (integers $($kernels:tt)*) => {
        $crate::simd::levels::table! { $($kernels)* }
        #[cfg(target_arch = "x86_64")]
        $crate::simd::levels::level!(
            f32_avx512_vnni,
            f32,
            $crate::simd::x86::F32x16,
            16,
            12,
            ["avx512vnni,avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"],
            { $($kernels)* }
        );
        $crate::simd::levels::every_level!(f32_avx512_vnni, { $($kernels)* });
    };
    ($($kernels:tt)*) => {
        $crate::simd::levels::table! { $($kernels)* }
        $crate::simd::levels::every_level!(f32_avx512, { $($kernels)* });
    };
}

/// The table of kernels, and its methods.
macro_rules! table {
    (
        shape { $($shape:ident: $of:literal = $number:expr),* }
        $(fn $kernel:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*
    ) => {
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
                    // SAFETY: the fields are private to the module that defines the kernels, whose tables only
                    // `Kernels::of` hands out, for an `Isa`: the proof that this processor has the table's instruction
                    // set, which is all that these functions ask of a caller.
                    unsafe { (self.$kernel)($($argument),*) }
                }
            )*
        }
    };
}

/// The kernels of one level and precision, in a module of its name.
macro_rules! level {
    (
        $name:ident, $t:ty, $vector:ty, $width:literal, $keys:literal, $features:tt,
        {
            shape { $($shape:ident: $of:literal = $number:expr),* }
            $(fn $kernel:ident $arguments:tt $(-> $result:ty)? $body:block)*
        }
    ) => {
        mod $name {
            use super::*;

            type T = $t;
            type V = $vector;
            const W: usize = $width;
            const L: usize = 2 * W;
            const J: usize = $keys;

            $($crate::simd::levels::kernel! { $features fn $kernel $arguments $(-> $result)? $body })*

            pub const KERNELS: Kernels<T> = Kernels { $($shape: $number,)* $($kernel,)* };
        }
    };
}

/// One kernel under the instruction set that it is compiled for.
macro_rules! kernel {
    ([$($features:literal)?] fn $kernel:ident ($($arguments:tt)*) $(-> $result:ty)? $body:block) => {
        $(#[target_feature(enable = $features)])?
        pub fn $kernel($($arguments)*) $(-> $result)? $body
    };
}

/// The kernels of all levels, and `Kernels::of`.
macro_rules! every_level {
    ($f32_avx512_vnni:ident, $kernels:tt) => {
        // 16 registers of 128 bits and no fused multiply-add: 2 × 4 sums, and room for the unfused products.
        $crate::simd::levels::level!(f32_baseline, f32, $crate::simd::Portable<f32, 4>, 4, 4, [], $kernels);
        $crate::simd::levels::level!(f64_baseline, f64, $crate::simd::Portable<f64, 2>, 2, 4, [], $kernels);
        // 16 registers of 256 bits: 2 × 6 sums, two vectors of queries, one key.
        #[cfg(target_arch = "x86_64")]
        $crate::simd::levels::level!(f32_avx2, f32, $crate::simd::x86::F32x8, 8, 6, ["avx2,fma"], $kernels);
        #[cfg(target_arch = "x86_64")]
        $crate::simd::levels::level!(f64_avx2, f64, $crate::simd::x86::F64x4, 4, 6, ["avx2,fma"], $kernels);
        #[cfg(test)]
        $crate::simd::levels::level!(f32_portable_avx2, f32, $crate::simd::Called<f32, 8>, 8, 6, [], $kernels);
        #[cfg(test)]
        $crate::simd::levels::level!(f64_portable_avx2, f64, $crate::simd::Called<f64, 4>, 4, 6, [], $kernels);
        // 32 registers of 512 bits: 2 × 12 sums.
        #[cfg(target_arch = "x86_64")]
        $crate::simd::levels::level!(f32_avx512, f32, $crate::simd::x86::F32x16, 16, 12, ["avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"], $kernels);
        #[cfg(target_arch = "x86_64")]
        $crate::simd::levels::level!(f64_avx512, f64, $crate::simd::x86::F64x8, 8, 12, ["avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"], $kernels);
        #[cfg(test)]
        $crate::simd::levels::level!(f32_portable_avx512, f32, $crate::simd::Called<f32, 16>, 16, 12, [], $kernels);
        #[cfg(test)]
        $crate::simd::levels::level!(f64_portable_avx512, f64, $crate::simd::Called<f64, 8>, 8, 12, [], $kernels);

        /// The tables of a level.
        struct Tables($crate::options::Isa);

        impl $crate::float::ByPrecision for Tables {
            type Of<T: $crate::float::Float> = Kernels<T>;

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

pub(crate) use {every_level, kernel, kernels, level, of_precision, table};
