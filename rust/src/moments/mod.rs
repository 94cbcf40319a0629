//! The moment form of the polynomial method: near-linear time, never n × n, nor n × N (docs/math.md, section 8).
//!
//! exp is replaced by a polynomial P of degree g, whose value at ⟨q, k⟩ is a sum over monomials of q and of k. Three
//! sums do everything: `collect` takes moments of rows, `evaluate` evaluates them at a row, values and slopes alike;
//! `queries` and `keys` put them together block by block, in `causal` under a mask, with sums of the chunks before from
//! a scan in `waves`. `query_side` and `key_side` run them over all rows with or without a mask, `sums` adding up the
//! results of the parts in a fixed order; `fit`, `passes`, `rows` and `gradient` answer the requests of a problem.
//!
//! Keys that stand out keep their exp, in every pass: `chunk` has the weights of such few pairs, `near` is where they
//! join the sums of moments, and `beside` has the sums of these keys.
//!
//! The passes without a mask also leave the statistics from which [`crate::certificate::moments`] makes bounds.

mod beside;
mod causal;
mod collect;
mod contraction;
mod evaluate;
mod fit;
mod gradient;
mod kernels;
mod key_side;
mod keys;
mod near;
mod passes;
mod queries;
mod query_side;
mod rows;
mod sums;
mod waves;

pub use fit::Polynomial;
pub use gradient::{PolynomialGradients, polynomial_gradient};
