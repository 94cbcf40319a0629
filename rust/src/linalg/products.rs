//! Products with small matrices, in a fixed order of summation.

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::constants::{PRODUCT_PARTS, PRODUCT_ROWS};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Products of two numbers that a product of matrices takes in a nanosecond, when it is small.
const PRODUCTS_PER_NANOSECOND: usize = 8;

/// factor · a b, row-major: blocks of rows in parallel. The factor is applied last and in double precision, so that
/// it may be of any size.
pub fn product<T: Float>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    factor: f64,
    run: &mut Run<'_>,
) -> Result<Vec<T>, Error> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut out = buffer::zeros(buffer::size(&[rows, columns])?)?;
    if columns > 0 {
        let tasks = out.chunks_mut(PRODUCT_ROWS * columns).enumerate();
        let operations = rows.saturating_mul(columns).saturating_mul(a.ncols());
        run.short(operations / PRODUCTS_PER_NANOSECOND, tasks, |(block, out), _| {
            let first = block * PRODUCT_ROWS;
            let count = out.len() / columns;
            let a = a.slice(s![first..first + count, ..]);
            general_mat_mul(T::one(), &a, &b, T::zero(), &mut view_mut(out, count, columns)?);
            if factor != 1.0 {
                for entry in out {
                    *entry = T::narrow(factor * entry.widen());
                }
            }
            Ok(())
        })?;
    }
    Ok(out)
}

/// factor · aᵀ b: sums over blocks of rows in working precision, folded in double precision in the order of the rows.
pub fn transposed_product<T: Float>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
    factor: f64,
    run: &mut Run<'_>,
) -> Result<Array2<T>, Error> {
    transposed_sum((a.ncols(), b.ncols()), a.nrows(), factor, run, |range, out| {
        let range = s![range, ..];
        general_mat_mul(T::one(), &a.slice(range).reversed_axes(), &b.slice(range), T::zero(), out);
        Ok(())
    })
}

/// The same for terms of (p, q) that `of` makes from a block of rows each.
pub fn transposed_sum<T: Float>(
    (p, q): (usize, usize),
    rows: usize,
    factor: f64,
    run: &mut Run<'_>,
    of: impl Fn(Range<usize>, &mut ArrayViewMut2<'_, T>) -> Result<(), Error> + Sync,
) -> Result<Array2<T>, Error> {
    let size = buffer::size(&[p, q])?;
    // No more parts than cost the memory of the operands, and by the shape alone.
    let parts = (rows.saturating_mul(p + q) / (2 * size.max(1))).clamp(1, PRODUCT_PARTS);
    let part_rows = rows.div_ceil(parts).max(1);
    let mut sums = buffer::zeros::<f64>(buffer::size(&[parts, size])?)?;
    if size > 0 {
        let operations = rows.saturating_mul(size);
        run.short(operations / PRODUCTS_PER_NANOSECOND, sums.chunks_mut(size).enumerate(), |(part, sums), cancel| {
            let mut block = buffer::zeros::<T>(size)?;
            let end = rows.min((part + 1) * part_rows);
            for first in (part * part_rows..end).step_by(PRODUCT_ROWS) {
                cancel.check()?;
                of(first..end.min(first + PRODUCT_ROWS), &mut view_mut(&mut block, p, q)?)?;
                for (sum, term) in sums.iter_mut().zip(&block) {
                    *sum += term.widen();
                }
            }
            Ok(())
        })?;
    }
    let mut out = buffer::with_capacity(size)?;
    out.extend((0..size).map(|i| {
        let sum: f64 = (0..parts).map(|part| sums[part * size + i]).sum();
        T::narrow(factor * sum)
    }));
    matrix(out, p, q)
}

/// Numbers, scaled in double precision and rounded once.
pub fn scaled<T: Float>(numbers: &[T], factor: f64) -> Result<Vec<T>, Error> {
    let mut out = buffer::zeros(numbers.len())?;
    scale_into(numbers, factor, &mut out);
    Ok(out)
}

/// Numbers scaled twice in double precision and rounded once.
#[inline(always)]
pub fn scale_twice<T: Float>(numbers: &[T], [first, second]: [f64; 2], to: &mut [T]) {
    for (to, x) in to.iter_mut().zip(numbers) {
        *to = T::narrow(x.widen() * first * second);
    }
}

/// The same from numbers of either precision into room that is there.
#[inline(always)]
pub fn scale_into<S: Float, T: Float>(numbers: &[S], factor: f64, to: &mut [T]) {
    for (to, x) in to.iter_mut().zip(numbers) {
        *to = T::narrow(x.widen() * factor);
    }
}

/// The numbers of a matrix, each made into another one, row-major.
pub fn mapped<S: Copy, T>(array: ArrayView2<'_, S>, of: impl Fn(S) -> T) -> Result<Array2<T>, Error> {
    matrix(buffer::collected(array.iter().map(|&x| of(x)))?, array.nrows(), array.ncols())
}

/// a b of matrices in double precision, for which there may be no memory.
pub fn dot(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut out = matrix(buffer::zeros(buffer::size(&[rows, columns])?)?, rows, columns)?;
    general_mat_mul(1.0, &a, &b, 0.0, &mut out);
    Ok(out)
}

/// A row-major vector as a matrix.
pub fn matrix<T>(data: Vec<T>, rows: usize, columns: usize) -> Result<Array2<T>, Error> {
    Array2::from_shape_vec((rows, columns), data).map_err(|error| Error::Internal(error.to_string()))
}

/// A row-major slice as a matrix.
pub fn view<T>(data: &[T], rows: usize, columns: usize) -> Result<ArrayView2<'_, T>, Error> {
    ArrayView2::from_shape((rows, columns), data).map_err(|error| Error::Internal(error.to_string()))
}

/// The same to write into.
pub fn view_mut<T>(data: &mut [T], rows: usize, columns: usize) -> Result<ArrayViewMut2<'_, T>, Error> {
    ArrayViewMut2::from_shape((rows, columns), data).map_err(|error| Error::Internal(error.to_string()))
}
