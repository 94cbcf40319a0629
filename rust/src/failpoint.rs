//! Fail points for tests: a panic inside a kernel's task, or the k-th reservation failing.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts down to the reservation that fails; zero is off.
static RESERVATION: AtomicUsize = AtomicUsize::new(0);
/// Counts down to the task that panics; zero is off.
static TASK: AtomicUsize = AtomicUsize::new(0);

/// From now on the `k`-th reservation fails; 0 switches it off.
pub fn fail_reservation(k: usize) {
    RESERVATION.store(k, Ordering::SeqCst);
}

/// From now on the `k`-th task panics; 0 switches it off.
pub fn panic_in_task(k: usize) {
    TASK.store(k, Ordering::SeqCst);
}

pub(crate) fn reservation_fails() -> bool {
    reached(&RESERVATION)
}

pub(crate) fn task_panics() -> bool {
    reached(&TASK)
}

fn reached(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |k| k.checked_sub(1)) == Ok(1)
}
