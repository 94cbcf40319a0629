//! Errors: each message says what was found and what to do.

use std::time::Duration;

/// Every failure of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array's shape does not fit the others.
    #[error("{argument}: found shape {found:?}; {wanted}")]
    Shape {
        /// The argument, by its name in the problem.
        argument: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that would fit.
        wanted: String,
    },
    /// An option's value is not one of those there are.
    #[error("{option}: found {found}; expected {wanted}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// The values that are possible.
        wanted: String,
    },
    /// An input holds NaN or an infinity.
    #[error("{argument}: found {found} at row {row}, column {column}; expected finite numbers")]
    NonFinite {
        /// The argument, by its name in the problem.
        argument: &'static str,
        /// The first that is not finite.
        found: String,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// A tolerance that cannot be reached, whatever the data.
    #[error("rtol: found {found}, {limit}; expected at least {least:.1e} in {precision}, or none for exact")]
    Tolerance {
        /// The tolerance.
        found: String,
        /// Why.
        limit: &'static str,
        /// The precision of the computation.
        precision: &'static str,
        /// The least that some data could reach.
        least: f64,
    },
    /// A tolerance that no size of an approximation that is allowed reaches on the data.
    #[error("rtol: found {rtol:e}, where {limit}; {remedy}")]
    Unreached {
        /// The tolerance.
        rtol: f64,
        /// The tolerance that would have been reached.
        best: f64,
        /// The approximations that were tried, and the tolerance that they reach.
        limit: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// A number between input and output is larger than the precision can hold.
    #[error("{quantity} exceeds the range of {precision}; {remedy}")]
    Range {
        /// The quantity that overflows.
        quantity: String,
        /// The precision of the computation.
        precision: &'static str,
        /// The remedy.
        remedy: &'static str,
    },
    /// A buffer could not be had.
    #[error("out of memory: {bytes} bytes for a working buffer; use fewer tokens at a time or free memory")]
    OutOfMemory {
        /// Its size.
        bytes: usize,
    },
    /// A call is expected to take more memory than it may.
    #[error("memory: found shapes that need {needed} bytes where {free} are free; use fewer rows, or float32")]
    Memory {
        /// Bytes that it is expected to take.
        needed: u128,
        /// [`crate::Options::memory`].
        free: u64,
    },
    /// The system did not let this process start a single thread.
    #[error("threads: none could be started ({0}); raise the limit on processes and threads, or end some")]
    Threads(String),
    /// The caller's watch function asked to stop.
    #[error("stopped on request; nothing was returned")]
    Cancelled,
    /// The time allowed ran out.
    #[error("timeout: not finished within {0:?}; allow more time or ask for fewer gradients")]
    Deadline(Duration),
    /// A defect of this crate.
    #[error("internal error: {0}; please report it with the shapes and options of the call")]
    Internal(String),
}
