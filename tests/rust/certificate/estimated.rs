//! The estimated bounds cover the error in 99 of 100 samples of every family, and are near it.

use attngrad::certificate::estimated::{Correction, Drawing, TokenError};
use attngrad::rng;
use ndarray::Array2;

use super::populations::{Family, Population, Sizes};
use super::{median, normal};
use crate::data::Rng;

/// Samples of each family, and misses that are allowed: one in a hundred.
const RUNS: u64 = 2000;
/// Samples of each population.
const SAMPLES: u64 = 40;
const ALLOWED: usize = 20;
/// Median of bound / error of a corrected gradient from many rows. An error in one direction is a normal number, whose
/// median is 0.67: 3.58 / 0.67 is the least there.
const USEFUL: f64 = 3.2;
const USEFUL_IN_ONE_DIRECTION: f64 = 5.5;
/// Factor φ of equation 9.61 for a hundred rows, which is in every bound.
const HUNDRED_ROWS: f64 = 1.054;
/// Fewer rows than this know too little of their own spread for that.
const ENOUGH_ROWS: usize = 100;

/// Errors and bounds of one sample: of the corrected sum, of the shrunk one, of the uncorrected one.
fn run(population: &Population, count: usize, seed: u64) -> [(f64, f64); 3] {
    let n = population.left.nrows();
    let rows = rng::without_replacement(&mut rng::Rng::new(seed), n, count).expect("memory for the rows");
    let (left, right) = population.rows(&rows);
    let drawing = Drawing::Uniform { population: n };
    let correction = Correction::new(&[(left.view(), right.view())], drawing).expect("factors that fit");
    let shrunk = &correction.value * correction.shrinkage;
    let nothing = Array2::zeros(population.sum.dim());
    [
        (population.error(correction.value.view()), correction.corrected()),
        (population.error(shrunk.view()), correction.shrunk()),
        (population.error(nothing.view()), correction.uncorrected()),
    ]
}

/// Families by the width of their factors, and whether nearly all of the error is in one direction.
const FAMILIES: [(Family, usize, bool); 11] = [
    (Family::Uniform, 3, false),
    (Family::Normal, 1, true),
    (Family::Normal, 2, false),
    (Family::Normal, 5, false),
    (Family::Coherent, 1, true),
    (Family::Coherent, 3, false),
    (Family::Dominant, 3, true),
    (Family::DominantCoherent, 3, false),
    (Family::Faint, 2, false),
    (Family::Faint, 5, false),
    (Family::DominantFaint, 2, true),
];

fn count_misses(n: usize, count: usize) {
    for (family, width, one_direction) in FAMILIES {
        let (mut missed, mut ratios) = ([0; 3], [vec![], vec![], vec![]]);
        let mut population = Population::new(family, n, width, RUNS);
        for seed in 0..RUNS {
            if seed % SAMPLES == 0 {
                population = Population::new(family, n, width, seed);
            }
            for (kind, (error, bound)) in run(&population, count, seed).into_iter().enumerate() {
                assert!(!error.is_nan() && !bound.is_nan(), "{family:?}: not a number");
                missed[kind] += usize::from(error > bound);
                ratios[kind].push(bound / error);
            }
        }
        let medians = ratios.map(median);
        let all =
            format!("{family:?}, width {width}, {count} of {n}: missed {missed:?}, median bound / error {medians:.2?}");
        assert!(missed.iter().all(|&missed| missed <= ALLOWED), "{all}");
        let limit = if one_direction { USEFUL_IN_ONE_DIRECTION } else { USEFUL };
        assert!(medians[0] >= 1.0 && (count < ENOUGH_ROWS || medians[0] <= HUNDRED_ROWS * limit), "{all}");
    }
}

#[test]
fn misses_are_counted() {
    count_misses(500, 100);
}

#[test]
fn misses_are_counted_where_most_rows_are_drawn() {
    count_misses(150, 100);
}

