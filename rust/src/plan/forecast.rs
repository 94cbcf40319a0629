//! Expected cost of a decision: operations, seconds and memory, from shapes alone.

use std::num::NonZeroUsize;

use super::cost::Cost;
use super::decision::{Decision, Method};
use super::{prices, rates};
use crate::constants::{
    CHUNK_KEYS, KEPT_BYTES, KEY_SIDE_QUERIES, MOMENT_BYTES, MOMENT_ROWS, WAVE_CHUNKS, WAVE_QUERIES,
};
use crate::error::Error;
use crate::exact::{kept_tiles, tile_shape};
use crate::features::approximate_count;
use crate::float::Float;
use crate::options::{Level, Options};
use crate::problem::{ExactPasses, HEAD_INPUTS, OutputSet, Shape, StackSizes, Wrt};
use crate::runtime::pool::default_threads;

/// Numbers in double precision that the exact passes keep for each query (norms, normalisers, terms of the rounding
/// estimate) and key ...
const ROW_NUMBERS: usize = 12;
const KEY_NUMBERS: usize = 2;

/// ... and the moment form for each query and its key: lengths, residual, caps twice by two norms, and room for the
/// rows that are computed apart.
const MOMENT_NUMBERS: usize = 9;

/// Bytes of the tree of monomials for each feature: parent, coordinate, multinomial.
const FEATURE_BYTES: usize = 24;

/// Bytes of a feature of a row as an integer.
const INTEGER_BYTES: usize = 2;

const DOUBLE: u128 = size_of::<f64>() as u128;

/// Expected cost of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Operations, in the time of one of the exact passes with AVX2 in single precision.
    pub operations: f64,
    /// Seconds, as far as calls of this process have shown how fast the machine is; of the table before.
    pub seconds: f64,
    /// Bytes at the peak, outputs included, besides the inputs and their copies.
    pub peak_bytes: u128,
}

/// The forecast of a decision for a problem of a shape, in the precision T.
///
/// # Errors
/// [`Error::Option`] for options that mean nothing.
pub fn forecast<T: Float>(
    shape: &Shape,
    wrt: &[Wrt],
    is_causal: bool,
    decision: &Decision,
    options: &Options,
) -> Result<Forecast, Error> {
    let level = options.isa()?.level();
    let threads = threads(options);
    let exact = decision.method == Method::Exact;
    let operations =
        if exact { Cost::of_shape::<T>(*shape, wrt, is_causal, level).exact() } else { decision.operations };
    let passes = OutputSet::of(wrt).exact_passes((shape.d3, shape.dv));
    let memory = Memory { shape, passes, wrt, size: size_of::<T>() as u128 };
    Ok(Forecast {
        operations,
        seconds: rates::factor(key::<T>(decision, threads, level)) * table(operations, threads),
        peak_bytes: if exact {
            memory.exact(tile_shape::<T>(level)?.0, threads)
        } else {
            memory.polynomial(decision, threads)
        },
    })
}

/// The same for heads of attention, of which each thread has one at a time: their gradients with respect to query, key
/// and value.
///
/// # Errors
/// [`Error::Option`] for options that mean nothing.
pub fn forecast_heads<T: Float>(
    sizes: &StackSizes,
    is_causal: bool,
    decision: &Decision,
    options: &Options,
) -> Result<Forecast, Error> {
    let one = forecast::<T>(&sizes.head, &HEAD_INPUTS, is_causal, decision, options)?;
    let (heads, shared) = (sizes.heads, sizes.heads / sizes.group);
    let [query, key, value] = entries_of(&sizes.head);
    let mut outputs = heads as u128 * query + shared as u128 * (key + value);
    if sizes.group > 1 {
        // Gradients of the keys for each head of the query, before they are summed.
        outputs += heads as u128 * (key + value);
    }
    // Without a head nothing was decided, and its price is not known.
    let of_all = |one: f64| if heads == 0 { 0.0 } else { heads as f64 * one };
    Ok(Forecast {
        operations: of_all(one.operations),
        seconds: of_all(one.seconds),
        peak_bytes: at_once(sizes, options) * one.peak_bytes + 2 * outputs * size_of::<T>() as u128,
    })
}

