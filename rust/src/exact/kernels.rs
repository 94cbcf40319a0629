//! The kernels of each dispatch level: one generic source, compiled under three instruction sets.

use super::Operands;
use super::backward::{self, Again, BackwardTask};
use super::both_sides::{self, ChunkTask, Wave};
use super::forward::{self, Forget, ForwardTask};
use super::fused::{self, FirstTask, FusedTask};
use crate::error::Error;
use crate::runtime::pool::Cancel;
use crate::simd::levels::{every_level, kernels};

kernels! {
    shape { lanes: "Queries of a tile.", keys: "Keys of a tile." }
    fn forward(operands: &Operands<'_, T>, task: ForwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn first(operands: &Operands<'_, T>, task: FirstTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn fused(operands: &Operands<'_, T>, task: FusedTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn backward(operands: &Operands<'_, T>, task: BackwardTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn both_sides(operands: &Operands<'_, T>, wave: &Wave<'_, T>, task: ChunkTask<'_>, cancel: &Cancel) -> Result<(), Error>;
}

macro_rules! level {
    ($name:ident, $t:ident, $vector:ty, $width:literal, $keys:literal $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            pub fn forward(operands: &Operands<'_, $t>, task: ForwardTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                forward::forward::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Forget, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn first(operands: &Operands<'_, $t>, task: FirstTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                fused::first::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn fused(operands: &Operands<'_, $t>, task: FusedTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                fused::fused::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn backward(operands: &Operands<'_, $t>, task: BackwardTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                backward::backward::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Again, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn both_sides(
                operands: &Operands<'_, $t>,
                wave: &Wave<'_, $t>,
                task: ChunkTask<'_>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                both_sides::both_sides::<$t, $vector, $width, { 2 * $width }, $keys>(operands, wave, task, cancel)
            }

            pub const KERNELS: Kernels<$t> =
                Kernels { lanes: 2 * $width, keys: $keys, forward, first, backward, fused, both_sides };
        }
    };
}

every_level!(level);
