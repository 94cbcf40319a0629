//! Defects and lack of memory, provoked: always an error, and the next call is right.
//!
//! Fail points are switches of the whole process, so each test runs in a process of its own: it is an ignored test of
//! this binary, started by one that is not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::failpoint::{fail_reservation, panic_in_task, reserving};
use attngrad::features::FeatureOptions;
use attngrad::plan::{Asked, Norm, Request, Start, Wanted, solve};
use attngrad::{
    Approximation, Error, ExpFeatures, Float, Heads, Options, Polynomial, Problem, Wrt, attention, attention_hvp,
    exact_rows, factors,
};

use crate::data::{Case, Family, Shape};

/// More reservations than any of the calls below makes.
const MOST: usize = 10_000;

fn alone(name: &str) {
    let binary = std::env::current_exe().expect("a test has a binary");
    let name = format!("failpoints::{name}");
    let output = Command::new(binary).args(["--exact", "--ignored", &name]).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {text}");
}

#[test]
fn a_panic_in_a_task_is_an_internal_error() {
    alone("panics");
}

#[test]
fn a_failed_reservation_is_out_of_memory() {
    alone("reservations");
}

#[test]
fn what_grows_with_the_rows_is_reserved() {
    alone("allocations");
}

type Found = Result<Vec<f64>, Error>;
type Call = (&'static str, Box<dyn Fn() -> Found>);

fn flat<'a, T: Float>(arrays: impl IntoIterator<Item = &'a ndarray::Array2<T>>) -> Vec<f64> {
    arrays.into_iter().flatten().map(|x| x.widen()).collect()
}

/// A call on a case of its own.
fn call<T: Float>(
    name: &'static str,
    case: &Case<T>,
    of: impl Fn(&Problem<'_, T>, &Case<T>) -> Found + 'static,
) -> Call {
    let case = case.clone();
    (name, Box::new(move || of(&case.problem(), &case)))
}

/// Gradients by a plan of the second degree.
fn planned<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], asked: Asked, rtol: Option<f64>) -> Found {
    let wanted = Wanted::Polynomial(Some(2));
    let request =
        Request { wanted, rtol, atol: 0.0, norm: Norm::Frobenius, asked, seed: Some(3), ..Request::default() };
    let found = solve(problem, wrt, &request, Start::Fresh, None)?;
    Ok(flat(found.gradients.iter().map(|one| &one.value)))
}

/// Every entry point, with all its passes.
fn calls<T: Float>(shape: Shape) -> Vec<Call> {
    let exact = |wrt: &'static [Wrt]| {
        move |problem: &Problem<'_, T>, _: &Case<T>| {
            let found = loss_gradient(problem, wrt, &Options::default(), None)?;
            Ok(flat(found.gradients.iter().map(|gradient| &gradient.value)))
        }
    };
    const ALL: &[Wrt] = &[Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    const SUMS: &[Wrt] = &[Wrt::X, Wrt::Y];
    const PAIR: &[Wrt] = &[Wrt::WQ, Wrt::WK, Wrt::A1];
    let mut calls = Vec::new();
    for is_causal in [false, true] {
        let mut case = Case::<T>::new(shape, Family::Uniform, is_causal, 1);
        case.scale *= 0.2;
        let mut pair = case.clone();
        let other = Case::<T>::new(Shape { pair: Some(2), ..shape }, Family::Uniform, is_causal, 1);
        pair.pair = other.pair;
        calls.push(call("exact X", &case, exact(&[Wrt::X])));
        calls.push(call("exact Y", &case, exact(&[Wrt::Y])));
        calls.push(call("exact A2", &case, exact(&[Wrt::A2])));
        calls.push(call("exact", &case, exact(ALL)));
        calls.push(call("exact pair", &pair, exact(PAIR)));
        if !is_causal {
            calls.push(call("features", &case, |_, case| {
                let (wanted, options) = (FeatureOptions { rtol: Some(1e-2), ..Default::default() }, Options::default());
                let fitted = ExpFeatures::fit(case.A1.view(), case.A2.view(), &wanted, &options, None)?;
                let U = fitted.transform_query(case.A1.view(), &options, None)?;
                Ok(flat([&U, &fitted.transform_key(case.A2.view(), &options, None)?]))
            }));
            for (name, case) in [("factors", &case), ("factors of a pair", &pair)] {
                calls.push(call(name, case, |problem, case| {
                    let options = Options::default();
                    let parts = factors(problem, &FeatureOptions::default(), &options, None)?;
                    let all = if case.pair.is_some() { PAIR } else { ALL };
                    let mut gradients = vec![parts.U3(&options, None)?, parts.V3(&options, None)?];
                    gradients.push(parts.U4(&options, None)?);
                    for &wrt in all {
                        gradients.push(parts.gradient(wrt, &options, None)?);
                    }
                    Ok(flat(&gradients))
                }));
            }
        }
        calls.push(call("exact rows", &case, |problem, _| {
            let rows = exact_rows(problem, &[5, 2, 40], &Options::default(), None)?;
            Ok(flat([&rows.w, &rows.output]))
        }));
        calls.push(call("heads", &case, |_, case| {
            let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
            let heads = heads.with_causal(case.is_causal);
            let mut all = flat([&attention(&heads, &Options::default(), None)?]);
            let pulled = attention_vjp(&heads, case.E.view(), &Options::default(), None)?;
            all.extend(flat([&pulled.query.0, &pulled.key.0, &pulled.value.0]));
            let turned = attention_hvp(&heads, case.E.view(), &heads, &Options::default(), None)?;
            all.extend(flat(&turned));
            Ok(all)
        }));
        calls.push(call("polynomial", &case, |problem, _| planned(problem, ALL, Asked::Any, None)));
        calls.push(call("estimated", &case, |problem, _| {
            planned(problem, &[Wrt::X, Wrt::Y, Wrt::A1], Asked::Estimated, Some(1e-2))
        }));
        calls.push(call("estimated pair", &pair, |problem, _| planned(problem, PAIR, Asked::Estimated, Some(1e-2))));
        calls
            .push(call("statistical", &case, |problem, _| planned(problem, &[Wrt::X], Asked::Statistical, Some(1e-1))));
        calls.push(call("rigorous", &case, |problem, _| planned(problem, SUMS, Asked::Rigorous, Some(1e-1))));
        let mut spike = case.clone();
        spike.A1.row_mut(7).mapv_inplace(|x| x * T::narrow(1e4));
        calls.push(call("a row apart", &spike, |problem, _| planned(problem, SUMS, Asked::Estimated, Some(1e-2))));
        calls.push(call("fitted", &case, |problem, case| {
            let approximation = Approximation { coefficients: vec![1.0, 1.0, 0.5], integers: true, exact_keys: vec![] };
            let fitted = Polynomial::fit(problem, &approximation, &Options::default(), None)?;
            let mut all = flat(
                fitted.gradient(problem, ALL, &Options::default(), None)?.gradients.iter().map(|(_, value)| value),
            );
            all.extend(flat([&fitted.rows(problem, &[5, 2], &Options::default(), None)?.w]));
            if !case.is_causal {
                all.extend(fitted.caps(problem, &Options::default(), None)?.w);
            }
            Ok(all)
        }));
    }
    calls
}

