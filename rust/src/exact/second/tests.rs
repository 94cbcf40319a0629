//! Both second derivatives against dense formulas in double precision, at every tile shape; the same with results of the
//! forward pass, and with a direction of dout; in `masks` those of masks of any kind.

mod masks;

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::{Pushed, attention_stack_hvp, attention_stack_jvp};
use crate::exact::stack::{Incoming, attention_stack};
use crate::float::Float;
use crate::options::{Isa, Level, Options};
use crate::problem::{Heads, Saved, Stack};
use crate::reference;
use crate::runtime::rng::Rng;

/// Around tiles of queries, strips, blocks and chunks of keys, groups and waves of queries; and nothing at all.
const SHAPES: [(usize, usize); 12] = [
    (0, 3),
    (3, 0),
    (1, 1),
    (5, 3),
    (31, 34),
    (64, 121),
    (65, 24),
    (100, 130),
    (257, 250),
    (70, 500),
    (300, 70),
    (1, 300),
];

/// Columns of query and value: fewer than a register, around two of them, none.
const WIDTHS: [(usize, usize); 4] = [(5, 3), (33, 40), (0, 2), (3, 0)];

/// Roundings of the sums of absolute values that a result may be off by.
const SLACK: f64 = 8.0;

/// Query, key, value and dout.
type Sides<T> = [Array2<T>; 4];

struct Case<T> {
    sides: Sides<T>,
    changes: Sides<T>,
    is_causal: bool,
}

/// o, and the Hessian of ⟨c, o⟩ times the direction.
type Found = [Array2<f64>; 5];

