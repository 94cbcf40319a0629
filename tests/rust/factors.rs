//! The paper's factors against dense matrices of P, entry by entry, and their gradients against the definitions.

use std::num::NonZeroUsize;

use attngrad::exact::loss_gradient;
use attngrad::features::FeatureOptions;
use attngrad::polynomial::Kind;
use attngrad::reference::Reference;
use attngrad::{Approximation, Error, Factors, Float, Options, Problem, Weights, Wrt, factors, row_kronecker};
use ndarray::{Array1, Array2, ArrayView2, Axis, array};

use crate::data::{Case, Family, Rng, Shape};

/// Roundings of an entry, in those of the terms that it is a sum of: features, normaliser, residual and the last sums
/// have some tens each, and the sums of absolute terms are larger than what they are for.
const SLACK: f64 = 60.0;

/// The mean of the keys is cut to single precision.
const MEAN: f64 = 1.0 / (1 << 20) as f64;

const SHAPES: [Shape; 5] = [
    Shape { n: 40, m: 30, d1: 3, d2: 3, d3: 3, dv: 3, pair: None },
    Shape { n: 19, m: 530, d1: 2, d2: 4, d3: 5, dv: 1, pair: None },
    Shape { n: 300, m: 17, d1: 5, d2: 4, d3: 2, dv: 6, pair: Some(3) },
    Shape { n: 1, m: 1, d1: 1, d2: 1, d3: 1, dv: 1, pair: None },
    Shape { n: 33, m: 33, d1: 8, d2: 8, d3: 8, dv: 8, pair: Some(8) },
];

fn wide<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    array.mapv(T::widen)
}

fn options(degree: usize, kind: Kind) -> FeatureOptions {
    FeatureOptions { degree: Some(degree), kind, ..FeatureOptions::default() }
}

fn made<T: Float>(problem: &Problem<'_, T>, degree: usize, kind: Kind) -> Factors<T> {
    factors(problem, &options(degree, kind), &Options::default(), None).expect("small logits")
}

/// Asserts |got − want| ≤ roundings · size, entry by entry.
fn close<T: Float>(got: ArrayView2<'_, T>, want: &Array2<f64>, size: &Array2<f64>, what: &str) {
    assert_eq!(got.dim(), want.dim(), "{what}");
    let bar = SLACK * T::UNIT_ROUNDOFF;
    for ((place, got), want) in got.indexed_iter().zip(want) {
        let bar = bar * size[place];
        assert!((got.widen() - want).abs() <= bar, "{what} at {place:?}: {got} {want} ± {bar:e}");
    }
}

/// The definitions with P of the logits of centred keys in the place of exp.
fn dense<T: Float>(case: &Case<T>, parts: &Factors<T>) -> Reference {
    let approximation = Approximation { coefficients: parts.polynomial().power(), integers: false, exact_keys: vec![] };
    let whole = Reference::new(&case.problem());
    let (query, key) = match &whole.pair {
        None => (whole.A1.dot(&whole.X), whole.A2.clone()),
        Some((W_Q, W_K)) => (whole.A1.dot(W_Q), whole.A2.dot(W_K)),
    };
    let size = key.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let mean = key.mean_axis(Axis(0)).expect("some keys");
    assert!((mean - parts.mean()).iter().all(|x| x.abs() <= MEAN * size));
    // The same problem with the weights in its rows.
    let one = Array2::eye(query.ncols());
    let weights = Weights::Product(one.view());
    let (A3, Y, E) = (whole.A3.view(), whole.Y.view(), whole.E.view());
    let inner = Problem::new(query.view(), key.view(), A3, weights, Y, E).expect("the shapes fit");
    let inner = inner.with_scale(whole.scale);
    let Reference { f, o, c, loss, q, r, p1, p2, p, .. } =
        Reference::polynomial(&inner, &approximation, parts.mean(), 1);
    Reference { f, o, c, loss, q, r, p1, p2, p, ..whole }
}

