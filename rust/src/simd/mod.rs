//! One vector register as a type, for each instruction set.
//!
//! Arrays of scalars in generic code gave the same speed where LLVM vectorised along the lanes, but it is free to
//! vectorise along another loop, and did: with AVX2 the second product of a tile became shuffles, at half the speed.
//! With the register as a type there is nothing left to choose.

use crate::float::Float;

#[cfg(test)]
mod called;
pub mod levels;
pub mod transpose;
#[cfg(target_arch = "x86_64")]
pub mod x86;

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

/// The vector of every processor: an array, in whatever registers the compiler has for it.
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
