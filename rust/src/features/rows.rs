//! Passes over rows in an order that the threads do not change, and rows in their coordinates, some side by side.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::constants::{PRODUCT_PARTS, PRODUCT_ROWS};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::products::view;
use crate::runtime::buffer;
use crate::runtime::pool::{Cancel, Run};

/// Rows that are worked on side by side: a register of the widest instruction set in single precision.
pub(super) const LANES: usize = 16;

/// A number of each of some rows.
pub(super) type Lane<T> = [T; LANES];

/// Results of `of` for ranges of 0, …, `count` − 1, in their order. The ranges depend on the sizes alone and have at
/// least `size` rows each, so that parts with a square matrix of that size take no more memory than the rows.
pub(super) fn by_parts<S: Send>(
    count: usize,
    size: usize,
    run: &mut Run<'_>,
    of: impl Fn(Range<usize>, &Cancel) -> Result<S, Error> + Sync,
) -> Result<Vec<S>, Error> {
    let each = count.div_ceil(PRODUCT_PARTS).max(PRODUCT_ROWS).max(size);
    let mut found: Vec<Option<S>> = (0..count.div_ceil(each)).map(|_| None).collect();
    run.for_each(found.iter_mut().enumerate(), |(part, found), cancel| {
        *found = Some(of(part * each..count.min((part + 1) * each), cancel)?);
        Ok(())
    })?;
    Ok(found.into_iter().flatten().collect())
}

/// Blocks of some rows less their mean, over their size, in double precision.
pub(super) fn centred<T: Float>(
    rows: Rows<'_, T>,
    range: Range<usize>,
    mean: &Array1<f64>,
    size: f64,
    cancel: &Cancel,
    mut to: impl FnMut(ArrayView2<'_, f64>),
) -> Result<(), Error> {
    let d = rows.width;
    let mut block = buffer::zeros::<f64>(buffer::size(&[range.len().min(PRODUCT_ROWS), d])?)?;
    for first in range.clone().step_by(PRODUCT_ROWS) {
        cancel.check()?;
        let count = PRODUCT_ROWS.min(range.end - first);
        let given = &rows.data[first * d..(first + count) * d];
        for (row, given) in block.chunks_exact_mut(d.max(1)).zip(given.chunks_exact(d.max(1))) {
            row.iter_mut().zip(given).zip(mean).for_each(|((to, x), mean)| *to = (x.widen() - mean) / size);
        }
        to(view(&block[..count * d], count, d)?);
    }
    Ok(())
}

/// A change of coordinates, x → (x − mean) map, for rows side by side.
pub(super) struct Lanes<T> {
    mean: Vec<T>,
    /// `[coordinate][width of a row]`.
    columns: Vec<T>,
}

impl<T: Float> Lanes<T> {
    /// Rounded once to the precision that it is computed in.
    pub fn new(mean: &Array1<f64>, map: &Array2<f64>) -> Result<Self, Error> {
        let narrow = |&x: &f64| T::narrow(x);
        let mut columns = buffer::with_capacity(map.len())?;
        map.axis_iter(Axis(1)).for_each(|column| columns.extend(column.iter().map(narrow)));
        Ok(Lanes { mean: buffer::collected(mean.iter().map(narrow))?, columns })
    }

    /// Numbers of a row, and of its coordinates.
    pub fn width(&self) -> usize {
        self.mean.len()
    }

    /// The shifted rows and the coordinates of at most [`LANES`] rows; zero past the last one.
    #[inline(always)]
    pub fn of<S: Float>(&self, given: &[S], count: usize, shifted: &mut [Lane<T>], to: &mut [Lane<T>]) {
        let d = self.width();
        for (i, (lanes, &mean)) in shifted.iter_mut().zip(&self.mean).enumerate() {
            *lanes = [T::zero(); LANES];
            for (lane, to) in lanes.iter_mut().enumerate().take(count) {
                *to = T::narrow(given[lane * d + i].widen()) - mean;
            }
        }
        for (to, column) in to.iter_mut().zip(self.columns.chunks_exact(d.max(1))) {
            let mut sum = [T::zero(); LANES];
            for (lanes, &weight) in shifted.iter().zip(column) {
                for lane in 0..LANES {
                    sum[lane] += lanes[lane] * weight;
                }
            }
            *to = sum;
        }
    }
}

/// The coordinates of all rows, row-major.
pub(super) fn mapped<S: Float, T: Float>(
    rows: Rows<'_, S>,
    lanes: &Lanes<T>,
    run: &mut Run<'_>,
) -> Result<Vec<T>, Error> {
    let d = lanes.width();
    let mut out = buffer::zeros(buffer::size(&[rows.count, d])?)?;
    if d == 0 {
        return Ok(out);
    }
    let tasks = out.chunks_mut(PRODUCT_ROWS * d).zip(rows.data.chunks(PRODUCT_ROWS * d));
    run.for_each(tasks, |(out, given), cancel| {
        cancel.check()?;
        let mut shifted = buffer::filled(d, [T::zero(); LANES])?;
        let mut coordinates = buffer::filled(d, [T::zero(); LANES])?;
        for (out, given) in out.chunks_mut(LANES * d).zip(given.chunks(LANES * d)) {
            lanes.of(given, out.len() / d, &mut shifted, &mut coordinates);
            for (lane, row) in out.chunks_exact_mut(d).enumerate() {
                row.iter_mut().zip(&coordinates).for_each(|(to, from)| *to = from[lane]);
            }
        }
        Ok(())
    })?;
    Ok(out)
}
