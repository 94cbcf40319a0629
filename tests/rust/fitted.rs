//! A fitted polynomial knows what it was made from, and is used with nothing else.

use attngrad::exact::loss_gradient;
use attngrad::plan::{Asked, Norm, Prepared, Request, Start, Wanted, solve};
use attngrad::{Approximation, Error, Float, Options, Polynomial, Problem, Wrt};
use ndarray::{Array2, ShapeBuilder, s};

use crate::data::{Case, Family, Shape};

const SHAPE: Shape = Shape { n: 12, m: 15, d1: 3, d2: 2, d3: 4, dv: 2, pair: None };

fn approximation() -> Approximation {
    Approximation { coefficients: vec![1.0, 1.0, 0.5], integers: false, exact_keys: vec![] }
}

/// Option that each way to use a polynomial, and what was prepared with it, names when it refuses a problem; `None`
/// where it does not refuse.
fn refusals<T: Float>(fitted: &Polynomial, prepared: &Prepared, problem: &Problem<'_, T>) -> Vec<Option<String>> {
    let options = Options::default();
    let errors = [
        fitted.gradient(problem, &[Wrt::Y], &options, None).err(),
        fitted.rows(problem, &[0, 3], &options, None).err(),
        fitted.caps(problem, &options, None).err(),
        solve(problem, &[Wrt::Y], &request().options(options), Start::Prepared(prepared), None).err(),
    ];
    let fits = prepared.fits(problem, &[Wrt::Y], &request(), &options).expect("no lack of memory");
    assert_eq!(fits, errors[3].is_none());
    let named = |error: Option<Error>| match error {
        None => None,
        Some(Error::Option { option, wanted, .. }) => {
            assert!(wanted.contains("as in the problem that the polynomial was fitted to"), "{option}: {wanted}");
            Some(option.to_owned())
        }
        Some(other) => panic!("{other:?}"),
    };
    errors.into_iter().map(named).collect()
}

fn request() -> Request {
    let wanted = Wanted::Polynomial(Some(2));
    Request {
        wanted,
        rtol: None,
        atol: 0.0,
        norm: Norm::Frobenius,
        asked: Asked::Any,
        seed: Some(1),
        ..Request::default()
    }
}

fn made<T: Float>(case: &Case<T>) -> (Polynomial, Prepared) {
    let (problem, options) = (case.problem(), Options::default());
    let fitted = Polynomial::fit(&problem, &approximation(), &options, None).expect("small logits");
    let planned = solve(&problem, &[Wrt::Y], &request().options(options), Start::Fresh, None).expect("small logits");
    (fitted, planned.prepared.expect("a polynomial was used"))
}

