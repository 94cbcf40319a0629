//! Every tile shape against the reference, around every edge: tiles of queries, panels, blocks and chunks of keys,
//! waves and tasks. Buffers that a pass is to write begin as NaN here ([`crate::runtime::buffer::poison`]).

mod case;
pub mod masks;

use std::time::{Duration, Instant};

use super::blocking::Blocking;
use crate::Float;
use crate::constants::{CHUNK_KEYS, KEY_BLOCK_MIN, KEY_SIDE_QUERIES, LEAST_TASK_QUERIES, WAVE_QUERIES};
use crate::options::{Isa, Level, Options};
use crate::problem::WIDE_A3;
use crate::problem::Wrt;
use crate::runtime::rng::Rng;
use case::{Case, Logits, Widths};

/// Keys of the smallest block that all tiles divide.
const BLOCK: usize = KEY_BLOCK_MIN;

/// Queries of the smallest wave, which all tiles divide.
const WAVE: usize = KEY_SIDE_QUERIES;

/// Room in which the sums over queries keep a wave of the smallest size, and in which a larger wave does not fit.
const A_WAVE_OF: fn(usize) -> usize = |bytes| WAVE * bytes;

/// Cases at random in the gate: a fault that depends on one edge shows in about one of ten.
const CASES: u64 = 500;

