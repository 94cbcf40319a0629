//! The rigorous bounds of a row, and what gradients they give, against dense f64 on small problems in which the ratio
//! P(t) e^−t, or the difference P(t) − e^t, takes any values within its known limits.

use attngrad::certificate::rigorous::{
    Difference, Enclosure, Incoming, Radii, Row, Spread, Steps, Weights, aggregated,
};
use attngrad::certificate::{root_total, total};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::norm;
use super::row::{Case, Law, ROUNDING, Side, difference, inner, mean, outer, side, vector};
use crate::data::Rng;

/// Problems that are made from one seed: 256 seeds are above ten thousand problems.
const CASES_PER_SEED: usize = 50;
/// Searches for the worst case, each from another problem.
const STARTS: u64 = 12;
/// A search reaches every bound by ratios to this factor ...
const SHARP: f64 = 0.98;
/// ... and every one by differences to this, but for the Euclidean norm of Δf, whose two terms are seldom at their
/// largest together.
const SHARP_DIFFERENCE: f64 = 0.8;
const SHARP_WEIGHTS: f64 = 0.45;

fn largest(vectors: &[Vec<f64>]) -> f64 {
    vectors.iter().map(|x| norm(x)).fold(0.0, f64::max)
}

/// Error over bound for each step; the name goes with it.
fn ratios(case: &Case, weights: Weights) -> Vec<(&'static str, f64)> {
    let [f, approximate] = case.weights();
    let (truth, got) = (side(case, f), side(case, approximate));
    let (values, keys) = (case.spread(weights, &case.values), case.spread(weights, &case.keys));
    let c = norm(&got.c);
    let incoming = if case.given { Incoming::Given(c) } else { Incoming::Residual(c) };
    let row = Row { weights, values, incoming, peak: case.peak(weights) };
    let (h, k) = (largest(&case.values), largest(&case.keys));
    let mut steps = Steps::default();
    steps.add(&row, h, norm(&got.o));

    let centre = vec![0.0; case.keys[0].len()];
    let radii = Radii { values: h, keys: k + norm(&centre), output: norm(&got.o) };
    let one_norm = |a: &[f64], b: &[f64]| difference(a, b).iter().map(|x| x.abs()).sum::<f64>();
    let two_norm = |a: &[f64], b: &[f64]| norm(&difference(a, b));
    let largest_entry = |a: &[f64], b: &[f64]| difference(a, b).iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let half_square = |c: &[f64]| 0.5 * inner(c, c);
    let loss = if case.given { 0.0 } else { (half_square(&truth.c) - half_square(&got.c)).abs() };
    let mixed = |side: &Side| outer(&mean(&side.f, &case.keys), &side.c);
    let fc = |side: &Side| outer(&side.f, &side.c);
    // Rounding error of the dense computation itself.
    let scale = ROUNDING * (1.0 + k) * (1.0 + h) * (1.0 + h + norm(&case.target));
    [
        ("f in 1-norm", one_norm(&truth.f, &got.f), row.mass()),
        ("f", two_norm(&truth.f, &got.f), row.weights_norm()),
        ("o", two_norm(&truth.o, &got.o), row.output()),
        ("c", two_norm(&truth.c, &got.c), row.residual()),
        ("w", two_norm(&truth.w, &got.w), row.w(keys)),
        ("w beside w̃", two_norm(&truth.w, &got.w), row.w_beside(keys, norm(&got.w))),
        ("w itself", norm(&truth.w), row.true_w(keys)),
        ("w̃ itself", norm(&got.w), row.approximate_w(keys)),
        ("w by its cap", two_norm(&truth.w, &got.w), row.cap(keys, norm(&got.w), &radii)),
        ("p in 1-norm", one_norm(&truth.p, &got.p), row.p()),
        ("p", two_norm(&truth.p, &got.p), row.p_norm()),
        ("f ⊗ c", two_norm(&fc(&truth), &fc(&got)), row.value_side()),
        ("fK ⊗ c", two_norm(&mixed(&truth), &mixed(&got)), row.mixed(norm(&mean(&got.f, &case.keys)), keys)),
        ("loss", loss, row.loss()),
        ("step f", one_norm(&truth.f, &got.f), steps.f),
        ("step c", two_norm(&truth.c, &got.c), steps.c),
        ("step q", largest_entry(&truth.q, &got.q), steps.q),
        ("step p1", one_norm(&truth.p1, &got.p1), steps.p1),
        ("step p2", one_norm(&truth.p2, &got.p2), steps.p2),
    ]
    .map(|(name, error, bound)| {
        assert!(!bound.is_nan() && bound >= 0.0, "{name}: bound {bound}");
        let error = error - scale;
        (name, if error <= 0.0 { 0.0 } else { error / bound })
    })
    .to_vec()
}

