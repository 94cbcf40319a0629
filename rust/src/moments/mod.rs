//! The moment form of the polynomial method: near-linear time, never n × n, nor n × N (docs/math.md, section 8).
//!
//! exp is replaced by a polynomial P of degree g, whose value at ⟨q, k⟩ is a sum over monomials of q and of k. Three sums do
//! everything: `collect` takes moments of rows, `evaluate` gives what moments say of a row, values and slopes alike;
//! `queries` and `keys` put them together block by block, `fit`, `passes` and `gradient` around the problem; `causal` is the
//! same under a mask, by prefix sums.
//!
//! Keys that stand out keep their exp, in every pass: `chunk` has the weights of such few pairs, `near` is where they join the
//! sums of moments, and `beside` what becomes of these keys.
//!
//! The passes without a mask also leave what rigorous bounds are made of: `buckets` of rows, which `bounds` turns into bounds
//! of every gradient through `setting`, what all rows have in common, `enclosures`, what is known of P, and `charges`, what one
//! row adds; `caps` has one bound a row, and `shells` for it what keys of each length there are.

mod beside;
mod bounds;
mod buckets;
mod caps;
mod causal;
mod charges;
mod chunk;
mod collect;
mod contraction;
mod coordinates;
mod enclosures;
mod evaluate;
mod exponentials;
mod fit;
mod gradient;
pub(crate) mod identity;
mod integers;
mod kernels;
mod keys;
pub(crate) mod lengths;
mod mapping;
mod monomials;
mod near;
mod needs;
mod outputs;
mod parts;
mod passes;
mod payload;
pub(crate) mod probes;
mod queries;
mod rows;
mod setting;
mod shells;
mod side;
pub(crate) mod weighed;

#[cfg(test)]
pub(crate) use crate::linalg::eigen::symmetric;
pub use bounds::Bound;
pub use caps::Caps;
pub(crate) use coordinates::Coordinates;
pub use fit::Polynomial;
pub use gradient::{PolynomialGradients, polynomial_gradient};
pub(crate) use monomials::affordable;
pub(crate) use payload::C as CHUNK;
