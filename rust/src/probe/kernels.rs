//! The kernels that look at data, compiled for every level.

use std::ops::Range;

use super::exponential;
use super::lengths::{self, Measured, Measures};
use super::weighed::{self, Sums, Weighed};
use crate::error::Error;
use crate::linalg::layout::Rows;
use crate::simd::levels::kernels;

kernels! {
    shape { keys: "Keys of a tile." = J }

    fn exponentials(numbers: &mut [T]) {
        exponential::exponentiate::<T, V, W>(numbers)
    }

    fn lengths(measured: &Measured<'_, T>, of: Range<usize>, to: Measures<'_>) -> Result<(), Error> {
        lengths::lengths::<T, V, W, L, J>(measured, of, to)
    }

    fn weigh(
        weighed: &Weighed<T>,
        first: usize,
        keys: Rows<'_, T>,
        values: Rows<'_, T>,
        sums: &mut Sums,
    ) -> Result<bool, Error> {
        weighed::weigh::<T, V, W, L, J>(weighed, first, keys, values, sums)
    }
}