/// The definitions, with sums of absolute values in the place of all sums where `sizes`.
fn dense<T: Float>(
    head: &Heads<'_, T>,
    direction: &Heads<'_, T>,
    [c, dc]: [ArrayView2<'_, T>; 2],
    sizes: bool,
) -> Found {
    let sized = |array: ArrayView2<'_, T>| array.mapv(|x| if sizes { x.widen().abs() } else { x.widen() });
    let [q, k, v, c] = [head.query, head.key, head.value, c].map(sized);
    let [dq, dk, dv, dc] = [direction.query, direction.key, direction.value, dc].map(sized);
    let one = Array2::eye(k.nrows());
    let f = reference::attention(&Heads { value: one.view(), ..head.reborrow() });
    let sign = if sizes { -1.0 } else { 1.0 };
    let rows = |matrix: &Array2<f64>| matrix.sum_axis(Axis(1)).insert_axis(Axis(1));
    let less = |matrix: Array2<f64>, row: Array2<f64>| matrix - sign * row;
    let scale = if sizes { head.scale.abs() } else { head.scale };
    let logits = scale * (dq.dot(&k.t()) + q.dot(&dk.t()));
    let df = &f * &less(logits.clone(), rows(&(&f * &logits)));
    let (slope, dslope) = (c.dot(&v.t()), c.dot(&dv.t()) + dc.dot(&v.t()));
    let g = less(slope.clone(), rows(&(&f * &slope)));
    let dr = rows(&(&df * &slope + &f * &dslope));
    let (p, dp) = (&f * &g, &df * &g + &f * &less(dslope, dr));
    [
        f.dot(&v),
        scale * (dp.dot(&k) + p.dot(&dk)),
        scale * (dp.t().dot(&q) + p.t().dot(&dq)),
        df.t().dot(&c) + f.t().dot(&dc),
        df.dot(&v) + f.dot(&dv),
    ]
}

/// Of all pairs, without what a mask adds.
fn largest_logit<T: Float>(head: &Heads<'_, T>) -> f64 {
    let [q, k] = [head.query, head.key].map(|side| side.mapv(|x| x.widen()));
    (head.scale * q.dot(&k.t())).iter().fold(0.0, |most: f64, x| most.max(x.abs()))
}

impl<T: Float> Case<T> {
    fn new((n, m): (usize, usize), (d, dv): (usize, usize), size: f64, is_causal: bool) -> Self {
        let mut rng = Rng::new((1000 * n + m) as u64);
        let mut matrices = |size: f64| {
            [(n, d, size), (m, d, 1.0), (m, dv, 1.0), (n, dv, 1.0)].map(|(rows, columns, size)| {
                Array2::from_shape_simple_fn((rows, columns), || T::narrow(size * (2.0 * rng.unit() - 1.0)))
            })
        };
        Case { sides: matrices(size), changes: matrices(1.0), is_causal }
    }

    fn dense(&self, sizes: bool) -> Found {
        let (stack, direction) = (self.stack(&self.sides), self.stack(&self.changes));
        let (head, direction) = (&stack.heads()[0], &direction.heads()[0]);
        dense(head, direction, [self.sides[3].view(), self.changes[3].view()], sizes)
    }

    fn stack(&self, sides: &'_ Sides<T>) -> Stack<'static, T>
    where
        T: 'static,
    {
        // Tests may leak.
        let [query, key, value, _] = sides.each_ref().map(|side| &*Box::leak(Box::new(side.clone())));
        let heads = Heads::new(query.view(), key.view(), value.view()).expect("the shapes fit");
        Stack::of(vec![heads.with_causal(self.is_causal)]).expect("one head")
    }

    fn found(&self, saved: Option<&(Array2<T>, Array1<T>)>, with_change: bool, options: &Options) -> [Array2<T>; 5] {
        let (stack, direction) = (self.stack(&self.sides), self.stack(&self.changes));
        let saved = saved.map(|(output, lse)| Saved { output: vec![output.view()], lse: vec![lse.view()] });
        let Pushed { output, tangent } =
            attention_stack_jvp(&stack, &direction, saved.as_ref(), true, options, None).expect("a regular head");
        let change: [ArrayView2<'_, T>; 1] = [self.changes[3].view()];
        let incoming = Incoming { dout: vec![self.sides[3].view()], saved };
        let change = with_change.then_some(&change[..]);
        let [query, key, value, dout] =
            attention_stack_hvp(&stack, &direction, (&incoming, change), true, options, None).expect("a regular head");
        assert_eq!(tangent, dout, "ȯ of both");
        [output.unwrap_or_else(|| self.dense(false)[0].mapv(T::narrow)), query, key, value, dout]
    }

    fn check(&mut self, level: Level, what: &str) {
        let options = Options { level: Some(level), ..Options::default() };
        let forward = attention_stack(&self.stack(&self.sides), (true, true), &options, None).expect("a regular head");
        let saved = (forward.output, forward.lse.expect("it was wanted").index_axis_move(Axis(0), 0));
        let stack = self.stack(&self.sides);
        let log = largest_logit(&stack.heads()[0]).max(1.0);
        for (saved, with_change) in [(None, true), (Some(&saved), true), (None, false)] {
            if !with_change {
                self.changes[3].fill(T::zero());
            }
            let found = self.found(saved, with_change, &options);
            let (want, sizes) = (self.dense(false), self.dense(true));
            for (place, found) in found.iter().enumerate() {
                assert_eq!(found.dim(), want[place].dim());
                for ((found, want), size) in found.iter().zip(&want[place]).zip(&sizes[place]) {
                    let error = (found.widen() - want).abs();
                    let allowed = SLACK * T::UNIT_ROUNDOFF * (1.0 + log) * size + T::MIN_EXP.exp2();
                    assert!(error <= allowed, "{place} of {what}: {error:e} where {allowed:e} is allowed");
                }
            }
        }
    }
}

fn every_shape<T: Float>() {
    for level in Isa::shapes().map(Isa::level) {
        for shape in SHAPES {
            for (number, widths) in WIDTHS.into_iter().enumerate() {
                // Long heads of one width alone: the dense formulas take their time.
                if number > 0 && shape.0 * shape.1 > 8000 {
                    continue;
                }
                for is_causal in [false, true] {
                    for size in [0.5, 20.0] {
                        let what = format!("{shape:?}, {widths:?}, causal {is_causal}, size {size}, {level}");
                        Case::<T>::new(shape, widths, size, is_causal).check(level, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn every_shape_in_single_precision() {
    every_shape::<f32>();
}

#[test]
fn every_shape_in_double_precision() {
    every_shape::<f64>();
}