#[test]
fn misses_are_counted_where_few_rows_are_drawn() {
    count_misses(300, 8);
}

#[test]
fn a_coherent_error_is_taken_away() {
    for seed in 0..20 {
        let population = Population::new(Family::Coherent, 2000, 4, seed);
        let [(corrected, bound), (shrunk, _), (uncorrected, _)] = run(&population, 500, seed);
        assert!(
            corrected < 0.2 * uncorrected && shrunk < 0.2 * uncorrected,
            "{corrected} and {shrunk} of {uncorrected}"
        );
        assert!(bound <= 10.0 * corrected, "bound {bound} for an error of {corrected}");
    }
}

#[test]
fn the_correction_is_unbiased_for_both_drawings() {
    let population = Population::new(Family::Coherent, 40, 2, 3);
    let norms: Vec<f64> = (0..40).map(|j| population.norm(j)).collect();
    let total: f64 = norms.iter().sum();
    let (runs, count) = (4000, 10);
    let mut rng = rng::Rng::new(9);
    let mut sums = [Array2::<f64>::zeros((2, 2)), Array2::<f64>::zeros((2, 2))];
    let (mut variances, mut errors) = ([0.0; 2], [0.0; 2]);
    for _ in 0..runs {
        let uniform = rng::without_replacement(&mut rng, 40, count).expect("memory for ten rows");
        let weighted: Vec<usize> = (0..count)
            .map(|_| {
                let mut point = rng.unit() * total;
                norms
                    .iter()
                    .position(|norm| {
                        point -= norm;
                        point < 0.0
                    })
                    .unwrap_or(39)
            })
            .collect();
        let weights: Vec<f64> = weighted.iter().map(|&j| total / (norms[j] * count as f64)).collect();
        let drawings = [(&uniform, Drawing::Uniform { population: 40 }), (&weighted, Drawing::Weighted(&weights))];
        for (kind, (rows, drawing)) in drawings.into_iter().enumerate() {
            let (left, right) = population.rows(rows);
            let correction = Correction::new(&[(left.view(), right.view())], drawing).expect("factors that fit");
            sums[kind] += &correction.value;
            variances[kind] += correction.standard_error.powi(2) / f64::from(runs);
            errors[kind] += population.error(correction.value.view()).powi(2) / f64::from(runs);
        }
    }
    for kind in 0..2 {
        let bias = population.error((&sums[kind] / f64::from(runs)).view());
        // The mean of the runs has 1/√4000 of the spread of one.
        assert!(bias < 4.0 * (errors[kind] / f64::from(runs)).sqrt(), "drawing {kind}: bias {bias}");
        assert!(
            (variances[kind] / errors[kind] - 1.0).abs() < 0.1,
            "drawing {kind}: {} for {}",
            variances[kind],
            errors[kind]
        );
    }
}

#[test]
fn sums_of_products_count_as_one_term() {
    let mut rng = Rng::new(21);
    let mut matrix = |width| Array2::from_shape_simple_fn((30, width), || normal(&mut rng));
    let (a, b, c, d) = (matrix(2), matrix(3), matrix(2), matrix(3));
    let drawing = Drawing::Uniform { population: 90 };
    let both = Correction::new(&[(a.view(), b.view()), (c.view(), d.view())], drawing).expect("factors that fit");
    // The same terms as rows of 6 entries.
    let terms = Array2::from_shape_fn((30, 6), |(t, l)| a[[t, l / 3]] * b[[t, l % 3]] + c[[t, l / 3]] * d[[t, l % 3]]);
    let ones = Array2::ones((30, 1));
    let plain = Correction::new(&[(ones.view(), terms.view())], drawing).expect("factors that fit");
    for (got, want) in [
        (both.norm, plain.norm),
        (both.standard_error, plain.standard_error),
        (both.safety, plain.safety),
        (both.shrinkage, plain.shrinkage),
    ] {
        assert!((got - want).abs() <= 1e-2 * want.abs(), "{got} for {want}");
    }
    assert!((both.standard_error - plain.standard_error).abs() <= 1e-12 * plain.standard_error);
}

