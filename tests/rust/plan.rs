//! The planner: what it chooses, that what it returns is within its certificate, and that it repeats itself.

use std::num::NonZeroUsize;
use std::time::Duration;

use attngrad::exact::loss_gradient;
use attngrad::plan::{Asked, Kind, Method, Norm, Request, Solution, Start, Wanted, decide, solve};
use attngrad::{Error, Options, Problem, Weights, Wrt};
use ndarray::{Array2, s};

use crate::data::Rng;

const REQUEST: Request = Request {
    wanted: Wanted::Auto,
    rtol: Some(1e-2),
    atol: 0.0,
    norm: Norm::Frobenius,
    asked: Asked::Any,
    bound: None,
    seed: Some(0),
    options: Options { threads: None, level: None, timeout: None, memory: None, key_block: None },
};
/// Long and narrow, so that the near-linear method is the cheaper one and the exact one still quick.
const N: usize = 6000;
const D: usize = 3;

/// Inputs with entries uniform in [−1, 1), a pair of weights, values and target.
struct Data {
    A1: Array2<f64>,
    A2: Array2<f64>,
    A3: Array2<f64>,
    pair: [Array2<f64>; 2],
    X: Array2<f64>,
    Y: Array2<f64>,
    E: Array2<f64>,
}

impl Data {
    fn new(n: usize, d: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let pair = [rng.matrix(d, d), rng.matrix(d, d)];
        Data {
            A1: rng.matrix(n, d),
            A2: rng.matrix(n, d),
            A3: rng.matrix(n, d),
            X: pair[0].dot(&pair[1].t()),
            pair,
            Y: rng.matrix(d, d),
            E: rng.matrix(n, d),
        }
    }

    fn problem(&self) -> Problem<'_, f64> {
        self.with(Weights::Product(self.X.view()))
    }

    fn with_pair(&self) -> Problem<'_, f64> {
        self.with(Weights::Pair(self.pair[0].view(), self.pair[1].view()))
    }

    fn with<'a>(&'a self, weights: Weights<'a, f64>) -> Problem<'a, f64> {
        let Data { A1, A2, A3, Y, E, .. } = self;
        Problem::new(A1.view(), A2.view(), A3.view(), weights, Y.view(), E.view()).expect("shapes that fit")
    }
}

fn run(problem: &Problem<'_, f64>, wrt: &[Wrt], request: &Request) -> Solution<f64> {
    solve(problem, wrt, request, Start::Fresh, None).expect("a result")
}

/// Holds every output against the exact one; the reference's own rounding is far below what is certified.
fn check(problem: &Problem<'_, f64>, planned: &Solution<f64>) {
    let wrt: Vec<Wrt> = planned.gradients.iter().map(|one| one.wrt).collect();
    let exact = loss_gradient(problem, &wrt, &Options::default(), None).expect("an exact result");
    for (one, exact) in planned.gradients.iter().zip(&exact.gradients) {
        let error = Norm::Frobenius.of(&(&one.value - &exact.value));
        let bound = one.certificate.absolute + exact.rounding;
        assert!(error <= bound, "{}: {error:e} above {:?}", one.wrt.name(), one.certificate);
        if let Some(rtol) = REQUEST.rtol.filter(|_| one.certificate.reached == Some(true)) {
            assert!(error <= rtol * Norm::Frobenius.of(&exact.value) + exact.rounding, "{}", one.wrt.name());
        }
    }
    let error = (planned.loss - exact.loss).abs();
    assert!(error <= planned.loss_certificate.absolute, "loss: {error:e} above {:?}", planned.loss_certificate);
}

