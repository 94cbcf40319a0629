//! Failures in a list of tasks, and who waits for whom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Cancel, Run};
use crate::constants::WAKE_NANOSECONDS;
use crate::error::Error;
use crate::options::Options;

/// Longer than a worker waits awake for the tasks before its own, on a machine that does nothing else.
const LONG: Duration = Duration::from_millis(300);

/// Generous, and yet far below what a worker that nobody wakes would take.
const ANSWER: Duration = Duration::from_secs(10);

fn run(threads: usize) -> Run<'static> {
    let threads = std::num::NonZeroUsize::new(threads);
    Run::new(&Options { threads, ..Options::default() }, None)
}

/// Tasks are made on the workers, so what makes them may panic there. It is not asked for another one, however long the
/// panic takes to be reported.
#[test]
fn a_panic_of_the_iterator_is_an_error() {
    let (made, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tasks = (0..1000).inspect(|i| {
        made.fetch_add(1, Ordering::SeqCst);
        assert!(*i != 5, "no sixth task");
    });
    let result = run(4).for_each(tasks, |_, _| {
        done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    assert_eq!(result, Err(Error::Internal("no sixth task".into())));
    assert_eq!(made.into_inner(), 6, "the rest is not made");
    assert!(done.into_inner() <= 5);
}

#[test]
fn a_panic_of_a_task_is_an_error() {
    let result = run(4).for_each(0..1000, |i, _| {
        assert!(i != 5, "the sixth task");
        Ok(())
    });
    assert_eq!(result, Err(Error::Internal("the sixth task".into())));
}

/// A list that is worth no other thread is done on the one that asks, in order, and fails in the same way.
#[test]
fn short_lists_are_done_at_once() {
    let here = std::thread::current().id();
    let order = std::sync::Mutex::new(Vec::new());
    let mut run = run(4);
    let note = |i: usize, _: &Cancel| {
        order.lock().expect("no task panics").push((i, std::thread::current().id()));
        Ok(())
    };
    assert_eq!(run.short(WAKE_NANOSECONDS - 1, 0..9, note), Ok(()));
    assert_eq!(*order.lock().expect("no task panics"), Vec::from_iter((0..9).map(|i| (i, here))));
    order.lock().expect("no task panics").clear();
    assert_eq!(run.short(WAKE_NANOSECONDS, 0..9, note), Ok(()));
    let order = order.into_inner().expect("no task panics");
    assert!(order.len() == 9 && order.iter().all(|(_, thread)| *thread != here), "{order:?}");
    let result = run.short(0, 0..1000, |i, _| {
        assert!(i != 5, "the sixth task");
        Ok(())
    });
    assert_eq!(result, Err(Error::Internal("the sixth task".into())));
}

/// Workers that wait for a long task fall asleep, and wake up when it is done.
#[test]
fn who_waits_long_is_woken() {
    let order = std::sync::Mutex::new(Vec::new());
    // Each must wait for all before it.
    let result = run(8).in_turn(8, (0..8).map(|i| (i, i)), |i, _| {
        std::thread::sleep(if i == 0 { LONG } else { Duration::ZERO });
        order.lock().expect("no task panics").push(i);
        Ok(())
    });
    assert_eq!(result, Ok(()));
    assert!(order.into_inner().expect("no task panics").into_iter().eq(0..8));
}

/// The same where the long task fails: nobody sleeps on, and what waited is not done.
#[test]
fn who_waits_for_a_failure_is_woken() {
    let (start, done) = (Instant::now(), AtomicUsize::new(0));
    let result = run(8).in_turn(8, (0..8).map(|i| (i, i)), |i, _| {
        std::thread::sleep(LONG);
        done.fetch_add(1, Ordering::SeqCst);
        if i == 0 { Err(Error::Internal("the first".into())) } else { Ok(()) }
    });
    assert_eq!((result, done.into_inner()), (Err(Error::Internal("the first".into())), 1));
    assert!(start.elapsed() < ANSWER, "{:?}", start.elapsed());
}

/// No more at once than were said to be of use.
#[test]
fn no_more_workers_than_tasks_at_once() {
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let result = run(8).in_turn(1, (0..50).map(|i| (0, i)), |_, _| {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        now.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    assert_eq!((result, most.into_inner()), (Ok(()), 1));
}
