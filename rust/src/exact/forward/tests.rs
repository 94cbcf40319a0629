//! Strips that are small beside the sum before them.

use super::*;
use crate::exact::engine::Engine;
use crate::exact::sight::Sight;
use crate::exact::tile_shape;
use crate::linalg::layout::Rows;
use crate::options::{Level, Options};
use crate::runtime::pool::Run;

/// Relative error of a count that is made in single precision, and the largest loss that is not counted.
const SLACK: f64 = 1e-4;
const NOTHING: f64 = 1e-30;
const KEYS: usize = 30;

/// `Spread::small` of one query with one coordinate, its logits being `keys` in base 2.
fn counted<T: Float>(level: Level, keys: &[f64]) -> f64 {
    let options = Options { level: Some(level), ..Options::default() };
    let mut run = Run::new(&options, None);
    let keys: Vec<T> = keys.iter().map(|x| T::narrow(*x)).collect();
    let rows = Rows { data: &keys, count: keys.len(), width: 1 };
    let engine = Engine::new(
        vec![T::one()],
        1,
        rows,
        Sight::causal(false, 1, KEYS).expect("there is memory"),
        &options,
        &mut run,
    )
    .expect("small numbers");
    let values = engine.values(rows, None, &mut run).expect("there is memory");
    engine.forward(&values, 1.0, &mut run).expect("a regular problem").spread[0].small
}

/// The same by docs/math.md, equation 5.9, for fewer keys than a block has.
fn expected<T: Float>(level: Level, keys: &[f64]) -> f64 {
    assert!(keys.len() <= KEY_BLOCK / 3, "one block at every level");
    let weights: Vec<f64> = keys.iter().map(|x| x.exp2()).collect();
    let (mut total, mut small) = (0.0, 0.0);
    for strip in weights.chunks(tile_shape::<T>(level).expect("this machine has it").1) {
        let sum = strip.iter().sum::<f64>();
        total += sum;
        small += (sum / T::UNIT_ROUNDOFF).min((total - sum / (SMALL_STRIP * T::UNIT_ROUNDOFF)).max(0.0));
    }
    small / total
}

fn holds<T: Float>(level: Level) {
    let unit = T::UNIT_ROUNDOFF.log2();
    // Weights from nothing to many roundings beside one or two that hold the row, the second where it is followed by
    // some.
    for gap in [-400.0, unit - 9.0, unit - 1.0, unit, unit + 2.0, unit + 6.0, unit + 14.0, -3.0, 0.0] {
        for second in [0, 17] {
            let keys: Vec<f64> = (0..KEYS).map(|i| if i == 0 || i == second { 0.0 } else { gap }).collect();
            let (found, expected) = (counted::<T>(level, &keys), expected::<T>(level, &keys));
            assert!((found - expected).abs() <= SLACK * expected + NOTHING, "{level:?} {gap}: {found}, not {expected}");
        }
    }
}

#[test]
fn small_strips_are_counted_at_every_level() {
    for level in Level::available().into_iter().chain([Level::PortableAvx2, Level::PortableAvx512]) {
        holds::<f32>(level);
        holds::<f64>(level);
    }
}

/// In the second one a larger logit comes late, so that the count before it is rescaled with the sums.
#[test]
fn what_was_counted_follows_the_shift() {
    for level in Level::available() {
        let early = counted::<f32>(level, &[[vec![300.0], vec![276.0; 23]].concat(), vec![-700.0; 6]].concat());
        let late = counted::<f32>(level, &[[vec![300.0], vec![276.0; 23]].concat(), vec![340.0; 6]].concat());
        assert!(early > 0.9, "{level:?}: {early}");
        assert!(late <= early * 2f64.powi(-40), "{level:?}: {late}, {early} before");
    }
}