#[test]
fn the_cheaper_method_is_chosen() {
    let (long, short) = (Data::new(N, D, 1), Data::new(100, D, 1));
    let chosen = |data: &Data, request: &Request| decide(&data.problem(), &[Wrt::X], request).expect("a decision");
    let polynomial = chosen(&long, &REQUEST);
    assert_eq!(polynomial.method, Method::Polynomial, "{}", polynomial.reason);
    assert!(polynomial.degree >= 1 && polynomial.samples >= 128 && polynomial.predicted_error < 1e-2);
    assert_eq!(chosen(&short, &REQUEST).method, Method::Exact);
    for rtol in [None, Some(0.0), Some(1e-15)] {
        let exact = chosen(&long, &Request { rtol, ..REQUEST });
        assert_eq!(exact.method, Method::Exact, "{}", exact.reason);
        assert!(!exact.reason.is_empty());
    }
    let of = |wrt| decide(&long.problem(), &[Wrt::X, wrt], &REQUEST).expect("a decision");
    assert_eq!(of(Wrt::A2).method, Method::Polynomial, "{}", of(Wrt::A2).reason);
    // A sum of three, whose errors may meet.
    assert_eq!(of(Wrt::A).method, Method::Exact, "{}", of(Wrt::A).reason);
}

#[test]
fn large_logits_are_left_to_the_exact_method() {
    let mut data = Data::new(N, D, 2);
    data.A1 *= 30.0;
    let planned = run(&data.problem(), &[Wrt::X], &REQUEST);
    assert_eq!(planned.decision.method, Method::Exact);
    assert_eq!(planned.gradients[0].certificate.kind, Kind::Exact);
    check(&data.problem(), &planned);
}

#[test]
fn every_output_is_within_its_certificate() {
    let data = Data::new(N, D, 3);
    let of_product = run(&data.problem(), &[Wrt::X, Wrt::Y, Wrt::A1], &REQUEST);
    check(&data.problem(), &of_product);
    assert_eq!(of_product.decision.method, Method::Polynomial, "{}", of_product.decision.reason);
    let of_pair = run(&data.with_pair(), &[Wrt::WK, Wrt::A1, Wrt::WQ], &REQUEST);
    check(&data.with_pair(), &of_pair);
    let query_side = run(&data.with_pair(), &[Wrt::WQ], &REQUEST);
    check(&data.with_pair(), &query_side);
    assert_eq!(query_side.decision.method, Method::Polynomial, "{}", query_side.decision.reason);
}

#[test]
fn a_row_beyond_the_polynomial_is_computed_exactly() {
    let mut data = Data::new(N, D, 4);
    data.A1.slice_mut(s![77, ..]).mapv_inplace(|x| 400.0 * x + 50.0);
    let request = Request { wanted: Wanted::Polynomial(Some(2)), rtol: None, ..REQUEST };
    for asked in [Asked::Any, Asked::Estimated, Asked::Statistical] {
        let planned = run(&data.problem(), &[Wrt::X, Wrt::A1], &Request { asked, ..request });
        // Bounds look at no row by itself, and rows drawn by their caps meet the large ones anyway.
        assert!(planned.decision.apart >= 1 || asked != Asked::Estimated, "{asked:?}");
        check(&data.problem(), &planned);
    }
}

/// Rows that stand out, which the polynomial may well be trusted with, are exact in every output that rows speak of.
#[test]
fn rows_that_stand_out_are_computed_with_the_sample() {
    let mut data = Data::new(N, D, 14);
    let standing = [5, 77, 4000];
    for row in standing {
        data.A1.slice_mut(s![row, ..]).mapv_inplace(|x| 3.0 * x + 3.0);
        data.E.slice_mut(s![row, ..]).mapv_inplace(|x| 20.0 * x);
    }
    let wrt = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    let request = Request { wanted: Wanted::Polynomial(Some(3)), rtol: None, asked: Asked::Estimated, ..REQUEST };
    let problem = data.problem();
    let exact = loss_gradient(&problem, &[Wrt::A1], &Options::default(), None).expect("an exact result");
    for samples in [1, 200, 2000] {
        let start = Start::Sized { degree: 3, samples };
        let planned = solve(&problem, &wrt, &request, start, None).expect("a result");
        assert!(planned.decision.apart >= standing.len(), "{:?}", planned.decision);
        check(&problem, &planned);
        for row in standing {
            let distance = &planned.gradients[2].value.row(row) - &exact.gradients[0].value.row(row);
            let size = exact.gradients[0].value.row(row).dot(&exact.gradients[0].value.row(row));
            assert!(distance.dot(&distance) <= 1e-24 * size, "row {row} of {samples}");
        }
    }
    let of_pair = solve(
        &data.with_pair(),
        &[Wrt::WQ, Wrt::WK, Wrt::A1],
        &request,
        Start::Sized { degree: 3, samples: 200 },
        None,
    );
    check(&data.with_pair(), &of_pair.expect("a result"));
}

