//! Defects and lack of memory, provoked: always an error, and the next call is right.
//!
//! Fail points are switches of the whole process, so each test runs in a process of its own: it is an ignored test of
//! this binary, started by one that is not.

use std::process::Command;

use attngrad::failpoint::{fail_reservation, panic_in_task};
use attngrad::{Error, Float, Heads, Options, Wrt, attention, attention_vjp, loss_gradient};

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

/// Every entry point, with all its passes.
fn calls<T: Float>() -> Vec<Result<Vec<f64>, Error>> {
    let case = Case::<T>::new(Shape { pair: Some(3), ..Shape::square(150, 150, 4) }, Family::Uniform, false, 1);
    let options = Options::default();
    let gradients = |wrt: &[Wrt]| {
        let result = loss_gradient(&case.problem(), wrt, &options, None)?;
        Ok(result.gradients.iter().flat_map(|gradient| gradient.value.iter().map(|x| x.widen())).collect())
    };
    let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
    let output = attention(&heads, &options, None);
    let pulled = attention_vjp(&heads, case.E.view(), &options, None);
    vec![
        gradients(&[Wrt::WQ]),
        gradients(&[Wrt::Y]),
        gradients(&[Wrt::WQ, Wrt::WK, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3, Wrt::A]),
        output.map(|output| output.iter().map(|x| x.widen()).collect()),
        pulled.map(|pulled| pulled.query.0.iter().chain(&pulled.key.0).map(|x| x.widen()).collect()),
    ]
}

#[test]
#[ignore = "run by a_panic_in_a_task_is_an_internal_error"]
fn panics() {
    let want = calls::<f32>();
    assert!(want.iter().all(Result::is_ok));
    for k in 1..MOST {
        panic_in_task(k);
        let got = calls::<f32>();
        panic_in_task(0);
        let failures: Vec<_> = got.iter().filter_map(|result| result.as_ref().err()).collect();
        match failures[..] {
            [] => {
                assert!(k > 10, "only {k} tasks");
                return assert_eq!(got, want);
            }
            [Error::Internal(text)] => assert_eq!(text, "fail point"),
            _ => panic!("task {k}: {failures:?}"),
        }
    }
    panic!("more than {MOST} tasks");
}

#[test]
#[ignore = "run by a_failed_reservation_is_out_of_memory"]
fn reservations() {
    let want = calls::<f64>();
    assert!(want.iter().all(Result::is_ok));
    for k in 1..MOST {
        fail_reservation(k);
        let got = calls::<f64>();
        fail_reservation(0);
        let failures: Vec<_> = got.iter().filter_map(|result| result.as_ref().err()).collect();
        match failures[..] {
            [] => {
                assert!(k > 50, "only {k} reservations");
                return assert_eq!(got, want);
            }
            [Error::OutOfMemory { .. }] => {}
            _ => panic!("reservation {k}: {failures:?}"),
        }
    }
    panic!("more than {MOST} reservations");
}
