//! Tasks that panic.

use std::any::Any;

use crate::error::Error;

/// The place before each task where a test may have it panic.
pub fn fail_point() {
    #[cfg(feature = "failpoints")]
    assert!(!crate::failpoint::task_panics(), "fail point");
}

/// The error of a task that panicked.
pub fn panicked(panic: &(dyn Any + Send)) -> Error {
    Error::Internal(describe(panic))
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}
