//! The exact gradient, in flops, beside the matrix product of the same library and machine.
//!
//! `cargo bench` measures; `cargo bench -- --test` runs everything once. For the share of the machine's peak see the
//! Python benches, which measure the fastest matrix product that is installed.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use std::hint::black_box;
use std::time::Duration;

use attngrad::exact::loss_gradient;
use attngrad::{Float, Heads, Options, Problem, Weights, Wrt, attention_hvp, attention_jvp};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// Few samples: one takes up to seconds, and medians of ten are stable to a few percent.
const SAMPLES: usize = 10;
const TIME: Duration = Duration::from_secs(3);

/// Flops of n² d by what is asked for (docs/math.md, section 3).
const QUERY_SIDE: f64 = 10.0;
const BOTH_SIDES: f64 = 12.0;
/// Of the second derivatives with the forward pass (docs/math.md, section 6).
const TANGENT: f64 = 14.0;
const HESSIAN: f64 = 34.0;

struct Case<T> {
    arrays: [Array2<T>; 4],
    weight: Array2<T>,
    is_causal: bool,
    scale: f64,
}

impl<T: Float> Case<T> {
    fn new(n: usize, d: usize, is_causal: bool) -> Self {
        let array = |k: f64| Array2::from_shape_fn((n, d), |(j, i)| T::narrow((k * (j * d + i) as f64).sin()));
        Case { arrays: [0.7, 0.9, 1.1, 1.3].map(array), weight: Array2::eye(d), is_causal, scale: 1.0 / d as f64 }
    }

    fn gradient(&self, wrt: &[Wrt]) -> f64 {
        let [A1, A2, A3, E] = self.arrays.each_ref().map(|array| array.view());
        let weight = self.weight.view();
        let problem = Problem::new(A1, A2, A3, Weights::Product(weight), weight, E).expect("the shapes fit");
        let problem = problem.with_causal(self.is_causal).with_scale(self.scale);
        loss_gradient(black_box(&problem), wrt, &Options::default(), None).expect("a regular problem").loss
    }
}

fn measure<T: Float>(criterion: &mut Criterion, group: &str, sizes: &[(usize, usize)], wrt: &[Wrt], is_causal: bool) {
    let mut group = criterion.benchmark_group(format!("{group}/{}", T::NAME));
    group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(500));
    let flops = if wrt == [Wrt::X] { QUERY_SIDE } else { BOTH_SIDES } * if is_causal { 0.5 } else { 1.0 };
    for &(n, d) in sizes {
        let case = Case::<T>::new(n, d, is_causal);
        group.throughput(Throughput::Elements((flops * (n * n * d) as f64) as u64));
        group.bench_function(BenchmarkId::new(format!("d={d}"), n), |bencher| bencher.iter(|| case.gradient(wrt)));
    }
    group.finish();
}

fn exact(criterion: &mut Criterion) {
    let sizes = [(2048, 16), (2048, 64), (2048, 128), (8192, 16), (8192, 64), (8192, 128)];
    measure::<f32>(criterion, "X", &sizes, &[Wrt::X], false);
    measure::<f64>(criterion, "X", &sizes[..3], &[Wrt::X], false);
    measure::<f32>(criterion, "X causal", &sizes[..3], &[Wrt::X], true);
    let all = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    measure::<f32>(criterion, "X Y A1 A2 A3", &sizes[..3], &all, false);
}

/// Logits spread over tens and hundreds, beside small ones: the larger they are the more weights are tiny, and none of
/// them may slow a kernel down.
fn spread<T: Float>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("X A1 A2 A3 by the spread of the logits/{}", T::NAME));
    group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(500));
    let (n, d) = (2048, 16);
    for size in [1.0, 30.0, 100.0, 300.0, 1000.0] {
        // Rows are sines, whose products lie in ±d/2.
        let case = Case::<T> { scale: 2.0 * size / d as f64, ..Case::new(n, d, false) };
        let wrt = [Wrt::X, Wrt::A1, Wrt::A2, Wrt::A3];
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| bencher.iter(|| case.gradient(&wrt)));
    }
    group.finish();
}

/// The first three as query, key and value.
fn heads_of<T: Float>(arrays: &[Array2<T>; 4]) -> Heads<'_, T> {
    let [query, key, value, _] = arrays.each_ref().map(|array| array.view());
    Heads::new(query, key, value).expect("the shapes fit")
}

/// Second derivatives of one head along a direction.
fn second<T: Float>(criterion: &mut Criterion) {
    let (n, options) = (2048, Options::default());
    for (name, operations) in [("tangent", TANGENT), ("Hessian", HESSIAN)] {
        let mut group = criterion.benchmark_group(format!("{name}/{}", T::NAME));
        group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(500));
        for d in [16, 64] {
            let [case, along] = [0.0, 1.0].map(|phase| {
                let array =
                    |k: f64| Array2::from_shape_fn((n, d), |(j, i)| T::narrow((phase + k * (j * d + i) as f64).sin()));
                [0.7, 0.9, 1.1, 1.3].map(array)
            });
            let (heads, direction, dout) = (heads_of(&case), heads_of(&along), case[3].view());
            group.throughput(Throughput::Elements((operations * (n * n * d) as f64) as u64));
            group.bench_function(BenchmarkId::new(format!("d={d}"), n), |bencher| {
                bencher.iter(|| {
                    let heads = black_box(&heads);
                    if name == "tangent" {
                        attention_jvp(heads, &direction, &options, None).map(|_| ())
                    } else {
                        attention_hvp(heads, dout, &direction, &options, None).map(|_| ())
                    }
                    .expect("a regular head");
                });
            });
        }
        group.finish();
    }
}

/// The matrix product on one thread: what the same flops cost where nothing but products is done.
fn product(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matrix product, one thread/float32");
    group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(500));
    let n = 1024;
    let [a, b] = [0.3, 0.7].map(|k: f64| Array2::from_shape_fn((n, n), |(j, i)| (k * (j * n + i) as f64).sin() as f32));
    group.throughput(Throughput::Elements(2 * (n * n * n) as u64));
    group.bench_function(BenchmarkId::from_parameter(n), |bencher| bencher.iter(|| black_box(&a).dot(black_box(&b))));
    group.finish();
}

criterion_group!(benches, exact, spread::<f32>, spread::<f64>, second::<f32>, second::<f64>, product);
criterion_main!(benches);
