//! The loss and its gradients against the reference, at every level, precision, block of keys and shape class.

use std::num::NonZeroUsize;

use attngrad::exact::loss_gradient;
use attngrad::exact::tile_shape;
use attngrad::reference::Reference;
use attngrad::{Float, Level, Options, Wrt};
use ndarray::Array2;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use crate::data::{Case, Family, Shape};
use crate::ratio::{assert_gradient, assert_loss};

/// Keys per block: smaller than any strip, odd, not a multiple of a strip, and the one chosen by size.
const KEY_BLOCKS: [Option<usize>; 4] = [Some(1), Some(3), Some(20), None];

/// Asserts the loss and the gradients with respect to `wrt` in one call; the largest ratio.
fn check<T: Float>(case: &Case<T>, wrt: &[Wrt], level: Level, key_block: Option<usize>, what: &str) -> f64 {
    let options =
        Options { level: Some(level), key_block: key_block.and_then(NonZeroUsize::new), ..Options::default() };
    let what = format!("{what}, {}, {}, key block {key_block:?}", T::NAME, level.name());
    let result = loss_gradient(&case.problem(), wrt, &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let reference = Reference::new(&case.problem());
    assert_loss::<T>(result.loss, &reference, &what);
    assert_eq!(result.gradients.len(), wrt.len());
    let mut worst = 0.0;
    for (gradient, &wrt) in result.gradients.iter().zip(wrt) {
        assert_eq!(gradient.wrt, wrt);
        worst = f64::max(worst, assert_gradient(&gradient.value, &reference, wrt, &what));
    }
    worst
}

/// All inputs in one call, and each one alone: they take different passes.
fn check_all<T: Float>(
    shape: Shape,
    family: Family,
    is_causal: bool,
    level: Level,
    key_block: Option<usize>,
    seed: u64,
) {
    let case = Case::<T>::new(shape, family, is_causal, seed);
    let what = format!("{shape:?}, {family:?}, causal {is_causal}, seed {seed}");
    let all = case.inputs();
    check(&case, &all, level, key_block, &what);
    for wrt in all {
        check(&case, &[wrt], level, key_block, &what);
    }
}

fn check_both(shape: Shape, family: Family, is_causal: bool, level: Level, key_block: Option<usize>, seed: u64) {
    check_all::<f32>(shape, family, is_causal, level, key_block, seed);
    check_all::<f64>(shape, family, is_causal, level, key_block, seed);
}

/// 0, 1, 2, 3, 5, and around the register tile of any level: in either direction.
fn around_tiles() -> Vec<usize> {
    let mut sizes = vec![0, 1, 2, 3, 5, 10, 50];
    for level in Level::available() {
        for (queries, keys) in
            [tile_shape::<f32>(level), tile_shape::<f64>(level)].map(|shape| shape.expect("this machine has it"))
        {
            for tile in [queries, keys] {
                sizes.extend([tile - 1, tile, tile + 1, 2 * tile + 1]);
            }
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[test]
fn every_level_and_key_block() {
    let shape = Shape { n: 37, m: 53, d1: 5, d2: 7, d3: 3, dv: 6, pair: None };
    for (seed, level) in Level::available().into_iter().enumerate() {
        for key_block in KEY_BLOCKS {
            for family in Family::ALL {
                for is_causal in [false, true] {
                    check_both(shape, family, is_causal, level, key_block, seed as u64);
                }
            }
        }
    }
}

#[test]
fn every_size_around_the_tile() {
    for level in Level::available() {
        let (queries, keys) = tile_shape::<f32>(level).expect("this machine has it");
        for n in [0, 1, 2, queries - 1, queries, queries + 1] {
            for m in [0, 1, 2, keys - 1, keys, keys + 1] {
                for d in [1, 3] {
                    check_both(Shape::square(n, m, d), Family::Uniform, n % 2 == 1, level, None, 1);
                }
            }
        }
    }
}

#[test]
fn every_width() {
    for d in [0, 1, 2, 3, 5, 16, 17, 64, 65, 129] {
        for level in Level::available() {
            check_both(Shape::square(20, 23, d), Family::Uniform, false, level, None, d as u64);
            let shape = Shape { n: 20, m: 23, d1: 3, d2: 4, d3: d, dv: 2, pair: Some(d) };
            check_both(shape, Family::Uniform, true, level, None, d as u64);
            let shape = Shape { dv: d, d3: 2, ..shape };
            check_both(shape, Family::LargeLogits, false, level, None, d as u64);
        }
    }
}

/// More queries than a task and a wave have, more keys than a block and a chunk have.
#[test]
fn beyond_tasks_waves_and_chunks() {
    let level = Level::available().pop().expect("the baseline is always there");
    for (n, m) in [(129, 241), (1025, 130), (3, 4000)] {
        for is_causal in [false, true] {
            check_both(Shape::square(n, m, 3), Family::Uniform, is_causal, level, None, 5);
            check_both(Shape::square(n, m, 2), Family::Rising, is_causal, level, None, 6);
        }
    }
}

/// Queries that are long beside their logits: each is rounded by far more than its logits are large.
fn long_queries<T: Float>(seed: u64) -> Case<T> {
    let shape = Shape::square(8, 24, 16);
    let mut case = Case::<T>::new(shape, Family::Uniform, false, seed);
    case.X = Array2::eye(16);
    case.scale = 1.0;
    case.A1.mapv_inplace(|x| T::narrow(1e4 + 2.0 * x.widen()));
    // Entries of a key cancel exactly, two by two.
    let mut row = 0;
    case.A2.rows_mut().into_iter().for_each(|mut key| {
        for i in 0..8 {
            let half = T::narrow(f64::from((row * 5 + i * 3) % 15 - 7) / 64.0);
            (key[2 * i as usize], key[2 * i as usize + 1]) = (half, -half);
        }
        row += 1;
    });
    case
}

#[test]
fn logits_that_cancel() {
    for seed in 0..5 {
        for level in Level::available() {
            let case = long_queries::<f32>(seed);
            check(&case, &case.inputs(), level, None, "logits that cancel");
            let case = long_queries::<f64>(seed);
            check(&case, &case.inputs(), level, None, "logits that cancel");
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let count = select(around_tiles());
    let width = select(vec![0usize, 1, 2, 3, 4, 5, 8, 16, 17]);
    let pair = proptest::option::of(select(vec![1usize, 2, 5, 9]));
    (count.clone(), count, [width.clone(), width.clone(), width.clone(), width], pair)
        .prop_map(|(n, m, [d1, d2, d3, dv], pair)| Shape { n, m, d1, d2, d3, dv, pair })
}

/// The same cases on every run; PROPTEST_CASES asks for more of them.
fn config() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_problem(
        shape in shapes(),
        family in select(Family::ALL.to_vec()),
        is_causal: bool,
        level in select(Level::available()),
        key_block in select(KEY_BLOCKS.to_vec()),
        seed: u64,
    ) {
        check_both(shape, family, is_causal, level, key_block, seed);
    }
}
