//! Gradients that are zero by structure: zeros with an error bound of 0, and no others are called so.

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::reference::Reference;
use attngrad::{Error, Float, Heads, Options, Wrt};
use ndarray::{Array2, Axis, s};

use crate::data::{Case, Family, Rng, Shape};

const SHAPE: Shape = Shape { n: 9, m: 13, d1: 3, d2: 4, d3: 5, dv: 2, pair: None };
const THROUGH_LOGITS: [Wrt; 5] = [Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A1, Wrt::A2];

fn equal_rows<T: Float>(array: &mut Array2<T>, rows: usize) {
    for row in 1..rows.min(array.nrows()) {
        let first = array.row(0).to_owned();
        array.row_mut(row).assign(&first);
    }
}

/// Asserts that of the inputs that the problem has exactly `zero` have zeros and a bound of 0, and that the truth has
/// zeros there.
fn check<T: Float>(case: &Case<T>, incoming: bool, zero: &[Wrt], what: &str) {
    let problem = if incoming { case.problem().with_incoming() } else { case.problem() };
    let reference = Reference::new(&problem);
    let inputs = if case.pair.is_some() { vec![Wrt::WQ, Wrt::WK] } else { vec![Wrt::X] };
    let inputs: Vec<_> = inputs.into_iter().chain([Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]).collect();
    let size = reference.f.len() as f64 * 1e3;
    for asked in inputs.iter().map(std::slice::from_ref).chain([inputs.as_slice()]) {
        let got = loss_gradient(&problem, asked, &Options::default(), None).expect("a regular problem");
        for gradient in got.gradients {
            let wrt = gradient.wrt;
            let is_zero = gradient.value.iter().all(|x| *x == T::zero());
            let what = format!("{what}, dL/d{} of {asked:?}", wrt.name());
            assert_eq!(gradient.rounding == 0.0, zero.contains(&wrt), "{what}: {:e}", gradient.rounding);
            assert_eq!(is_zero, zero.contains(&wrt), "{what}: {:?}", gradient.value);
            let want = reference.gradient(wrt).expect("the reference has it");
            assert_eq!(gradient.value.dim(), want.dim(), "{what}");
            let largest = want.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            assert!(!is_zero || largest <= size * f64::EPSILON, "{what}: the truth is {largest:e}");
        }
    }
}

/// A way to make gradients zero, and which become so.
type Structure<T> = (&'static str, fn(&mut Case<T>), &'static [Wrt]);

fn structures<T: Float>() -> Vec<Structure<T>> {
    vec![
        ("none", |_| {}, &[]),
        ("equal keys", |case| equal_rows(&mut case.A2, 99), &[Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A1]),
        ("equal values", |case| equal_rows(&mut case.A3, 99), &THROUGH_LOGITS),
        ("all keys but the last equal", |case| equal_rows(&mut case.A2, 12), &[]),
        ("all values but the last equal", |case| equal_rows(&mut case.A3, 12), &[]),
        ("zero queries", |case| case.A1.fill(T::zero()), &[Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A2]),
        (
            "zero inputs of values",
            |case| case.A3.fill(T::zero()),
            &[Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A1, Wrt::A2, Wrt::Y],
        ),
        ("zero Y", |case| case.Y.fill(T::zero()), &[Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A1, Wrt::A2, Wrt::A3]),
        ("zero scale", |case| case.scale = 0.0, &THROUGH_LOGITS),
        (
            "values equal where Y looks",
            |case| {
                case.Y.slice_mut(s![1.., ..]).fill(T::zero());
                case.A3.column_mut(0).fill(T::one());
            },
            &THROUGH_LOGITS,
        ),
    ]
}

fn sweep<T: Float>() {
    for pair in [None, Some(6)] {
        for is_causal in [false, true] {
            for incoming in [false, true] {
                for (name, shape_data, zero) in structures::<T>() {
                    // More queries than keys, so that the last key is seen under the mask too.
                    let shape = Shape { pair, n: 14, ..SHAPE };
                    let mut case = Case::<T>::new(shape, Family::Uniform, is_causal, 1);
                    shape_data(&mut case);
                    let what = format!("{name}, pair {pair:?}, causal {is_causal}, incoming {incoming}, {}", T::NAME);
                    check(&case, incoming, zero, &what);
                }
            }
        }
    }
}

#[test]
fn zeros_by_structure() {
    sweep::<f32>();
    sweep::<f64>();
}