/// Numbers at most two from an edge, and not zero.
fn around(edges: &[usize]) -> Vec<usize> {
    let mut sizes: Vec<usize> = edges.iter().flat_map(|&edge| edge.saturating_sub(2).max(1)..=edge + 2).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn options(level: Level, key_block: usize) -> Options {
    let number = std::num::NonZeroUsize::new;
    Options { level: Some(level), threads: number(1), key_block: number(key_block), ..Options::default() }
}

/// Every output on every route through the passes.
fn every_route<T: Float>(case: &Case<T>, level: Level) {
    let options = options(level, BLOCK);
    for kept_bytes in [usize::MAX, 0] {
        Blocking::choose(|sizes| {
            *sizes = Blocking { wave_queries: WAVE, chunk_keys: BLOCK, kept_bytes, split_keys: BLOCK };
        });
        for wrt in [&[Wrt::X][..], &[Wrt::X, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]] {
            case.check(wrt, &options);
        }
    }
    // With narrow values a pass over A3 alone, with wide ones the sums over queries alone.
    case.check(&[Wrt::Y], &options);
}

/// All of the grid for one precision.
fn every_edge<T: Float>() {
    for level in Isa::shapes().map(Isa::level) {
        let (lanes, keys) = super::tile_shape::<T>(level).expect("there is one");
        let rows = around(&[1, lanes, LEAST_TASK_QUERIES, WAVE, 2 * WAVE]);
        for &n in &rows {
            for m in around(&[1, keys, BLOCK, 2 * BLOCK, WAVE, n]) {
                for is_causal in [false, true] {
                    for logits in [Logits::Small, Logits::Shifted] {
                        // Both widths of A3 beside the same edges, in turn.
                        let d3 = if (n + m) % 2 == 0 { WIDE_A3 * 2 } else { WIDE_A3 * 2 + 1 };
                        let widths = Widths { d1: 2, d2: 3, d3, dv: 2, pair: None };
                        let case = Case::<T>::new((n, m), widths, is_causal, logits, (n * m) as u64);
                        every_route(&case, level);
                    }
                }
            }
        }
    }
}

#[test]
fn every_edge_in_single_precision() {
    every_edge::<f32>();
}

#[test]
fn every_edge_in_double_precision() {
    every_edge::<f64>();
}

/// One of the things.
pub fn one_of<X: Copy>(rng: &mut Rng, things: &[X]) -> X {
    things[rng.below(things.len() as u64) as usize]
}

/// A size near a multiple of one of the edges, or any.
pub fn size_near(rng: &mut Rng, edges: &[usize], most: usize) -> usize {
    if rng.below(4) == 0 {
        return 1 + rng.below(most as u64) as usize;
    }
    let edge = one_of(rng, edges);
    let multiple = edge * (1 + rng.below((most / edge).clamp(1, 4) as u64) as usize);
    (multiple + rng.below(5) as usize).saturating_sub(2).clamp(1, most)
}

/// One case of any kind: sizes of the work, shape, widths, data, outputs, threads.
fn at_random<T: Float>(seed: u64) {
    let rng = &mut Rng::new(seed);
    let level = one_of(rng, &Isa::shapes().collect::<Vec<_>>()).level();
    let (lanes, keys) = super::tile_shape::<T>(level).expect("there is one");
    let key_block = one_of(rng, &[1, BLOCK, 2 * BLOCK, 100, 240]);
    let wave_queries = one_of(rng, &[WAVE, 2 * WAVE, WAVE_QUERIES]);
    let chunk_keys = one_of(rng, &[BLOCK, 2 * BLOCK, CHUNK_KEYS]);
    let n = size_near(rng, &[lanes, 2 * lanes, LEAST_TASK_QUERIES, WAVE, wave_queries, key_block], 300);
    let m = size_near(rng, &[keys, BLOCK, key_block, chunk_keys, n], 400);
    let kept_bytes = one_of(rng, &[usize::MAX, A_WAVE_OF(m * size_of::<T>()), 0]);
    let split_keys = one_of(rng, &[BLOCK, 100, usize::MAX / 2]);
    Blocking::choose(|sizes| *sizes = Blocking { wave_queries, chunk_keys, kept_bytes, split_keys });
    let mut width = || size_near(rng, &[2, 3, lanes / 2, lanes], 2 * lanes + 2);
    let (d1, d2, dv) = (width(), width(), width());
    let pair = (width() % 3 == 0).then_some(d1.max(2));
    let d3 = one_of(rng, &[1, WIDE_A3 * dv, WIDE_A3 * dv + 1]);
    let widths = Widths { d1, d2, d3, dv, pair };
    let logits = one_of(rng, &[Logits::Small, Logits::Shifted, Logits::Spread, Logits::Spikes]);
    let is_causal = rng.below(2) == 0;
    let case = Case::<T>::new((n, m), widths, is_causal, logits, rng.bits());
    let weight = if pair.is_some() { Wrt::WQ } else { Wrt::X };
    let mut outputs = vec![weight, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3];
    if pair.is_some() {
        outputs.push(Wrt::WK);
    }
    let mut options = options(level, key_block);
    options.threads = std::num::NonZeroUsize::new(one_of(rng, &[1, 2, 5]));
    match rng.below(4) {
        0 => {
            let rows: Vec<usize> = (0..1 + rng.below(2 * n as u64)).map(|_| rng.below(n as u64) as usize).collect();
            case.check_rows(&rows, &options);
        }
        1 => case.check(&outputs, &options),
        _ => case.check(&[one_of(rng, &outputs)], &options),
    }
}

/// The cases of these seeds, until the time is over. A failure names its seed, and its case.
fn cases(seeds: std::ops::Range<u64>, time: Duration) -> u64 {
    let (start, first) = (Instant::now(), seeds.start);
    for seed in seeds.clone() {
        let known = std::panic::catch_unwind(|| {
            at_random::<f32>(seed);
            at_random::<f64>(seed);
        });
        assert!(known.is_ok(), "seed {seed}: the message above says of what");
        if start.elapsed() >= time {
            return seed - first + 1;
        }
    }
    seeds.end - first
}

#[test]
fn shapes_at_random() {
    assert_eq!(cases(0..CASES, Duration::MAX), CASES);
}

/// `ATTNGRAD_SWEEP_SECONDS` is how long, an hour unless it is set; `ATTNGRAD_SWEEP_SEED` the first seed.
#[test]
#[ignore = "an hour: cargo test --lib sweep -- --ignored --nocapture"]
#[allow(clippy::print_stderr, reason = "how much was tested is the result")]
fn shapes_at_random_for_an_hour() {
    let set = |name, otherwise| std::env::var(name).map_or(otherwise, |value| value.parse().expect("a whole number"));
    let time = Duration::from_secs(set("ATTNGRAD_SWEEP_SECONDS", 3600));
    let first = set("ATTNGRAD_SWEEP_SEED", CASES);
    let threads = crate::default_threads() as u64;
    // Each thread has seeds of its own.
    let count: u64 = std::thread::scope(|scope| {
        let begin = |thread| first + (thread << 40);
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || cases(begin(thread)..begin(thread + 1), time))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a case failed; see above")).sum()
    });
    eprintln!("{count} cases in each precision, from seed {first}");
    assert!(count > 0);
}
