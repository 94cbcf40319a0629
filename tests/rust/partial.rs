//! States of shards: any split gives the whole, bytes say the same, and what does not belong together is refused.

use attngrad::partial::{Frame, GradientState, KeyState, QueryState, SoftmaxState, gather};
use attngrad::reference::{self, Reference};
use attngrad::rng::Rng;
use attngrad::{Error, Heads, Options, Problem, Request, Weights, Wrt, attention};
use ndarray::{Array2, ArrayView2, Axis, s};
use proptest::prelude::*;

/// P misses exp by less than rounding at this degree, for logits of at most a tenth.
const DEGREE: usize = 9;

/// Relative error of a few hundred terms in another order, with room for what cancels.
const ROUNDING: f64 = 1e-11;

const SIZES: [usize; 2] = [60, 47];
const WRT: [Wrt; 4] = [Wrt::X, Wrt::Y, Wrt::A1, Wrt::A3];

struct Case {
    A1: Array2<f64>,
    A2: Array2<f64>,
    A3: Array2<f64>,
    X: Array2<f64>,
    Y: Array2<f64>,
    E: Array2<f64>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut matrix =
            |rows: usize, columns: usize| Array2::from_shape_simple_fn((rows, columns), || 0.6 * rng.unit() - 0.3);
        let [n, m] = SIZES;
        Case { A1: matrix(n, 3), A2: matrix(m, 2), A3: matrix(m, 4), X: matrix(3, 2), Y: matrix(4, 3), E: matrix(n, 3) }
    }

    /// The shard of some queries and some keys.
    fn shard(&self, queries: std::ops::Range<usize>, keys: std::ops::Range<usize>) -> Problem<'_, f64> {
        let rows = |array: &'static str| match array {
            "A1" => self.A1.slice(s![queries.clone(), ..]),
            "E" => self.E.slice(s![queries.clone(), ..]),
            "A2" => self.A2.slice(s![keys.clone(), ..]),
            _ => self.A3.slice(s![keys.clone(), ..]),
        };
        let weights = Weights::Product(self.X.view());
        Problem::new(rows("A1"), rows("A2"), rows("A3"), weights, self.Y.view(), rows("E")).expect("the shapes fit")
    }

    fn frame(&self, degree: usize, wrt: &[Wrt]) -> Frame {
        Frame::fit(&self.shard(0..20, 0..20), wrt, degree, &Options::default()).expect("small logits")
    }
}

fn close(found: ArrayView2<'_, f64>, wanted: ArrayView2<'_, f64>) {
    let size = wanted.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!((found - wanted).abs() <= ROUNDING * size, "{found:e} for {wanted:e}");
    }
}

proptest! {
    #[test]
    fn any_two_shards_give_the_whole(cut in 0..=SIZES[0], keys_cut in 0..=SIZES[1], backwards in any::<bool>()) {
        let (case, options) = (Case::new(7), Options::default());
        let [n, m] = SIZES;
        let frame = case.frame(DEGREE, &WRT);
        let key_shards = [0..keys_cut, keys_cut..m];
        let states = key_shards.clone().map(|keys| {
            KeyState::of(&frame, &case.shard(0..0, keys), &options, None).expect("a small shard")
        });
        let mut keys = if backwards { states[1].clone() } else { states[0].clone() };
        keys.merge(if backwards { &states[0] } else { &states[1] }).expect("one frame");
        let mut queries = QueryState::empty(&frame).expect("memory");
        let mut of_queries = Array2::zeros((0, 3));
        for part in [0..cut, cut..n] {
            let shard = case.shard(part.clone(), 0..0);
            let (state, rows) = QueryState::of(&frame, &keys, &shard, part.start, &options, None).expect("a small shard");
            queries.merge(&state).expect("one frame");
            of_queries.append(Axis(0), rows.expect("wanted").view()).expect("as wide");
        }
        let mut gradients = GradientState::empty(&frame).expect("memory");
        let mut of_values = Array2::zeros((0, 4));
        for part in key_shards {
            let shard = case.shard(0..0, part);
            let (state, [_, rows]) = GradientState::of(&frame, &queries, &shard, &options, None).expect("a small shard");
            gradients.merge(&state).expect("one frame");
            of_values.append(Axis(0), rows.expect("wanted").view()).expect("as wide");
        }
        let states = (&keys, &queries, &gradients);
        let none = case.shard(0..0, 0..0);
        let found = gather(&frame, &none, states, &Request::default(), None).expect("all shards");
        let whole = case.shard(0..n, 0..m);
        let truth = Reference::new(&whole);
        prop_assert!((found.loss - truth.loss).abs() <= ROUNDING * truth.loss);
        for one in &found.gradients {
            let wanted = truth.gradient(one.wrt).expect("one of this problem");
            let value = match one.wrt {
                Wrt::A1 => of_queries.view(),
                Wrt::A3 => of_values.view(),
                _ => one.value.view(),
            };
            close(value, wanted.view());
            prop_assert!(one.certificate.absolute.is_finite());
        }
    }
}

/// Every state of some frame, and the frame, as bytes.
fn all_bytes(case: &Case, frame: &Frame) -> [Vec<u8>; 4] {
    let options = Options::default();
    let [n, m] = SIZES;
    let keys = KeyState::of(frame, &case.shard(0..0, 0..m), &options, None).expect("a small shard");
    let (queries, _) = QueryState::of(frame, &keys, &case.shard(0..n, 0..0), 0, &options, None).expect("a small shard");
    let (gradients, _) =
        GradientState::of(frame, &queries, &case.shard(0..0, 0..m), &options, None).expect("a small shard");
    [
        keys.to_bytes(frame).expect("memory"),
        queries.to_bytes(frame).expect("memory"),
        gradients.to_bytes(frame).expect("memory"),
        frame.to_bytes().expect("memory"),
    ]
}

