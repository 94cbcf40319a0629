//! Features against the polynomial of the logits entry by entry, index sets against all multi-indices, errors and
//! bounds against all pairs.

use std::num::NonZeroUsize;
use std::time::Duration;

use attngrad::features::{Balance, ExpFeatures, FeatureOptions, IndexSet, feature_count};
use attngrad::polynomial::{Interval, Kind, Polynomial};
use attngrad::{Error, Float, Options};
use ndarray::{Array1, Array2, ArrayView2, Axis, array, s};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use crate::data::Rng;

/// Roundings that line up, of those that a feature and its coordinates make: a few of the many.
const SLACK: f64 = 2.0;

/// What a mean may be off by, in the size of the data: it is cut to single precision.
const MEAN: f64 = 1.0 / (1 << 20) as f64;

/// Second moments of both sides are widened by 1e-6 of their mean.
const BALANCED: f64 = 1e-4;

/// Contributions are multiples of 2^-30, and a level a few of them.
const LEVEL: f64 = 1e-7;

/// Queries and keys with means that are not zero and directions of different size.
fn data<T: Float>(seed: u64, [n, m, d]: [usize; 3], spread: f64) -> (Array2<T>, Array2<T>) {
    let mut rng = Rng::new(seed);
    let sizes: Vec<f64> = (0..d).map(|_| spread * (0.6 + 0.4 * rng.uniform())).collect();
    let mut side = |rows: usize, sizes: Vec<f64>| {
        let mean: Vec<f64> = (0..d).map(|_| rng.uniform()).collect();
        Array2::from_shape_fn((rows, d), |(_, i)| T::narrow(1.7 * rng.uniform() * sizes[i] + mean[i]))
    };
    let q = side(n, sizes.clone());
    (q, side(m, sizes.into_iter().rev().collect()))
}

fn wide<T: Float>(array: &Array2<T>) -> Array2<f64> {
    array.mapv(T::widen)
}

fn fit<T: Float>(q: &Array2<T>, k: &Array2<T>, options: &FeatureOptions) -> Result<ExpFeatures, Error> {
    ExpFeatures::fit(q.view(), k.view(), options, &Options::default(), None)
}

fn transforms<T: Float>(features: &ExpFeatures, q: &Array2<T>, k: &Array2<T>) -> (Array2<T>, Array2<T>) {
    let options = Options::default();
    let U = features.transform_query(q.view(), &options, None).expect("rows as fitted");
    (U, features.transform_key(k.view(), &options, None).expect("rows as fitted"))
}

