//! The judge of tolerances: an unknown error is never certified, and errors are held against the truth, not the result.

use attngrad::plan::{Certificate, Kind, Request, Verdict, Wanted};

const INF: f64 = f64::INFINITY;

fn request(rtol: Option<f64>, atol: f64) -> Request {
    Request { rtol, atol, ..Request::default() }
}

fn exact(absolute: f64, size: f64, rtol: Option<f64>, atol: f64) -> Verdict {
    request(rtol, atol).judge(Kind::Exact, absolute, size)
}

#[test]
fn what_is_unknown_is_not_certified() {
    for value in [f64::NAN, -f64::NAN, INF] {
        let asked = request(Some(1e-3), 0.0);
        let made = Certificate::exact(&asked, value, 1.0);
        assert_eq!((made.absolute, made.relative, made.rounding), (INF, INF, INF));
        assert_eq!(made.reached, Some(false));
    }
    let of_nothing = exact(1e-9, f64::NAN, Some(1e-3), 0.0);
    assert_eq!((of_nothing.relative, of_nothing.reached), (INF, Some(false)));
    let of_infinity = exact(1e-9, INF, Some(1e-3), 0.0);
    assert_eq!((of_infinity.relative, of_infinity.reached), (0.0, Some(true)));
}

#[test]
fn relative_is_against_the_truth() {
    let relative = |absolute, size| exact(absolute, size, Some(1e-3), 0.0).relative;
    // The truth may be as small as 3 − 1.
    assert_eq!(relative(1.0, 3.0), 0.5);
    assert_eq!((relative(1.0, 1.0), relative(2.0, 1.0), relative(0.0, 0.0)), (INF, INF, 0.0));
}

#[test]
fn tolerances_are_reached_or_not() {
    for (absolute, size, rtol, atol, reached) in [
        (1e-9, 1.0, None, 0.0, true),
        (1e-9, 1.0, Some(0.0), 0.0, true),
        (1e-9, 1.0, Some(2e-9), 0.0, true),
        (1e-9, 1.0, Some(5e-10), 0.0, false),
        (1e-9, 1.0, Some(5e-10), 1e-9, true),
        // An absolute tolerance alone, without a relative one or with one of 0.
        (1e-9, 1.0, None, 1e-9, true),
        (1e-9, 1.0, None, 9e-10, false),
        (1e-9, 1.0, Some(0.0), 1e-9, true),
        (1e-9, 1.0, Some(0.0), 9e-10, false),
        // It covers an error that is larger than the result.
        (1e-9, 0.0, Some(1e-3), 1e-9, true),
        // Merely below its rounding bound.
        (1e-9, 1e-10, Some(1e-12), 0.0, false),
        (1e-9, 1e-10, Some(1e3), 0.0, false),
        (1e-9, 0.0, Some(1e-3), 0.0, false),
        // Zero by structure.
        (0.0, 0.0, Some(1e-12), 0.0, true),
        (INF, 1.0, None, 0.0, false),
        (INF, 1.0, Some(0.0), 0.0, false),
        (INF, INF, Some(1e-3), 0.0, false),
        (f64::NAN, 1.0, Some(1e-3), 1.0, false),
    ] {
        let asked = request(rtol, atol);
        let made = Certificate::exact(&asked, absolute, size);
        assert_eq!(made.reached, Some(reached), "{absolute} of {size}, {rtol:?}, {atol}");
        assert!(!made.message(&asked).is_empty());
    }
}

#[test]
fn of_an_approximation_nothing_is_asked_without_a_tolerance() {
    for kind in [Kind::Estimated, Kind::Statistical, Kind::Rigorous] {
        for (rtol, atol, reached) in [(None, 0.0, None), (Some(0.0), 0.0, Some(false)), (Some(0.0), 1e-9, Some(true))] {
            let asked = request(rtol, atol);
            let made = Certificate::new(&asked, kind, [0.0, 1e-9, 0.0], 1.0);
            assert_eq!(made.reached, reached);
            assert!(made.message(&asked).contains(kind.name()));
        }
    }
}

#[test]
fn a_method_that_was_named_is_run() {
    let exact = Request { wanted: Wanted::Exact, ..request(Some(1e-2), 0.0) };
    let reason = |request: &Request| request.settled().map(|decision| decision.reason);
    assert_eq!(reason(&exact).as_deref(), Some("it was asked for by name"));
    let without = reason(&request(None, 0.0));
    assert_eq!(without.as_deref(), Some("rtol is None: nothing but rounding is allowed"));
    assert_eq!(reason(&request(Some(1e-2), 0.0)), None);
}
