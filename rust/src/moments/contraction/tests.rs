//! Estimated error of integer sums in a contraction, against the same moments summed in floats.

use ndarray::{Array2, Zip};

use crate::moments::Besides;
use crate::moments::Polynomial;
use crate::options::{Level, Options};
use crate::problem::{Approximation, Problem, Weights, Wrt};
use crate::runtime::rng::Rng;

/// Largest ratio of an estimate from eight blocks to the error, on average over the seeds: their number is ten times as
/// large at most, the root of it adds up to a sum of as many, and few draws are allowed for twice and a half.
const MOST: f64 = 60.0;

/// Numbers in [−1, 1].
fn uniform(rng: &mut Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || (2.0 * rng.unit() - 1.0) as f32)
}

/// Sizes of the query rows: all alike, or different in all rows of a few blocks, or in a few rows.
#[derive(Clone, Copy, Debug)]
enum Sizes {
    Alike,
    Blocks,
    Rows,
}

fn factor(sizes: Sizes, row: usize) -> f32 {
    match sizes {
        Sizes::Alike => 1.0,
        Sizes::Blocks if row / 256 % 7 == 3 => 4.0,
        Sizes::Rows if row % 997 == 5 => 8.0,
        Sizes::Blocks | Sizes::Rows => 0.5,
    }
}

/// (‖integers − floats‖, the estimate) for one seed; nothing where sums are of floats at this level.
fn lost(sizes: Sizes, seed: u64, degree: usize, level: Level) -> Option<[f64; 2]> {
    let (n, d) = (6000, 5);
    let rng = &mut Rng::new(seed);
    let [mut A1, A2, A3, E] = [(); 4].map(|()| uniform(rng, n, d));
    A1.rows_mut().into_iter().enumerate().for_each(|(row, mut numbers)| numbers *= factor(sizes, row));
    let unit = Array2::eye(d);
    let weights = Weights::Product(unit.view());
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), weights, unit.view(), E.view()).expect("shapes fit");
    let problem = Problem { scale: 0.5 / d as f64, ..problem };
    let options = Options { level: Some(level), ..Options::default() };
    let coefficients = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0][..=degree].to_vec();
    let approximation = Approximation { coefficients, integers: true, exact_keys: vec![] };
    let mut moments = Polynomial::fit(&problem, &approximation, &options, None).expect("a small problem");
    let mut of = |integers: bool| {
        moments.integers = integers;
        let besides = Besides { seed: Some(seed ^ 0x5EED), ..Besides::default() };
        let found = moments.fitted_gradient(&problem, &[Wrt::X], besides, &options, None);
        let mut found = found.expect("a small problem");
        (found.gradients.remove(0).1, found.lost)
    };
    let ((integers, estimate), (floats, none)) = (of(true), of(false));
    assert_eq!(none, 0.0);
    let square = Zip::from(&integers).and(&floats).fold(0.0, |sum, a, b| sum + f64::from(a - b).powi(2));
    (estimate > 0.0).then_some([square.sqrt(), estimate])
}

#[test]
fn the_estimate_is_above_what_is_lost_and_not_far_above() {
    for level in Level::available() {
        for sizes in [Sizes::Alike, Sizes::Blocks, Sizes::Rows] {
            for degree in [2, 3] {
                let found: Vec<_> = (0..6).filter_map(|seed| lost(sizes, seed, degree, level)).collect();
                // Where all draws are of one block, sums are of floats after all, as they are without wide registers.
                assert!(found.len() >= if level == Level::Baseline { 0 } else { 4 }, "{level} {}", found.len());
                let mut ratios = 0.0;
                for [truth, estimate] in &found {
                    assert!(truth <= estimate, "{level} {sizes:?} {degree}: {truth:e} {estimate:e}");
                    ratios += estimate / truth / found.len() as f64;
                }
                assert!(ratios <= MOST, "{level} {sizes:?} {degree}: {ratios}");
            }
        }
    }
}
