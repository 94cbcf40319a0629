//! Masks of any kind, alone and together, for heads that share keys; and what they leave out.

use ndarray::{Array2, Array3, Array4, ArrayD, ArrayView2, s};

use super::super::{Pushed, attention_stack_hvp, attention_stack_jvp};
use super::{Found, dense, largest_logit};
use crate::error::Error;
use crate::exact::stack::{Incoming, attention_stack};
use crate::exact::sweep::masks::{DROPPED, Entries, HEADS, RESUMED, WIDTHS, array, drowns, masks};
use crate::exact::sweep::{one_of, size_near};
use crate::exact::tile_shape;
use crate::float::Float;
use crate::options::{Isa, Options};
use crate::problem::{AttnMask, Masks, Stack};
use crate::runtime::rng::Rng;

/// Roundings of the sums of absolute values that a result may be off by.
const SLACK: f64 = 30.0;

/// Cases at random for each precision.
const CASES: u64 = 300;

/// Query, key, value and dout of a batch, and as many changes.
struct Case<T> {
    sides: [ArrayD<T>; 4],
    changes: [ArrayD<T>; 4],
    shape: [usize; 2],
}

impl<T: Float> Case<T> {
    fn new(rng: &mut Rng, [n, m]: [usize; 2], size: f64) -> Self {
        let ([d, dv], count) = (WIDTHS, HEADS.iter().product());
        let mut sides = |size: f64| {
            [(n, d, count, size), (m, d, count / 2, 1.0), (m, dv, count / 2, 1.0), (n, dv, count, 1.0)].map(
                |(rows, columns, heads, size)| {
                    let array: Array3<T> = array(rng, rows, columns, heads, size);
                    let shape = (HEADS[0], heads / HEADS[0], rows, columns);
                    array.into_shape_with_order(shape).expect("as many").into_dyn()
                },
            )
        };
        Case { sides: sides(size), changes: sides(1.0), shape: [n, m] }
    }

