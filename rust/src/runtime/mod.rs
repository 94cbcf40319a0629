//! The runtime of a computation.
//!
//! | module | content |
//! |---|---|
//! | `pool` | threads, deadline, progress, cancelling: the only door to rayon |
//! | `sums` | sums over tasks in the order of their numbers: no bit depends on the threads |
//! | `scan` | prefix sums over chunks of rows, in waves of chunks |
//! | `buffer` | memory that grows with the input: a lack of it is an error |
//! | `pages` | large pages for large buffers |
//! | `limits` | limits of memory of the process and its control groups |
//! | [`rng`] | random numbers: the same on every platform |

pub mod buffer;
pub mod limits;
mod pages;
pub mod pool;
pub mod rng;
pub mod scan;
pub mod sums;
