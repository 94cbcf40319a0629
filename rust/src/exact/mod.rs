//! The exact gradient: two passes over tiles, never n × n (docs/math.md, section 3).
//!
//! `engine` runs the passes over query, key and value; `gradient` and `attention` put the problem's own
//! matrices around them. `kernels` compiles them for each instruction set, the arithmetic is in the crate's `tile`.

mod alike;
pub mod attention;
mod backward;
mod blocking;
mod both_sides;
mod engine;
mod forward;
mod fused;
pub mod gradient;
mod kept;
pub(crate) mod kernels;
mod layout;
mod measures;
pub(crate) mod needs;
mod operands;
pub mod proved;
mod residual;
mod rounding;
pub mod rows;
mod slot;
pub(crate) mod structure;
#[cfg(test)]
mod sweep;
mod turns;
mod walk;
mod waves;

pub(crate) use operands::{Operands, Residual};

use crate::error::Error;
use crate::options::Level;
use crate::pool::Cancel;

type Forward<T> = unsafe fn(&Operands<'_, T>, forward::ForwardTask<'_, T>, &Cancel) -> Result<(), Error>;
type Backward<T> = unsafe fn(&Operands<'_, T>, backward::BackwardTask<'_, T>, &Cancel) -> Result<(), Error>;
type First<T> = unsafe fn(&Operands<'_, T>, fused::FirstTask<'_, T>, &Cancel) -> Result<(), Error>;
type Fused<T> = unsafe fn(&Operands<'_, T>, fused::FusedTask<'_, T>, &Cancel) -> Result<(), Error>;
type BothSides<T> =
    unsafe fn(&Operands<'_, T>, &both_sides::Wave<'_, T>, both_sides::ChunkTask<'_>, &Cancel) -> Result<(), Error>;

/// The compiled kernels of one level and precision. Calling one is sound where the processor has its instruction set.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Kernels<T> {
    lanes: usize,
    keys: usize,
    forward: Forward<T>,
    backward: Backward<T>,
    first: First<T>,
    fused: Fused<T>,
    both_sides: BothSides<T>,
}

/// Queries and keys of the register tile at `level`.
pub fn tile_shape<T: crate::Float>(level: Level) -> (usize, usize) {
    let kernels = T::kernels(level);
    (kernels.lanes, kernels.keys)
}
