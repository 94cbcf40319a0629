//! Small blocks of numbers, transposed in registers.

use crate::float::{ByPrecision, Float};

/// Rows and columns of the blocks that are transposed in registers.
pub const BLOCK: usize = 4;

/// A block, transposed.
#[inline(always)]
pub fn transposed<T: Float>(rows: [[T; BLOCK]; BLOCK]) -> [[T; BLOCK]; BLOCK] {
    T::choose(Transpose)(rows)
}

/// The ways to transpose a block: entry by entry the compiler makes shuffles of it for some instruction sets alone, and
/// a load and a store of each number for others.
struct Transpose;

impl ByPrecision for Transpose {
    type Of<T: crate::float::Float> = fn([[T; BLOCK]; BLOCK]) -> [[T; BLOCK]; BLOCK];

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn single(self) -> Self::Of<f32> {
        super::x86::transpose_block
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn single(self) -> Self::Of<f32> {
        by_entries
    }

    #[inline(always)]
    fn double(self) -> Self::Of<f64> {
        by_entries
    }
}

#[inline(always)]
fn by_entries<T: Float>(rows: [[T; BLOCK]; BLOCK]) -> [[T; BLOCK]; BLOCK] {
    let mut columns = [[T::zero(); BLOCK]; BLOCK];
    for r in 0..BLOCK {
        for c in 0..BLOCK {
            columns[c][r] = rows[r][c];
        }
    }
    columns
}
