//! Numbers that a causal mask hides do not matter: they end no call and change no bit. And an input that is no number
//! is named.

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::plan::{Asked, Norm, Request, Solution, Start, Wanted, decide, solve};
use attngrad::{
    Approximation, Error, Float, Heads, Level, Options, Polynomial, Wrt, attention, exact_rows, polynomial_gradient,
};
use ndarray::{Array2, s};

use crate::data::{Case, Family, Shape};

const ALL: [Wrt; 5] = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];

fn causal<T: Float>(n: usize, m: usize) -> Case<T> {
    let shape = Shape { n, m, d1: 3, d2: 4, d3: 5, dv: 3, pair: None };
    Case::new(shape, Family::Uniform, true, 7)
}

fn request(wanted: Wanted, rtol: Option<f64>) -> Request {
    Request { wanted, rtol, atol: 0.0, norm: Norm::Frobenius, asked: Asked::Any, seed: Some(1), ..Request::default() }
}

fn second_degree() -> Approximation {
    Approximation { coefficients: vec![1.0, 1.0, 0.5], integers: false, exact_keys: vec![] }
}

/// Results of every function, by its name; rows of the outputs by key that no query sees must be zero.
fn found<T: Float>(case: &Case<T>, level: Level) -> Vec<(String, Vec<f64>)> {
    let options = Options { level: Some(level), ..Options::default() };
    let (problem, n) = (case.problem(), case.A1.nrows());
    let mut all = Vec::new();
    let mut add = |name: String, wrt: Wrt, value: &Array2<T>| {
        let by_key = matches!(wrt, Wrt::A2 | Wrt::A3);
        if by_key {
            assert_eq!(value.nrows(), case.A2.nrows(), "{name}");
            assert!(value.slice(s![n.min(value.nrows()).., ..]).iter().all(|x| *x == T::zero()), "{name}");
        }
        all.push((name, value.iter().map(|x| x.widen()).collect()));
    };
    for wrt in [&ALL[..], &[Wrt::X], &[Wrt::Y], &[Wrt::A3]] {
        let exact = loss_gradient(&problem, wrt, &options, None).expect("nothing that is seen is large");
        for gradient in &exact.gradients {
            add(format!("exact {wrt:?} {:?}", gradient.wrt), gradient.wrt, &gradient.value);
        }
        let near = polynomial_gradient(&problem, wrt, &second_degree(), &options, None).expect("small logits");
        near.gradients.iter().for_each(|(of, value)| add(format!("near {wrt:?} {of:?}"), *of, value));
        let fitted = Polynomial::fit(&problem, &second_degree(), &options, None).expect("small logits");
        let near = fitted.gradient(&problem, wrt, &options, None).expect("small logits");
        near.gradients.iter().for_each(|(of, value)| add(format!("fitted {wrt:?} {of:?}"), *of, value));
        for (wanted, rtol) in [(Wanted::Auto, Some(1e-1)), (Wanted::Polynomial(Some(2)), None)] {
            let request = request(wanted, rtol);
            decide(&problem, wrt, &request).expect("a request");
            let planned = solve(&problem, wrt, &request.options(options), Start::Fresh, None).expect("small logits");
            planned.gradients.iter().for_each(|one| {
                add(format!("{wanted:?} {wrt:?} {:?}", one.wrt), one.wrt, &one.value);
            });
        }
    }
    let rows = exact_rows(&problem, &[n - 1, 0, n / 2], &options, None).expect("nothing that is seen is large");
    add("rows w".into(), Wrt::X, &rows.w);
    add("rows o".into(), Wrt::X, &rows.output);
    let key = case.A2.slice(s![.., ..3]);
    let heads = Heads::new(case.A1.view(), key, case.A3.view()).expect("the shapes fit").with_causal(true);
    let dout = Array2::from_elem((n, case.A3.ncols()), T::one());
    add("attention".into(), Wrt::X, &attention(&heads, &options, None).expect("nothing that is seen is large"));
    let pulled = attention_vjp(&heads, dout.view(), &options, None).expect("nothing that is seen is large");
    add("dq".into(), Wrt::X, &pulled.query.0);
    add("dk".into(), Wrt::A2, &pulled.key.0);
    add("dv".into(), Wrt::A3, &pulled.value.0);
    all.push(("roundings".into(), vec![pulled.query.1, pulled.key.1, pulled.value.1]));
    all
}

fn unseen<T: Float>() {
    for level in Level::available() {
        for (n, m) in [(1, 2), (33, 64), (300, 333)] {
            let mut case = causal::<T>(n, m);
            let want = found(&case, level);
            for hidden in [T::max_value(), T::zero(), T::nan(), T::infinity()] {
                case.A2.slice_mut(s![n.., ..]).fill(hidden);
                case.A3.slice_mut(s![n.., ..]).fill(hidden);
                for ((name, got), (_, want)) in found(&case, level).iter().zip(&want) {
                    assert_eq!(got, want, "{name}, {n} queries, {hidden}, {}", level.name());
                }
            }
        }
    }
}

