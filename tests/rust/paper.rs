//! The reference against the definitions that it does not use itself.

use attngrad::reference::{self, Reference, kron, unvec, vec};
use attngrad::{Heads, Wrt};
use ndarray::{Array2, Axis};

use crate::data::{Case, Family, Rng, Shape};

/// Roundings of the few sums of a small problem, in units of the double's spacing at the size of the terms.
const SLACK: f64 = 64.0 * f64::EPSILON;

/// Step of a central difference: the cube root of the spacing balances its truncation and its rounding.
const STEP: f64 = 6e-6;

/// Error of a central difference, relative to the largest entry: STEP² and rounding / STEP.
const DIFFERENCE_SLACK: f64 = 1e-8;

fn assert_near<'a>(
    got: impl IntoIterator<Item = &'a f64>,
    want: impl IntoIterator<Item = &'a f64>,
    bar: f64,
    what: &str,
) {
    let (got, want): (Vec<f64>, Vec<f64>) = (got.into_iter().copied().collect(), want.into_iter().copied().collect());
    assert_eq!(got.len(), want.len(), "{what}");
    let size = want.iter().fold(1e-3, |max: f64, x| max.max(x.abs()));
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= bar * size, "{what}: {got}, {want} wanted");
    }
}

fn cases() -> Vec<Case<f64>> {
    let shape = Shape { n: 6, m: 5, d1: 3, d2: 4, d3: 2, dv: 3, pair: None };
    let pair = Shape { pair: Some(2), ..shape };
    let square = Shape::square(5, 5, 3);
    let mut cases = Vec::new();
    for (seed, shape) in [shape, pair, square].into_iter().enumerate() {
        for is_causal in [false, true] {
            cases.push(Case::new(shape, Family::Uniform, is_causal, seed as u64));
        }
    }
    cases
}

/// f by the quotient as it stands, without the shift; rows of f sum to one, rows of p to zero.
#[test]
fn softmax_is_the_quotient() {
    for case in cases() {
        let reference = Reference::new(&case.problem());
        let mut u = reference.S.mapv(f64::exp);
        for ((j, i), u) in u.indexed_iter_mut() {
            if case.is_causal && i > j {
                *u = 0.0;
            }
        }
        let alpha = u.sum_axis(Axis(1)).insert_axis(Axis(1));
        assert_near(&reference.f, &(u / alpha), SLACK, "f");
        let n = reference.f.nrows();
        assert_near(&reference.f.sum_axis(Axis(1)), &vec![1.0; n], SLACK, "rows of f");
        // Around one, because a relative bar has nothing to hold on to at zero.
        assert_near(&(reference.p.sum_axis(Axis(1)) + 1.0), &vec![1.0; n], SLACK, "rows of p");
        assert_near(&reference.r, &reference.r_from_output(), SLACK, "r");
    }
}

/// The tensor trick: the logits, and the paper's two forms of dL/dX.
#[test]
fn tensor_trick() {
    for case in cases() {
        let reference = Reference::new(&case.problem());
        let logits = reference.scale * reference.kron_A().dot(&vec(reference.X.view()));
        assert_near(&logits, &vec(reference.S.view()), SLACK, "vec(S)");
        let mut dX = reference.scale * reference.A1.t().dot(&reference.p).dot(&reference.A2);
        assert_near(&reference.gradient_vec(), &vec(dX.view()), SLACK, "dL/dvec(X)");
        let rows = unvec(&reference.gradient_by_rows(), reference.A2.ncols()).expect("its length fits");
        assert_near(&rows, &dX, SLACK, "dL/dX row by row");
        if case.pair.is_none() {
            dX = reference.gradient(Wrt::X).expect("X is there");
            assert_near(&rows, &dX, SLACK, "dL/dX");
        }
    }
    let (a, b) = (Rng::new(1).matrix::<f64>(2, 3), Rng::new(2).matrix::<f64>(4, 5));
    assert_eq!(kron(a.view(), b.view())[[4 + 3, 2 * 5 + 1]], a[[1, 2]] * b[[3, 1]]);
    assert!(unvec(&vec(a.view()), 4).is_err());
}

