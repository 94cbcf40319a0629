//! Each error is reachable, and its message names the argument, what was found and what to do.

use std::num::NonZeroUsize;
use std::time::Duration;

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::plan::{Asked, Kind, Method, Norm, Request, Wanted, decide};
use attngrad::{Error, Heads, Level, Options, Problem, Weights, Wrt, attention};
use ndarray::Array2;

use crate::data::{Case, Family, Shape};

fn zeros(rows: usize, columns: usize) -> Array2<f64> {
    Array2::zeros((rows, columns))
}

/// The error of a problem with these shapes: A1, A2, A3, X or the pair, Y, E.
fn misfit(shapes: [(usize, usize); 6], pair: Option<[(usize, usize); 2]>) -> Option<Error> {
    let [A1, A2, A3, X, Y, E] = shapes.map(|(rows, columns)| zeros(rows, columns));
    let pair = pair.map(|pair| pair.map(|(rows, columns)| zeros(rows, columns)));
    let weights = match &pair {
        Some([W_Q, W_K]) => Weights::Pair(W_Q.view(), W_K.view()),
        None => Weights::Product(X.view()),
    };
    Problem::new(A1.view(), A2.view(), A3.view(), weights, Y.view(), E.view()).err()
}

#[test]
fn every_misfit_is_named() {
    let fit = [(5, 2), (6, 3), (6, 4), (2, 3), (4, 7), (5, 7)];
    assert_eq!(misfit(fit, None), None);
    // The array that is changed, its shape, and the array that is named with its own.
    let wrong = [
        (3, (3, 3), "A1", (5, 2)),
        (3, (2, 2), "A2", (6, 3)),
        (2, (5, 4), "A3", (5, 4)),
        (4, (3, 7), "A3", (6, 4)),
        (5, (6, 7), "E", (6, 7)),
        (5, (5, 8), "E", (5, 8)),
    ];
    for (index, shape, name, found) in wrong {
        let mut shapes = fit;
        shapes[index] = shape;
        assert_names(misfit(shapes, None), name, found);
    }
    assert_eq!(misfit(fit, Some([(2, 9), (3, 9)])), None);
    let wrong = [([(3, 9), (3, 9)], "A1", (5, 2)), ([(2, 9), (2, 9)], "A2", (6, 3)), ([(2, 9), (3, 8)], "W_K", (3, 8))];
    for (pair, name, found) in wrong {
        assert_names(misfit(fit, Some(pair)), name, found);
    }
    let error = misfit([(5, 2), (6, 3), (6, 4), (2, 3), (4, 1), (5, 7)], None).expect("E is too wide");
    assert_eq!(error.to_string(), "E: found shape [5, 7]; Y has 1 column, so E needs 1 column");
}

fn assert_names(error: Option<Error>, name: &str, (rows, columns): (usize, usize)) {
    let error = error.unwrap_or_else(|| panic!("{name} of {rows} × {columns} was taken"));
    let Error::Shape { argument, found, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*argument, &found[..]), (name, &[rows, columns][..]));
    assert!(error.to_string().starts_with(&format!("{name}: found shape [{rows}, {columns}]; ")), "{error}");
    assert!(error.to_string().contains("needs"), "{error}");
}

/// The shape of heads whose query, key, value and dout have these shapes.
fn of_heads(shapes: [&[usize]; 4]) -> Result<attngrad::Shape, Error> {
    let names = ["query", "key", "value", "dout"];
    attngrad::Shape::of_heads(|name| names.iter().position(|&one| one == name).map(|place| shapes[place]))
}

#[test]
fn misfits_of_heads_are_named() {
    let fit: [&[usize]; 4] = [&[2, 5, 3], &[2, 6, 3], &[2, 6, 4], &[2, 5, 4]];
    assert_eq!(of_heads(fit), Ok(attngrad::Shape::of_head(5, 6, 3, 4)));
    let wrong: [(usize, &[usize], &str); 6] = [
        (0, &[3], "query: found shape [3]; expected at least two dimensions, (..., rows, columns)"),
        (1, &[2, 6, 5], "key: found shape [2, 6, 5]; query has 3 columns, so key needs 3 columns"),
        (1, &[3, 6, 3], "key: found shape [3, 6, 3]; query has leading dimensions 2, so key needs the same"),
        (2, &[2, 1, 4], "value: found shape [2, 1, 4]; key has 6 rows, so value needs 6 rows"),
        (3, &[2, 6, 4], "dout: found shape [2, 6, 4]; query has 5 rows, so dout needs 5 rows"),
        (3, &[2, 5, 3], "dout: found shape [2, 5, 3]; value has 4 columns, so dout needs 4 columns"),
    ];
    for (place, shape, words) in wrong {
        let mut shapes = fit;
        shapes[place] = shape;
        assert_eq!(of_heads(shapes).expect_err("they do not fit").to_string(), words);
    }
}

