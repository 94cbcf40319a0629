//! Masks of any kind, alone and together, against the dense formula, around the edges of every tile shape.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Dimension, s};

use super::{BLOCK, WAVE, one_of, size_near};
use crate::Float;
use crate::constants::{CHUNK_KEYS, LEAST_TASK_QUERIES, WAVE_QUERIES};
use crate::exact::blocking::Blocking;
use crate::exact::stack::{Incoming, attention_stack, attention_stack_vjp};
use crate::exact::tile_shape;
use crate::options::{Isa, Options};
use crate::problem::{Align, AttnMask, Heads, Masks, Stack, least_added};
use crate::reference;
use crate::runtime::rng::Rng;

/// Roundings by which an entry may differ from the truth, in units of docs/math.md, equation (5.13).
const SLACK: f64 = 30.0;

/// More of them where the logarithm of the normaliser was rounded in between, by as much as it is large.
pub const RESUMED: f64 = 4.0;

/// log2 of the largest weight that is dropped, over that which is always dropped, and of sizes of other factors.
pub const DROPPED: f64 = 30.0;

/// Cases at random for each precision.
const CASES: u64 = 600;

/// Entries below this one, beside which logits are lost in rounding: a row that sees no other has no truth to be held
/// against, but its certificate holds.
const DROWNING: f64 = -1e6;

/// Far above all other logits.
const PEAK: f64 = 3000.0;

pub const WIDTHS: [usize; 2] = [5, 3];

/// Heads of two batches, of which two in a row share keys.
pub const HEADS: [usize; 2] = [2, 4];

pub fn array<T: Float>(rng: &mut Rng, rows: usize, columns: usize, heads: usize, size: f64) -> Array3<T> {
    Array3::from_shape_simple_fn((heads, rows, columns), || T::narrow(size * (2.0 * rng.unit() - 1.0)))
}

/// Numbers from 0 to `end` that cut it into pieces, some of them empty.
fn cuts(rng: &mut Rng, end: usize, pieces: usize) -> Vec<i64> {
    let mut cuts: Vec<i64> = (1..pieces).map(|_| rng.below(end as u64 + 1) as i64).collect();
    cuts.extend([0, end as i64]);
    cuts.sort_unstable();
    cuts
}

pub fn masks(rng: &mut Rng, [n, m]: [usize; 2], has_entries: bool) -> Masks {
    let reach = |rng: &mut Rng| {
        let reaches = [None, None, Some(0), Some(1), Some(5), Some(BLOCK), Some(m / 2)];
        one_of(rng, &reaches)
    };
    let masks = Masks::new()
        .causal(rng.below(3) == 0 && !has_entries)
        .align(one_of(rng, &[Align::TopLeft, Align::BottomRight]))
        .window([reach(rng), reach(rng)]);
    match rng.below(3) {
        0 => masks,
        1 => {
            let length = |rng: &mut Rng| one_of(rng, &[0, 1, m / 2, m]).min(m) as i64;
            let lengths = ndarray::arr1(&[length(rng), length(rng)]);
            masks.key_lengths(lengths.into_dyn())
        }
        _ => {
            let pieces = 1 + rng.below(4) as usize;
            let (queries, keys) = (cuts(rng, n, pieces), cuts(rng, m, pieces));
            masks.sequences(&queries, &keys).expect("sums of lengths")
        }
    }
}

/// Entries of any kind, for as many leading dimensions as there happen to be, or for all queries alike.
pub enum Entries<T> {
    None,
    Seen(ArrayD<u8>),
    Added(ArrayD<T>),
}

impl<T: Float> Entries<T> {
    pub fn new(rng: &mut Rng, [n, m]: [usize; 2]) -> Self {
        let rows = one_of(rng, &[1, n, n]);
        let leading = one_of(rng, &[&[][..], &[1], &HEADS[1..], &HEADS, &[2, 1]]);
        let shape = [leading, &[rows, m]].concat();
        // Around none, some, and all of a tile.
        let share = one_of(rng, &[0.0, 0.02, 0.5, 0.98, 1.0]);
        let is_block = rng.below(2) == 0;
        let tiles = ArrayD::from_shape_simple_fn(ndarray::IxDyn(&[rows / 20 + 1, m / 20 + 1]), || rng.unit() < share);
        let mut seen = |index: &ndarray::IxDyn| {
            let (j, i) = (index[index.ndim() - 2], index[index.ndim() - 1]);
            if is_block { tiles[[j / 20, i / 20]] } else { rng.unit() < share }
        };
        let seen = ArrayD::from_shape_fn(ndarray::IxDyn(&shape), |index| seen(&index));
        let lowest = one_of(rng, &[f64::NEG_INFINITY, -T::MAX, -1e9, -40.0]);
        let size = one_of(rng, &[0.0, 1.0, 30.0]);
        match rng.below(3) {
            0 => Entries::None,
            1 => Entries::Seen(seen.mapv(u8::from)),
            _ => {
                let number = |seen| T::narrow(if seen { size * (2.0 * rng.unit() - 1.0) } else { lowest });
                let mut entries = seen.mapv(number);
                // One key beside which others have no weight, in tiles that hide nothing too.
                if m > 0 && rng.below(4) == 0 {
                    let (last, key) = (Axis(entries.ndim() - 1), rng.below(m as u64) as usize);
                    entries.index_axis_mut(last, key).fill(T::narrow(PEAK));
                }
                Entries::Added(entries)
            }
        }
    }