/// An array of a case by its name.
fn array(case: &mut Case<f64>, wrt: Wrt) -> &mut Array2<f64> {
    match (wrt, &mut case.pair) {
        (Wrt::WQ, Some((W_Q, _))) => W_Q,
        (Wrt::WK, Some((_, W_K))) => W_K,
        (Wrt::Y, _) => &mut case.Y,
        (Wrt::A1, _) => &mut case.A1,
        (Wrt::A2, _) => &mut case.A2,
        (Wrt::A3, _) => &mut case.A3,
        _ => &mut case.X,
    }
}

/// Every gradient against central differences of the loss, entry by entry.
#[test]
fn gradients_are_derivatives() {
    for case in cases() {
        let weights = if case.pair.is_some() { vec![Wrt::WQ, Wrt::WK] } else { vec![Wrt::X] };
        for wrt in weights.into_iter().chain([Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]) {
            let gradient = Reference::new(&case.problem()).gradient(wrt).expect("the problem has it");
            let loss_at = |entry, step| {
                let mut case = case.clone();
                array(&mut case, wrt)[entry] += step;
                Reference::new(&case.problem()).loss
            };
            let differences = Array2::from_shape_fn(gradient.dim(), |entry| {
                (loss_at(entry, STEP) - loss_at(entry, -STEP)) / (2.0 * STEP)
            });
            assert_near(&gradient, &differences, DIFFERENCE_SLACK, wrt.name());
        }
    }
}

/// Self-attention's gradient is the sum of three; a problem has only the inputs that it has.
#[test]
fn inputs_of_a_problem() {
    let square = Reference::new(&Case::<f64>::new(Shape::square(4, 4, 2), Family::Uniform, false, 1).problem());
    let parts = [Wrt::A1, Wrt::A2, Wrt::A3].map(|wrt| square.gradient(wrt).expect("always there"));
    let sum = &parts[0] + &parts[1] + &parts[2];
    assert_near(&square.gradient(Wrt::A).expect("one shape"), &sum, SLACK, "dL/dA");
    assert!(square.gradient(Wrt::WQ).is_err());
    let shape = Shape { pair: Some(2), ..Shape::square(4, 5, 2) };
    let pair = Reference::new(&Case::<f64>::new(shape, Family::Uniform, false, 1).problem());
    assert!(pair.gradient(Wrt::X).is_err());
    assert!(pair.gradient(Wrt::A).is_err());
}

/// No keys: the output is zero, and so is every gradient.
#[test]
fn no_keys() {
    let case = Case::<f64>::new(Shape::square(3, 0, 2), Family::Uniform, false, 1);
    let reference = Reference::new(&case.problem());
    assert!(reference.o.iter().all(|&x| x == 0.0));
    assert_eq!(reference.loss, 0.5 * case.E.iter().map(|x| x * x).sum::<f64>());
    for wrt in [Wrt::X, Wrt::Y, Wrt::A1] {
        assert!(reference.gradient(wrt).expect("it is there").iter().all(|&x| x == 0.0));
    }
}

/// Attention is the problem with identities for its weights.
#[test]
fn attention_is_the_problem_with_identities() {
    let mut case = Case::<f64>::new(Shape::square(6, 5, 3), Family::Uniform, true, 9);
    (case.X, case.Y) = (Array2::eye(3), Array2::eye(3));
    let reference = Reference::new(&case.problem());
    let heads = Heads::new(case.A1.view(), case.A2.view(), case.A3.view()).expect("the shapes fit");
    let heads = heads.with_scale(case.scale).with_causal(true);
    assert_near(&reference::attention(&heads), &reference.o, SLACK, "o");
    let [query, key, value] = reference::attention_vjp(&heads, reference.c.view());
    for (got, wrt) in [(query, Wrt::A1), (key, Wrt::A2), (value, Wrt::A3)] {
        assert_near(&got, &reference.gradient(wrt).expect("always there"), SLACK, wrt.name());
    }
}