#[test]
fn misfits_of_a_head_are_named() {
    let (query, key, value) = (zeros(5, 3), zeros(6, 3), zeros(6, 4));
    let heads = Heads::new(query.view(), key.view(), value.view()).expect("the shapes fit");
    assert_names(Heads::new(query.view(), zeros(6, 2).view(), value.view()).err(), "key", (6, 2));
    assert_names(Heads::new(query.view(), key.view(), zeros(5, 4).view()).err(), "value", (5, 4));
    let dout = zeros(6, 4);
    assert_names(attention_vjp(&heads, dout.view(), &Options::default(), None).err(), "dout", (6, 4));
}

#[test]
fn a_problem_has_only_its_inputs() {
    let product = Case::<f64>::new(Shape::square(4, 5, 3), Family::Uniform, false, 1);
    let pair = Case::<f64>::new(Shape { pair: Some(2), ..Shape::square(4, 5, 3) }, Family::Uniform, false, 1);
    for (case, wrt) in [(&product, Wrt::WQ), (&product, Wrt::WK), (&product, Wrt::A), (&pair, Wrt::X), (&pair, Wrt::A)]
    {
        let error = loss_gradient(&case.problem(), &[Wrt::Y, wrt], &Options::default(), None).expect_err("refused");
        assert!(matches!(&error, Error::Option { option: "wrt", .. }), "{error:?}");
        assert!(error.to_string().starts_with(&format!("wrt: found '{}'; expected ", wrt.name())), "{error}");
    }
}

#[test]
fn names_are_parsed_or_refused() {
    for wrt in Wrt::ALL {
        assert_eq!(wrt.to_string().parse(), Ok(wrt));
    }
    for level in Level::available() {
        assert_eq!(level.to_string().parse(), Ok(level));
    }
    for (name, norm) in [("fro", Norm::Frobenius), ("max", Norm::Largest)] {
        assert_eq!((name.parse(), format!("{norm:>5}")), (Ok(norm), format!("  {name}")));
    }
    assert!(Asked::ALL.into_iter().all(|asked| asked.to_string().parse() == Ok(asked)));
    assert!(Method::ALL.into_iter().all(|method| method.to_string().parse() == Ok(method)));
    assert!(Kind::ALL.into_iter().all(|kind| kind.to_string().parse() == Ok(kind)));
    let error = "sure".parse::<Asked>().expect_err("no such kind").to_string();
    assert_eq!(error, "certificate: found \"sure\"; expected one of any, estimated, statistical, rigorous");
    let error = "Z".parse::<Wrt>().expect_err("no such input").to_string();
    assert_eq!(error, "wrt: found \"Z\"; expected one of X, W_Q, W_K, Y, A1, A2, A3, A");
    let error = "sse".parse::<Level>().expect_err("no such level").to_string();
    assert!(error.starts_with("level: found \"sse\"; expected one that this machine has: baseline"), "{error}");
}

/// Any number of threads and any block is either refused, with the option's name, or computed: no sum overflows.
#[test]
fn sizes_beyond_every_machine() {
    let case = Case::<f32>::new(Shape::square(50, 40, 3), Family::Uniform, true, 1);
    let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
    let all = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    for threads in [1025, usize::MAX / 2, usize::MAX / 2 + 1, usize::MAX / 2 + 2, usize::MAX] {
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let approximation =
            attngrad::Approximation { coefficients: vec![1.0, 1.0], integers: false, exact_keys: vec![] };
        let results = [
            loss_gradient(&case.problem(), &all, &options, None).map(drop),
            loss_gradient(&case.problem(), &[Wrt::X], &options, None).map(drop),
            attention(&heads, &options, None).map(drop),
            attention_vjp(&heads, case.E.view(), &options, None).map(drop),
            attngrad::exact_rows(&case.problem(), &[1], &options, None).map(drop),
            attngrad::polynomial_gradient(&case.problem(), &[Wrt::X], &approximation, &options, None).map(drop),
        ];
        for result in results {
            let text = result.expect_err("too many").to_string();
            assert_eq!(text, format!("threads: found {threads}; expected 1 to 1024"));
        }
    }
    let gradients = |key_block| {
        let options = Options { key_block: NonZeroUsize::new(key_block), ..Options::default() };
        let found = loss_gradient(&case.problem(), &all, &options, None).expect("a regular problem");
        found.gradients.into_iter().map(|gradient| gradient.value).collect::<Vec<_>>()
    };
    let want = gradients(240);
    for key_block in [usize::MAX, usize::MAX - 11, usize::MAX / 2 + 1] {
        assert_eq!(gradients(key_block), want, "one block holds all keys");
    }
}

