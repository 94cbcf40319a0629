//! Many heads as one computation: each has the bits that it has alone, whatever the threads; shared keys, given results
//! of the forward pass, views of any strides.

use std::num::NonZeroUsize;

use attngrad::exact::{self, Attended, Incoming, StackGradients, attention_stack, attention_stack_vjp};
use attngrad::{Error, Float, Heads, Level, Options, Request, Stack, attention, plan, reference};
use ndarray::{Array2, Array3, ArrayD, ArrayViewD, Axis, s};

use crate::data::Rng;

const THREADS: [usize; 3] = [1, 2, 3];

/// Query, key, value and dout of some heads.
struct Given<T> {
    query: ArrayD<T>,
    key: ArrayD<T>,
    value: ArrayD<T>,
    dout: ArrayD<T>,
    is_causal: bool,
    group: usize,
}

/// Queries, keys, and columns of queries and values.
type Size = (usize, usize, usize, usize);

fn stack_of<T: Float>(heads: usize, rows: usize, columns: usize, size: f64, seed: u64) -> ArrayD<T> {
    let mut rng = Rng::new(seed);
    Array3::from_shape_simple_fn((heads, rows, columns), || T::narrow(size * rng.uniform())).into_dyn()
}

impl<T: Float> Given<T> {
    /// `size` moves the logits from where no shift is needed to where it moves.
    fn new(heads: usize, group: usize, (n, m, d, dv): Size, size: f64, is_causal: bool) -> Self {
        let shared = heads / group;
        Given {
            query: stack_of(heads, n, d, size, 1),
            key: stack_of(shared, m, d, size, 2),
            value: stack_of(shared, m, dv, 1.0, 3),
            dout: stack_of(heads, n, dv, 1.0, 4),
            is_causal,
            group,
        }
    }

    fn stack(&self) -> Stack<'_, T> {
        let stack = Stack::new(&self.query.view(), &self.key.view(), &self.value.view(), self.group > 1);
        stack.expect("the shapes fit").with_causal(self.is_causal)
    }

    fn head(&self, number: usize) -> (Heads<'_, T>, ndarray::ArrayView2<'_, T>) {
        (self.stack().heads()[number], self.stack().outputs("dout", &self.dout.view()).expect("it fits")[number])
    }

    fn attend(&self, options: &Options) -> Attended<T> {
        attention_stack(&self.stack(), (true, true), options, None).expect("regular heads")
    }

    fn pull_back(&self, saved: Option<&Attended<T>>, is_coarse: bool, options: &Options) -> StackGradients<T> {
        let stack = self.stack();
        let dout = stack.outputs("dout", &self.dout.view()).expect("it fits");
        let arrays = saved.map(|saved| {
            let shape = self.dout.shape();
            let lse = saved.lse.clone().expect("it was wanted").into_dyn();
            (saved.output.clone().into_shape_with_order(shape).expect("as many numbers"), lse)
        });
        let saved = arrays.as_ref().map(|(output, lse)| stack.saved(&output.view(), &lse.view()).expect("they fit"));
        let incoming = Incoming { dout, saved };
        attention_stack_vjp(&stack, &incoming, (is_coarse, true), options, None).expect("regular heads")
    }
}

fn threads(count: usize, level: Level) -> Options {
    Options { threads: NonZeroUsize::new(count), level: Some(level), ..Options::default() }
}

fn bits<T: Float>(array: impl IntoIterator<Item = T>) -> Vec<u64> {
    array.into_iter().map(|x| x.widen().to_bits()).collect()
}

/// Sizes of short heads, of some around tiles, without queries, keys or columns; and of heads that are cut into blocks.
const SIZES: [Size; 9] = [
    (1, 1, 1, 1),
    (33, 50, 8, 5),
    (64, 64, 16, 16),
    (1, 700, 9, 3),
    (0, 5, 2, 3),
    (7, 0, 2, 3),
    (4, 6, 0, 2),
    (4, 6, 2, 0),
    (500, 450, 24, 16),
];

