//! The bits of a result depend on its data and options, never on the threads, nor on what else runs.

use std::num::NonZeroUsize;

use attngrad::exact::{Gradients, loss_gradient};
use attngrad::{Float, Level, Options, Wrt};

use crate::data::{Case, Family, Shape};

const THREADS: [usize; 6] = [1, 2, 3, 4, 7, 16];
const REPEATS: usize = 5;

/// More than one task, wave and chunk, none of them full.
const SHAPE: Shape = Shape { n: 1100, m: 300, d1: 4, d2: 4, d3: 3, dv: 2, pair: None };

fn run<T: Float>(case: &Case<T>, wrt: &[Wrt], threads: usize, level: Level) -> Vec<u64> {
    let options = Options { threads: NonZeroUsize::new(threads), level: Some(level), ..Options::default() };
    bits(&loss_gradient(&case.problem(), wrt, &options, None).expect("a regular problem"))
}

/// Every number of a result, estimates included; widening keeps each float's identity.
fn bits<T: Float>(result: &Gradients<T>) -> Vec<u64> {
    let mut bits = vec![result.loss.to_bits(), result.loss_rounding.to_bits()];
    for gradient in &result.gradients {
        bits.push(gradient.rounding.to_bits());
        bits.extend(gradient.value.iter().map(|x| x.widen().to_bits()));
    }
    bits
}

fn check<T: Float>(is_causal: bool, level: Level) {
    let case = Case::<T>::new(SHAPE, Family::Rising, is_causal, 1);
    for wrt in [&[Wrt::X][..], &[Wrt::Y], &[Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]] {
        let first = run(&case, wrt, 1, level);
        for threads in THREADS {
            for _ in 0..REPEATS {
                assert_eq!(run(&case, wrt, threads, level), first, "{threads} threads, {wrt:?}, {}", level.name());
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    for level in Level::available() {
        for is_causal in [false, true] {
            check::<f32>(is_causal, level);
            check::<f64>(is_causal, level);
        }
    }
}

#[test]
fn bits_do_not_depend_on_other_callers() {
    let case = Case::<f64>::new(SHAPE, Family::Uniform, false, 2);
    let level = Level::available().pop().expect("the baseline is always there");
    let alone = run(&case, &[Wrt::X, Wrt::A2], 2, level);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..REPEATS {
                    assert_eq!(run(&case, &[Wrt::X, Wrt::A2], 2, level), alone);
                }
            });
        }
    });
}

/// Other inputs in the same request do not change a gradient whose passes are the same.
#[test]
fn order_of_the_inputs_does_not_matter() {
    let case = Case::<f32>::new(SHAPE, Family::Uniform, true, 3);
    let problem = case.problem();
    let result = |wrt: &[Wrt]| loss_gradient(&problem, wrt, &Options::default(), None).expect("a regular problem");
    let (one, two) = (result(&[Wrt::X, Wrt::A2, Wrt::A3]), result(&[Wrt::A3, Wrt::A2, Wrt::X, Wrt::X]));
    for wrt in [Wrt::X, Wrt::A2, Wrt::A3] {
        assert_eq!(one.get(wrt), two.get(wrt));
        assert!(one.get(wrt).is_some());
    }
    assert!(one.get(Wrt::Y).is_none());
}

/// Any memory layout gives the bits of the row-major copy.
#[test]
fn layout_does_not_matter() {
    let case = Case::<f64>::new(Shape { d3: 4, dv: 4, ..SHAPE }, Family::Uniform, false, 4);
    let want = run(&case, &[Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3], 2, Level::Baseline);
    let mut other = case.clone();
    for array in [&mut other.A1, &mut other.A2, &mut other.A3, &mut other.X, &mut other.Y, &mut other.E] {
        let mut transposed = array.t().as_standard_layout().into_owned();
        // Columns first, and rows backwards twice: the same numbers behind negative strides.
        transposed.swap_axes(0, 1);
        transposed.invert_axis(ndarray::Axis(0));
        let mut backwards = transposed.clone();
        backwards.assign(&array.slice(ndarray::s![..;-1, ..]));
        backwards.invert_axis(ndarray::Axis(0));
        assert_eq!(backwards, *array);
        *array = backwards;
    }
    assert!(!other.A1.is_standard_layout());
    assert_eq!(run(&other, &[Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3], 2, Level::Baseline), want);
}