#[test]
fn keys_that_no_query_sees_change_no_bit() {
    unseen::<f32>();
    unseen::<f64>();
}

/// The last `tail` queries are zero, and their keys as large as the precision allows.
fn seen_by_zeros<T: Float>() {
    for level in Level::available() {
        let options = Options { level: Some(level), ..Options::default() };
        for (n, tail) in [(5, 1), (64, 7), (300, 1), (300, 40)] {
            let mut case = causal::<T>(n, n);
            let first = n - tail;
            case.A1.slice_mut(s![first.., ..]).fill(T::zero());
            let outputs = [Wrt::X, Wrt::Y, Wrt::A2, Wrt::A3];
            let gradients = |case: &Case<T>| {
                loss_gradient(&case.problem(), &outputs, &options, None).expect("no logit is large").gradients
            };
            let pulled = |case: &Case<T>| {
                let key = case.A2.slice(s![.., ..3]);
                let heads = Heads::new(case.A1.view(), key, case.A3.view()).expect("the shapes fit").with_causal(true);
                let dout = Array2::from_elem((n, case.A3.ncols()), T::one());
                let output = attention(&heads, &options, None).expect("no logit is large");
                let pulled = attention_vjp(&heads, dout.view(), &options, None).expect("no logit is large");
                let query = pulled.query.0.slice(s![..first, ..]).to_owned();
                [output, query, pulled.key.0, pulled.value.0]
            };
            let want = (gradients(&case), pulled(&case));
            // Sums of a few of them are finite.
            case.A2.slice_mut(s![first.., ..]).fill(T::narrow(T::MAX / 64.0));
            let got = (gradients(&case), pulled(&case));
            for (got, want) in got.0.iter().zip(&want.0) {
                assert_eq!(got.value, want.value, "{:?} of {n}, {tail}, {}", got.wrt, level.name());
            }
            assert_eq!(got.1, want.1, "{n}, {tail}, {}", level.name());
        }
    }
}

#[test]
fn large_keys_that_only_zero_queries_see_change_no_bit_of_others() {
    seen_by_zeros::<f32>();
    seen_by_zeros::<f64>();
}

/// The other way round: a query as large as the precision allows, which sees zero keys only.
#[test]
fn large_queries_that_see_zero_keys_change_no_bit_of_others() {
    for (n, head) in [(5, 1), (300, 1), (300, 70)] {
        let mut case = causal::<f32>(n, n);
        case.A2.slice_mut(s![..head, ..]).fill(0.0);
        let output = |case: &Case<f32>| {
            let key = case.A2.slice(s![.., ..3]);
            let heads = Heads::new(case.A1.view(), key, case.A3.view()).expect("the shapes fit").with_causal(true);
            attention(&heads, &Options::default(), None).expect("no logit is large")
        };
        let want = output(&case);
        case.A1.slice_mut(s![..head, ..]).fill(f32::MAX / 8.0);
        assert_eq!(output(&case), want, "{n}, {head}");
    }
}

/// Values that only queries without an incoming gradient see must not push the others out of the range.
fn large_values<T: Float>(slack: f64) {
    for level in Level::available() {
        let options = Options { level: Some(level), ..Options::default() };
        for (n, tail) in [(5, 1), (300, 3)] {
            let mut case = causal::<T>(n, n);
            let first = n - tail;
            let mut dout = Array2::from_elem((n, case.A3.ncols()), T::one());
            dout.slice_mut(s![first.., ..]).fill(T::zero());
            let pulled = |case: &Case<T>| {
                let key = case.A2.slice(s![.., ..3]);
                let heads = Heads::new(case.A1.view(), key, case.A3.view()).expect("the shapes fit").with_causal(true);
                let pulled = attention_vjp(&heads, dout.view(), &options, None).expect("nothing overflows");
                [pulled.query.0, pulled.key.0, pulled.value.0]
            };
            let want = pulled(&case);
            case.A3.slice_mut(s![first.., ..]).fill(T::narrow(T::MAX / 64.0));
            for (got, want) in pulled(&case).iter().zip(&want) {
                let size = want.iter().fold(0.0, |most: f64, x| most.max(x.widen().abs()));
                for (got, want) in got.iter().zip(want) {
                    let error = (got.widen() - want.widen()).abs();
                    assert!(error <= slack * size, "{got} for {want}, {n}, {tail}, {}", level.name());
                }
            }
        }
    }
}

#[test]
fn large_values_that_no_gradient_comes_from_do_not_matter() {
    large_values::<f32>(1e-5);
    large_values::<f64>(1e-13);
}