#[test]
fn the_concentration_is_that_of_the_covariance() {
    // Terms ±3 e_0 ± 1 e_1 in all four combinations: λ₁ / trace = 9 / 10.
    let terms = ndarray::array![[3.0, 1.0], [3.0, -1.0], [-3.0, 1.0], [-3.0, -1.0]];
    let ones = Array2::ones((4, 1));
    let correction =
        Correction::new(&[(ones.view(), terms.view())], Drawing::Weighted(&[0.25; 4])).expect("factors that fit");
    assert!((correction.concentration - 0.9).abs() < 1e-3 && correction.norm < 1e-15);
    // Σ‖y‖² / (m (m − 1)) = 40 / 12.
    assert!((correction.standard_error - (40.0f64 / 12.0).sqrt()).abs() < 1e-12);
}

#[test]
fn what_is_not_known_is_infinite() {
    let correction = |count: usize, population: usize, entry: f64| {
        let (left, right) = (Array2::from_elem((count, 2), entry), Array2::ones((count, 1)));
        let drawing = Drawing::Uniform { population };
        Correction::new(&[(left.view(), right.view())], drawing).expect("factors that fit")
    };
    // No rows, one row, equal rows, zeros, NaN.
    for (count, entry) in [(0, 1.0), (1, 1.0), (5, 1.0), (5, 0.0), (5, f64::NAN)] {
        let got = correction(count, 10, entry);
        let bounds = [got.standard_error, got.corrected(), got.shrunk(), got.uncorrected()];
        assert_eq!((bounds, got.shrinkage), ([f64::INFINITY; 4], 0.0), "{count} rows of {entry}");
    }
    // Every row: nothing is left to be known.
    for count in [0, 1, 5] {
        let got = correction(count, count, 1.0);
        assert_eq!([got.standard_error, got.corrected(), got.shrunk()], [0.0; 3]);
        assert_eq!(got.uncorrected(), got.norm);
    }
    let (left, right) = (Array2::<f64>::ones((3, 2)), Array2::<f64>::ones((4, 2)));
    for drawing in [Drawing::Uniform { population: 9 }, Drawing::Weighted(&[1.0; 3])] {
        assert!(Correction::new(&[(left.view(), right.view())], drawing).is_err());
    }
    assert!(Correction::new(&[(left.view(), left.view())], Drawing::Uniform { population: 2 }).is_err());
    assert!(Correction::new(&[], Drawing::Uniform { population: 2 }).is_err());
}

#[test]
fn outputs_by_token_are_covered() {
    for width in [1, 4] {
        for (n, count) in [(1000, 128), (300, 200)] {
            let (mut missed, mut ratios) = ([0; 2], vec![]);
            let mut population = Population::new(Family::Normal, n, width, RUNS);
            for seed in 0..RUNS {
                if seed % SAMPLES == 0 {
                    population = Population::new(Family::Normal, n, width, seed);
                }
                let square = |j: usize| population.right.row(j).iter().map(|x| x * x).sum::<f64>();
                let rows = rng::without_replacement(&mut rng::Rng::new(seed), n, count).expect("memory for the rows");
                let squares: Vec<f64> = rows.iter().map(|&j| square(j)).collect();
                let all: f64 = (0..n).map(square).sum();
                let others = all - squares.iter().sum::<f64>();
                let got = TokenError::new(&squares, n);
                missed[0] += usize::from(all.sqrt() > got.approximated());
                missed[1] += usize::from(others.sqrt() > got.replaced());
                ratios.push(got.approximated() / all.sqrt());
            }
            assert!(missed.iter().all(|&missed| missed <= ALLOWED), "width {width}, {count} of {n}: {missed:?} missed");
            let middle = median(ratios);
            assert!(middle < 1.35, "width {width}, {count} of {n}: median bound / error {middle}");
        }
    }
    for squares in [&[][..], &[1.0], &[0.0, 0.0], &[2.0, 2.0], &[f64::NAN, 1.0]] {
        let got = TokenError::new(squares, 9);
        assert_eq!([got.approximated(), got.replaced()], [f64::INFINITY; 2], "{squares:?}");
    }
    let all = TokenError::new(&[9.0, 16.0], 2);
    assert_eq!((all.approximated(), all.replaced()), (5.0, 0.0));
}

