//! Stopping: by the caller's watch, by the deadline; and the progress on the way.

use std::time::{Duration, Instant};

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::{Error, Heads, Options, Wrt, attention};
use ndarray::Array2;

use crate::data::{Case, Family, Shape};

/// Generous: a loaded machine may be slow to schedule, but a whole run below takes many times as long.
const ANSWER: Duration = Duration::from_secs(2);

/// Two million million operations: many seconds even where the machine is fast, so a run that ends soon was stopped.
fn long() -> Case<f32> {
    Case::new(Shape::square(60_000, 60_000, 64), Family::Uniform, false, 1)
}

fn short() -> Case<f32> {
    Case::new(Shape::square(300, 300, 4), Family::Uniform, false, 1)
}

#[test]
fn a_watch_that_says_no_stops_the_run() {
    let case = long();
    for wrt in [&[Wrt::X][..], &[Wrt::A2]] {
        let start = Instant::now();
        let mut calls = 0;
        let mut watch = |_: f64| {
            calls += 1;
            calls < 5
        };
        let result = loss_gradient(&case.problem(), wrt, &Options::default(), Some(&mut watch));
        assert_eq!(result.err(), Some(Error::Cancelled));
        assert_eq!(calls, 5, "the watch is not asked again");
        assert!(start.elapsed() < ANSWER, "stopped after {:?}", start.elapsed());
    }
}

/// However short the run, the watch is asked.
#[test]
fn a_short_run_can_be_stopped() {
    let case = short();
    let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
    let options = Options::default();
    let gradient = loss_gradient(&case.problem(), &[Wrt::X], &options, Some(&mut |_| false));
    assert_eq!(gradient.err(), Some(Error::Cancelled));
    assert_eq!(attention(&heads, &options, Some(&mut |_| false)).err(), Some(Error::Cancelled));
    let pulled = attention_vjp(&heads, case.E.view(), &options, Some(&mut |_| false));
    assert_eq!(pulled.err(), Some(Error::Cancelled));
}

#[test]
fn the_deadline_stops_the_run_and_the_next_is_right() {
    let want = loss_gradient(&short().problem(), &[Wrt::X], &Options::default(), None).expect("a regular problem");
    let case = long();
    for timeout in [Duration::from_nanos(1), Duration::from_millis(100)] {
        let start = Instant::now();
        let options = Options { timeout: Some(timeout), ..Options::default() };
        let result = loss_gradient(&case.problem(), &[Wrt::A1, Wrt::A3], &options, None);
        assert_eq!(result.err(), Some(Error::Deadline(timeout)));
        assert!(start.elapsed() < timeout + ANSWER, "stopped after {:?}", start.elapsed());
        let next = loss_gradient(&short().problem(), &[Wrt::X], &Options::default(), None).expect("a regular problem");
        assert_eq!(next.get(Wrt::X), want.get(Wrt::X));
    }
}

/// A panic of the watch is the caller's own: it stops the workers at once, and arrives as it is.
#[test]
fn a_watch_that_panics_stops_the_run() {
    let want = loss_gradient(&short().problem(), &[Wrt::X], &Options::default(), None).expect("a regular problem");
    let case = long();
    for wrt in [&[Wrt::X][..], &[Wrt::A2], &[Wrt::Y]] {
        let start = Instant::now();
        let mut calls = 0;
        let mut watch = |_: f64| {
            calls += 1;
            if calls == 3 {
                std::panic::resume_unwind(Box::new("the caller's own"));
            }
            true
        };
        let run = || loss_gradient(&case.problem(), wrt, &Options::default(), Some(&mut watch)).map(|found| found.loss);
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).expect_err("the watch panics");
        assert_eq!(panic.downcast_ref(), Some(&"the caller's own"));
        assert_eq!(calls, 3, "the watch is not asked again");
        assert!(start.elapsed() < ANSWER, "stopped after {:?}", start.elapsed());
        let next = loss_gradient(&short().problem(), &[Wrt::X], &Options::default(), None).expect("a regular problem");
        assert_eq!(next.get(Wrt::X), want.get(Wrt::X));
    }
}

#[test]
fn progress_grows_from_zero_to_one() {
    let case = Case::<f32>::new(Shape::square(4000, 3000, 16), Family::Uniform, false, 1);
    for wrt in [&[Wrt::X][..], &[Wrt::X, Wrt::A3]] {
        let mut seen = Vec::new();
        let mut watch = |fraction: f64| {
            seen.push(fraction);
            true
        };
        loss_gradient(&case.problem(), wrt, &Options::default(), Some(&mut watch)).expect("a regular problem");
        assert!(seen.iter().all(|fraction| (0.0..=1.0).contains(fraction)), "{seen:?}");
        assert!(seen.is_sorted(), "{wrt:?}: {seen:?}");
        assert_eq!(seen.last(), Some(&1.0));
    }
}

/// The watch runs on the caller's thread, so it may touch what only that thread may.
#[test]
fn the_watch_runs_on_the_calling_thread() {
    let caller = std::thread::current().id();
    let mut watch = |_: f64| std::thread::current().id() == caller;
    let case = short();
    assert!(loss_gradient(&case.problem(), &[Wrt::X], &Options::default(), Some(&mut watch)).is_ok());
    let empty = Array2::<f32>::zeros((0, 2));
    let heads = Heads::new(empty.view(), empty.view(), empty.view()).expect("the shapes fit");
    assert_eq!(attention(&heads, &Options::default(), Some(&mut watch)).expect("nothing to do").dim(), (0, 2));
}