/// The same for their output.
///
/// # Errors
/// [`Error::Option`] for options that mean nothing.
pub fn forecast_output<T: Float>(
    sizes: &StackSizes,
    is_causal: bool,
    decision: &Decision,
    options: &Options,
) -> Result<Forecast, Error> {
    let one = forecast::<T>(&sizes.head, &[], is_causal, decision, options)?;
    let heads = sizes.heads as f64;
    let own = if decision.method == Method::Exact { 0 } else { at_once(sizes, options) * one.peak_bytes };
    Ok(Forecast {
        operations: heads * one.operations,
        seconds: heads * one.seconds,
        peak_bytes: own + forward_bytes::<T>(sizes, options),
    })
}

/// Bytes at the peak of the forward pass for heads of attention: outputs, and query, key and value of each thread.
pub fn forward_bytes<T: Float>(sizes: &StackSizes, options: &Options) -> u128 {
    let own: u128 = entries_of(&sizes.head).into_iter().sum();
    let outputs = sizes.heads as u128 * product(sizes.head.n, sizes.head.dv);
    2 * (at_once(sizes, options) * own + outputs) * size_of::<T>() as u128
}

/// Bytes at the peak of [`crate::exact::attention_stack_hvp`], with its results; no less than its forward mode takes.
pub fn second_bytes<T: Float>(sizes: &StackSizes, options: &Options) -> u128 {
    let Shape { n, m, d, dv, .. } = sizes.head;
    let all = product(n + m, d + dv);
    // Rows in both orders of packing with their changes, the strips of keys, sums in double precision.
    let own = 8 * all * size_of::<T>() as u128 + product(WAVE_CHUNKS * WAVE_QUERIES, d) * size_of::<f64>() as u128;
    at_once(sizes, options) * own + 2 * sizes.heads as u128 * all * size_of::<T>() as u128
}

/// Numbers of query, key and value of one head.
fn entries_of(head: &Shape) -> [u128; 3] {
    [product(head.n, head.d), product(head.m, head.d), product(head.m, head.dv)]
}

/// Heads that are computed at the same time, at most.
fn at_once(sizes: &StackSizes, options: &Options) -> u128 {
    threads(options).min(sizes.heads.max(1)) as u128
}

fn threads(options: &Options) -> usize {
    options.threads.map_or_else(default_threads, NonZeroUsize::get)
}

/// Refuses a call whose forecast, by `needed`, takes more memory than it may.
pub(super) fn check_memory(options: &Options, needed: impl FnOnce() -> Result<Forecast, Error>) -> Result<(), Error> {
    let Some(free) = options.memory else { return Ok(()) };
    let needed = needed()?.peak_bytes;
    if needed > u128::from(free) { Err(Error::Memory { needed, free }) } else { Ok(()) }
}

/// Records the seconds of a call, so that the seconds of later forecasts are those of this machine.
pub(super) fn observe<T: Float>(
    shape: &Shape,
    wrt: &[Wrt],
    is_causal: bool,
    decision: &Decision,
    options: &Options,
    seconds: f64,
) -> Result<(), Error> {
    if !rates::counts(seconds) {
        return Ok(());
    }
    let level = options.isa()?.level();
    let threads = threads(options);
    let operations = forecast::<T>(shape, wrt, is_causal, decision, options)?.operations;
    rates::observe(key::<T>(decision, threads, level), seconds, table(operations, threads));
    Ok(())
}

fn key<T>(decision: &Decision, threads: usize, level: Level) -> rates::Key {
    (decision.method, size_of::<T>(), threads, level)
}

/// Seconds on the machine of the table of prices, with so many of its threads.
fn table(operations: f64, threads: usize) -> f64 {
    operations / (1e9 * prices::REFERENCE * threads as f64 / prices::THREADS)
}

/// Sizes of the buffers that are held at the same time, as exact integers.
struct Memory<'a> {
    shape: &'a Shape,
    passes: ExactPasses,
    wrt: &'a [Wrt],
    /// Bytes of a number.
    size: u128,
}