/// 0 where nothing is known.
fn ratio_of(case: &Case, wanted: &str) -> f64 {
    let Some(weights) = case.known() else { return 0.0 };
    ratios(case, weights).into_iter().find(|(name, _)| *name == wanted).map(|(_, ratio)| ratio).expect("in the list")
}

proptest! {
    // PROPTEST_CASES asks for more of them.
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(91), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_bound_is_never_below_the_truth(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        for _ in 0..CASES_PER_SEED {
            for law in [Law::Ratio, Law::Difference] {
                let case = Case::random(&mut rng, law);
                let Some(weights) = case.known() else { continue };
                for (name, ratio) in ratios(&case, weights) {
                    prop_assert!(ratio <= 1.0, "{name}: error / bound = {ratio} for {case:?}");
                }
            }
        }
    }
}

#[test]
fn differences_are_of_both_signs() {
    let mut rng = Rng::new(92);
    let mut counts = [0; 3];
    for _ in 0..1000 {
        let case = Case::random(&mut rng, Law::Difference);
        let [_, approximate] = case.exponentials();
        let weights = case.known();
        let variance = |f: &[f64], x: &[Vec<f64>]| -> f64 {
            let centre = mean(f, x);
            f.iter().zip(x).map(|(f, x)| f * (x[0] - centre[0]).powi(2)).sum()
        };
        counts[0] += usize::from(weights.is_some());
        counts[1] += usize::from(weights.is_some() && approximate.iter().any(|p| *p < 0.0));
        // Negative variances, for which the variance under f̃ itself is useless.
        counts[2] += usize::from(weights.is_some() && variance(&case.weights()[1], &case.keys) < 0.0);
    }
    assert!(counts[0] > 700 && counts[1] > 100 && counts[2] > 20, "{counts:?} of 1000");
}

/// The largest error / bound that a random walk uphill finds.
fn searched(law: Law, wanted: &str, starts: u64) -> f64 {
    let mut best: f64 = 0.0;
    for seed in 0..starts {
        let mut rng = Rng::new(1000 + seed);
        let mut case = Case::random(&mut rng, law);
        let mut ratio = ratio_of(&case, wanted);
        for turn in 0..1500 {
            let next = case.moved(&mut rng, 0.5 * 0.995f64.powi(turn));
            let moved = ratio_of(&next, wanted);
            assert!(moved <= 1.0, "{wanted}: error / bound = {moved} for {next:?}");
            if moved > ratio {
                (case, ratio) = (next, moved);
            }
        }
        best = best.max(ratio);
    }
    best
}

#[test]
fn the_worst_case_is_near_the_bound() {
    let names = [
        "f in 1-norm",
        "f",
        "o",
        "w",
        "w beside w̃",
        "p in 1-norm",
        "p",
        "f ⊗ c",
        "fK ⊗ c",
        "loss",
        "step q",
        "step p1",
        "step p2",
    ];
    for (law, sharp) in [(Law::Ratio, SHARP), (Law::Difference, SHARP_DIFFERENCE)] {
        let found = names.map(|name| (name, searched(law, name, STARTS)));
        let enough = |name: &str| if law == Law::Difference && name == "f" { SHARP_WEIGHTS } else { sharp };
        assert!(
            found.iter().all(|(name, found)| *found >= enough(name)),
            "largest error / bound found: {law:?}, {found:?}"
        );
    }
}

