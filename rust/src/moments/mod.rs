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
//! The passes without a mask also leave what [`crate::certificate::moments`] makes bounds of.

mod beside;
mod causal;
mod chunk;
mod collect;
mod contraction;
mod evaluate;
mod fit;
mod gradient;
mod integers;
mod kernels;
mod keys;
mod mapping;
mod near;
mod needs;
mod outputs;
mod parts;
mod passes;
mod payload;
mod queries;
mod rows;

pub use fit::Polynomial;
pub use gradient::{PolynomialGradients, polynomial_gradient};
