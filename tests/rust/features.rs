//! Features against the polynomial of the logits entry by entry, errors and bounds against all pairs.

use std::num::NonZeroUsize;

use attngrad::features::{Balance, ExpFeatures, FeatureOptions, feature_count};
use attngrad::polynomial::{Interval, Kind, Polynomial};
use attngrad::{Error, Float, Options};
use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::data::Rng;

/// Roundings that line up, of those that a feature and its coordinates make: a few of the many.
const SLACK: f64 = 2.0;

/// Upper limit of the error of a mean, relative to the size of the data: it is cut to single precision.
const MEAN: f64 = 1.0 / (1 << 20) as f64;

/// Second moments of both sides are widened by 1e-6 of their mean.
const BALANCED: f64 = 1e-4;

/// Queries and keys with means that are not zero and directions of different size.
pub fn data<T: Float>(seed: u64, [n, m, d]: [usize; 3], spread: f64) -> (Array2<T>, Array2<T>) {
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

pub fn fit<T: Float>(q: &Array2<T>, k: &Array2<T>, options: &FeatureOptions) -> Result<ExpFeatures, Error> {
    ExpFeatures::fit(q.view(), k.view(), options, &Options::default(), None)
}

pub fn transforms<T: Float>(features: &ExpFeatures, q: &Array2<T>, k: &Array2<T>) -> (Array2<T>, Array2<T>) {
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

/// Eq. (10.7) from its definition, over all pairs.
pub fn dense_error(product: ArrayView2<'_, f64>, logits: ArrayView2<'_, f64>) -> f64 {
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

pub fn logits<T: Float>(q: &Array2<T>, k: &Array2<T>, scale: f64) -> Array2<f64> {
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
        // Eq. (10.3): ⟨q′, G⟩ has the gradient G with respect to q′.
        let G = Rng::new(9).matrix::<f64>(400, d);
        let mut step = q.clone();
        step[(7, 0)] += 1e-3;
        let moved = balance.queries(step.view(), &options).expect("rows as fitted") - &new_q;
        let slope = (&moved * &G).sum() / 1e-3;
        assert!((slope - balance.query_gradient(G.view())[(7, 0)]).abs() <= 1e-8 * slope.abs().max(1.0));
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