#[test]
fn shrinking_spares_an_incoherent_error() {
    let (mut plain, mut shrunk) = (vec![], vec![]);
    for seed in 0..200 {
        let population = Population::new(Family::Normal, 1000, 4, seed / 4);
        let [(corrected, _), (left, _), (uncorrected, _)] = run(&population, 64, seed);
        plain.push(corrected / uncorrected);
        shrunk.push(left / uncorrected);
    }
    let (plain, shrunk) = (median(plain), median(shrunk));
    // √(n / m − 1) = 3.8 without shrinking.
    assert!(plain > 3.0 && shrunk < 1.3, "errors {plain} and {shrunk} of the uncorrected one");
}

#[test]
fn the_square_says_more_than_the_triangle() {
    let (mut bounds, mut triangles) = (vec![], vec![]);
    for seed in 0..20 {
        let population = Population::new(Family::Normal, 2048, 12, seed);
        let rows = rng::without_replacement(&mut rng::Rng::new(seed), 2048, 256).expect("memory for the rows");
        let (left, right) = population.rows(&rows);
        let drawing = Drawing::Uniform { population: 2048 };
        let correction = Correction::new(&[(left.view(), right.view())], drawing).expect("factors that fit");
        let error = population.error(Array2::zeros((12, 12)).view());
        bounds.push(correction.uncorrected() / error);
        triangles.push((correction.norm + correction.corrected()) / error);
    }
    let (bound, triangle) = (median(bounds), median(triangles));
    assert!(bound > 1.0 && bound < 0.55 * triangle, "{bound} for {triangle}");
}

#[test]
fn sums_along_the_direction_of_most_variance_are_covered() {
    let (width, runs) = (64, 200);
    let families = [
        (Sizes::Equal, 1.3),
        (Sizes::LargeInOneDirection, 2.6),
        (Sizes::LogNormal, 2.75),
        (Sizes::Student, 2.0),
        (Sizes::Rare, 2.7),
        (Sizes::RareInOneDirection, 4.1),
    ];
    for (sizes, useful) in families {
        for drawn in [64, 128, 300] {
            let (mut missed, mut bounds) = ([0; 3], vec![]);
            for (part, size) in [0.0, 0.75, 1.25, 2.5].into_iter().enumerate() {
                let mut population = Population::aligned(sizes, (4096, drawn), width, size, 0);
                for seed in 0..runs {
                    if seed % SAMPLES == 0 {
                        population = Population::aligned(sizes, (4096, drawn), width, size, seed);
                    }
                    let pairs = run(&population, drawn, seed + runs * part as u64);
                    for (missed, (error, bound)) in missed.iter_mut().zip(pairs) {
                        *missed += usize::from(error > bound);
                    }
                    if size == 0.0 {
                        bounds.push(pairs[2].1 / population.standard_error(drawn));
                    }
                }
            }
            let bound = median(bounds);
            let all = format!("{sizes:?}, {drawn} rows: missed {missed:?} of {}, bound {bound:.2}", 4 * runs);
            // One in a hundred.
            assert!(missed.iter().all(|&missed| 100 * missed <= 4 * runs as usize), "{all}");
            assert!(drawn < ENOUGH_ROWS || bound <= useful, "{all}");
        }
    }
}
