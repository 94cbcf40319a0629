//! The kernels of the exact passes, compiled for every level.

use super::Operands;
use super::backward::{self, Again, BackwardTask};
use super::both_sides::{self, ChunkTask, Wave};
use super::forward::{self, Forget, ForwardTask};
use super::fused::{self, FirstTask};
use super::resumed::{self, ResumedTask};
use super::slot::Slot;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::{finite, norms, products};
use crate::runtime::buffer;
use crate::runtime::pool::{Cancel, Run};
use crate::simd::levels::kernels;

kernels! {
    shape { lanes: "Queries of a tile." = L, keys: "Keys of a tile." = J }

    fn forward(operands: &Operands<'_, T>, task: ForwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        forward::forward::<T, V, W, L, J>(operands, task, &mut Forget, cancel)
    }

    fn first(operands: &Operands<'_, T>, task: FirstTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        fused::first::<T, V, W, L, J>(operands, task, cancel)
    }

    fn resumed(operands: &Operands<'_, T>, task: ResumedTask<'_, T>) {
        resumed::resumed::<T, L>(operands, task)
    }

    fn second(operands: &Operands<'_, T>, task: BackwardTask<'_, T>, kept: &[T], cancel: &Cancel) -> Result<(), Error> {
        fused::second::<T, V, W, L, J>(operands, task, kept, cancel)
    }

    fn backward(operands: &Operands<'_, T>, task: BackwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        backward::backward::<T, V, W, L, J>(operands, task, &mut Again, cancel)
    }

    fn norms(rows: &[T], width: usize, norms: &mut [f64]) {
        norms::each(rows, width, norms)
    }

    fn scaled(numbers: &[T], factors: [f64; 2], to: &mut [T]) {
        products::scale_twice(numbers, factors, to)
    }

    fn narrowed(numbers: &[f64], factor: f64, to: &mut [T]) {
        products::scale_into(numbers, factor, to)
    }

    fn finite(numbers: &[T]) -> bool {
        finite::all_finite_of(numbers)
    }

    fn size(numbers: &[T]) -> f64 {
        norms::norm(numbers)
    }

    fn pack(slot: &mut Slot<T>, queries: Rows<'_, T>) {
        slot.pack::<L>(queries)
    }

    fn fold(partials: &[&[f64]], shape: (usize, usize), room: (&mut [f64], &mut [T]), rows: &mut [T]) {
        both_sides::fold_chunks::<T, L>(partials, shape, room, rows)
    }

    fn both_sides(operands: &Operands<'_, T>, wave: &Wave<'_, T>, task: ChunkTask<'_>, cancel: &Cancel) -> Result<(), Error> {
        both_sides::both_sides::<T, V, W, L, J>(operands, wave, task, cancel)
    }
}

impl<T: Float> Kernels<T> {
    /// The norm of each row, with many threads where there are many: the bits of [`norms::row_norms`].
    pub fn row_norms(&self, rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
        let mut found = buffer::zeros(rows.count)?;
        if rows.width == 0 {
            return Ok(found);
        }
        let part = rows.part();
        let parts = rows.data.chunks(part * rows.width).zip(found.chunks_mut(part));
        run.short(rows.data.len() / NUMBERS_PER_NANOSECOND, parts, |(data, found), _| {
            self.norms(data, rows.width, found);
            Ok(())
        })?;
        Ok(found)
    }
}

/// Numbers whose squares are added up in a nanosecond.
const NUMBERS_PER_NANOSECOND: usize = 4;