#[test]
fn zero_incoming_gradient_or_no_residual() {
    let all = [Wrt::X, Wrt::WQ, Wrt::WK, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    let mut case = Case::<f32>::new(SHAPE, Family::Uniform, false, 2);
    case.E.fill(0.0);
    check(&case, true, &all, "zero dout");
    check(&case, false, &[], "zero target");
    case.A3.fill(0.0);
    check(&case, false, &all, "zero target and values");
    // Each row has a reason of its own.
    let mut case = Case::<f64>::new(SHAPE, Family::Uniform, false, 3);
    case.E.slice_mut(s![..4, ..]).fill(0.0);
    case.A1.slice_mut(s![4.., ..]).fill(0.0);
    check(&case, true, &[Wrt::X, Wrt::A2], "half of dout and half of the queries");
}

#[test]
fn zero_weights() {
    let mut case = Case::<f64>::new(SHAPE, Family::Uniform, false, 4);
    case.X.fill(0.0);
    check(&case, false, &[Wrt::A1, Wrt::A2], "zero X");
    let mut case = Case::<f64>::new(Shape { pair: Some(2), ..SHAPE }, Family::Uniform, false, 4);
    if let Some((W_Q, _)) = &mut case.pair {
        W_Q.fill(0.0);
    }
    check(&case, false, &[Wrt::A1, Wrt::A2, Wrt::WK], "zero W_Q");
    let mut case = Case::<f64>::new(Shape { pair: Some(2), ..SHAPE }, Family::Uniform, false, 4);
    if let Some((_, W_K)) = &mut case.pair {
        W_K.fill(0.0);
    }
    check(&case, false, &[Wrt::A1, Wrt::A2, Wrt::WQ], "zero W_K");
    // Queries that are zero because every column of A1 meets a row of zeros.
    let mut case = Case::<f64>::new(SHAPE, Family::Uniform, false, 5);
    case.X.row_mut(0).fill(0.0);
    case.A1.slice_mut(s![.., 1..]).fill(0.0);
    check(&case, false, &[Wrt::A2], "zero queries, neither A1 nor X zero");
}

/// Under the mask only what a query sees counts.
#[test]
fn only_what_is_seen_counts() {
    let shape = Shape { n: 5, m: 13, ..SHAPE };
    let mut case = Case::<f64>::new(shape, Family::Uniform, true, 6);
    equal_rows(&mut case.A2, 5);
    check(&case, false, &[Wrt::X, Wrt::A1], "the keys that are seen are equal");
    case.is_causal = false;
    check(&case, false, &[], "the same without a mask");
    let mut case = Case::<f64>::new(shape, Family::Uniform, true, 7);
    equal_rows(&mut case.A3, 5);
    check(&case, true, &[Wrt::X, Wrt::A1, Wrt::A2], "the values that are seen are equal");
    let mut case = Case::<f64>::new(shape, Family::Uniform, true, 8);
    case.A3.slice_mut(s![..5, ..]).fill(0.0);
    check(&case, true, &[Wrt::X, Wrt::A1, Wrt::A2, Wrt::Y], "the values that are seen are zero");
    let case = Case::<f64>::new(Shape { n: 1, ..shape }, Family::Uniform, true, 9);
    check(&case, false, &[Wrt::X, Wrt::A1, Wrt::A2], "one key is seen");
    let case = Case::<f64>::new(Shape { m: 1, ..shape }, Family::Uniform, false, 9);
    check(&case, false, &[Wrt::X, Wrt::A1, Wrt::A2], "one key");
    let case = Case::<f64>::new(Shape { m: 0, ..shape }, Family::Uniform, false, 9);
    check(&case, false, &[Wrt::X, Wrt::A1, Wrt::A2, Wrt::A3, Wrt::Y], "no key");
}

#[test]
fn heads() -> Result<(), Error> {
    let mut rng = Rng::new(10);
    let [q, k, v, dout] = [6, 8, 8, 6].map(|rows| rng.matrix::<f32>(rows, 4));
    let first = |array: &Array2<f32>| {
        let row = array.row(0).insert_axis(Axis(0));
        row.broadcast(array.dim()).expect("one row").to_owned()
    };
    for (what, q, k, v, dout, zero) in [
        ("none", q.clone(), k.clone(), v.clone(), dout.clone(), [false, false, false]),
        ("equal keys", q.clone(), first(&k), v.clone(), dout.clone(), [true, false, false]),
        ("equal values", q.clone(), k.clone(), first(&v), dout.clone(), [true, true, false]),
        ("zero queries", q.clone() * 0.0, k.clone(), v.clone(), dout.clone(), [false, true, false]),
        ("zero dout", q.clone(), k.clone(), v.clone(), dout.clone() * 0.0, [true, true, true]),
    ] {
        let heads = Heads::new(q.view(), k.view(), v.view())?;
        let got = attention_vjp(&heads, dout.view(), &Options::default(), None)?;
        for ((value, rounding), zero) in [got.query, got.key, got.value].into_iter().zip(zero) {
            assert_eq!(rounding == 0.0, zero, "{what}: {rounding:e}");
            assert_eq!(value.iter().all(|x| *x == 0.0), zero, "{what}: {value:?}");
        }
    }
    Ok(())
}