/// The definitions with every matrix of absolute values: what sums of the terms cannot exceed.
fn absolute(reference: &Reference, mean: &Array1<f64>) -> Reference {
    let mut all = reference.clone();
    let size = all.A2.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    all.A2 -= mean;
    for array in [&mut all.A1, &mut all.A2, &mut all.A3, &mut all.X, &mut all.Y] {
        array.mapv_inplace(f64::abs);
    }
    all.A2 += MEAN * size;
    if let Some((W_Q, W_K)) = &mut all.pair {
        W_Q.mapv_inplace(f64::abs);
        W_K.mapv_inplace(f64::abs);
    }
    all.scale = all.scale.abs();
    all.f.mapv_inplace(f64::abs);
    all.h = all.A3.dot(&all.Y);
    all.o = all.f.dot(&all.h);
    all.c = &all.o + &reference.E.mapv(f64::abs);
    all.q = all.c.dot(&all.h.t());
    all.p1 = &all.f * &all.q;
    let r = (&all.c * &all.o).sum_axis(Axis(1)).insert_axis(Axis(1));
    all.p2 = &all.f * &r;
    all.p = &all.p1 + &all.p2;
    all
}

fn check<T: Float>(case: &Case<T>, degree: usize, kind: Kind, what: &str) {
    let what = format!("{what}, degree {degree}, {}, {}", kind.name(), T::NAME);
    let problem = case.problem();
    let parts = made(&problem, degree, kind);
    let reference = dense(case, &parts);
    let mean = wide(case.A2.view()).mean_axis(Axis(0)).expect("some keys");
    let sizes = absolute(&reference, &mean);
    let none = Options::default();
    let (U3, V3) = (parts.U3(&none, None).expect("small"), parts.V3(&none, None).expect("small"));
    let U4 = parts.U4(&none, None).expect("small");
    let [k1, dv, k3, k4] = parts.ranks();
    assert_eq!([k1 * dv, k1], [k3, k4], "{what}");
    assert_eq!([parts.U1().ncols(), parts.U2().ncols(), U3.ncols(), U4.ncols()], parts.ranks(), "{what}");
    assert_eq!([parts.V1().ncols(), parts.V2().ncols(), V3.ncols(), parts.V4().ncols()], parts.ranks(), "{what}");
    let product = |U: ArrayView2<'_, T>, V: ArrayView2<'_, T>| wide(U).dot(&wide(V).t());
    let pairs = [
        ("f", product(parts.U1(), parts.V1()), &reference.f, &sizes.f),
        ("q", product(parts.U2(), parts.V2()), &reference.q, &sizes.q),
        ("p1", product(U3.view(), V3.view()), &reference.p1, &sizes.p1),
        ("p2", product(U4.view(), parts.V4()), &reference.p2, &sizes.p2),
    ];
    for (name, got, want, size) in pairs {
        // Compared in double precision, with the roundings of the factors.
        close::<f64>(got.view(), want, &(size * (T::UNIT_ROUNDOFF / f64::UNIT_ROUNDOFF)), &format!("{what}, {name}"));
    }
    let rows = product(parts.U1(), parts.V1()).sum_axis(Axis(1));
    assert!(rows.iter().all(|sum| (sum - 1.0).abs() <= SLACK * T::UNIT_ROUNDOFF), "{what}: {rows}");
    let loss = (parts.loss() - reference.loss).abs();
    let size = sizes.c.iter().map(|x| x * x).sum::<f64>();
    assert!(loss <= SLACK * T::UNIT_ROUNDOFF * size, "{what}: {loss}");
    for wrt in case.inputs() {
        let got = parts.gradient(wrt, &none, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let (want, size) = (reference.gradient(wrt), sizes.gradient(wrt));
        let what = format!("{what}, {}", wrt.name());
        close(got.view(), &want.expect("an input it has"), &size.expect("an input it has"), &what);
    }
}

fn small<T: Float>(shape: Shape, seed: u64) -> Case<T> {
    let mut case = Case::new(shape, Family::Uniform, false, seed);
    case.scale *= 0.5;
    case
}

#[test]
fn factors_and_gradients_are_those_of_the_polynomial() {
    for (index, shape) in SHAPES.into_iter().enumerate() {
        for degree in 0..=4 {
            for kind in Kind::ALL {
                check(&small::<f32>(shape, index as u64), degree, kind, &format!("{shape:?}"));
                check(&small::<f64>(shape, index as u64), degree, kind, &format!("{shape:?}"));
            }
        }
    }
}

#[test]
fn a_negative_scale_and_a_given_residual() {
    let mut case = small::<f64>(SHAPES[0], 7);
    case.scale = -0.3;
    check(&case, 3, Kind::LeastSquares, "negative scale");
    let problem = case.problem().with_incoming();
    let parts = made(&problem, 8, Kind::MinimaxRelative);
    assert_eq!((parts.U2(), parts.loss()), (case.E.view(), 0.0));
    let reference = Reference::new(&problem);
    for wrt in case.inputs() {
        let (got, want) = (parts.gradient(wrt, &Options::default(), None), reference.gradient(wrt));
        let (got, want) = (got.expect("an input it has"), want.expect("an input it has"));
        let size = want.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((got - want).iter().all(|x| x.abs() <= 1e-6 * size), "{wrt:?}");
    }
}

#[test]
fn more_degrees_come_nearer_to_the_exact_gradient() {
    let case = small::<f64>(SHAPES[4], 3);
    let problem = case.problem();
    let all = case.inputs();
    let exact = loss_gradient(&problem, &all, &Options::default(), None).expect("a regular problem");
    let mut before = vec![f64::INFINITY; all.len()];
    for degree in 1..=4 {
        let parts = made(&problem, degree, Kind::LeastSquares);
        for ((exact, &wrt), before) in exact.gradients.iter().zip(&all).zip(&mut before) {
            let near = parts.gradient(wrt, &Options::default(), None).expect("an input it has");
            let norm = |array: &Array2<f64>| array.iter().map(|x| x * x).sum::<f64>().sqrt();
            let error = norm(&(near - &exact.value)) / norm(&exact.value);
            assert!(error <= 0.5 * *before, "{wrt:?}, degree {degree}: {error} {before}");
            *before = error;
        }
    }
    assert!(before.iter().all(|error| *error <= 1e-3), "{before:?}");
}

#[test]
fn a_tolerance_chooses_the_degree() {
    let case = small::<f64>(SHAPES[0], 2);
    let wanted = FeatureOptions { rtol: Some(1e-4), ..FeatureOptions::default() };
    let parts = factors(&case.problem(), &wanted, &Options::default(), None).expect("small logits");
    assert!(parts.error() <= 1e-4);
    let less = made(&case.problem(), parts.polynomial().degree() - 1, Kind::LeastSquares);
    assert!(less.error() > 1e-4);
}

#[test]
fn kronecker_products_multiply_entry_by_entry() {
    let mut rng = Rng::new(1);
    let [U, V] = [rng.matrix::<f64>(600, 3), rng.matrix::<f64>(20, 3)];
    let [W, Z] = [rng.matrix::<f64>(600, 4), rng.matrix::<f64>(20, 4)];
    let product = |a: &Array2<f64>, b: &Array2<f64>| {
        row_kronecker(a.view(), b.view(), &Options::default(), None).expect("few numbers")
    };
    let got = product(&U, &W).dot(&product(&V, &Z).t());
    let want = U.dot(&V.t()) * W.dot(&Z.t());
    assert!((got - want).iter().all(|x| x.abs() <= 1e-13));
    let error = row_kronecker(U.view(), Z.view(), &Options::default(), None).expect_err("other rows").to_string();
    assert_eq!(error, "W: found shape [20, 4]; U has that many rows, so W needs 600 rows");
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    fn bits<T: Float>(shape: Shape) {
        let case = small::<T>(shape, 4);
        let run = |threads: usize| {
            let threads = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
            let parts =
                factors(&case.problem(), &options(2, Kind::LeastSquares), &threads, None).expect("small logits");
            let mut all: Vec<Array2<T>> =
                case.inputs().into_iter().map(|wrt| parts.gradient(wrt, &threads, None).expect("an input")).collect();
            all.push(parts.U3(&threads, None).expect("small"));
            all.push(parts.V1().to_owned());
            all
        };
        let one = run(1);
        assert!([2, 3, 8].into_iter().all(|threads| run(threads) == one));
    }
    let shape = Shape { n: 2100, m: 1900, d1: 3, d2: 3, d3: 3, dv: 3, pair: None };
    bits::<f32>(shape);
    bits::<f64>(Shape { pair: Some(2), ..shape });
}

#[test]
fn no_rows_on_a_side() {
    for (n, m) in [(0, 5), (5, 0), (0, 0)] {
        let case = small::<f64>(Shape { n, m, ..SHAPES[0] }, 1);
        let parts = made(&case.problem(), 2, Kind::Taylor);
        for wrt in case.inputs() {
            let got = parts.gradient(wrt, &Options::default(), None).expect("an input it has");
            assert!(got.iter().all(|x| *x == 0.0), "{n} {m} {wrt:?}: {got}");
        }
    }
}

fn refused<S>(result: Result<S, Error>) -> String {
    result.err().expect("bad input").to_string()
}

#[test]
fn bad_input_has_one_clear_error() {
    let case = small::<f64>(SHAPES[0], 1);
    let (problem, none) = (case.problem(), Options::default());
    let default = FeatureOptions::default();
    let message = refused(factors(&problem.with_causal(true), &default, &none, None));
    assert!(message.starts_with("is_causal: found true; expected false: a causal f is not of low rank"), "{message}");
    let message = refused(factors(&problem, &FeatureOptions { scale: Some(3.0), ..default }, &none, None));
    assert!(message.starts_with("scale: found 3 beside the problem's own"), "{message}");
    let message = refused(factors(&problem, &FeatureOptions { degree: Some(99), ..default }, &none, None));
    assert!(message.starts_with("degree: found 99; expected 0 to 30"), "{message}");
    let message = refused(factors(&problem, &FeatureOptions { max_features: 3, ..default }, &none, None));
    assert!(message.starts_with("degree: found 2, which has 10 features at width 3"), "{message}");
    let message = refused(factors(&problem.with_scale(f64::NAN), &default, &none, None));
    assert!(message.starts_with("scale: found NaN"), "{message}");
    // Logits -9, 3, 3, 3 of the first query: Taylor's cubic has the sum 4 + 54 - 108 there.
    let (queries, keys) = (array![[1.0], [-1.0]], array![[-3.0], [1.0], [1.0], [1.0]]);
    let (one, E) = (Array2::eye(1), Array2::zeros((2, 1)));
    let skew =
        Problem::new(queries.view(), keys.view(), keys.view(), Weights::Product(one.view()), one.view(), E.view());
    let skew = skew.expect("the shapes fit").with_scale(3.0);
    let message = refused(factors(&skew, &options(3, Kind::Taylor), &none, None));
    assert!(
        message.starts_with("degree: found a polynomial for which the attention weights of query 0 sum"),
        "{message}"
    );
    let parts = made(&problem, 1, Kind::LeastSquares);
    let message = refused(parts.gradient(Wrt::WQ, &none, None));
    assert!(message.starts_with("wrt: found 'W_Q'; expected X"), "{message}");
    let message = refused(parts.gradient(Wrt::A, &none, None));
    assert!(message.starts_with("wrt: found 'A'; expected A1, A2 or A3"), "{message}");
    for name in ["A1", "A2", "A3", "Y", "E", "X"] {
        let mut spoilt = case.clone();
        let array = match name {
            "A1" => &mut spoilt.A1,
            "A2" => &mut spoilt.A2,
            "A3" => &mut spoilt.A3,
            "Y" => &mut spoilt.Y,
            "E" => &mut spoilt.E,
            _ => &mut spoilt.X,
        };
        array[(2, 1)] = f64::NAN;
        let message = refused(factors(&spoilt.problem(), &default, &none, None));
        assert_eq!(message, format!("{name}: found NaN at row 2, column 1; expected finite numbers"));
    }
    let row = ArrayView2::from_shape((1, 3), &[0.5, 0.1, -0.2]).expect("one row");
    let many = row.broadcast((1 << 40, 3)).expect("rows alike");
    let one = Array2::eye(3);
    let problem = Problem::new(many, row, row, Weights::Product(one.view()), one.view(), many).expect("the shapes fit");
    assert!(matches!(factors(&problem, &default, &none, None), Err(Error::OutOfMemory { .. })));
    let stop = factors(&case.problem(), &default, &none, Some(&mut |_| false));
    assert_eq!(stop.err(), Some(Error::Cancelled));
}