    fn stack<'a>(&'a self, masks: &'a Masks, attn_mask: Option<&'a AttnMask<'a, T>>) -> [Stack<'a, T>; 2] {
        let of = |[query, key, value, _]: &'a [ArrayD<T>; 4]| {
            Stack::new(&query.view(), &key.view(), &value.view(), true).expect("the shapes fit")
        };
        [of(&self.sides).with_masks(masks, attn_mask).expect("masks of the heads"), of(&self.changes)]
    }

    /// o, and the parts of query, key, value and dout; with the results of the forward pass if they are given.
    fn found<'a>(
        &'a self,
        [stack, direction]: &[Stack<'a, T>; 2],
        saved: Option<[&'a ArrayD<T>; 2]>,
        options: &Options,
    ) -> Result<[Array2<T>; 5], Error> {
        let saved = saved.map(|[output, lse]| stack.saved(&output.view(), &lse.view()).expect("they fit"));
        let Pushed { output, tangent } = attention_stack_jvp(stack, direction, saved.as_ref(), true, options, None)?;
        let dout = stack.outputs("dout", &self.sides[3].view()).expect("it fits");
        let ddout = direction.outputs("ddout", &self.changes[3].view()).expect("it fits");
        let incoming = Incoming { dout, saved };
        let [query, key, value, dout] =
            attention_stack_hvp(stack, direction, (&incoming, Some(&ddout)), true, options, None)?;
        assert_eq!(tangent, dout, "ȯ of both");
        Ok([output.unwrap_or_default(), query, key, value, tangent])
    }

    /// The same with these entries for all heads.
    fn under(&self, entries: &ArrayD<u8>) -> Result<[Array2<T>; 5], Error> {
        let (masks, attn_mask) = (Masks::new(), AttnMask::Seen(entries.view()));
        self.found(&self.stack(&masks, Some(&attn_mask)), None, &Options::default())
    }

    /// By the dense formulas, and the sums of sizes, for each head.
    fn truths(&self, [stack, direction]: &[Stack<'_, T>; 2]) -> Vec<[Found; 2]> {
        let all = |side: usize| {
            let found = [&self.sides, &self.changes].map(|sides| sides[side].view());
            found.map(|array| array.into_dimensionality::<ndarray::Ix4>().expect("four dimensions"))
        };
        let [dout, ddout] = all(3);
        let heads = stack.heads().iter().zip(direction.heads()).enumerate();
        let of_head = |(number, (head, moved))| {
            let at = s![number / HEADS[1], number % HEADS[1], .., ..];
            [false, true].map(|sizes| dense(head, moved, [dout.slice(at), ddout.slice(at)], sizes))
        };
        heads.map(of_head).collect()
    }
}

fn at_random<T: Float>(seed: u64) {
    let rng = &mut Rng::new(seed);
    let level = one_of(rng, &Isa::shapes().collect::<Vec<_>>()).level();
    let (lanes, keys) = tile_shape::<T>(level).expect("there is one");
    let key_block = std::num::NonZeroUsize::new(one_of(rng, &[24, 48, 240]));
    let n = size_near(rng, &[lanes, 2 * lanes, 64, 130], 200);
    let m = size_near(rng, &[keys, 24, 120, 240, n], 260);
    let size = one_of(rng, &[0.5, 6.0, 60.0]);
    let case = Case::<T>::new(rng, [n, m], size);
    let entries = Entries::<T>::new(rng, [n, m]);
    let attn_mask = entries.mask();
    let masks = masks(rng, [n, m], attn_mask.is_some());
    let stacks = case.stack(&masks, attn_mask.as_ref());
    let what = format!("seed {seed}: {n} x {m}, logits of {size}, {level}, {masks:?}, {}", entries.name());
    let threads = std::num::NonZeroUsize::new(one_of(rng, &[1, 2]));
    let options = Options { level: Some(level), key_block, threads, ..Options::default() };
    let forward = attention_stack(&stacks[0], (true, true), &options, None).expect("regular heads");
    let count: usize = HEADS.iter().product();
    let shaped = |array: &Array2<T>, shape: &[usize]| array.to_shape(shape).expect("as many").into_owned().into_dyn();
    let output = shaped(&forward.output, &[HEADS[0], HEADS[1], n, WIDTHS[1]]);
    let lse = shaped(forward.lse.as_ref().expect("it was wanted"), &[HEADS[0], HEADS[1], n]);
    let found = case.found(&stacks, None, &options).expect("regular heads");
    let again = case.found(&stacks, Some([&output, &lse]), &options).expect("regular heads");
    assert_eq!(found[0], forward.output, "{what}");
    if stacks[0].heads().iter().any(drowns) {
        return;
    }
    let log = stacks[0].heads().iter().map(largest_logit).fold(1.0, f64::max) + entries.largest();
    let dropped = (DROPPED - T::EXP2_MIN.widen().abs()).exp2() * log;
    let truths = case.truths(&stacks);
    for (results, more) in [(&found, 1.0), (&again, RESUMED)] {
        for (place, results) in results.iter().enumerate().skip(1) {
            let group = if place == 2 || place == 3 { 2 } else { 1 };
            for (number, truths) in truths.chunks(group).enumerate() {
                let of = |kind: usize| {
                    truths.iter().map(|truth| truth[kind][place].clone()).reduce(|a, b| a + b).unwrap_or_default()
                };
                let (want, sizes) = (of(0), of(1));
                let rows = want.nrows();
                let results = results.slice(s![number * rows..(number + 1) * rows, ..]);
                for ((found, want), size) in results.iter().zip(&want).zip(&sizes) {
                    let error = (found.widen() - want).abs();
                    let allowed = more * SLACK * T::UNIT_ROUNDOFF * (1.0 + log) * size + dropped;
                    assert!(error <= allowed, "{place} of {what}: {error:e} where {allowed:e} is allowed");
                }
            }
        }
    }
    assert!(count == truths.len() && case.shape == [n, m]);
}

#[test]
fn masks_in_single_precision() {
    (0..CASES).for_each(at_random::<f32>);
}

#[test]
fn masks_in_double_precision() {
    (0..CASES).for_each(at_random::<f64>);
}

/// Rows that see nothing and keys that nobody sees may hold anything, in the direction and in dout too.
#[test]
fn what_is_left_out_has_no_effect() {
    let rng = &mut Rng::new(0);
    let (n, m) = (40, 50);
    let mut case = Case::<f64>::new(rng, [n, m], 1.0);
    let (blind, unseen) = ([0, 17, 39], [3, 20, 21, 49]);
    let entries = Array2::from_shape_fn((n, m), |(j, i)| {
        u8::from(!blind.contains(&j) && !unseen.contains(&i) && (i + j) % 7 != 0)
    });
    let entries = entries.into_dyn();
    let want = case.under(&entries).expect("regular heads");
    for sides in [&mut case.sides, &mut case.changes] {
        for (side, rows) in sides.iter_mut().zip([&blind[..], &unseen, &unseen, &blind]) {
            for &row in rows {
                side.slice_each_axis_mut(|axis| if axis.axis.index() == 2 { (row..=row).into() } else { (..).into() })
                    .fill(f64::NAN);
            }
        }
    }
    let found = case.under(&entries).expect("regular heads");
    assert_eq!(found, want);
    let zero = |rows: ArrayView2<'_, f64>| assert!(rows.iter().all(|&x| x == 0.0));
    for &row in &blind {
        zero(found[1].slice(s![row..=row, ..]));
        zero(found[4].slice(s![row..=row, ..]));
    }
    for &row in &unseen {
        zero(found[2].slice(s![row..=row, ..]));
        zero(found[3].slice(s![row..=row, ..]));
    }
    // A number that somebody sees is named.
    let mut of_key: Array4<f64> = case.changes[1].clone().into_dimensionality().expect("four dimensions");
    of_key[[0, 0, 5, 1]] = f64::INFINITY;
    case.changes[1] = of_key.into_dyn();
    let found = case.under(&entries).err();
    assert!(matches!(found, Some(Error::NonFinite { argument: "dkey", row: 5, column: 1, .. })), "{found:?}");
}
