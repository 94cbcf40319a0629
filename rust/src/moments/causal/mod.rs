//! The kernels of one chunk under a causal mask (docs/math.md, section 8).
//!
//! Rows go in chunks. A query sees the keys of earlier chunks through their moments, prefix sums over chunks, and those
//! of its own chunk one by one, with exp itself. A key is seen by the queries of later chunks through suffix sums of
//! theirs.

pub(super) mod keys;
pub(super) mod queries;
