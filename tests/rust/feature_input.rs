//! Features of unusual and of bad input.

use std::time::Duration;

use attngrad::features::{ExpFeatures, FeatureOptions, IndexSet};
use attngrad::polynomial::Kind;
use attngrad::{Error, Options};
use ndarray::{Array2, ArrayView2, array, s};

use crate::features::{data, dense_error, fit, logits, transforms};

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
        (FeatureOptions { degree: Some(31), ..default }, "degree: found 31; expected 0 to 30"),
        (
            FeatureOptions { degree: Some(8), max_features: 100, ..default },
            "degree: found 8, which has 165 features at width 3",
        ),
        (FeatureOptions { max_features: 0, ..default }, "max_features: found 0; expected 1 or more"),
        (FeatureOptions { rtol: Some(-0.1), ..default }, "rtol: found -0.1"),
        (FeatureOptions { rtol: Some(f64::NAN), ..default }, "rtol: found NaN"),
        (FeatureOptions { scale: Some(f64::INFINITY), ..default }, "scale: found inf"),
        (FeatureOptions { degree: Some(2), rtol: Some(1e-9), ..default }, "rtol: found 1e-9, where degree 2"),
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
        let wanted = format!("key: found {found} at row 1, column 2; expected finite numbers");
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