#[test]
fn rows_that_are_given_have_their_price() {
    let data = Data::new(N, D, 15);
    let request = Request { wanted: Wanted::Polynomial(Some(2)), rtol: None, asked: Asked::Estimated, ..REQUEST };
    let operations = |samples| {
        let start = Start::Sized { degree: 2, samples };
        let planned = solve(&data.problem(), &[Wrt::X], &request, start, None);
        planned.expect("a result").decision.operations
    };
    let usual = decide(&data.problem(), &[Wrt::X], &request).expect("a decision");
    assert_eq!(operations(usual.samples), usual.operations);
    assert!(operations(usual.samples / 2) < usual.operations);
    assert!(operations(2 * usual.samples) > usual.operations);
}

#[test]
fn kinds_are_those_asked_for() {
    let data = Data::new(2000, D, 5);
    let request = Request { wanted: Wanted::Polynomial(Some(2)), rtol: None, ..REQUEST };
    for (asked, kind) in [
        (Asked::Any, Kind::Rigorous),
        (Asked::Estimated, Kind::Estimated),
        (Asked::Statistical, Kind::Statistical),
        (Asked::Rigorous, Kind::Rigorous),
    ] {
        let planned = run(&data.problem(), &[Wrt::X], &Request { asked, ..request });
        let certificate = planned.gradients[0].certificate;
        assert!(certificate.kind <= kind, "{asked:?}: {certificate:?}");
        assert_eq!(certificate.reached, None);
        assert_eq!(certificate.confidence, (certificate.kind == Kind::Statistical).then_some(0.99));
        check(&data.problem(), &planned);
    }
}

#[test]
fn what_is_prepared_gives_the_same_bits() {
    let data = Data::new(N, D, 6);
    let first = run(&data.problem(), &[Wrt::X], &REQUEST);
    let prepared = first.prepared.as_ref().expect("moments that can be used again");
    let start = Start::Prepared(prepared);
    let again = solve(&data.problem(), &[Wrt::X], &REQUEST, start, None).expect("a result");
    assert_eq!(first.gradients[0].value, again.gradients[0].value);
    assert_eq!(first.gradients[0].certificate, again.gradients[0].certificate);
    let start = Start::Sized { degree: first.decision.degree, samples: first.decision.samples };
    let sized = solve(&data.problem(), &[Wrt::X], &REQUEST, start, None).expect("a result");
    assert_eq!(first.gradients[0].value, sized.gradients[0].value);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let data = Data::new(N, D, 7);
    let of = |threads: usize| {
        let options = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
        let planned =
            solve(&data.problem(), &[Wrt::X, Wrt::Y], &REQUEST.options(options), Start::Fresh, None).expect("a result");
        let values: Vec<Array2<f64>> = planned.gradients.iter().map(|one| one.value.clone()).collect();
        let bounds: Vec<f64> = planned.gradients.iter().map(|one| one.certificate.absolute).collect();
        (values, bounds, planned.loss, planned.decision)
    };
    assert_eq!(of(1), of(2));
    assert_eq!(of(1), of(3));
}

#[test]
fn a_tolerance_out_of_reach_is_not_called_reached() {
    let data = Data::new(N, D, 8);
    let request = Request { wanted: Wanted::Polynomial(Some(1)), rtol: Some(1e-9), ..REQUEST };
    let planned = run(&data.problem(), &[Wrt::X], &request);
    assert_eq!(planned.gradients[0].certificate.reached, Some(false));
    check(&data.problem(), &planned);
}

