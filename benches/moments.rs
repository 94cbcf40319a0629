//! The polynomial method beside the number of multiply-adds it does.
//!
//! `cargo bench --bench moments` measures; the throughput is in flops of the moments, slopes and values.
#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X")]

use std::hint::black_box;
use std::time::Duration;

use attngrad::{Approximation, Float, Options, Problem, Weights, Wrt, polynomial_gradient};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// Few samples: one takes up to seconds, and medians of ten are stable to a few percent.
const SAMPLES: usize = 10;
const TIME: Duration = Duration::from_secs(2);

/// Coordinates and value columns.
const D: usize = 16;

struct Case<T> {
    arrays: [Array2<T>; 4],
    weight: Array2<T>,
}

impl<T: Float> Case<T> {
    fn new(n: usize) -> Self {
        // Of squares: sines of multiples would leave all columns in a plane.
        let entry = |k: f64, index: usize| T::narrow((k * (index as f64).powi(2)).sin());
        let array = |k: f64| Array2::from_shape_fn((n, D), |(j, i)| entry(k, j * D + i));
        Case { arrays: [0.7, 0.9, 1.1, 1.3].map(array), weight: Array2::eye(D) }
    }

    fn gradient(&self, degree: usize, wrt: &[Wrt], is_causal: bool) -> f64 {
        let [A1, A2, A3, E] = self.arrays.each_ref().map(|array| array.view());
        let weight = self.weight.view();
        let problem = Problem::new(A1, A2, A3, Weights::Product(weight), weight, E).expect("the shapes fit");
        let problem = problem.with_causal(is_causal);
        let taylor = [1.0, 1.0, 1.0 / 2.0, 1.0 / 6.0, 1.0 / 24.0];
        let approximation =
            Approximation { coefficients: taylor[..=degree].to_vec(), integers: true, exact_keys: vec![] };
        polynomial_gradient(black_box(&problem), wrt, &approximation, &Options::default(), None)
            .expect("a regular problem")
            .loss
    }
}

/// C(D + grade, grade).
fn monomials(grade: usize) -> f64 {
    (1..=grade).map(|k| (D + k) as f64 / k as f64).product()
}

/// Causal or not, the flops are those of the moments: the diagonal's come on top.
fn measure<T: Float>(
    criterion: &mut Criterion,
    group: &str,
    cases: &[(usize, usize)],
    wrt: &[Wrt],
    passes: f64,
    is_causal: bool,
) {
    let causal = if is_causal { " causal" } else { "" };
    let mut group = criterion.benchmark_group(format!("{group}{causal}/{}", T::NAME));
    group.sample_size(SAMPLES).measurement_time(TIME).warm_up_time(Duration::from_millis(300));
    for &(n, degree) in cases {
        let case = Case::<T>::new(n);
        let flops = passes * (n * (D + 1)) as f64 * (4.0 * monomials(degree + 1) + 2.0 * monomials(degree));
        group.throughput(Throughput::Elements(flops as u64));
        group.bench_function(BenchmarkId::new(format!("degree={degree}"), n), |bencher| {
            bencher.iter(|| case.gradient(degree, wrt, is_causal));
        });
    }
    group.finish();
}

fn moments(criterion: &mut Criterion) {
    let large = [(1 << 17, 1), (1 << 17, 2), (1 << 15, 3), (1 << 20, 2)];
    let all = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    measure::<f32>(criterion, "polynomial X", &large, &[Wrt::X], 1.0, false);
    measure::<f64>(criterion, "polynomial X", &large[..2], &[Wrt::X], 1.0, false);
    measure::<f32>(criterion, "polynomial X Y A1 A2 A3", &large[1..2], &all, 2.0, false);
    measure::<f32>(criterion, "polynomial X", &large, &[Wrt::X], 1.0, true);
    measure::<f64>(criterion, "polynomial X", &large[..2], &[Wrt::X], 1.0, true);
    measure::<f32>(criterion, "polynomial X Y A1 A2 A3", &large[1..2], &all, 2.0, true);
}

criterion_group!(benches, moments);
criterion_main!(benches);
