//! The score cache has the bits that would be computed again.

use super::*;
use crate::constants::KEPT_BYTES;
use crate::exact::residual::Incoming;
use crate::exact::sight::Sight;
use crate::exact::turns::KeySide;
use crate::linalg::layout::Rows;
use crate::options::Options;

/// Around tiles, groups and waves of queries, and blocks and chunks of keys; under a mask the last tile of some of them
/// would reach over the end of a block.
const SHAPES: [(usize, usize); 7] = [(5, 3), (100, 130), (1030, 250), (64, 500), (240, 241), (235, 242), (239, 539)];
const WIDTH: usize = 5;
const VALUE_WIDTH: usize = 3;

fn numbers(count: usize, size: f64, step: f64) -> Vec<f32> {
    (0..count).map(|i| (size * (step * (i as f64).powf(1.3)).sin()) as f32).collect()
}

struct Case {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    target: Vec<f32>,
}

impl Case {
    /// `size` moves the logits from where no shift is needed to where it moves.
    fn new((n, m): (usize, usize), size: f64) -> Self {
        Case {
            queries: numbers(n * WIDTH, size, 0.7),
            keys: numbers(m * WIDTH, 3.0, 0.9),
            values: numbers(m * VALUE_WIDTH, 1.0, 1.1),
            target: numbers(n * VALUE_WIDTH, 1.0, 1.3),
        }
    }

    fn engine(&self, is_causal: bool) -> (Engine<'_, f32>, Values<f32>) {
        let keys = Rows { data: &self.keys, count: self.keys.len() / WIDTH, width: WIDTH };
        let values = Rows { data: &self.values, count: keys.count, width: VALUE_WIDTH };
        let count = self.queries.len() / WIDTH;
        let (options, mut run) = (Options::default(), Run::new(&Options::default(), None));
        let engine = Engine::new(
            self.queries.clone(),
            count,
            keys,
            Sight::causal(is_causal, count, keys.count).expect("there is memory"),
            &options,
            &mut run,
        );
        let engine = engine.expect("small numbers");
        let values = engine.values(values, None, &mut run).expect("there is memory");
        (engine, values)
    }

    fn given(&self) -> Given<'_, f32> {
        Given { rows: &self.target, is_target: true }
    }
}

fn cases() -> impl Iterator<Item = (Case, bool)> {
    let sizes = SHAPES.into_iter().flat_map(|shape| [0.5, 40.0].map(|size| (shape, size)));
    sizes.flat_map(|(shape, size)| [false, true].map(|is_causal| (Case::new(shape, size), is_causal)))
}

#[test]
fn the_query_side_has_the_bits_of_two_passes() {
    for (case, is_causal) in cases() {
        let mut run = Run::new(&Options::default(), None);
        let (mut engine, values) = case.engine(is_causal);
        let found = engine.fused(&values, case.given(), 2.0, &mut run).expect("a regular problem");
        let found = found.expect("there is room");

        let (mut again, values) = case.engine(is_causal);
        let mut forward = again.forward(&values, 1.0, &mut run).expect("a regular problem");
        let output = std::mem::take(&mut forward.output);
        let given = case.given();
        let incoming = Incoming::new(output, VALUE_WIDTH, again.count, given, &mut run);
        let (prepared, _) =
            incoming.and_then(|incoming| incoming.prepare(&forward.total, 2.0, &mut run)).expect("there is memory");
        let squares = again.backward(&values, &forward, &prepared, &mut run).expect("a regular problem");

        assert!(engine.queries.iter().any(|w| *w != 0.0));
        assert_eq!(engine.queries, again.queries);
        assert_eq!(found.p_squares, squares);
        assert_eq!(found.forward.shift, forward.shift);
        assert_eq!(found.forward.total, forward.total);
    }
}

#[test]
fn both_sides_have_the_bits_of_nothing_kept() {
    for (case, is_causal) in cases() {
        let mut run = Run::new(&Options::default(), None);
        let mut both = |room| {
            let (mut engine, values) = case.engine(is_causal);
            engine.blocking.kept_bytes = room;
            let m = engine.keys.count;
            let (mut keys, mut sums) = (vec![f32::NAN; m * WIDTH], vec![f32::NAN; m * VALUE_WIDTH]);
            let side = KeySide { keys: &mut keys, values: &mut sums };
            let found = engine.both_sides(&values, (case.given(), None), 2.0, side, &mut run);
            let found = found.expect("a regular problem");
            (engine.queries, keys, sums, found.p_squares)
        };
        let (kept, computed) = (both(KEPT_BYTES), both(0));
        assert!(kept.1.iter().any(|v| *v != 0.0) && kept.1.iter().all(|v| v.is_finite()));
        assert_eq!(kept, computed);
        let (n, m) = (case.queries.len() / WIDTH, case.keys.len() / WIDTH);
        if is_causal && n < m {
            let (keys, values) = (&kept.1[n * WIDTH..], &kept.2[n * VALUE_WIDTH..]);
            assert!(keys.iter().chain(values).all(|v| *v == 0.0), "no query sees these keys");
        }
    }
}