/// A level that the machine lacks is refused, not run.
#[test]
fn a_level_of_another_machine_is_refused() {
    let case = Case::<f32>::new(Shape::square(2, 2, 2), Family::Uniform, false, 1);
    for level in [Level::Avx2, Level::Avx512] {
        let options = Options { level: Some(level), ..Options::default() };
        let result = loss_gradient(&case.problem(), &[], &options, None).map(|result| result.level);
        if Level::available().contains(&level) {
            assert_eq!(result, Ok(level));
        } else {
            assert!(matches!(result, Err(Error::Option { option: "level", .. })), "{result:?}");
        }
    }
}

/// The case with every entry of A1 and A2 set, and the error it gives.
fn range_error(a: f32, y: f32, e: f32) -> Result<(), Error> {
    let mut case = Case::<f32>::new(Shape::square(3, 3, 2), Family::Uniform, false, 1);
    case.A1.fill(a);
    case.A2.fill(a);
    // Equal rows leave gradients that are zero by structure.
    case.A2[(0, 0)] = 0.5 * a;
    case.A3.fill(1.0);
    case.A3[(0, 0)] = 0.5;
    case.X.fill(1.0);
    case.Y.fill(y);
    case.E.fill(e);
    loss_gradient(&case.problem(), &[Wrt::X, Wrt::Y], &Options::default(), None).map(|_| ())
}

#[test]
fn what_the_precision_cannot_hold_is_an_error() {
    assert_eq!(range_error(1.0, 1.0, 1.0), Ok(()));
    for (a, y, e, quantity) in [(1e30, 1.0, 1.0, "a logit"), (1.0, f32::MAX, 1.0, "A3 Y"), (1.0, 1.0, 3e38, "dL/dY")] {
        let error = range_error(a, y, e).expect_err(quantity);
        assert!(matches!(&error, Error::Range { precision: "float32", .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(quantity), "{text}");
        assert!(text.contains("exceeds the range of float32; scale the inputs down"), "{text}");
    }
}

/// More rows than there is memory, in arrays without columns, which cost nothing to make.
#[test]
fn more_than_the_memory_is_an_error() {
    const ROWS: usize = usize::MAX >> 4;
    let (many, few, none) = (zeros(ROWS, 0), zeros(3, 0), zeros(0, 0));
    let problem = |A1: &Array2<f64>, A2: &Array2<f64>| {
        let weights = Weights::Product(none.view());
        let problem = Problem::new(A1.view(), A2.view(), A2.view(), weights, none.view(), A1.view());
        let problem = problem.expect("the shapes fit");
        loss_gradient(&problem, &[Wrt::A1, Wrt::A2], &Options::default(), None).map(|_| ())
    };
    assert_eq!(problem(&few, &few), Ok(()));
    for error in [problem(&many, &few), problem(&few, &many)] {
        let error = error.expect_err("too much");
        assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
        assert!(error.to_string().starts_with("out of memory: "), "{error}");
    }
    let heads = Heads::new(many.view(), few.view(), few.view()).expect("the shapes fit");
    let result = attention(&heads, &Options::default(), None).map(|_| ());
    assert!(matches!(result, Err(Error::OutOfMemory { .. })), "{result:?}");
}

#[test]
fn messages_say_what_to_do() {
    for (error, text) in [
        (Error::Cancelled, "stopped on request; nothing was returned"),
        (
            Error::Deadline(Duration::from_millis(1500)),
            "timeout: not finished within 1.5s; allow more time or ask for fewer gradients",
        ),
        (
            Error::Internal("a panic".into()),
            "internal error: a panic; please report it with the shapes and options of the call",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

/// Refusals of the planner are worded for callers of any language: no keyword of one is in them.
#[test]
fn the_planner_speaks_no_python() {
    let case = Case::<f64>::new(Shape::square(4, 4, 32), Family::Uniform, false, 1);
    let asked = Request {
        wanted: Wanted::Polynomial(None),
        rtol: None,
        atol: 0.0,
        norm: Norm::Frobenius,
        asked: Asked::Any,
        seed: Some(0),
        ..Request::default()
    };
    let negative = Request { wanted: Wanted::Auto, rtol: Some(-1.0), ..asked };
    let large = Request { wanted: Wanted::Polynomial(Some(7)), ..asked };
    for (request, start) in [
        (asked, "degree: found none for the polynomial method; expected a degree, or rtol > 0"),
        (large, "degree: found 76904685 monomials of 32 coordinates up to grade 8; expected a degree with at most"),
        (negative, "rtol: found -1; expected a finite number >= 0"),
    ] {
        let message = decide(&case.problem(), &[Wrt::X], &request).expect_err("refused").to_string();
        assert!(message.starts_with(start), "{message}");
        for python in ["None", "True", "method=", "degree=", "rtol=", "numpy"] {
            assert!(!message.contains(python), "{message}");
        }
    }
}
