//! The kernels of the exact passes, compiled for every level.

use super::Operands;
use super::backward::{self, Again, BackwardTask};
use super::both_sides::{self, ChunkTask, Wave};
use super::forward::{self, Forget, ForwardTask};
use super::fused::{self, FirstTask, FusedTask};
use crate::error::Error;
use crate::runtime::pool::Cancel;
use crate::simd::levels::kernels;

kernels! {
    shape { lanes: "Queries of a tile." = L, keys: "Keys of a tile." = J }

    fn forward(operands: &Operands<'_, T>, task: ForwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        forward::forward::<T, V, W, L, J>(operands, task, &mut Forget, cancel)
    }

    fn first(operands: &Operands<'_, T>, task: FirstTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        fused::first::<T, V, W, L, J>(operands, task, cancel)
    }

    fn fused(operands: &Operands<'_, T>, task: FusedTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        fused::fused::<T, V, W, L, J>(operands, task, cancel)
    }

    fn backward(operands: &Operands<'_, T>, task: BackwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        backward::backward::<T, V, W, L, J>(operands, task, &mut Again, cancel)
    }

    fn both_sides(operands: &Operands<'_, T>, wave: &Wave<'_, T>, task: ChunkTask<'_>, cancel: &Cancel) -> Result<(), Error> {
        both_sides::both_sides::<T, V, W, L, J>(operands, wave, task, cancel)
    }
}
