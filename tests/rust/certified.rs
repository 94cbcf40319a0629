//! Certificates of the output of attention, and of outputs by key from sampled rows.

use attngrad::exact::{attention_stack, attention_stack_measured};
use attngrad::plan::{Asked, Beside, Kind, Method, Start, Wanted, certified_attention, settled_heads, solve};
use attngrad::{Error, Heads, Options, Request, Stack, Wrt, loss_gradient};
use ndarray::{Array2, s};

use crate::data::Rng;

const N: usize = 600;
const D: usize = 5;

fn matrix(rng: &mut Rng, size: f64) -> Array2<f64> {
    rng.matrix::<f64>(N, D).mapv(|x| size * x)
}

fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    (a - b).mapv(|x| x * x).sum().sqrt()
}

fn estimated() -> Request {
    Request::default().degree(2).certificate(Asked::Estimated)
}

/// One query that looks far, whose row of the output is computed exactly, beside rows like all others.
#[test]
fn rows_that_stand_out_are_exact_and_the_others_are_estimated() {
    let mut rng = Rng::new(5);
    let (mut q, k, v) = (matrix(&mut rng, 0.3), matrix(&mut rng, 0.3), matrix(&mut rng, 1.0));
    q.row_mut(7).mapv_inplace(|x| 6.0 * x);
    let head = Heads::new(q.view(), k.view(), v.view()).expect("the shapes fit");
    let stack = Stack::of(vec![head]).expect("one head");
    let found = certified_attention(&stack, (false, true), &estimated(), None).expect("a regular head");
    let exact = attention_stack(&stack, (false, true), &Options::default(), None).expect("a regular head").output;
    assert_eq!((found.certificate.kind, found.decision.method), (Kind::Estimated, Method::Polynomial));
    assert!(found.decision.apart >= 1);
    let row = |of: &Array2<f64>| of.slice(s![7..8, ..]).to_owned();
    assert!(distance(&row(&found.output), &row(&exact)) < 1e-13);
    let error = distance(&found.output, &exact);
    assert!(error <= found.certificate.absolute && found.certificate.absolute <= 3.0 * error);
}

/// Heads have the bits that each has alone, and one certificate: the root of the sum of the squares.
#[test]
fn heads_together_are_heads_alone() {
    let mut rng = Rng::new(6);
    let all: Vec<[Array2<f64>; 3]> = (0..3).map(|_| [0.6, 0.6, 1.0].map(|size| matrix(&mut rng, size))).collect();
    let head = |[q, k, v]: &'_ [Array2<f64>; 3]| (q.clone(), k.clone(), v.clone());
    let parts: Vec<_> = all.iter().map(head).collect();
    let heads = || parts.iter().map(|(q, k, v)| Heads::new(q.view(), k.view(), v.view()).expect("the shapes fit"));
    let run = |heads: Vec<Heads<'_, f64>>| {
        let stack = Stack::of(heads).expect("equal shapes");
        certified_attention(&stack, (false, true), &estimated(), None).expect("regular heads")
    };
    let together = run(heads().collect());
    let mut square = 0.0;
    for (number, head) in heads().enumerate() {
        let alone = run(vec![head]);
        assert_eq!(together.output.slice(s![number * N..(number + 1) * N, ..]), alone.output.view());
        square += alone.certificate.absolute.powi(2);
    }
    assert!((together.certificate.absolute / f64::sqrt(square) - 1.0).abs() < 0.05);
}

/// The exact output with its estimate is the output without one, bit for bit.
#[test]
fn an_estimate_changes_no_bit() {
    let mut rng = Rng::new(7);
    let (q, k, v) = (matrix(&mut rng, 2.0), matrix(&mut rng, 2.0), matrix(&mut rng, 1.0));
    for is_causal in [false, true] {
        let head = Heads::new(q.view(), k.view(), v.view()).expect("the shapes fit");
        let stack = Stack::of(vec![head]).expect("one head").with_causal(is_causal);
        let options = Options::default();
        let (measured, estimates) = attention_stack_measured(&stack, (true, true), &options, None).expect("regular");
        let plain = attention_stack(&stack, (true, true), &options, None).expect("regular");
        assert_eq!((measured.output, measured.lse), (plain.output, plain.lse));
        assert!(estimates[0].rounding > 0.0 && estimates[0].rounding < 1e-12 * estimates[0].norm);
    }
}

/// Every row sampled: the estimate of an output by key is its norm but for the groups of keys, which tests of many
/// seeds see from both sides.
#[test]
fn outputs_by_key_are_covered_where_c_moves() {
    let (mut missed, mut total, mut product) = (0, 0, 1.0f64);
    for seed in 0..12 {
        let mut rng = Rng::new(100 + seed);
        let sides = [0.7, 0.7, 1.0, 1.0].map(|size| matrix(&mut rng, size));
        let [A1, A2, A3, E] = sides.each_ref().map(|side| side.view());
        let [X, Y] = [0, 1].map(|_| rng.matrix::<f64>(D, D));
        let weights = attngrad::Weights::Product(X.view());
        let problem = attngrad::Problem::new(A1, A2, A3, weights, Y.view(), E).expect("the shapes fit");
        let exact = loss_gradient(&problem, &[Wrt::A2, Wrt::A3], &Request::default()).expect("regular");
        let start = Start::Sized { degree: 2, samples: 150 };
        let found = solve(&problem, &[Wrt::A2, Wrt::A3], &estimated().seed(seed), start, None).expect("regular");
        for (got, want) in found.gradients.iter().zip(&exact.gradients) {
            assert_eq!(got.certificate.kind, Kind::Estimated);
            let error = distance(&got.value, &want.value);
            missed += usize::from(error > got.certificate.absolute);
            total += 1;
            product *= got.certificate.absolute / error;
        }
    }
    assert_eq!(missed, 0);
    let mean = product.powf(1.0 / f64::from(total));
    assert!((1.0..10.0).contains(&mean), "{mean}");
}

#[test]
fn what_no_polynomial_has_is_refused_or_exact() {
    let mut rng = Rng::new(8);
    let (q, k, v) = (matrix(&mut rng, 0.5), matrix(&mut rng, 0.5), matrix(&mut rng, 1.0));
    let stack = Stack::of(vec![Heads::new(q.view(), k.view(), v.view()).expect("the shapes fit")]).expect("one");
    let refused = certified_attention(&stack, (true, true), &estimated(), None);
    assert!(matches!(refused, Err(Error::Option { option: "return_lse", .. })));
    let auto = Request::default().rtol(1e-2);
    let found = certified_attention(&stack, (true, true), &auto, None).expect("regular");
    assert!(found.lse.is_some() && found.decision.method == Method::Exact);
    assert_eq!(found.certificate.reached, Some(true));
    let sizes = stack.sizes();
    for beside in [
        Beside { has_mask: true, ..Beside::default() },
        Beside { has_saved: true, ..Beside::default() },
        // So short that nothing is cheaper.
        Beside::default(),
    ] {
        let settled = settled_heads::<f64>(sizes, beside, &auto).map(|decision| decision.method);
        assert_eq!(settled, Some(Method::Exact), "{beside:?}");
        let named = Request { wanted: Wanted::Polynomial(Some(2)), ..auto };
        assert!(settled_heads::<f64>(sizes, beside, &named).is_none());
    }
}