fn is_refused<S>(found: Result<S, Error>) -> bool {
    matches!(found, Err(Error::Option { option: "state", .. }))
}

#[test]
fn bytes_say_the_same_and_whatever_is_changed_in_them_is_refused() {
    let case = Case::new(1);
    let frame = case.frame(1, &WRT);
    let [keys, queries, gradients, own] = all_bytes(&case, &frame);
    assert_eq!(keys.len(), KeyState::size(&frame).expect("small"));
    assert_eq!(queries.len(), QueryState::size(&frame).expect("small"));
    assert_eq!(gradients.len(), GradientState::size(&frame).expect("small"));
    let options = Options::default();
    let read = [
        |frame: &Frame, bytes: &[u8]| KeyState::from_bytes(frame, bytes).and_then(|state| state.to_bytes(frame)),
        |frame: &Frame, bytes: &[u8]| QueryState::from_bytes(frame, bytes).and_then(|state| state.to_bytes(frame)),
        |frame: &Frame, bytes: &[u8]| GradientState::from_bytes(frame, bytes).and_then(|state| state.to_bytes(frame)),
        |_: &Frame, bytes: &[u8]| Frame::from_bytes(bytes, &Options::default()).and_then(|frame| frame.to_bytes()),
    ];
    let all = [keys, queries, gradients, own];
    for (number, (read, bytes)) in read.iter().zip(&all).enumerate() {
        assert_eq!(&read(&frame, bytes).expect("whole"), bytes);
        for place in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
            let mut changed = bytes.clone();
            changed[place] ^= 4;
            assert!(is_refused(read(&frame, &changed)), "byte {place}");
            assert!(is_refused(read(&frame, &bytes[..place])), "{place} bytes");
        }
        // Those of another kind are no less whole.
        assert!(is_refused(read(&frame, &all[(number + 1) % all.len()])));
    }
    let again = Frame::from_bytes(&all[3], &options).expect("whole");
    assert_eq!(all_bytes(&case, &again), all);
}

#[test]
fn states_of_another_frame_are_refused() {
    let (case, options) = (Case::new(1), Options::default());
    let frame = case.frame(1, &WRT);
    let shard = case.shard(0..0, 0..5);
    for other in [case.frame(2, &WRT), case.frame(1, &[Wrt::X]), Case::new(2).frame(1, &WRT)] {
        let mut state = KeyState::empty(&frame).expect("memory");
        assert!(is_refused(state.merge(&KeyState::empty(&other).expect("memory"))));
        assert!(is_refused(KeyState::empty(&other).expect("memory").require(&frame)));
    }
    let other = Case::new(2);
    let found = KeyState::of(&frame, &other.shard(0..0, 0..5), &options, None);
    assert!(matches!(found, Err(Error::Option { option: "weights", .. })));
    let found = KeyState::of(&frame, &shard.with_scale(0.7), &options, None);
    assert!(matches!(found, Err(Error::Option { option: "scale", .. })));
    let found = Frame::fit(&shard.with_causal(true), &WRT, 1, &options);
    assert!(matches!(found, Err(Error::Option { option: "is_causal", .. })));
    let found = Frame::fit(&shard, &WRT, 1, &options);
    assert!(matches!(found, Err(Error::Option { option: "sample", .. })));
}

#[test]
fn softmax_states_give_attention_and_its_gradients() {
    let (case, options) = (Case::new(3), Options::default());
    let [_, m] = SIZES;
    let query = case.A1.dot(&case.X);
    let heads = |keys: std::ops::Range<usize>| {
        let (key, value) = (case.A2.slice(s![keys.clone(), ..]), case.A3.slice(s![keys, ..]));
        Heads::new(query.view(), key, value).expect("the shapes fit").with_scale(8.0)
    };
    let dout = case.E.dot(&case.Y.t());
    let parts = [0..1, 1..1, 1..20, 20..m];
    let of = |keys: &std::ops::Range<usize>| SoftmaxState::of(&heads(keys.clone()), &options, None).expect("small");
    let mut state = of(&parts[3]);
    parts[..3].iter().for_each(|keys| state.merge(&of(keys)).expect("the same queries"));
    assert_eq!((state.rows(), state.keys()), (SIZES[0], m));
    let bytes = state.to_bytes().expect("memory");
    assert_eq!(bytes.len(), SoftmaxState::size(SIZES[0], 4));
    let state = SoftmaxState::from_bytes(&bytes).expect("whole");
    let whole = heads(0..m);
    close(state.output::<f64>().expect("memory").view(), attention(&whole, &options, None).expect("small").view());
    let [dq, dk, dv] = reference::attention_vjp(&whole, dout.view());
    let mut sum = Array2::<f64>::zeros(query.dim());
    for keys in &parts {
        let found = state.pull_back(&heads(keys.clone()), dout.view(), &options, None).expect("small");
        sum += &found.query.0;
        close(found.key.0.view(), dk.slice(s![keys.clone(), ..]));
        close(found.value.0.view(), dv.slice(s![keys.clone(), ..]));
    }
    close(sum.view(), dq.view());
    assert!(is_refused(state.output::<f32>()));
    let found = SoftmaxState::of(&whole.with_causal(true), &options, None);
    assert!(matches!(found, Err(Error::Option { option: "mask", .. })));
}