fn alone_or_stacked<T: Float>(level: Level) {
    for size in SIZES {
        for is_causal in [false, true] {
            let given = Given::<T>::new(5, 1, size, 2.0, is_causal);
            let what = format!("{size:?}, causal {is_causal}, {}, {}", T::NAME, level.name());
            let (n, m) = (size.0, size.1);
            for count in THREADS {
                let options = threads(count, level);
                let (all, found) = (given.attend(&options), given.pull_back(None, false, &options));
                for number in 0..5 {
                    let (head, dout) = given.head(number);
                    let output = attention(&head, &options, None).expect("a regular head");
                    let rows = s![number * n..(number + 1) * n, ..];
                    assert_eq!(bits(output), bits(all.output.slice(rows).iter().copied()), "the output of {what}");
                    let alone = exact::attention_vjp(&head, dout, &options, None).expect("a regular head");
                    let parts = [(alone.query, n), (alone.key, m), (alone.value, m)];
                    for (place, ((gradient, rounding), rows)) in parts.into_iter().enumerate() {
                        let own = found.values[place].slice(s![number * rows..(number + 1) * rows, ..]);
                        assert_eq!(bits(gradient), bits(own.iter().copied()), "gradient {place} of {what}");
                        let estimate = found.estimates[place][number].rounding;
                        assert_eq!(rounding.to_bits(), estimate.to_bits(), "its error, {what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_head_has_the_bits_that_it_has_alone() {
    for level in Level::available() {
        alone_or_stacked::<f32>(level);
        alone_or_stacked::<f64>(level);
    }
}

/// The results of the forward pass carry its rounding error, and that of the logarithm grows with it.
fn resumed<T: Float>(level: Level) {
    /// Roundings that both ways may differ by, of the sums of absolute values.
    const SLACK: f64 = 100.0;
    /// Directions of rows, whose norm is one in the coarse estimate, are single numbers in the fine one.
    const SKETCH_ROUNDING: f64 = 1e-6;
    for size in [(1, 1, 1, 1), (33, 50, 8, 5), (130, 250, 17, 16), (300, 300, 64, 64), (50, 700, 4, 3), (7, 0, 2, 3)] {
        for is_causal in [false, true] {
            for scale in [1.0, 8.0] {
                let given = Given::<T>::new(3, 1, size, scale, is_causal);
                let options = threads(2, level);
                let forward = given.attend(&options);
                let (whole, again) =
                    (given.pull_back(None, false, &options), given.pull_back(Some(&forward), true, &options));
                let lse = forward.lse.expect("it was wanted");
                let growth =
                    1.0 + lse.iter().filter(|x| x.is_finite()).fold(0.0, |max: f64, x| max.max(x.widen().abs()));
                let largest = |array: &Array2<T>| array.iter().fold(0.0, |max: f64, x| max.max(x.widen().abs()));
                for (place, (one, other)) in whole.values.iter().zip(&again.values).enumerate() {
                    let size_of = largest(one).max(T::UNIT_ROUNDOFF);
                    let difference = one.iter().zip(other).fold(0.0, |max: f64, (a, b)| {
                        let difference = (a.widen() - b.widen()).abs();
                        if difference.is_nan() { f64::INFINITY } else { max.max(difference) }
                    });
                    let allowed = SLACK * T::UNIT_ROUNDOFF * growth * size_of * scale;
                    let what = format!(
                        "{place} of {size:?}, causal {is_causal}, scale {scale}, {}, {}",
                        T::NAME,
                        level.name()
                    );
                    assert!(difference <= allowed, "{difference:e} where {allowed:e} is allowed: {what}");
                    let errors = again.estimates[place].iter().zip(&whole.estimates[place]);
                    for (coarse, fine) in errors {
                        assert!(
                            (1.0 + SKETCH_ROUNDING) * coarse.rounding >= fine.rounding,
                            "{coarse:?} below {fine:?}: {what}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn results_of_the_forward_pass_are_used_again() {
    for level in Level::available() {
        resumed::<f32>(level);
        resumed::<f64>(level);
    }
}

/// The logarithm against the reference's logits; none where nothing is seen.
#[test]
fn the_logarithm_of_the_normaliser() {
    for is_causal in [false, true] {
        for scale in [1.0, 30.0] {
            let given = Given::<f64>::new(2, 1, (40, 30, 6, 2), scale, is_causal);
            let lse = given.attend(&Options::default()).lse.expect("it was wanted");
            for number in 0..2 {
                let query = given.query.index_axis(Axis(0), number).into_dimensionality::<ndarray::Ix2>().expect("two");
                let key = given.key.index_axis(Axis(0), number).into_dimensionality::<ndarray::Ix2>().expect("two");
                let logits = query.dot(&key.t()) / 6.0_f64.sqrt();
                for (j, row) in logits.rows().into_iter().enumerate() {
                    let seen = if is_causal { (j + 1).min(30) } else { 30 };
                    let most = row.iter().take(seen).copied().fold(f64::NEG_INFINITY, f64::max);
                    let want = most + row.iter().take(seen).map(|x| (x - most).exp()).sum::<f64>().ln();
                    let error = (lse[[number, j]] - want).abs();
                    assert!(error <= 1e-13 * (1.0 + want.abs()), "{error:e} of {want}");
                }
            }
        }
    }
    let none = Given::<f32>::new(2, 1, (4, 0, 3, 2), 1.0, false).attend(&Options::default());
    assert!(none.lse.expect("it was wanted").iter().all(|&x| x == f32::NEG_INFINITY));
    assert!(none.output.iter().all(|&x| x == 0.0));
}

/// Query heads share key heads as if those were repeated, and the gradients are their sums in the order of the heads.
#[test]
fn shared_keys_are_repeated_keys() {
    for group in [2, 3, 6] {
        let given = Given::<f32>::new(6, group, (20, 30, 5, 4), 2.0, true);
        let repeated = |array: &ArrayD<f32>| {
            let each: Vec<ArrayViewD<'_, f32>> = (0..6).map(|head| array.index_axis(Axis(0), head / group)).collect();
            ndarray::stack(Axis(0), &each).expect("one shape")
        };
        let (key, value) = (repeated(&given.key), repeated(&given.value));
        let plain =
            Given { query: given.query.clone(), key, value, dout: given.dout.clone(), is_causal: true, group: 1 };
        for count in THREADS {
            let options = threads(count, Level::available().pop().expect("there is one"));
            assert_eq!(given.attend(&options).output, plain.attend(&options).output);
            let (shared, all) = (given.pull_back(None, false, &options), plain.pull_back(None, false, &options));
            assert_eq!(shared.values[0], all.values[0]);
            for place in [1, 2] {
                let columns = all.values[place].ncols();
                let each = all.values[place].clone().into_shape_with_order((6 / group, group, 30, columns));
                let sums = each.expect("as many numbers").mapv(f64::from).sum_axis(Axis(1)).mapv(|x| x as f32);
                assert_eq!(bits(shared.values[place].iter().copied()), bits(sums.iter().copied()));
                assert_eq!(shared.estimates[place].len(), 6 / group);
                assert!(shared.estimates[place].iter().all(|one| one.rounding > 0.0 && one.norm > 0.0));
            }
        }
    }
}

/// Views that are transposed, reversed or of one matrix again and again are read where they are.
#[test]
fn strides_do_not_matter() {
    let given = Given::<f64>::new(3, 1, (20, 30, 5, 4), 1.0, false);
    let options = Options::default();
    let turned = |array: &ArrayD<f64>| {
        let columns = array.clone().permuted_axes(vec![2, 0, 1]).as_standard_layout().into_owned();
        columns.permuted_axes(vec![1, 2, 0])
    };
    let odd = Given {
        query: turned(&given.query),
        key: turned(&given.key),
        value: turned(&given.value),
        dout: turned(&given.dout),
        ..Given::<f64>::new(3, 1, (1, 1, 1, 1), 1.0, false)
    };
    assert!(!odd.query.is_standard_layout());
    assert_eq!(odd.attend(&options).output, given.attend(&options).output);
    assert_eq!(odd.pull_back(None, false, &options).values, given.pull_back(None, false, &options).values);
    // One key head for all, by a stride of zero.
    let key = given.key.slice(s![..1, .., ..]).into_dyn();
    let one = key.broadcast(vec![3, 30, 5]).expect("one head for all");
    let stack = Stack::new(&given.query.view(), &one, &given.value.view(), false).expect("the shapes fit");
    let all = attention_stack(&stack, (false, true), &options, None).expect("regular heads").output;
    let copied = Given { key: one.to_owned(), ..given };
    assert_eq!(all, copied.attend(&options).output);
}

#[test]
fn more_heads_than_sixteen_bits_count() {
    let heads = 70_000;
    let given = Given::<f32>::new(heads, 1, (1, 2, 1, 1), 1.0, false);
    let (all, found) = (given.attend(&Options::default()), given.pull_back(None, true, &Options::default()));
    assert_eq!(found.values[0].dim(), (heads, 1));
    for number in [0, 65_535, 65_536, heads - 1] {
        let (head, dout) = given.head(number);
        let want = reference::attention(&head);
        assert!((f64::from(all.output[[number, 0]]) - want[[0, 0]]).abs() <= 1e-6);
        let want = &reference::attention_vjp(&head, dout)[2];
        let got = found.values[2].slice(s![2 * number..2 * number + 2, ..]).mapv(f64::from);
        assert!((&got - want).iter().all(|error| error.abs() <= 1e-6), "{got} where {want} is right");
    }
}

/// Of several heads with bad numbers the first is named, whichever is done first; also where no query sees them.
#[test]
fn bad_heads() {
    for count in THREADS {
        let mut given = Given::<f32>::new(40, 1, (8, 12, 4, 3), 1.0, true);
        for (head, row) in [(31, 5), (7, 11), (22, 0)] {
            given.key[[head, row, 2]] = f32::NAN;
        }
        let options = threads(count, Level::available().pop().expect("there is one"));
        let found = attention_stack(&given.stack(), (false, true), &options, None).expect_err("there is a NaN");
        let want = Error::NonFinite { argument: "key", found: "NaN".into(), row: 11, column: 2 };
        assert_eq!(found, want);
        // Unless it is looked for, a number that nobody sees does not matter.
        let found = attention_stack(&given.stack(), (false, false), &options, None).expect_err("some see a NaN");
        assert_eq!(found, Error::NonFinite { argument: "key", found: "NaN".into(), row: 0, column: 2 });
    }
}

#[test]
fn misfits() {
    let [query, key, odd] = [6, 3, 4].map(|heads| ArrayD::<f64>::zeros(vec![heads, 5, 2]));
    let message = |key: &ArrayD<f64>, value: &ArrayD<f64>, enable_gqa| {
        Stack::new(&query.view(), &key.view(), &value.view(), enable_gqa).expect_err("they do not fit").to_string()
    };
    assert!(message(&key, &key, false).starts_with("key: found shape [3, 5, 2]; query has leading dimensions 6"));
    assert!(message(&odd, &odd, true).starts_with("key: found shape [4, 5, 2]; query has 6 heads"));
    assert!(message(&key, &query, true).starts_with("value: found shape [6, 5, 2]; key has leading dimensions 3"));
    let stack = Stack::new(&query.view(), &key.view(), &key.view(), true).expect("three pairs");
    let lse = ArrayD::<f64>::zeros(vec![6, 4]);
    let found = stack.saved(&query.view(), &lse.view()).expect_err("a row is missing").to_string();
    assert!(found.starts_with("lse: found shape [6, 4]"), "{found}");
}

/// A polynomial has no shared keys, and no use for results of the forward pass.
#[test]
fn a_polynomial_is_of_separate_heads() {
    let given = Given::<f64>::new(4, 2, (8, 12, 4, 3), 0.1, false);
    let (stack, request) = (given.stack(), Request::default().degree(2));
    let dout = stack.outputs("dout", &given.dout.view()).expect("it fits");
    let heads: Vec<plan::Pulled<'_, f64>> = stack.heads().iter().copied().zip(dout.iter().copied()).collect();
    let decision = plan::decide_heads(&heads, &request).expect("a degree is given");
    let incoming = Incoming { dout: dout.clone(), saved: None };
    let found = plan::solve_stack(&stack, &incoming, decision, (&request, true), None).expect_err("keys are shared");
    assert!(found.to_string().starts_with("enable_gqa: found heads that share keys"), "{found}");
}