#[test]
fn requests_that_mean_nothing_are_refused() {
    let data = Data::new(10, D, 9);
    let problem = data.problem();
    for request in [
        Request { rtol: Some(f64::NAN), ..REQUEST },
        Request { rtol: Some(-1.0), ..REQUEST },
        Request { atol: f64::INFINITY, ..REQUEST },
        Request { wanted: Wanted::Polynomial(None), rtol: None, ..REQUEST },
    ] {
        let refused = solve(&problem, &[Wrt::X], &request, Start::Fresh, None);
        assert!(matches!(refused, Err(Error::Option { .. })), "{request:?}");
    }
    let pair = decide(&problem, &[Wrt::WQ], &REQUEST);
    assert!(matches!(pair, Err(Error::Option { option: "wrt", .. })));
}

#[test]
fn the_deadline_counts_for_all_steps() {
    let data = Data::new(N, D, 10);
    let options = Options { timeout: Some(Duration::from_nanos(1)), ..Options::default() };
    let refused = solve(&data.problem(), &[Wrt::X], &REQUEST.options(options), Start::Fresh, None);
    assert!(matches!(refused, Err(Error::Deadline(left)) if left == Duration::from_nanos(1)));
}

#[test]
fn progress_rises() {
    let data = Data::new(N, D, 11);
    let mut seen = Vec::new();
    let mut watch = |fraction: f64| {
        seen.push(fraction);
        true
    };
    solve(&data.problem(), &[Wrt::X], &REQUEST, Start::Fresh, Some(&mut watch)).expect("a result");
    assert!(seen.is_sorted() && seen.iter().all(|fraction| (0.0..=1.0).contains(fraction)), "{seen:?}");
}

#[test]
fn degenerate_shapes() {
    for (n, keys) in [(0, 5), (5, 0), (1, 1), (5, 1)] {
        let data = Data::new(n.max(keys), D, 12);
        let rows = |array: &Array2<f64>, count: usize| array.slice(s![..count, ..]).to_owned();
        let (A1, E) = (rows(&data.A1, n), rows(&data.E, n));
        let (A2, A3) = (rows(&data.A2, keys), rows(&data.A3, keys));
        let weights = Weights::Product(data.X.view());
        let problem = Problem::new(A1.view(), A2.view(), A3.view(), weights, data.Y.view(), E.view()).expect("shapes");
        for wanted in [Wanted::Auto, Wanted::Polynomial(Some(2))] {
            let planned = run(&problem, &[Wrt::X, Wrt::Y, Wrt::A1], &Request { wanted, ..REQUEST });
            check(&problem, &planned);
        }
    }
}

/// Errors under a mask are estimates from rows: the first chunk of 256 rows has none.
#[test]
fn causal_outputs_are_within_their_certificates() {
    let data = Data::new(N, D, 13);
    let named = Request { wanted: Wanted::Polynomial(Some(2)), ..REQUEST };
    for request in [REQUEST, named, Request { rtol: None, asked: Asked::Estimated, ..named }] {
        let of_product = data.problem().with_causal(true);
        let planned = run(&of_product, &[Wrt::X, Wrt::Y, Wrt::A1], &request);
        check(&of_product, &planned);
        let of_pair = data.with_pair().with_causal(true);
        let both = run(&of_pair, &[Wrt::WQ, Wrt::A1, Wrt::Y, Wrt::WK], &request);
        check(&of_pair, &both);
        if request.wanted != Wanted::Auto {
            for planned in [planned, both] {
                assert_eq!(planned.decision.method, Method::Polynomial, "{}", planned.decision.reason);
                assert!(planned.steps.is_none());
                for one in &planned.gradients {
                    let size = Norm::Frobenius.of(&one.value);
                    assert_eq!(one.certificate.kind, Kind::Estimated, "{}", one.wrt.name());
                    assert!(one.certificate.absolute < 0.2 * size, "{}: {:?}", one.wrt.name(), one.certificate);
                }
            }
        }
    }
}