    pub fn mask(&self) -> Option<AttnMask<'_, T>> {
        match self {
            Entries::None => None,
            Entries::Seen(entries) => Some(AttnMask::Seen(entries.view())),
            Entries::Added(entries) => Some(AttnMask::Added(entries.view())),
        }
    }

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Entries::None => "no entries".into(),
            Entries::Seen(entries) => format!("{:?} seen", entries.shape()),
            Entries::Added(entries) => format!("{:?} added", entries.shape()),
        }
    }

    /// The largest number that is added where a key may be seen by somebody, and has a weight.
    pub fn largest(&self) -> f64 {
        let Entries::Added(entries) = self else { return 0.0 };
        let sizes = entries.iter().map(|entry| entry.widen()).filter(|&entry| entry >= DROWNING);
        sizes.fold(0.0, |most, entry| most.max(entry.abs()))
    }
}

/// Whether some query sees keys only by entries in which logits drown.
pub fn drowns<T: Float>(heads: &Heads<'_, T>) -> bool {
    let Some(crate::problem::Entries::Added(entries)) = heads.entries else { return false };
    let seen = heads.mask.intervals(heads.query.nrows(), heads.key.nrows()).expect("there is memory");
    entries.rows().into_iter().enumerate().any(|(j, row)| {
        let own = seen.as_ref().map_or(0..row.len(), |seen| seen[j].begin..seen[j].end);
        let most = own.map(|key| row[key].widen()).fold(f64::NEG_INFINITY, f64::max);
        (least_added::<T>()..DROWNING).contains(&most)
    })
}

fn wide<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    array.mapv(T::widen)
}

/// Of one head: o, dq, dk and dv by the dense formula, and the sums of their terms by size.
fn truth<T: Float>(stack: &Stack<'_, T>, head: usize, dout: ArrayView2<'_, T>) -> [[Array2<f64>; 2]; 4] {
    let head = &stack.heads()[head];
    let (q, k, v) = (wide(head.query).abs(), wide(head.key).abs(), wide(head.value).abs());
    let one = Array2::eye(head.key.nrows());
    let f = reference::attention(&Heads { value: one.view(), ..head.reborrow() });
    let p = &f * &wide(dout).abs().dot(&v.t());
    let p = &p + &(&f * &p.sum_axis(Axis(1)).insert_axis(Axis(1)));
    let scale = head.scale.abs();
    let [dq, dk, dv] = reference::attention_vjp(head, dout);
    [
        [reference::attention(head), f.dot(&v)],
        [dq, scale * p.dot(&k)],
        [dk, scale * p.t().dot(&q)],
        [dv, f.t().dot(&wide(dout).abs())],
    ]
}

