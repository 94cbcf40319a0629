//! Half precision: every number that there is, the rounding of others, and masks that are read in it.

use attngrad::exact::{Incoming, attention_stack, attention_stack_vjp};
use attngrad::plan::{Norm, Wanted};
use attngrad::reference::half_number;
use attngrad::{
    AttnMask, Error, Half, Heads, Masks, Options, Problem, Request, Stack, Weights, Wrt, attention_vjp, loss_gradient,
};
use ndarray::{Array1, Array2, Array3, ArrayD, s};

use crate::data::Rng;

/// Numbers around the edges of the tasks that a conversion is cut into.
const LENGTHS: [usize; 6] = [0, 1, 63, 65, (1 << 14) + 1, 70_001];

fn array(rng: &mut Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || (2.0 * rng.uniform() - 1.0) as f32)
}

/// The number of the format that is nearest to x, and the even one of two, by a look at all of them.
fn nearest(sorted: &[(f64, u16)], x: f32) -> u16 {
    let x = f64::from(x);
    let above = sorted.partition_point(|(number, _)| *number < x);
    let around = above.saturating_sub(2)..(above + 2).min(sorted.len());
    let order = |&(number, bits): &(f64, u16)| ((number - x).abs(), bits & 1);
    let best = sorted[around].iter().min_by(|a, b| order(a).partial_cmp(&order(b)).expect("numbers"));
    let (number, bits) = best.expect("there are some");
    // Zero keeps its sign.
    if *number == 0.0 { u16::from(x.is_sign_negative()) << 15 } else { *bits }
}

#[test]
fn every_number_is_read_as_what_it_stands_for() {
    let bits = Array1::from_iter(0..=u16::MAX).into_dyn();
    for half in Half::ALL {
        let found = half.widened(&bits.view(), &Options::default()).expect("there is memory");
        for (&bits, found) in bits.iter().zip(found) {
            let want = half_number(half, bits);
            assert!(f64::from(found) == want || (found.is_nan() && want.is_nan()), "{half} {bits:x}: {found}, {want}");
            assert!(found.is_nan() || found.is_sign_negative() == (bits >> 15 == 1));
        }
    }
}