const SMALL: Shape = Shape { n: 75, m: 60, d1: 2, d2: 2, d3: 2, dv: 2, pair: None };

#[test]
#[ignore = "run by a_panic_in_a_task_is_an_internal_error"]
fn panics() {
    for (name, call) in calls::<f32>(SMALL) {
        let want = call();
        assert!(want.is_ok(), "{name}: {want:?}");
        for k in 1..=MOST {
            panic_in_task(k);
            let got = call();
            panic_in_task(0);
            match got {
                Ok(_) => {
                    assert!(k > 1 && k < MOST, "{name}: {k} tasks");
                    assert_eq!(got, want, "{name}");
                    break;
                }
                Err(Error::Internal(text)) => assert_eq!(text, "fail point", "{name}"),
                Err(other) => panic!("{name}, task {k}: {other:?}"),
            }
        }
    }
}

#[test]
#[ignore = "run by a_failed_reservation_is_out_of_memory"]
fn reservations() {
    for (name, call) in calls::<f64>(SMALL) {
        let want = call();
        assert!(want.is_ok(), "{name}: {want:?}");
        for k in 1..=MOST {
            fail_reservation(k);
            let got = call();
            let left = fail_reservation(0);
            if left > 0 {
                assert!(k > 10 && k < MOST, "{name}: {k} reservations");
                assert_eq!(got, want, "{name}");
                break;
            }
            assert!(matches!(got, Err(Error::OutOfMemory { .. })), "{name}, reservation {k}: {got:?}");
        }
    }
}

/// Above this an allocation must be a reservation; 0 where nothing is watched.
static LIMIT: AtomicUsize = AtomicUsize::new(0);

/// Places where other allocations were made.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// Whether this thread writes down an allocation, which takes allocations.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

struct Watched;

impl Watched {
    fn look(size: usize) {
        let limit = LIMIT.load(Ordering::Relaxed);
        if limit == 0 || size < limit || reserving() || WRITING.get() {
            return;
        }
        WRITING.set(true);
        let trace = Backtrace::force_capture().to_string();
        let lines: Vec<&str> = trace.lines().map(str::trim).filter(|line| line.contains("rust/src")).take(4).collect();
        SEEN.lock().expect("nobody panics with it").push(format!("{size} bytes: {}", lines.join(" < ")));
        WRITING.set(false);
    }
}

// SAFETY: everything is left to the system's allocator, which keeps the contract; `look` only reads the size.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Watched::look(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer comes from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Watched::look(size);
        // SAFETY: the pointer comes from the system's allocator, and the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// Rows of the longer side, so many that whatever grows with them is larger than all that does not.
const MANY: usize = 60_000;

#[test]
#[ignore = "run by what_grows_with_the_rows_is_reserved"]
fn allocations() {
    let (few, mut all) = (48, Vec::new());
    for (n, m) in [(MANY, few), (few, MANY)] {
        for (name, call) in calls::<f32>(Shape { n, m, ..SMALL }) {
            // Not even one byte a row.
            LIMIT.store(MANY, Ordering::Relaxed);
            let got = call().map(|found| found.len());
            LIMIT.store(0, Ordering::Relaxed);
            let mut seen = std::mem::take(&mut *SEEN.lock().expect("nobody panics with it"));
            assert!(got.is_ok(), "{name}: {got:?}");
            // The answers of `call` itself are made here.
            seen.retain(|place| place.contains("rust/src"));
            seen.sort_unstable();
            seen.dedup();
            all.extend(seen.into_iter().map(|place| format!("{name}, {n} × {m}: {place}")));
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
}