impl Memory<'_> {
    /// Numbers in all outputs together.
    fn outputs(&self) -> u128 {
        let Shape { n, m, d, d1, d2, d3, dv, .. } = *self.shape;
        let of = |wrt: &Wrt| match wrt {
            Wrt::X => product(d1, d2),
            Wrt::WQ => product(d1, d),
            Wrt::WK => product(d2, d),
            Wrt::Y => product(d3, dv),
            Wrt::A1 | Wrt::A => product(n, d1),
            Wrt::A2 => product(m, d2),
            Wrt::A3 => product(m, d3),
        };
        self.wrt.iter().map(of).sum()
    }

    /// The exact passes: follows the life of the buffers through pass 1, pass 2 and the products after it.
    /// O((n + m) d), whatever the tiles.
    fn exact(&self, lanes: usize, threads: usize) -> u128 {
        let Shape { n, m, d, d1, d3, dv, pair, .. } = *self.shape;
        let kept = self.kept(lanes, threads);
        // Scaled queries, which pass 2 turns into p K; keys and values in strips; keys of a pair.
        let always = product(n, d) + product(m, d) + product(m, dv) + if pair { product(m, d) } else { 0 };
        let sums = if self.passes.key_side { product(m, d) + product(m, dv) } else { 0 };
        let output = if kept > 0 { 0 } else { product(n, dv) };
        let mixed = if self.passes.mixed_inputs { product(n, d3) + product(m, d3) } else { 0 };
        // Sums over queries are kept in double precision until the pass is over.
        let mut second = output + sums * DOUBLE / self.size;
        if self.passes.key_side {
            second += product(n.min(WAVE_QUERIES), m.min(WAVE_CHUNKS * CHUNK_KEYS)) / CHUNK_KEYS as u128 * d as u128;
        }
        let both = if self.wrt.contains(&Wrt::A) { product(n, d1) } else { 0 };
        let peaks = [product(m, dv), output + mixed, second + sums, sums + self.outputs() + both];
        let peak = always + peaks.into_iter().max().unwrap_or(0);
        peak * self.size + kept + DOUBLE * (product(ROW_NUMBERS, n) + product(KEY_NUMBERS, m))
    }

    /// Bytes that pass 1 keeps for pass 2; 0 where it does not fit.
    fn kept(&self, lanes: usize, threads: usize) -> u128 {
        let (n, m) = (self.shape.n, self.shape.m as u128);
        let (row, all) = (m * self.size, KEPT_BYTES as u128);
        let second = self.passes.query_side || self.passes.key_side;
        if !second || self.passes.mixed_inputs || m == 0 {
            return 0;
        }
        if self.passes.key_side {
            let queries = KEY_SIDE_QUERIES as u128;
            return (all / row / queries * queries).min(WAVE_QUERIES as u128).min(n as u128) * row;
        }
        let tile = lanes as u128 * row;
        let bytes = usize::try_from(tile).unwrap_or(usize::MAX);
        kept_tiles(bytes, threads, KEPT_BYTES) as u128 * threads as u128 * tile
    }

    /// The moment form of a degree with its sampled rows.
    fn polynomial(&self, decision: &Decision, threads: usize) -> u128 {
        let Shape { n, m, d, d1, d3, dv, .. } = *self.shape;
        // More rows than there are: all of them.
        let samples = decision.samples.min(n);
        let features = approximate_count(d, decision.degree + 1) as u128;
        let sums = features * (dv as u128 + 1) * DOUBLE;
        let partial = (2 * sums).max(MOMENT_BYTES as u128);
        let rows = product(samples, d1 + 2 * d + 2 * dv + d3);
        // Exact rows need the keys and values in strips.
        let strips = if samples > 0 { product(m, d + dv) * self.size } else { 0 };
        let inner = approximate_count(d, decision.degree) as u128;
        let block = MOMENT_ROWS as u128 * inner * (self.size + INTEGER_BYTES as u128);
        let own = product(MOMENT_NUMBERS, n) * DOUBLE + features * FEATURE_BYTES as u128 + threads as u128 * block;
        2 * partial + rows * DOUBLE + strips + 2 * self.outputs() * self.size + own
    }
}

fn product(a: usize, b: usize) -> u128 {
    a as u128 * b as u128
}
