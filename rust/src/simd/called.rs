//! Portable vectors whose arithmetic is called, not inlined: under test the kernels of every tile shape are compiled on
//! them too, and with inlined arithmetic of wide arrays that would take the compiler minutes.

use super::{Portable, PortablePairs, Vector};
use crate::float::Float;

/// As [`Portable`].
#[derive(Clone, Copy)]
pub struct Called<T, const W: usize>(Portable<T, W>);

impl<T: Float, const W: usize> Vector<T, W> for Called<T, W> {
    type Pairs = PortablePairs<W>;
    const HALVES: bool = false;
    #[inline(never)]
    fn pairs(self, other: Self) -> PortablePairs<W> {
        self.0.pairs(other.0)
    }
    #[inline(never)]
    fn from_sums(sums: PortablePairs<W>) -> Self {
        Called(Portable::from_sums(sums))
    }
    #[inline(never)]
    fn splat(x: T) -> Self {
        Called(Portable::splat(x))
    }
    #[inline(never)]
    fn load(from: &[T; W]) -> Self {
        Called(Portable::load(from))
    }
    #[inline(never)]
    fn store(self, to: &mut [T; W]) {
        self.0.store(to);
    }
    #[inline(never)]
    fn add(self, other: Self) -> Self {
        Called(self.0.add(other.0))
    }
    #[inline(never)]
    fn sub(self, other: Self) -> Self {
        Called(self.0.sub(other.0))
    }
    #[inline(never)]
    fn mul(self, other: Self) -> Self {
        Called(self.0.mul(other.0))
    }
    #[inline(never)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        Called(self.0.mul_add(b.0, c.0))
    }
    #[inline(never)]
    fn max(self, other: Self) -> Self {
        Called(self.0.max(other.0))
    }
    #[inline(never)]
    fn any_above(self, other: Self) -> bool {
        self.0.any_above(other.0)
    }
    #[inline(never)]
    fn pow2(self) -> Self {
        Called(self.0.pow2())
    }
}
