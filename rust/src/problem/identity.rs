//! Identity of the data that a polynomial was made from, so that it is not used with anything else: it would give the
//! gradient of a problem that is neither, and a bound beside it.

use ndarray::{ArrayView2, Axis};

use super::{Problem, Weights};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Numbers of a task.
const TASK: usize = 1 << 16;

/// Independent chains, so that multiplications overlap.
const LANES: usize = 8;

/// An odd number of which half of the bits are set (2^64 over the golden ratio): a multiplication by it can be undone,
/// so that no change of a single number goes unseen.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// Brings the high bits, which depend on all others, down to where the next number goes.
const TURN: u32 = 29;

/// An input, by its name: its shape, and a hash of its numbers.
type Input = (&'static str, [usize; 2], u64);

/// Everything that coordinates and moments depend on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Identity {
    precision: &'static str,
    scale: f64,
    is_causal: bool,
    /// The unit of c is chosen with the coordinates.
    is_target: bool,
    /// A2, A3, Y and X or W_Q; W_K, or X again.
    inputs: [Input; 5],
}

impl Identity {
    /// Of a problem. Reads the key side once, at the speed of memory.
    pub fn of<T: Float>(problem: &Problem<'_, T>, run: &mut Run<'_>) -> Result<Self, Error> {
        let Problem { A2, A3, Y, scale, is_causal, is_target, .. } = problem;
        let (query, key) = match &problem.weights {
            Weights::Product(X) => (("X", X), ("X", X)),
            Weights::Pair(W_Q, W_K) => (("W_Q", W_Q), ("W_K", W_K)),
        };
        let mut input = |(name, array): (&'static str, &ArrayView2<'_, T>)| {
            Ok::<_, Error>((name, [array.nrows(), array.ncols()], hash(array, run)?))
        };
        let inputs = [input(("A2", A2))?, input(("A3", A3))?, input(("Y", Y))?, input(query)?, input(key)?];
        Ok(Identity { precision: T::NAME, scale: *scale, is_causal: *is_causal, is_target: *is_target, inputs })
    }

    /// An error that names the part in which another problem differs.
    pub fn require(&self, other: &Identity) -> Result<(), Error> {
        let differs = |option, found: String, wanted: String| {
            let wanted = format!("{wanted}, as in the problem that the polynomial was fitted to");
            Err(Error::Option { option, found, wanted })
        };
        if self.precision != other.precision {
            return differs("precision", other.precision.into(), self.precision.into());
        }
        for (option, found, wanted) in
            [("is_causal", other.is_causal, self.is_causal), ("is_target", other.is_target, self.is_target)]
        {
            if found != wanted {
                return differs(option, found.to_string(), wanted.to_string());
            }
        }
        if self.scale != other.scale {
            return differs("scale", other.scale.to_string(), self.scale.to_string());
        }
        for ((name, shape, numbers), (other_name, other_shape, others)) in self.inputs.iter().zip(&other.inputs) {
            if name != other_name {
                return differs("weights", (*other_name).into(), (*name).into());
            }
            if shape != other_shape {
                return differs(name, format!("shape {other_shape:?}"), format!("shape {shape:?}"));
            }
            if numbers != others {
                return differs(name, "other numbers".into(), "the same ones".into());
            }
        }
        Ok(())
    }
}

/// Of the numbers in their order, however they are laid out and by any number of threads.
fn hash<T: Float>(array: &ArrayView2<'_, T>, run: &mut Run<'_>) -> Result<u64, Error> {
    let rows = (TASK / array.ncols().max(1)).max(1);
    let mut parts = buffer::zeros::<u64>(if array.is_empty() { 0 } else { array.nrows().div_ceil(rows) })?;
    run.for_each(parts.iter_mut().zip(array.axis_chunks_iter(Axis(0), rows)), |(part, rows), _| {
        *part = hash_of(&rows);
        Ok(())
    })?;
    Ok(parts.into_iter().fold(0, mixed))
}

fn hash_of<T: Float>(rows: &ArrayView2<'_, T>) -> u64 {
    let mut lanes = [0; LANES];
    let mix = |lane: &mut u64, x: T| *lane = mixed(*lane, x.widen().to_bits());
    match rows.as_slice() {
        Some(numbers) => {
            let (chunks, rest) = numbers.as_chunks::<LANES>();
            for chunk in chunks.iter().map(|chunk| &chunk[..]).chain([rest]) {
                lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| mix(lane, x));
            }
        }
        None => rows.iter().enumerate().for_each(|(i, &x)| mix(&mut lanes[i % LANES], x)),
    }
    lanes.into_iter().fold(0, mixed)
}

/// The next state of a chain.
#[inline(always)]
fn mixed(state: u64, bits: u64) -> u64 {
    (state ^ bits).wrapping_mul(FACTOR).rotate_left(TURN)
}
