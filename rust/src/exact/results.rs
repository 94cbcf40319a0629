//! Results of many heads, and their sums over the heads that share keys.

use std::array;

use ndarray::Array2;

use super::pull_back::Estimate;
use crate::constants::PART_ENTRIES;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::take;
use crate::linalg::norms::norm;
use crate::linalg::products::matrix;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Some results of each of many heads, of the same shapes.
pub struct Results<T, const N: usize> {
    shapes: [(usize, usize); N],
    sizes: [usize; N],
    heads: usize,
    values: [Vec<T>; N],
}

impl<T: Float, const N: usize> Results<T, N> {
    /// Zeros.
    pub fn new(heads: usize, shapes: [(usize, usize); N]) -> Result<Self, Error> {
        let (mut sizes, mut values) = ([0; N], [const { Vec::new() }; N]);
        for (place, (rows, columns)) in shapes.into_iter().enumerate() {
            sizes[place] = buffer::size(&[rows, columns])?;
            values[place] = buffer::zeros(buffer::size(&[heads, sizes[place]])?)?;
        }
        Ok(Results { shapes, sizes, heads, values })
    }

    /// The parts of each head.
    pub fn of_heads(&mut self) -> impl Iterator<Item = [&mut [T]; N]> {
        let (sizes, mut rest) = (self.sizes, self.values.each_mut().map(Vec::as_mut_slice));
        (0..self.heads).map(move |_| array::from_fn(|place| take(&mut rest[place], sizes[place])))
    }

    /// Rows of one head after those of the one before; in some places sums over each `group` of heads.
    pub fn finish(self, group: usize, summed: &[usize], run: &mut Run<'_>) -> Result<[Array2<T>; N], Error> {
        let Results { shapes, sizes, heads, values } = self;
        let mut matrices = [const { None }; N];
        for (place, values) in values.into_iter().enumerate() {
            let is_summed = group > 1 && summed.contains(&place);
            let (values, heads) =
                if is_summed { (sums(values, (sizes[place], group), run)?, heads / group) } else { (values, heads) };
            let (rows, columns) = shapes[place];
            matrices[place] = Some(matrix(values, heads * rows, columns)?);
        }
        // All are there.
        Ok(matrices.map(Option::unwrap_or_default))
    }
}

/// Estimates of sums over each `group` of heads from those of the heads.
pub fn of_sums<T: Float>(sums: &Array2<T>, estimates: &[Estimate], group: usize) -> Result<Vec<Estimate>, Error> {
    let mut of_sums = buffer::with_capacity(estimates.len() / group)?;
    let size = sums.len() / (estimates.len() / group).max(1);
    let sums = sums.as_slice().unwrap_or_default();
    for (number, parts) in estimates.chunks(group).enumerate() {
        let norm = norm(&sums[number * size..][..size]);
        let rounding = parts.iter().map(|part| part.rounding).sum::<f64>();
        // Zeros by structure have no error, and their sum has none.
        let rounding = if rounding > 0.0 { (rounding + T::UNIT_ROUNDOFF * norm).next_up() } else { rounding };
        of_sums.push(Estimate { norm, rounding });
    }
    Ok(of_sums)
}

/// Sums over each `group` of heads, of `size` numbers each, in double precision and in the order of the heads.
fn sums<T: Float>(values: Vec<T>, (size, group): (usize, usize), run: &mut Run<'_>) -> Result<Vec<T>, Error> {
    let shared = values.len() / (size * group).max(1);
    let mut sums = buffer::zeros::<T>(buffer::size(&[shared, size])?)?;
    let mut tasks = buffer::with_capacity(shared * size.div_ceil(PART_ENTRIES))?;
    if size > 0 {
        for (sums, parts) in sums.chunks_mut(size).zip(values.chunks(size * group)) {
            for (part, sums) in sums.chunks_mut(PART_ENTRIES).enumerate() {
                tasks.push((part * PART_ENTRIES, sums, parts));
            }
        }
    }
    run.short(values.len(), tasks.into_iter(), |(first, sums, parts), _| {
        for (i, sum) in sums.iter_mut().enumerate() {
            let of_heads = parts[first + i..].iter().step_by(size);
            *sum = T::narrow(of_heads.map(|x| x.widen()).sum());
        }
        Ok(())
    })?;
    Ok(sums)
}