#[test]
fn any_strides_are_read() {
    let options = Options::default();
    let whole = Array3::from_shape_fn((5, 7, 130), |(a, b, c)| (a * 911 + b * 131 + c) as u16).into_dyn();
    let mut turned = whole.view();
    turned.swap_axes(0, 2);
    let every_other = whole.slice(s![.., ..;-1, ..;2]).into_dyn();
    let shown = whole.slice(s![..1, .., ..]).into_dyn();
    let shown = shown.broadcast(ndarray::IxDyn(&[3, 5, 7, 130][1..])).expect("one matrix for all");
    let point = ndarray::arr0(0x3c00_u16).into_dyn();
    for view in [whole.view(), turned, every_other, shown, point.view()] {
        for half in Half::ALL {
            let want: Vec<f64> = view.iter().map(|&bits| half_number(half, bits)).collect();
            let found = half.widened(&view, &options).expect("there is memory");
            assert!(found.iter().map(|&x| f64::from(x)).eq(want), "{half} {:?}", view.strides());
        }
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest() {
    for half in Half::ALL {
        let finite = |bits: &u16| half_number(half, *bits).is_finite();
        let mut sorted: Vec<(f64, u16)> =
            (0..=u16::MAX).filter(finite).map(|bits| (half_number(half, bits), bits)).collect();
        sorted.sort_by(|a, b| a.partial_cmp(b).expect("numbers"));
        let (largest, mut rng) = (half.largest() as f32, Rng::new(3));
        let mut numbers = vec![0.0, -0.0, largest, -largest, 1.0 + 2.0_f32.powi(-9), 1.0 + 3.0 * 2.0_f32.powi(-9)];
        for bits in (0..=u16::MAX).step_by(7).filter(finite) {
            let x = half_number(half, bits) as f32;
            // The number, the middle between it and the next, and both sides of that.
            let middle = (f64::from(x) + half_number(half, bits & 0x8000 | (bits & 0x7fff).saturating_sub(1))) / 2.0;
            let middle = middle as f32;
            numbers.extend([x, middle, middle.next_up(), middle.next_down()]);
        }
        numbers.extend((0..1000).map(|_| (rng.uniform() * 4.0 - 2.0) as f32));
        let found = half.halved(&numbers, "a test", &Options::default()).expect("none is too large");
        for (&x, &bits) in numbers.iter().zip(&found.bits) {
            assert_eq!(bits, nearest(&sorted, x), "{half}: {x:e}");
        }
    }
}

#[test]
fn the_error_is_never_below_the_truth() {
    for half in Half::ALL {
        for length in LENGTHS {
            let mut rng = Rng::new(length as u64);
            let numbers: Vec<f32> = (0..length).map(|_| (rng.uniform() * 20.0 - 10.0) as f32).collect();
            let found = half.halved(&numbers, "a test", &Options::default()).expect("none is too large");
            let rounded = found.bits.iter().map(|&bits| half_number(half, bits));
            let errors: Vec<f64> = rounded.clone().zip(&numbers).map(|(r, &x)| (r - f64::from(x)).abs()).collect();
            let root = |squares: f64| squares.sqrt();
            let truth = root(errors.iter().map(|error| error * error).sum());
            let size = root(rounded.clone().map(|x| x * x).sum());
            assert!(found.norm[1] >= truth && found.norm[1] <= truth * (1.0 + 1e-9), "{half} {length}");
            assert!((found.norm[0] - size).abs() <= 1e-12 * size);
            assert_eq!(found.largest[1], errors.iter().copied().fold(0.0, f64::max));
            assert_eq!(found.largest[0], rounded.fold(0.0, |most: f64, x| most.max(x.abs())));
        }
        // What is there already has no error, and no bound above zero.
        let exact: Vec<f32> = (0..100).map(|k| (k as f32 - 50.0) / 4.0).collect();
        let found = half.halved(&exact, "a test", &Options::default()).expect("none is too large");
        assert_eq!((found.norm[1], found.largest[1]), (0.0, 0.0));
    }
}

#[test]
fn what_is_too_large_is_named() {
    let options = Options::default();
    for (half, most, above) in [(Half::Float16, 65519.0_f32, 65520.0), (Half::Bfloat16, 3.39e38, f32::MAX)] {
        assert!(half.halved(&[most, -most], "a test", &options).is_ok());
        for x in [above, -above] {
            match half.halved(&[1.0, x], "the test", &options) {
                Err(Error::Range { quantity, precision, .. }) => {
                    assert_eq!((quantity.as_str(), precision), ("the test", half.name()));
                }
                other => panic!("{half} {x}: {other:?}"),
            }
        }
        // What is no number was none before.
        let found = half.halved(&[f32::INFINITY, f32::NAN], "a test", &options).expect("nothing overflows");
        assert_eq!(half_number(half, found.bits[0]), f64::INFINITY);
        assert!(half_number(half, found.bits[1]).is_nan());
        assert_eq!((found.norm[1], found.largest[1].is_nan()), (f64::INFINITY, true));
    }
}

/// Output, logarithms and gradients of query, key, value and dout under a mask.
fn found<'a>(
    [q, k, v, dout]: [&'a ArrayD<f32>; 4],
    masks: &'a Masks,
    mask: &'a AttnMask<'a, f32>,
) -> (Array2<f32>, Option<Array2<f32>>, [Array2<f32>; 3]) {
    let stack = Stack::new(&q.view(), &k.view(), &v.view(), false).expect("they fit");
    let stack = stack.with_masks(masks, Some(mask)).expect("it broadcasts");
    let incoming = Incoming { dout: stack.outputs("dout", &dout.view()).expect("it fits"), saved: None };
    let options = Options::default();
    let forward = attention_stack(&stack, (true, true), &options, None).expect("regular heads");
    let back = attention_stack_vjp(&stack, &incoming, (false, true), &options, None).expect("regular heads");
    (forward.output, forward.lse, back.values)
}

/// Results with a mask in half precision have the bits of those with its numbers in single precision.
#[test]
fn masks_are_read_as_they_are() {
    let mut rng = Rng::new(11);
    let (heads, n, m, d) = (2, 37, 51, 5);
    let [q, k, v, dout] = [n, m, m, n].map(|rows| {
        let rows = array(&mut rng, heads * rows, d);
        let of_each = rows.nrows() / heads;
        rows.into_shape_with_order((heads, of_each, d)).expect("as many").into_dyn()
    });
    for half in Half::ALL {
        let lowest = half.largest() as f32;
        for shape in [&[n, m][..], &[heads, 1, m], &[heads, n, m], &[m]] {
            let numbers = ArrayD::from_shape_simple_fn(shape, || match (rng.uniform() * 8.0) as usize {
                0 => f32::NEG_INFINITY,
                1 => -lowest,
                2 => -lowest / 4.0,
                _ => (rng.uniform() * 4.0 - 2.0) as f32,
            });
            let flat: Vec<f32> = numbers.iter().copied().collect();
            let bits = half.halved(&flat, "a mask", &Options::default()).expect("none is too large").bits;
            let bits = ArrayD::from_shape_vec(shape, bits).expect("as many");
            let shown = bits.mapv(|bits| match half_number(half, bits) as f32 {
                x if x < -lowest / 8.0 => f32::NEG_INFINITY,
                x => x,
            });
            let turned = bits.t().as_standard_layout().into_owned().reversed_axes();
            let masks = [AttnMask::Halves(half, bits.view()), AttnMask::Halves(half, turned.view())];
            let (plain, single) = (Masks::new(), AttnMask::Added(shown.view()));
            let want = found([&q, &k, &v, &dout], &plain, &single);
            for mask in &masks {
                assert!(found([&q, &k, &v, &dout], &plain, mask) == want, "{half} {shape:?}");
            }
        }
    }
}

/// The gradients are those of single precision, rounded; the certificates hold for what they have become.
#[test]
fn certificates_hold_for_what_was_rounded() {
    let mut rng = Rng::new(5);
    let made = |rng: &mut Rng, rows| array(rng, rows, 6);
    let (a1, a2, a3, x, y, e) = (
        made(&mut rng, 40),
        made(&mut rng, 30),
        made(&mut rng, 30),
        made(&mut rng, 6),
        made(&mut rng, 6),
        made(&mut rng, 40),
    );
    let problem = Problem::new(a1.view(), a2.view(), a3.view(), Weights::Product(x.view()), y.view(), e.view());
    let problem = problem.expect("they fit");
    for norm in [Norm::Frobenius, Norm::Largest] {
        for wanted in [Wanted::Exact, Wanted::Polynomial(Some(3))] {
            let request = Request::default().method(wanted).norm(norm);
            let mut found = loss_gradient(&problem, &[Wrt::X, Wrt::A1], &request).expect("small logits");
            let before: Vec<(Array2<f32>, _)> =
                found.gradients.iter().map(|one| (one.value.clone(), one.certificate)).collect();
            for half in Half::ALL {
                let bits = found.halved(half, &["X", "A1"], &request).expect("none is too large");
                for ((one, (value, certificate)), bits) in found.gradients.iter_mut().zip(&before).zip(bits) {
                    let rounded = bits.iter().map(|&bits| half_number(half, bits) as f32).collect::<Vec<_>>();
                    let rounded = Array2::from_shape_vec(value.dim(), rounded).expect("as many");
                    let error = norm.of(&(&rounded - value));
                    let new = one.certificate;
                    assert!(new.absolute >= (certificate.absolute + error) * (1.0 - 1e-6), "{half} {norm:?}");
                    assert!(new.absolute <= (certificate.absolute + error) * (1.0 + 1e-6), "{half} {norm:?}");
                    assert_eq!((new.kind, new.truncation), (certificate.kind, certificate.truncation));
                    assert!((new.size - norm.of(&rounded)).abs() <= 1e-6 * new.size);
                    one.certificate = *certificate;
                }
            }
        }
    }
}

/// A tolerance that single precision meets may be missed by what is rounded from it.
#[test]
fn the_rounding_is_judged() {
    let mut rng = Rng::new(7);
    let [q, k, v, dout] = [20, 20, 20, 20].map(|rows| array(&mut rng, rows, 4));
    let head = (Heads::new(q.view(), k.view(), v.view()).expect("they fit"), dout.view());
    let request = Request::default().rtol(1e-4);
    let mut found = attention_vjp(&[head], &request).expect("a regular head");
    assert!(found.gradients.iter().all(|one| one.certificate.reached == Some(true)));
    found.halved(Half::Bfloat16, &["query", "key", "value"], &request).expect("none is too large");
    assert!(found.gradients.iter().all(|one| one.certificate.reached == Some(false)));
}