/// A degree by name where the last query is zero and its key large: coordinates must survive it.
#[test]
fn a_polynomial_survives_a_large_key_that_one_zero_query_sees() {
    let n = 600;
    let mut case = causal::<f64>(n, n);
    case.A1.row_mut(n - 1).fill(0.0);
    for key in [1e3, 1e100, f64::MAX / 64.0] {
        case.A2.row_mut(n - 1).fill(key);
        let exact = loss_gradient(&case.problem(), &[Wrt::X], &Options::default(), None).expect("no logit is large");
        for rtol in [None, Some(1e-1)] {
            let request = request(Wanted::Polynomial(Some(3)), rtol);
            let Solution { gradients, .. } =
                solve(&case.problem(), &[Wrt::X], &request, Start::Fresh, None).expect("no logit is large");
            let error = (&gradients[0].value - &exact.gradients[0].value).mapv(|x| x * x).sum().sqrt();
            let bound = gradients[0].certificate.absolute + exact.gradients[0].rounding;
            assert!(error <= bound, "{key}: {error} above {bound}");
        }
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    let case = causal::<f32>(6, 9);
    let options = Options::default();
    for scale in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let problem = case.problem().with_scale(scale);
        let heads = Heads::new(case.A1.view(), case.A1.view(), case.A1.view()).expect("the shapes fit");
        let heads = heads.with_scale(scale);
        let auto = request(Wanted::Auto, Some(1e-2));
        let errors = [
            loss_gradient(&problem, &[], &options, None).err(),
            loss_gradient(&problem, &[Wrt::X], &options, None).err(),
            exact_rows(&problem, &[0], &options, None).err(),
            polynomial_gradient(&problem, &[Wrt::X], &second_degree(), &options, None).err(),
            Polynomial::fit(&problem, &second_degree(), &options, None).err(),
            decide(&problem, &[Wrt::X], &auto).err(),
            solve(&problem, &[Wrt::X], &auto.options(options), Start::Fresh, None).err(),
            attention(&heads, &options, None).err(),
            attention_vjp(&heads, case.A1.view(), &options, None).err(),
        ];
        for error in errors {
            let Some(Error::Option { option: "scale", found, .. }) = &error else { panic!("{scale}: {error:?}") };
            assert_eq!(*found, scale.to_string());
        }
    }
}

/// The first input with an entry that is no number is named, whatever that made overflow.
#[test]
fn an_input_that_is_no_number_is_named() {
    let options = Options::default();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (name, row, column) in
            [("A1", 4, 2), ("A2", 5, 3), ("A3", 0, 4), ("X", 2, 0), ("Y", 4, 1), ("E", 3, 2), ("E", 0, 0)]
        {
            let mut case = causal::<f32>(6, 9);
            let Case { A1, A2, A3, X, Y, E, .. } = &mut case;
            let array = [("A1", A1), ("A2", A2), ("A3", A3), ("X", X), ("Y", Y), ("E", E)];
            let array = array.into_iter().find(|(of, _)| *of == name).expect("there is one").1;
            array[(row, column)] = bad;
            let named = Error::NonFinite { argument: name, found: bad.to_string(), row, column };
            for is_causal in [true, false] {
                let problem = case.problem().with_causal(is_causal);
                for wrt in [&[Wrt::X][..], &[Wrt::Y], &ALL] {
                    assert_eq!(loss_gradient(&problem, wrt, &options, None).err().as_ref(), Some(&named), "{wrt:?}");
                    for wanted in [Wanted::Auto, Wanted::Polynomial(Some(2))] {
                        let request = request(wanted, Some(1e-2));
                        let planned = solve(&problem, wrt, &request.options(options), Start::Fresh, None);
                        assert_eq!(planned.err().as_ref(), Some(&named), "{wanted:?} {wrt:?}");
                    }
                }
            }
            let text = named.to_string();
            assert!(
                text.starts_with(&format!("{name}: found ")) && text.ends_with("expected finite numbers"),
                "{text}"
            );
        }
    }
}

/// A degree or a sample of nonsense is an error, or what it can be taken for.
#[test]
fn a_start_that_means_nothing_is_refused() {
    let case = causal::<f64>(40, 40);
    let problem = case.problem().with_causal(false);
    let asked = request(Wanted::Polynomial(Some(2)), None);
    let run = |start: Start<'_>| solve(&problem, &[Wrt::X], &asked, start, None);
    for degree in [31, 1000, usize::MAX] {
        let error = run(Start::Sized { degree, samples: 0 }).expect_err("no such polynomial");
        assert!(matches!(&error, Error::Option { option: "degree", .. }), "{error:?}");
        let request = request(Wanted::Polynomial(Some(degree)), None);
        let error = decide(&problem, &[Wrt::X], &request).expect_err("no such polynomial");
        assert!(matches!(&error, Error::Option { option: "degree", .. }), "{error:?}");
    }
    for samples in [40, 1 << 40, usize::MAX] {
        let planned = run(Start::Sized { degree: 2, samples }).expect("all rows");
        assert!(planned.decision.samples <= 40, "{:?}", planned.decision);
    }
}