#[test]
fn auto_reaches_the_tolerance_of_a_long_causal_problem() {
    let data = Data::new(4 * N, 2, 14);
    let problem = data.problem().with_causal(true);
    let planned = run(&problem, &[Wrt::X], &REQUEST);
    assert_eq!(planned.gradients[0].certificate.reached, Some(true));
    assert_eq!(planned.decision.method, Method::Polynomial, "{}", planned.decision.reason);
    check(&problem, &planned);
    for asked in [Asked::Rigorous, Asked::Statistical] {
        let decision = decide(&problem, &[Wrt::X], &Request { asked, ..REQUEST }).expect("a decision");
        assert_eq!(decision.method, Method::Exact, "{asked:?}: {}", decision.reason);
    }
}

/// No bound is known of them under a mask, and no row says anything.
#[test]
fn causal_outputs_by_key_have_an_estimate_and_no_bound() {
    let mut data = Data::new(N, D, 15);
    data.A1 *= 0.5;
    let problem = data.problem().with_causal(true);
    let request = Request { wanted: Wanted::Polynomial(Some(2)), rtol: None, ..REQUEST };
    let wrt = [Wrt::A2, Wrt::A3];
    for asked in [Asked::Any, Asked::Estimated, Asked::Statistical, Asked::Rigorous] {
        let planned = run(&problem, &wrt, &Request { asked, ..request });
        assert_eq!(planned.decision.method, Method::Polynomial);
        check(&problem, &planned);
        let exact = loss_gradient(&problem, &wrt, &Options::default(), None).expect("an exact result");
        for (one, exact) in planned.gradients.iter().zip(&exact.gradients) {
            let error = Norm::Frobenius.of(&(&one.value - &exact.value));
            let size = Norm::Frobenius.of(&exact.value);
            assert!(error <= 1e-2 * size, "{}: {error:e} of {size:e}", one.wrt.name());
            assert_eq!(one.certificate.absolute < f64::INFINITY, asked == Asked::Estimated);
        }
    }
}

/// A row beyond the polynomial cannot be taken apart under a mask.
#[test]
fn a_causal_row_beyond_the_polynomial_makes_all_exact() {
    let mut data = Data::new(2000, D, 16);
    data.A1.slice_mut(s![1777, ..]).mapv_inplace(|x| 400.0 * x + 50.0);
    let problem = data.problem().with_causal(true);
    let planned = run(&problem, &[Wrt::X, Wrt::A1], &Request { wanted: Wanted::Polynomial(Some(2)), ..REQUEST });
    assert_eq!(planned.decision.method, Method::Exact, "{}", planned.decision.reason);
    check(&problem, &planned);
}

#[test]
fn without_a_seed_the_data_are_one() {
    let data = Data::new(N, D, 3);
    let request = Request { wanted: Wanted::Polynomial(Some(1)), rtol: None, asked: Asked::Estimated, ..REQUEST };
    let certificate = |problem: &Problem<'_, f64>, seed, start: Start<'_>| {
        let request = Request { seed, ..request };
        let planned = solve(problem, &[Wrt::X], &request, start, None);
        planned.expect("a result").gradients[0].certificate
    };
    let first = certificate(&data.problem(), None, Start::Fresh);
    assert_eq!(first, certificate(&data.problem(), None, Start::Fresh), "the same call draws the same rows");
    let again = certificate(&data.problem(), None, Start::Sized { degree: 1, samples: 512 });
    assert_eq!(first, again, "and so does its plan");
    assert_ne!(first, certificate(&data.problem(), Some(0), Start::Fresh));
    // A change of the data that is far below the standard error moves it only if other rows are drawn.
    let mut next = Data::new(N, D, 3);
    next.X[[0, 0]] *= 1.0 + 1e-12;
    let other = certificate(&next.problem(), None, Start::Fresh);
    assert!((other.absolute / first.absolute - 1.0).abs() > 1e-6, "{other:?} after {first:?}");
    next.X.assign(&data.X);
    next.E.mapv_inplace(|x| x * (1.0 + 1e-12));
    let other = certificate(&next.problem(), None, Start::Fresh);
    assert!((other.absolute / first.absolute - 1.0).abs() > 1e-6, "{other:?} after {first:?}");
}
