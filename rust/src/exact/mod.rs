//! The exact gradient: two passes over tiles, never n × n (docs/math.md, Algorithm 3.1).
//!
//! `engine` runs the passes over query, key and value; `gradient` and `attention` put the problem's own
//! matrices around them, and `stack` does many heads as one. `second` has the second derivatives. `kernels` compiles them for each instruction set, the arithmetic is in the crate's
//! `kernels`.

mod alike;
pub(crate) mod attention;
mod backward;
mod blocking;
mod both_sides;
mod engine;
mod entries;
mod forward;
mod fused;
pub(crate) mod gradient;
mod kept;
mod kernels;
mod measured;
mod measures;
mod operands;
mod output;
pub(crate) mod proved;
mod pull_back;
mod residual;
mod results;
mod resumed;
mod rounding;
pub(crate) mod rows;
mod second;
mod shards;
mod sight;
mod slot;
mod split;
mod stack;
pub(crate) mod structure;
#[cfg(test)]
mod sweep;
mod turns;
mod walk;
mod waves;

pub use attention::{AttentionGradients, attention, attention_vjp};
pub(crate) use blocking::kept_tiles;
pub use gradient::{Gradient, Gradients, loss_gradient};
pub(crate) use operands::{Operands, Residual};
pub use output::attention_stack_measured;
pub use proved::ProvedRounding;
pub use pull_back::Estimate;
pub use rows::exact_rows;
pub use second::{Pushed, attention_hvp, attention_jvp, attention_stack_hvp, attention_stack_jvp};
pub(crate) use shards::SoftmaxSums;
pub(crate) use stack::check_finite;
pub use stack::{Attended, Incoming, StackGradients, attention_stack, attention_stack_vjp};

use crate::error::Error;
use crate::float::Float;
use crate::options::{Isa, Level};

/// Queries and keys of the register tile at `level`.
///
/// # Errors
/// [`Error::Option`] where this machine lacks it.
pub fn tile_shape<T: Float>(level: Level) -> Result<(usize, usize), Error> {
    let kernels = kernels::Kernels::<T>::of(Isa::of(level)?);
    Ok((kernels.lanes, kernels.keys))
}
