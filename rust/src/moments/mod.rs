//! The moment form of the polynomial method: near-linear time, never n × n, nor n × N (docs/math.md, Theorem 8.4).
//!
//! exp is replaced by a polynomial P of degree g, whose value at ⟨q, k⟩ is a sum over monomials of q and of k. Three
//! sums do everything: `collect` takes moments of rows, `evaluate` evaluates them at a row, values and slopes alike:
//! `blocks` has the loops for each instruction set, and `queries` and `keys` put them together block by block, in
//! `causal` under a mask, with sums of the chunks before from the `scan` of the runtime. All of them read the inputs in
//! `sides`, and see a few rows of the other side one by one through `near`: keys that stand out, which keep their exp in
//! every pass, or the chunk of the row itself under a mask.
//!
//! `query_side` and `key_side` run them over all rows, in `parts`, with or without a mask; `fit`, `passes`,
//! `contraction`, `rows` and `gradient` answer the requests of a problem.
//!
//! `shards` runs them over shards of the tokens, whose sums add up in `key_sums` and there.
//!
//! The passes without a mask also leave the statistics from which [`crate::certificate::moments`] makes bounds.

mod blocks;
mod causal;
mod collect;
mod contraction;
mod evaluate;
mod fit;
mod gradient;
mod kernels;
mod key_side;
mod key_sums;
mod keys;
mod near;
mod parts;
mod passes;
mod queries;
mod query_side;
mod rows;
mod shards;
mod sides;

pub use fit::Polynomial;
pub use gradient::{PolynomialGradients, polynomial_gradient};
pub(crate) use key_sums::KeySums;
pub(crate) use passes::Besides;
pub(crate) use shards::{Gathered, GradientSums, QuerySums};

/// Share of the moments of the other side in the time of a wave of a causal problem, for the progress.
const MOMENTS_SHARE: f64 = 0.4;