/// Asserts U Vᵀ = P(t) e^(s⟨q, b⟩) e^(s⟨a, k − b⟩), entry by entry.
fn check_map<T: Float>(q: &Array2<T>, k: &Array2<T>, options: &FeatureOptions, what: &str) {
    let features = fit(q, k, options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (U, V) = transforms(&features, q, k);
    assert_eq!((U.dim(), V.dim()), ((q.nrows(), features.count()), (k.nrows(), features.count())));
    assert_eq!(Some(features.count()), feature_count(q.ncols(), features.degree()));
    let Balance { query_mean: a, key_mean: b, query_map, key_map, .. } = features.balance();
    let (q, k, s) = (wide(q), wide(k), features.scale());
    for (mean, rows) in [(a, &q), (b, &k)] {
        let size = rows.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        let true_mean = rows.mean_axis(Axis(0)).expect("some rows");
        assert!((mean - true_mean).iter().all(|x| x.abs() <= MEAN * size), "{what}: {mean}");
    }
    let (q0, k0) = (&q - a, &k - b);
    let t = s * q0.dot(&k0.t());
    let (rows, columns) = ((s * q.dot(b)).mapv(f64::exp), (s * k0.dot(a)).mapv(f64::exp));
    // Sizes of the terms that the coordinates and their product are sums of.
    let absolute = |x: &Array2<f64>| x.mapv(f64::abs);
    let terms = absolute(&q0).dot(&absolute(query_map)).dot(&absolute(&k0).dot(&absolute(key_map)).t());
    let product = wide(&U).dot(&wide(&V).t());
    let P = features.coefficients();
    let value = |x: f64| P.iter().rev().fold(0.0, |sum, p| sum * x + p);
    let size = |x: f64| P.iter().rev().fold(0.0, |sum, p| sum * x + p.abs());
    let roundings = (3 * features.degree() + 2 * q.ncols() * features.degree() + 8) as f64;
    // A map is rounded, an inner product is not what it was: 1e-12 covers the maps' own error in double precision.
    let bar = SLACK * roundings * T::UNIT_ROUNDOFF + 1e-12;
    for ((j, i), &got) in product.indexed_iter() {
        let factor = rows[j] * columns[i];
        let (want, bar) = (value(t[(j, i)]) * factor, bar * size(terms[(j, i)]) * factor);
        assert!((got - want).abs() <= bar, "{what}: {got:e} {want:e} ± {bar:e} at {j}, {i}");
    }
}

#[test]
fn inner_products_of_features_are_the_polynomial() {
    for d in 1..=8 {
        for degree in 0..=6 {
            for kind in Kind::ALL {
                for scale in [-0.4, 0.3] {
                    let options =
                        FeatureOptions { degree: Some(degree), kind, scale: Some(scale), ..FeatureOptions::default() };
                    let what = format!("d {d}, degree {degree}, {}, scale {scale}", kind.name());
                    let seed = (d * 7 + degree) as u64;
                    let (q, k) = data::<f32>(seed, [19, 33, d], 0.8);
                    check_map(&q, &k, &options, &format!("{what}, f32"));
                    let (q, k) = data::<f64>(seed, [19, 33, d], 0.8);
                    check_map(&q, &k, &options, &format!("{what}, f64"));
                }
            }
        }
    }
}

#[test]
fn more_coordinates_than_are_balanced_together() {
    let options = FeatureOptions { degree: Some(1), ..FeatureOptions::default() };
    let (q, k) = data::<f64>(3, [40, 30, 300], 0.3);
    check_map(&q, &k, &options, "300 coordinates");
    let features = fit(&q, &k, &options).expect("few features");
    let moments = features.balance().spectrum.to_vec();
    assert!(moments.windows(2).all(|two| two[0] >= two[1]) && moments[299] > 0.0);
}

#[test]
fn kinds_are_those_of_the_interval() {
    let (q, k) = data::<f64>(1, [30, 20, 3], 0.7);
    for kind in [Kind::Taylor, Kind::Chebyshev, Kind::Minimax, Kind::MinimaxRelative] {
        let options = FeatureOptions { degree: Some(3), kind, ..FeatureOptions::default() };
        let features = fit(&q, &k, &options).expect("few features");
        let (low, high) = features.interval();
        let same = Polynomial::new(kind, 3, Interval::new(low, high).expect("a small one")).expect("a small degree");
        assert_eq!(features.polynomial(), &same);
    }
}

/// Eq. (106) from its definition, over all pairs.
fn dense_error(product: ArrayView2<'_, f64>, logits: ArrayView2<'_, f64>) -> f64 {
    let mut sum = 0.0;
    for (product, logits) in product.rows().into_iter().zip(logits.rows()) {
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let u: Array1<f64> = logits.mapv(|t| (t - largest).exp());
        let alpha = u.sum();
        let terms = product.iter().zip(&logits).zip(&u);
        sum += terms.map(|((value, t), u)| u / alpha * (value / t.exp() - 1.0).powi(2)).sum::<f64>();
    }
    (sum / product.nrows() as f64).sqrt()
}

fn logits<T: Float>(q: &Array2<T>, k: &Array2<T>, scale: f64) -> Array2<f64> {
    scale * wide(q).dot(&wide(k).t())
}

#[test]
fn error_and_bound_are_those_of_the_data() {
    for seed in 0..20 {
        for kind in Kind::ALL {
            for degree in 1..=4 {
                let scale = if seed % 2 == 0 { 0.5 } else { -0.5 };
                let (q, k) = data::<f64>(seed, [25, 14, 3], 0.8);
                let options = FeatureOptions { degree: Some(degree), kind, scale: Some(scale), ..Default::default() };
                let features = fit(&q, &k, &options).expect("few features");
                let (U, V) = transforms(&features, &q, &k);
                let (product, logits) = (U.dot(&V.t()), logits(&q, &k, scale));
                let error = dense_error(product.view(), logits.view());
                let what = format!("seed {seed}, {}, degree {degree}", kind.name());
                assert!(
                    (error - features.error()).abs() <= 1e-6 * error + 1e-12,
                    "{what}: {error} {}",
                    features.error()
                );
                let ratios = product.iter().zip(&logits).map(|(value, t)| (value / t.exp() - 1.0).abs());
                let worst = ratios.fold(0.0, f64::max);
                assert!(worst <= features.bound() * (1.0 + 1e-9), "{what}: {worst} {}", features.bound());
                // From the other side: no more than P misses somewhere on the interval.
                let (low, high) = features.interval();
                let at = |i: usize| low + (high - low) * i as f64 / 4000.0;
                let missed = |t: f64| (features.polynomial().eval(t) * (-t).exp() - 1.0).abs();
                let largest = (0..=4000).map(|i| missed(at(i))).fold(0.0, f64::max);
                assert!(features.bound() <= 1.01 * largest + 1e-9, "{what}: {} {largest}", features.bound());
                let centred = (&q - &features.balance().query_mean).dot(&(&k - &features.balance().key_mean).t());
                assert!(centred.iter().all(|t| low <= scale * t && scale * t <= high), "{what}: {low} {high}");
            }
        }
    }
}

fn meets<T: Float>(rtol: f64, kind: Kind, anisotropic: bool) {
    let (q, k) = data::<T>(3, [700, 600, 4], 1.1);
    let scale = Some(0.4);
    let options = FeatureOptions { rtol: Some(rtol), scale, kind, anisotropic, ..FeatureOptions::default() };
    let what = format!("{rtol}, {}, {anisotropic}, {}", kind.name(), T::NAME);
    let features = fit(&q, &k, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (U, V) = transforms(&features, &q, &k);
    let error = dense_error(wide(&U).dot(&wide(&V).t()).view(), logits(&q, &k, 0.4).view());
    assert!(error <= rtol, "{what}: {error}");
    // The smallest degree that does it: one less does not.
    if let (Some(less), false) = (features.degree().checked_sub(1), anisotropic) {
        let lower = FeatureOptions { degree: Some(less), scale, kind, ..FeatureOptions::default() };
        assert!(fit(&q, &k, &lower).expect("few features").error() > rtol / 1.25, "{what}");
    }
}

#[test]
fn the_tolerance_is_met_on_all_pairs_by_the_smallest_degree() {
    for kind in Kind::ALL {
        for rtol in [0.3, 1e-2, 1e-3] {
            for anisotropic in [false, true] {
                meets::<f32>(rtol, kind, anisotropic);
                meets::<f64>(rtol, kind, anisotropic);
            }
        }
    }
}

#[test]
fn a_tolerance_out_of_reach_says_what_is_not() {
    let (q, k) = data::<f64>(0, [400, 300, 4], 1.0);
    let sizes = [
        FeatureOptions { degree: Some(2), ..FeatureOptions::default() },
        FeatureOptions { max_features: 60, ..FeatureOptions::default() },
        FeatureOptions { max_features: 40, anisotropic: true, ..FeatureOptions::default() },
    ];
    for size in sizes {
        match fit(&q, &k, &FeatureOptions { rtol: Some(1e-9), ..size }) {
            Err(Error::Unreached { best, .. }) => {
                fit(&q, &k, &FeatureOptions { rtol: Some(1.01 * best), ..size }).expect("what would have done");
                assert!(fit(&q, &k, &FeatureOptions { rtol: Some(0.9 * best), ..size }).is_err());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn one_degree_is_worth_a_factor() {
    let mut rng = Rng::new(5);
    let (q, k) = (rng.matrix::<f64>(600, 16), rng.matrix::<f64>(600, 16));
    for (degree, bar) in [(1, 6e-3), (2, 3e-4), (3, 1.3e-5)] {
        let options = FeatureOptions { degree: Some(degree), scale: Some(1.0 / 16.0), ..FeatureOptions::default() };
        let features = fit(&q, &k, &options).expect("few features");
        assert!(bar / 3.0 <= features.error() && features.error() <= bar, "{degree}: {}", features.error());
        assert!(features.error() <= features.bound());
    }
}

#[test]
fn an_outlier_is_not_missed() {
    let (q, mut k) = data::<f64>(5, [2000, 2000, 3], 0.2);
    k.row_mut(1234).fill(25.0);
    let features = fit(&q, &k, &FeatureOptions { degree: Some(3), scale: Some(0.3), ..Default::default() });
    let features = features.expect("few features");
    let (U, V) = transforms(&features, &q, &k);
    let error = dense_error(U.dot(&V.t()).view(), logits(&q, &k, 0.3).view());
    assert!((features.error() - error).abs() <= 0.2 * error, "{} {error}", features.error());
}

#[test]
fn anisotropic_sets_need_fewer_features() {
    let mut rng = Rng::new(8);
    let sizes = Array1::from_shape_fn(12, |i| 0.5f64.powi(i as i32));
    let (q, k) = (1.7 * rng.matrix::<f64>(500, 12) * &sizes, 1.7 * rng.matrix::<f64>(500, 12) * &sizes);
    let whole = FeatureOptions { rtol: Some(1e-2), scale: Some(0.5), ..FeatureOptions::default() };
    let all = fit(&q, &k, &whole).expect("few features");
    let chosen = fit(&q, &k, &FeatureOptions { anisotropic: true, ..whole }).expect("few features");
    assert!(4 * chosen.count() < all.count(), "{} {}", chosen.count(), all.count());
    assert_eq!(chosen.bound(), f64::INFINITY);
    let (U, V) = transforms(&chosen, &q, &k);
    assert!(dense_error(U.dot(&V.t()).view(), logits(&q, &k, 0.5).view()) <= 1e-2);
}

#[test]
fn balanced_sides_are_alike() {
    for (d, scale, center) in [(1, 0.5, true), (3, -2.0, false), (5, 1.0, true), (8, 0.1, false)] {
        let (q, k) = data::<f64>(d as u64, [400, 300, d], 3.0);
        let options = Options::default();
        let balance = Balance::new(q.view(), k.view(), scale, center, &options, None).expect("regular rows");
        let (new_q, new_k) = (balance.queries(q.view(), &options), balance.keys(k.view(), &options));
        let (new_q, new_k) = (new_q.expect("rows as fitted"), new_k.expect("rows as fitted"));
        let spectrum = Array2::from_diag(&balance.spectrum);
        for rows in [&new_q, &new_k] {
            let moment = rows.t().dot(rows) / rows.nrows() as f64;
            assert!((moment - &spectrum).iter().all(|x| x.abs() <= BALANCED * balance.spectrum[0]));
        }
        assert_eq!(balance.query_mean.iter().all(|x| *x == 0.0), !center);
        let t = scale * (&q - &balance.query_mean).dot(&(&k - &balance.key_mean).t());
        let size = t.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        assert!((balance.sign() * new_q.dot(&new_k.t()) - t).iter().all(|x| x.abs() <= 1e-10 * size));
        // Eq. (102): ⟨q′, G⟩ has the gradient G with respect to q′.
        let G = Rng::new(9).matrix::<f64>(400, d);
        let mut step = q.clone();
        step[(7, 0)] += 1e-3;
        let moved = balance.queries(step.view(), &options).expect("rows as fitted") - &new_q;
        let slope = (&moved * &G).sum() / 1e-3;
        assert!((slope - balance.query_gradient(G.view())[(7, 0)]).abs() <= 1e-8 * slope.abs().max(1.0));
    }
}

fn everything(dimension: usize, degree: u32) -> Vec<Vec<u32>> {
    let mut all: Vec<Vec<u32>> = vec![vec![]];
    for _ in 0..dimension {
        let longer = |beta: Vec<u32>| (0..=degree).map(move |power| [&beta[..], &[power]].concat());
        all = all.into_iter().flat_map(longer).filter(|beta| beta.iter().sum::<u32>() <= degree).collect();
    }
    all
}

/// No member twice, parents first, and with each β everything below it.
fn check_well_formed(set: &IndexSet) -> Vec<Vec<u32>> {
    let exponents = set.exponents().expect("a small set");
    let members: Vec<Vec<u32>> = exponents.rows().into_iter().map(|beta| beta.to_vec()).collect();
    let mut sorted = members.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), set.count());
    for (index, (beta, &(parent, last))) in members.iter().zip(set.steps()).enumerate() {
        let grade: u32 = beta.iter().sum();
        assert!(set.grade(grade as usize).contains(&index));
        let factorial = |n: u32| (1..=u128::from(n)).product::<u128>();
        let exact = factorial(grade) / beta.iter().map(|&power| factorial(power)).product::<u128>();
        assert_eq!(set.multinomials()[index], exact as f64);
        if index > 0 {
            let mut above = members[parent as usize].clone();
            above[last as usize] += 1;
            assert!((parent as usize) < index);
            assert_eq!(&above, beta);
        }
        for coordinate in (0..beta.len()).filter(|&i| beta[i] > 0) {
            let mut below = beta.clone();
            below[coordinate] -= 1;
            assert!(sorted.binary_search(&below).is_ok());
        }
    }
    members
}

#[test]
fn total_degree_is_complete() {
    for dimension in 0..=8 {
        for degree in 0..=6 {
            let set = IndexSet::total_degree(dimension, degree).expect("a small set");
            let mut members = check_well_formed(&set);
            members.sort();
            let mut all = everything(dimension, degree as u32);
            all.sort();
            assert_eq!(members, all);
            assert_eq!(feature_count(dimension, degree), Some(all.len()));
        }
    }
    // 30!/(10!)³ has 43 bits, and 30! on the way 108.
    check_well_formed(&IndexSet::total_degree(3, 30).expect("5456 members"));
    assert_eq!(feature_count(1 << 40, 9), None);
    assert_eq!(feature_count(0, usize::MAX), Some(1));
}

/// ln of eq. (105) with the envelope that makes it fall, from its definition.
fn contribution(beta: &[u32], spectrum: &[f64], degree: u32) -> f64 {
    let phi = |power: u32, variance: f64| {
        let odd: f64 = (1..=power).map(|k| f64::from(2 * k - 1).ln()).sum();
        let factorial: f64 = (1..=power).map(|k| f64::from(k).ln()).sum();
        odd - factorial + f64::from(power) * variance.ln()
    };
    let of = |(&power, &variance): (&u32, &f64)| {
        let above = |least: u32| (least..=degree).map(|b| phi(b, variance)).fold(f64::NEG_INFINITY, f64::max);
        above(power) - above(0)
    };
    beta.iter().zip(spectrum).map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: RngSeed::Fixed(16), ..ProptestConfig::default() })]

    #[test]
    fn anisotropic_sets_are_the_largest_levels_that_fit(
        spectrum in prop::collection::vec(1e-6f64..0.4, 1..5),
        twins in any::<bool>(),
        degree in select(vec![0u32, 1, 3, 5]),
        most in 1usize..90,
    ) {
        let mut spectrum = spectrum;
        if twins && spectrum.len() > 1 {
            spectrum[1] = spectrum[0];
        }
        let set = IndexSet::anisotropic(&spectrum, degree as usize, most).expect("a small set");
        prop_assert!(set.count() <= most);
        let members = check_well_formed(&set);
        let of = |beta: &Vec<u32>| contribution(beta, &spectrum, degree);
        let least = members.iter().map(of).fold(f64::INFINITY, f64::min);
        let everything = everything(spectrum.len(), degree);
        let others: Vec<f64> = everything.iter().filter(|beta| !members.contains(beta)).map(of).collect();
        let next = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A level set: what is left out contributes less than what is in, and the next level does not fit.
        prop_assert!(next <= least + LEVEL, "{next} {least}");
        let level = others.iter().filter(|&&value| value >= next - LEVEL).count();
        prop_assert!(others.is_empty() || set.count() + level > most, "{} {level} {most}", set.count());
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    fn check<T: Float>() {
        let (q, k) = data::<T>(4, [3001, 2500, 5], 0.8);
        for options in [
            FeatureOptions { rtol: Some(1e-3), ..FeatureOptions::default() },
            FeatureOptions { degree: Some(3), anisotropic: true, max_features: 30, ..FeatureOptions::default() },
        ] {
            let run = |threads: usize| {
                let threads = Options { threads: NonZeroUsize::new(threads), ..Options::default() };
                let features = ExpFeatures::fit(q.view(), k.view(), &options, &threads, None).expect("few features");
                let U = features.transform_query(q.view(), &threads, None).expect("rows as fitted");
                (U, features.transform_key(k.view(), &threads, None).expect("rows as fitted"), features)
            };
            let one = run(1);
            for threads in [2, 3, 8] {
                assert_eq!(run(threads), one);
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn layout_does_not_matter() {
    let (q, k) = data::<f32>(6, [40, 30, 3], 0.8);
    let options = FeatureOptions { degree: Some(3), ..FeatureOptions::default() };
    let features = fit(&q, &k, &options).expect("few features");
    let mut spread = Array2::from_elem((80, 6), f32::NAN);
    spread.slice_mut(s![..;2, ..;2]).assign(&q);
    let (strided, turned) = (spread.slice(s![..;2, ..;2]), k.t().as_standard_layout().to_owned());
    let other = ExpFeatures::fit(strided, turned.t(), &options, &Options::default(), None).expect("few features");
    assert_eq!(other, features);
    let U = other.transform_query(strided, &Options::default(), None).expect("rows as fitted");
    assert_eq!(U, transforms(&features, &q, &k).0);
}

#[test]
fn edges() {
    let (q, k) = data::<f64>(2, [6, 5, 3], 0.8);
    let cases = [
        ("single row", q.slice(s![..1, ..]).to_owned(), k.slice(s![..1, ..]).to_owned()),
        ("single key", q.clone(), k.slice(s![..1, ..]).to_owned()),
        ("equal keys", q.clone(), Array2::from_elem((5, 3), 0.7)),
        ("zeros", 0.0 * &q, 0.0 * &k),
        ("one zero side", q.clone(), 0.0 * &k),
        ("width 0", q.slice(s![.., ..0]).to_owned(), k.slice(s![.., ..0]).to_owned()),
        ("flat direction", &q * &array![1.0, 0.0, 1.0], &k * &array![1.0, 1.0, 0.0]),
        ("no queries", q.slice(s![..0, ..]).to_owned(), k.clone()),
        ("no keys", q.clone(), k.slice(s![..0, ..]).to_owned()),
        ("nothing", q.slice(s![..0, ..]).to_owned(), k.slice(s![..0, ..]).to_owned()),
        ("huge and tiny", 1e200 * &q, 1e-200 * &k),
        ("equal keys, many", Array2::from_shape_fn((360, 3), |(j, i)| q[(j % 6, i)]), Array2::from_elem((400, 3), 0.7)),
    ];
    for (title, q, k) in cases {
        for kind in Kind::ALL {
            for (degree, rtol, anisotropic) in
                [(Some(0), None, false), (Some(3), None, false), (None, Some(1e-6), false), (None, Some(1e-3), true)]
            {
                let options =
                    FeatureOptions { degree, rtol, anisotropic, kind, scale: Some(0.3), ..FeatureOptions::default() };
                let features = fit(&q, &k, &options).unwrap_or_else(|error| panic!("{title}, {options:?}: {error}"));
                let (U, V) = transforms(&features, &q, &k);
                assert_eq!((U.nrows(), V.nrows()), (q.nrows(), k.nrows()));
                if q.nrows() > 0 && k.nrows() > 0 {
                    let error = dense_error(U.dot(&V.t()).view(), logits(&q, &k, 0.3).view());
                    let bar = rtol.unwrap_or(features.error() + 1e-9);
                    assert!(error <= bar, "{title}, {options:?}: {error} {bar}");
                }
            }
        }
    }
}

/// The message of an error.
fn refused<S: std::fmt::Debug>(result: Result<S, Error>) -> String {
    result.expect_err("bad input").to_string()
}

#[test]
fn bad_input_has_one_clear_error() {
    let (q, k) = data::<f64>(0, [6, 5, 3], 0.8);
    let default = FeatureOptions::default();
    let cases = [
        (FeatureOptions { degree: Some(31), ..default }, "degree: found 31; wanted 0 to 30"),
        (
            FeatureOptions { degree: Some(8), max_features: 100, ..default },
            "degree: found 8, which has 165 features at width 3",
        ),
        (FeatureOptions { max_features: 0, ..default }, "max_features: found 0; wanted 1 or more"),
        (FeatureOptions { rtol: Some(-0.1), ..default }, "rtol: found -0.1"),
        (FeatureOptions { rtol: Some(f64::NAN), ..default }, "rtol: found NaN"),
        (FeatureOptions { scale: Some(f64::INFINITY), ..default }, "scale: found inf"),
        (FeatureOptions { degree: Some(2), rtol: Some(1e-9), ..default }, "rtol: found 0.000000001, where degree 2"),
    ];
    for (options, wanted) in cases {
        let message = refused(fit(&q, &k, &options));
        assert!(message.starts_with(wanted), "{message}");
    }
    let message = refused(fit(&q, &k.slice(s![.., ..2]).to_owned(), &default));
    assert_eq!(message, "key: found shape [5, 2]; query has 3 columns, so key needs 3 columns");
    for (bad, found) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (f64::NEG_INFINITY, "-inf")] {
        let mut spoilt = k.clone();
        spoilt[(1, 2)] = bad;
        let wanted = format!("key: found {found} at row 1, column 2; wanted finite numbers");
        for degree in [0, 3] {
            let options = FeatureOptions { degree: Some(degree), ..default };
            assert_eq!(refused(fit(&q, &spoilt, &options)), wanted);
            let features = fit(&q, &k, &options).expect("few features");
            assert_eq!(refused(features.transform_key(spoilt.view(), &Options::default(), None)), wanted);
        }
    }
    let message = refused(fit(&(1e200 * &q), &(1e200 * &k), &default));
    assert!(message.starts_with("the logits of query and key exceeds the range of float64"), "{message}");
    let message = refused(fit(&(100.0 * &q), &(100.0 * &k), &default));
    assert!(message.contains("a centred logit of query and key"), "{message}");
    let features = fit(&q, &k, &default).expect("few features");
    let options = Options::default();
    let message = refused(features.transform_query(q.slice(s![.., ..2]), &options, None));
    assert_eq!(message, "query: found shape [6, 2]; 3 columns are wanted, as in what was fitted");
    let message = refused(features.transform_query((1e200 * &q).view(), &options, None));
    assert!(message.starts_with("query: found rows far from what was fitted"), "{message}");
    // Each of a terabyte of rows is the same one.
    let absurd = ArrayView2::from_shape((1, 3), &[0.5f64; 3]).expect("one row");
    let absurd = absurd.broadcast((1 << 40, 3)).expect("rows alike");
    assert!(matches!(features.transform_query(absurd, &options, None), Err(Error::OutOfMemory { .. })));
    assert!(refused(IndexSet::anisotropic(&[0.5, 0.1], 3, 0)).contains("an empty set"));
    assert!(refused(IndexSet::anisotropic(&[0.5, f64::NAN], 3, 4)).contains("spectrum: found NaN"));
    assert!(refused(IndexSet::total_degree(128, 9)).contains("monomials of 128 coordinates"));
}

#[test]
fn a_fit_stops_when_it_is_told_to() {
    let (q, k) = data::<f64>(0, [600, 500, 3], 0.8);
    let stop =
        ExpFeatures::fit(q.view(), k.view(), &FeatureOptions::default(), &Options::default(), Some(&mut |_| false));
    assert_eq!(stop, Err(Error::Cancelled));
    let late = Options { timeout: Some(Duration::ZERO), ..Options::default() };
    let late = ExpFeatures::fit(q.view(), k.view(), &FeatureOptions::default(), &late, None);
    assert_eq!(late, Err(Error::Deadline(Duration::ZERO)));
}