type Change = (&'static str, fn(&mut Case<f64>));

#[test]
fn another_problem_is_refused_by_what_is_otherwise() {
    let changes: [Change; 12] = [
        ("A2", |case| case.A2[(14, 1)] += 1e-12),
        ("A2", |case| case.A2.swap((0, 0), (0, 1))),
        ("A2", |case| case.A2.swap((2, 0), (9, 0))),
        ("A2", |case| case.A2.invert_axis(ndarray::Axis(0))),
        ("A3", |case| case.A3[(0, 0)] = -case.A3[(0, 0)]),
        ("Y", |case| case.Y[(3, 1)] *= 2.0),
        ("X", |case| case.X[(2, 0)] = 0.0),
        ("scale", |case| case.scale *= 1.5),
        ("is_causal", |case| case.is_causal = true),
        ("A2", |case| {
            // More of both.
            *case = Case::new(Shape { m: 16, ..SHAPE }, Family::Uniform, false, 3);
        }),
        ("Y", |case| {
            let (rows, n) = (case.Y.nrows(), case.E.nrows());
            (case.Y, case.E) = (Array2::ones((rows, 3)), Array2::ones((n, 3)));
        }),
        ("weights", |case| case.pair = Some((Array2::ones((3, 2)), Array2::ones((2, 2))))),
    ];
    let case = Case::<f64>::new(SHAPE, Family::Uniform, false, 3);
    let (fitted, prepared) = made(&case);
    assert_eq!(refusals(&fitted, &prepared, &case.problem()), [None, None, None, None]);
    for (named, change) in changes {
        let mut other = case.clone();
        change(&mut other);
        let refused = refusals(&fitted, &prepared, &other.problem());
        assert!(refused.iter().all(|option| option.as_deref() == Some(named)), "{named}: {refused:?}");
    }
    let incoming = refusals(&fitted, &prepared, &case.problem().with_incoming());
    assert!(incoming.iter().all(|option| option.as_deref() == Some("is_target")), "{incoming:?}");
    let narrow = Case::<f32>::new(SHAPE, Family::Uniform, false, 3);
    let narrow = refusals(&fitted, &prepared, &narrow.problem());
    assert!(narrow.iter().all(|option| option.as_deref() == Some("precision")), "{narrow:?}");
}

#[test]
fn no_change_of_a_single_number_goes_unseen() {
    let case = Case::<f64>::new(SHAPE, Family::Uniform, false, 4);
    let (fitted, _) = made(&case);
    let refused = |case: &Case<f64>| {
        let found = fitted.gradient(&case.problem(), &[Wrt::Y], &Options::default(), None);
        matches!(found, Err(Error::Option { .. }))
    };
    type Input = fn(&mut Case<f64>) -> &mut Array2<f64>;
    let arrays: [Input; 4] = [|case| &mut case.A2, |case| &mut case.A3, |case| &mut case.X, |case| &mut case.Y];
    for array in arrays {
        let (rows, columns) = array(&mut case.clone()).dim();
        for index in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            let mut other = case.clone();
            let x = array(&mut other)[index];
            array(&mut other)[index] = x.next_up();
            assert!(refused(&other), "{index:?}");
        }
    }
    assert!(!refused(&case));
}

/// The queries and E are no part of it, and the layout of the numbers is none either.
#[test]
fn other_queries_and_other_layouts_are_taken() {
    let (shape, options) = (Shape { n: 50, m: 40_000, ..SHAPE }, Options::default());
    let mut case = Case::<f32>::new(shape, Family::Uniform, false, 5);
    let (fitted, prepared) = made(&case);
    let other = Case::<f32>::new(shape, Family::Uniform, false, 6);
    (case.A1, case.E) = (other.A1, other.E);
    assert_eq!(refusals(&fitted, &prepared, &case.problem()), [None, None, None, None]);
    let exact = loss_gradient(&case.problem(), &[Wrt::Y], &options, None).expect("regular");
    let planned = solve(&case.problem(), &[Wrt::Y], &request().options(options), Start::Prepared(&prepared), None);
    let planned = planned.expect("regular");
    let error = (&planned.gradients[0].value - &exact.gradients[0].value).mapv(f64::from).mapv(|x| x * x).sum().sqrt();
    assert!(error <= planned.gradients[0].certificate.absolute + exact.gradients[0].rounding, "{error}");

    let mut columns = Array2::zeros(case.A2.dim().f());
    columns.assign(&case.A2);
    let mut backwards = case.A3.slice(s![..;-1, ..;-1]).as_standard_layout().into_owned();
    backwards.invert_axis(ndarray::Axis(0));
    backwards.invert_axis(ndarray::Axis(1));
    assert!(!backwards.is_standard_layout() && backwards == case.A3);
    (case.A2, case.A3) = (columns, backwards);
    assert_eq!(refusals(&fitted, &prepared, &case.problem()), [None, None, None, None]);
    for threads in [1, 2, 5] {
        let options = Options { threads: std::num::NonZeroUsize::new(threads), ..options };
        assert!(fitted.rows(&case.problem(), &[0], &options, None).is_ok(), "{threads} threads");
    }
}