#[test]
fn a_gradient_is_bounded_by_its_rows() {
    for seed in 0..500 {
        let mut rng = Rng::new(5000 + seed);
        let law = if seed % 2 == 0 { Law::Ratio } else { Law::Difference };
        let cases: Vec<Case> = {
            let first = Case::random(&mut rng, law);
            (0..4).map(|_| first.moved(&mut rng, 0.3)).collect()
        };
        let (mut terms, mut by_token, mut sum, mut squares) = (vec![], vec![], vec![], 0.0);
        for case in &cases {
            let Some(weights) = case.known() else { continue };
            let [f, approximate] = case.weights();
            let (truth, got) = (side(case, f), side(case, approximate));
            let c = norm(&got.c);
            let incoming = if case.given { Incoming::Given(c) } else { Incoming::Residual(c) };
            let row = Row { weights, values: case.spread(weights, &case.values), incoming, peak: 1.0 };
            let a = vector(&mut rng, 2, 0.0);
            let bound = row.w(case.spread(weights, &case.keys));
            let error = difference(&truth.w, &got.w);
            terms.push((norm(&a), bound));
            by_token.push(bound);
            squares += inner(&error, &error);
            let term = outer(&a, &error);
            sum = if sum.is_empty() { term } else { sum.iter().zip(&term).map(|(x, y)| x + y).collect() };
        }
        let scale = 0.37;
        let slack = ROUNDING * 1e4;
        assert!(scale * norm(&sum) <= aggregated(scale, terms.iter().copied()) + slack, "seed {seed}");
        assert!(squares.sqrt() <= root_total(by_token.iter().copied()) + slack, "seed {seed}");
    }
}

#[test]
fn what_is_not_known_is_infinite() {
    let zero = Spread { weighted: 0.0, flat: 0.0, joint: 0.0 };
    let row = |weights| Row { weights, values: zero, incoming: Incoming::Residual(0.0), peak: 1.0 };
    let ratio = |lo, hi| Weights::Ratio(Enclosure { lo, hi });
    let ends = [(0.0, 1.0), (-0.1, 1.0), (f64::NAN, 1.0), (0.5, f64::NAN), (0.5, f64::INFINITY), (2.0, 1.0)];
    let shares = [1.0, 1.5, f64::NAN, f64::INFINITY, -0.1];
    let unknown = ends.map(|(lo, hi)| ratio(lo, hi)).into_iter();
    for weights in unknown.chain(shares.map(|usual| Weights::Difference(Difference { largest: usual, usual }))) {
        let row = row(weights);
        let bounds = [row.mass(), row.output(), row.w(zero), row.p(), row.p_norm(), row.value_side(), row.loss()];
        assert_eq!(bounds, [f64::INFINITY; 7], "{weights:?}");
        let mut steps = Steps::default();
        steps.add(&row, 1.0, 1.0);
        assert_eq!([steps.f, steps.c, steps.q, steps.p1, steps.p2], [f64::INFINITY; 5], "{weights:?}");
    }
    let one = Spread { weighted: 1.0, flat: 1.0, joint: 1.0 };
    for weights in [ratio(0.9, 1.1), Weights::Difference(Difference { largest: 0.2, usual: 0.1 })] {
        let values = Spread { weighted: f64::NAN, flat: f64::NAN, joint: f64::NAN };
        let not_a_number = Row { values, ..row(weights) };
        assert_eq!([not_a_number.output(), not_a_number.w(one)], [f64::INFINITY; 2]);
    }
    assert_eq!(aggregated(1.0, [(1.0, 1.0), (f64::NAN, 1.0)]), f64::INFINITY);
    assert_eq!(aggregated(1.0, [(0.0, f64::INFINITY), (2.0, 3.0)]).floor(), 6.0);
    assert_eq!(total([1.0, f64::NAN]), f64::INFINITY);
}

#[test]
fn a_cap_is_finite_without_an_enclosure() {
    let one = Spread { weighted: 1.0, flat: 1.0, joint: 1.0 };
    let weights = Weights::Ratio(Enclosure { lo: -1.0, hi: 1.0 });
    let row = Row { weights, values: one, incoming: Incoming::Residual(2.0), peak: 1.0 };
    let cap = row.cap(one, 0.5, &Radii { values: 3.0, keys: 2.0, output: 1.0 });
    // ‖c‖ ≤ 2 + 1 + 3.
    assert!((cap - (0.5 + 3.0 * 2.0 * 6.0)).abs() < 1e-9, "{cap}");
}

#[test]
fn a_wider_enclosure_covers_wrong_logits() {
    let narrow = Enclosure { lo: 0.99, hi: 1.02 };
    let wide = narrow.widened(1e-3);
    assert!(wide.lo <= 0.99 * (-1e-3f64).exp() && wide.hi >= 1.02 * 1e-3f64.exp());
    assert!(wide.lo > 0.988 && wide.hi < 1.0211, "{wide:?}");
}
