//! Fail points for tests: a panic inside a kernel's task, or the k-th reservation failing; and which allocations are
//! reservations.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts down to the reservation that fails; zero is off.
static RESERVATION: AtomicUsize = AtomicUsize::new(0);
/// Counts down to the task that panics; zero is off.
static TASK: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is in a reservation.
    static RESERVING: Cell<bool> = const { Cell::new(false) };
}

/// Makes the `k`-th reservation from now on fail; 0 switches it off. Returns how many were still to come: 0 where it
/// has failed.
pub fn fail_reservation(k: usize) -> usize {
    RESERVATION.swap(k, Ordering::SeqCst)
}

/// Whether the allocation that this thread makes is one whose lack of memory is an error.
pub fn reserving() -> bool {
    RESERVING.get()
}

/// Does `work`, whose allocations are such.
pub(crate) fn reserve<R>(work: impl FnOnce() -> R) -> R {
    RESERVING.set(true);
    let result = work();
    RESERVING.set(false);
    result
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
