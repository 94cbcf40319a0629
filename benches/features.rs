//! Features and factors beside the moment form, which makes the same approximation without them.
//!
//! `cargo bench --bench features` measures: each transform, the fit, the factors, their gradient and the moment form's,
//! of one problem of n = 65536, d = 16, degree 2 in single precision; the throughput is in rows.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use std::hint::black_box;
use std::time::Duration;

use attngrad::features::FeatureOptions;
use attngrad::{
    Approximation, ExpFeatures, Options, Problem, Weights, Wrt, factors, polynomial_gradient, row_kronecker,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// Few samples: one takes up to a second.
const SAMPLES: usize = 10;
const TIME: Duration = Duration::from_secs(3);

const N: usize = 1 << 16;
const D: usize = 16;
const DEGREE: usize = 2;

fn features(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("features/float32/degree={DEGREE}"));
    group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(300));
    group.throughput(Throughput::Elements(N as u64));
    // Of squares: sines of multiples would leave all columns in a plane.
    let entry = |k: f64, index: usize| (k * (index as f64).powi(2)).sin() as f32;
    let array = |k: f64| Array2::from_shape_fn((N, D), |(j, i)| entry(k, j * D + i));
    let [A1, A2, A3, E] = [0.7, 0.9, 1.1, 1.3].map(array);
    let weight = Array2::<f32>::eye(D);
    let options = Options::default();
    let wanted = FeatureOptions { degree: Some(DEGREE), scale: Some(1.0 / D as f64), ..FeatureOptions::default() };
    let fit = || ExpFeatures::fit(black_box(A1.view()), A2.view(), &wanted, &options, None).expect("small logits");
    group.bench_function("fit", |bencher| bencher.iter(fit));
    let fitted = fit();
    group.bench_function("transform_query", |bencher| {
        bencher.iter(|| fitted.transform_query(black_box(A1.view()), &options, None).expect("rows as fitted"));
    });
    group.bench_function("transform_key", |bencher| {
        bencher.iter(|| fitted.transform_key(black_box(A2.view()), &options, None).expect("rows as fitted"));
    });
    let weights = Weights::Product(weight.view());
    let problem =
        Problem::new(A1.view(), A2.view(), A3.view(), weights, weight.view(), E.view()).expect("the shapes fit");
    let make = || factors(black_box(&problem), &wanted, &options, None).expect("small logits");
    group.bench_function("factors", |bencher| bencher.iter(make));
    let parts = make();
    group.bench_function("U3", |bencher| {
        bencher.iter(|| row_kronecker(black_box(parts.U1()), parts.U2(), &options, None).expect("640 MB"));
    });
    group.bench_function("gradient X from factors", |bencher| {
        bencher.iter(|| black_box(&parts).gradient(Wrt::X, &options, None).expect("an input it has"));
    });
    let approximation =
        Approximation { coefficients: parts.polynomial().power(), integers: true, exact_keys: Vec::new() };
    group.bench_function("gradient X from moments", |bencher| {
        bencher.iter(|| {
            polynomial_gradient(black_box(&problem), &[Wrt::X], &approximation, &options, None).expect("small logits")
        });
    });
    group.finish();
}

criterion_group!(benches, features);
criterion_main!(benches);
