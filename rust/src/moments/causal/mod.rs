//! The moment form under a causal mask (docs/math.md, section 8).
//!
//! Rows go in chunks. A query sees the keys of earlier chunks through their moments, prefix sums over chunks, and those of
//! its own chunk one by one, with exp itself. A key is seen by the queries of later chunks
//! through suffix sums of theirs. `waves` holds the sums, `query_side` and `key_side` run the chunks, `queries` and `keys`
//! are the kernels of one; `passes` and `rows` put them around the problem.

mod key_side;
pub(super) mod keys;
mod passes;
pub(super) mod queries;
mod query_side;
mod rows;
mod waves;
