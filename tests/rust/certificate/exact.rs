//! The proved bounds of the rounding error of the exact gradients, against dense f64.

use attngrad::exact::loss_gradient;
use attngrad::reference::Reference;
use attngrad::{Error, Options, ProvedRounding, exact_rows};
use ndarray::{Array2, Axis};

use super::cases::{Case, norm};
use super::{DEEP, median, seeds};
use crate::data::Rng;
use crate::ratio::absolute;

/// Problems of the test; by how much their logits, which are about 1, are stretched.
const PROBLEMS: u64 = 2_000;
const STRETCHED: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// Rounding of the dense computation, relative to the sums over absolute values and to the size of a logit.
const REFERENCE: f64 = 1e-14;

/// Median of bound / error over all outputs: roundings cancel, and the longest key stands for all.
const USEFUL: f64 = 3e4;

/// Some of the errors come as near to their bound as this.
const NEAR: f64 = 0.3;

fn largest(rows: &Array2<f64>) -> f64 {
    rows.rows().into_iter().map(|row| super::norm(&row.to_vec())).fold(0.0, f64::max)
}

fn never_below_the_truth(problems: u64) {
    let (mut ratios, mut refused) = (Vec::new(), 0);
    for seed in seeds("proved rounding", problems) {
        let mut rng = Rng::new(seed);
        let mut case = Case::<f32>::random(&mut rng);
        if seed % 3 == 0 {
            case = case.with_incoming(&mut rng);
        }
        case.scale *= STRETCHED[seed as usize % STRETCHED.len()];
        if seed % 8 == 7 {
            // Several blocks of keys, all alike.
            case = case.repeated(40);
        }
        let (problem, options, all) = (case.problem(), Options::default(), case.inputs());
        let got = match loss_gradient(&problem, &all, &options, None) {
            Err(Error::Range { .. }) => {
                refused += 1;
                continue;
            }
            got => got.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        let proved = ProvedRounding::new(&problem, &options).expect("memory");
        let truth = Reference::new(&problem);
        let sums = absolute(&truth);
        let keys = truth.A2.dot(&case.weights[1].mapv(f64::from));
        let reach = 1.0 + truth.S.iter().fold(0.0, |most: f64, t| most.max(t.abs()));
        let mut held = |name: &str, error: f64, slack: f64, bound: f64| {
            let error = error - REFERENCE * reach * slack;
            assert!(error <= bound, "{name} of seed {seed}: error {error:e}, bound {bound:e}");
            if error > 0.0 && bound.is_finite() {
                ratios.push(bound / error);
            }
        };
        held("the loss", (got.loss - truth.loss).abs(), sums.loss, proved.loss());
        for gradient in &got.gradients {
            let want = truth.gradient(gradient.wrt).expect("the reference has it");
            let slack = sums.gradient(gradient.wrt).expect("the reference has it");
            let error = norm(&(gradient.value.mapv(f64::from) - want));
            held(gradient.wrt.name(), error, norm(&slack), proved.gradient(gradient.wrt));
        }
        let rows: Vec<usize> = (0..case.E.nrows()).collect();
        let got = match exact_rows(&problem, &rows, &options, None) {
            Err(Error::Range { .. }) => continue,
            got => got.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
        };
        let (w, slack) = (truth.p.dot(&keys), sums.p.sum_axis(Axis(1)) * largest(&keys));
        for row in rows {
            let error = |got: &Array2<f32>, want: &Array2<f64>| {
                super::norm(&(&got.row(row).mapv(f64::from) - &want.row(row)).to_vec())
            };
            held("w", error(&got.w, &w), slack[row], proved.w(row));
            held("o", error(&got.output, &truth.o), largest(&truth.h), proved.output(row)[0]);
        }
    }
    assert!(10 * refused < problems, "{refused} of {problems} did not fit the precision");
    let nearest = ratios.iter().copied().fold(f64::INFINITY, f64::min).recip();
    let middle = median(ratios);
    assert!(nearest >= NEAR && middle <= USEFUL, "median bound / error {middle}, largest error / bound {nearest}");
}

#[test]
fn a_proved_bound_is_never_below_the_error() {
    never_below_the_truth(PROBLEMS);
}

#[test]
#[ignore = "deep: minutes"]
fn a_proved_bound_is_never_below_the_error_of_many() {
    never_below_the_truth(DEEP);
}