fn at_random<T: Float>(seed: u64) {
    let rng = &mut Rng::new(seed);
    let level = one_of(rng, &Isa::shapes().collect::<Vec<_>>()).level();
    let (lanes, keys) = tile_shape::<T>(level).expect("there is one");
    let key_block = one_of(rng, &[1, BLOCK, 2 * BLOCK, 240]);
    let wave_queries = one_of(rng, &[WAVE, 2 * WAVE, WAVE_QUERIES]);
    let chunk_keys = one_of(rng, &[BLOCK, 2 * BLOCK, CHUNK_KEYS]);
    let n = size_near(rng, &[lanes, 2 * lanes, LEAST_TASK_QUERIES, WAVE, wave_queries], 200);
    let m = size_near(rng, &[keys, BLOCK, key_block, chunk_keys, n], 250);
    let kept_bytes = one_of(rng, &[usize::MAX, WAVE * m * size_of::<T>(), 0]);
    let split_keys = one_of(rng, &[BLOCK, 100, usize::MAX / 2]);
    Blocking::choose(|sizes| *sizes = Blocking { wave_queries, chunk_keys, kept_bytes, split_keys });
    let size = one_of(rng, &[0.5, 6.0, 60.0]);
    let count: usize = HEADS.iter().product();
    let ([d, dv], shared) = (WIDTHS, count / 2);
    let by = |heads: usize| [HEADS[0], heads / HEADS[0]];
    let shaped = |array: Array3<T>| {
        let (heads, rows, columns) = array.dim();
        let [batch, own] = by(heads);
        array.into_shape_with_order((batch, own, rows, columns)).expect("as many").into_dyn()
    };
    let (query, key) = (array::<T>(rng, n, d, count, size), array::<T>(rng, m, d, shared, 1.0));
    let (value, dout) = (array::<T>(rng, m, dv, shared, 1.0), array::<T>(rng, n, dv, count, 1.0));
    let [query, key, value, dout] = [query, key, value, dout].map(shaped);
    let entries = Entries::<T>::new(rng, [n, m]);
    let attn_mask = entries.mask();
    let masks = masks(rng, [n, m], attn_mask.is_some());
    let what = format!("seed {seed}: {n} x {m}, logits of {size}, {level}, {key_block}, {masks:?}, {}", entries.name());
    let stack = Stack::new(&query.view(), &key.view(), &value.view(), true)
        .and_then(|one| one.with_masks(&masks, attn_mask.as_ref()));
    let stack = stack.unwrap_or_else(|error| panic!("{what}: {error}"));
    let douts = stack.outputs("dout", &dout.view()).expect("it fits");
    let number = std::num::NonZeroUsize::new;
    let options = Options {
        level: Some(level),
        threads: number(one_of(rng, &[1, 2, 5])),
        key_block: number(key_block),
        ..Options::default()
    };
    let forward =
        attention_stack(&stack, (true, true), &options, None).unwrap_or_else(|error| panic!("{what}: {error}"));
    let lse = forward.lse.as_ref().expect("it was wanted");
    let [batch, own] = by(count);
    let outputs = forward.output.to_shape((batch, own, n, dv)).expect("as many").into_owned().into_dyn();
    let logarithms = lse.to_shape((batch, own, n)).expect("as many").into_owned().into_dyn();
    let saved = stack.saved(&outputs.view(), &logarithms.view()).expect("they fit");
    let pull = |saved, is_coarse| {
        let incoming = Incoming { dout: douts.clone(), saved };
        attention_stack_vjp(&stack, &incoming, (is_coarse, true), &options, None)
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    };
    let (fine, coarse, again) = (pull(None, false), pull(None, true), pull(Some(saved), true));
    assert_eq!(fine.values, coarse.values, "{what}");
    let is_drowned = stack.heads().iter().any(drowns);
    let slack = SLACK * 2.0 * T::UNIT_ROUNDOFF * (1.0 + size * d as f64 + entries.largest() + (n.max(m) as f64).log2());
    // Weights that are taken for zero, of few keys and of numbers of size 60 at most.
    let dropped = (DROPPED - T::EXP2_MIN.widen().abs()).exp2();
    let compare = |name: &str, found: ArrayView2<'_, T>, [want, sums]: &[Array2<f64>; 2], more: f64| {
        if is_drowned {
            return;
        }
        for ((at, found), (want, sum)) in found.indexed_iter().zip(want.iter().zip(sums)) {
            let off = (found.widen() - want).abs();
            assert!(off <= more * slack * sum + dropped, "{name} at {at:?} is {found}, not {want}; {sum} of {what}");
        }
    };
    let truths: Vec<_> = (0..count).map(|head| truth(&stack, head, douts[head].reborrow())).collect();
    for (head, [o, dq, ..]) in truths.iter().enumerate() {
        let rows = s![head * n..(head + 1) * n, ..];
        compare("o", forward.output.slice(rows), o, 1.0);
        compare("dq", fine.values[0].slice(rows), dq, 1.0);
        compare("dq again", again.values[0].slice(rows), dq, RESUMED);
        for (row, log) in o[1].rows().into_iter().zip(lse.row(head)) {
            // Values that are seen are not all zero.
            assert_eq!(row.iter().all(|&sum| sum == 0.0), *log == T::neg_infinity(), "lse of {what}");
        }
    }
    for shared in 0..shared {
        let rows = s![shared * m..(shared + 1) * m, ..];
        for place in [2, 3] {
            let of = |kind: usize| &truths[2 * shared][place][kind] + &truths[2 * shared + 1][place][kind];
            let both = [of(0), of(1)];
            compare("dk or dv", fine.values[place - 1].slice(rows), &both, 1.0);
            compare("dk or dv again", again.values[place - 1].slice(rows), &both, RESUMED);
            let error = (&wide(fine.values[place - 1].slice(rows)) - &both[0]).mapv(|x| x * x).sum().sqrt();
            let allowed = fine.estimates[place - 1][shared].rounding;
            // The truth is in double precision itself.
            let own = slack / T::UNIT_ROUNDOFF * f64::EPSILON * both[1].mapv(|x| x * x).sum().sqrt();
            assert!(error <= allowed + own, "{error:e} where {allowed:e} is certified, place {place} of {what}");
        }
    }
    for (head, [_, dq, ..]) in truths.iter().enumerate() {
        let error =
            (&wide(fine.values[0].slice(s![head * n..(head + 1) * n, ..])) - &dq[0]).mapv(|x| x * x).sum().sqrt();
        let allowed = fine.estimates[0][head].rounding;
        let own = slack / T::UNIT_ROUNDOFF * f64::EPSILON * dq[1].mapv(|x| x * x).sum().sqrt();
        assert!(error <= allowed + own, "{error:e} where {allowed:e} is certified for dq of {what}");
    }
}

#[test]
fn masks_in_single_precision() {
    (0..CASES).for_each(at_random::<f32>);
}

#[test]
fn masks_in_double_precision() {
    (0..CASES).for_each(at_random::<f64>);
}
