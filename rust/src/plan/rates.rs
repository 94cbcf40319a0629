//! How fast this machine is beside the table of rates: it makes seconds of operations, and decides nothing.
//!
//! Kept for as long as the process lives. No choice, and so no bit of a result, depends on it.

use std::sync::{Mutex, PoisonError};

use super::decision::Method;
use crate::options::Level;

/// Number of calls that a rate is a mean over: the other load of a machine changes within minutes, and no single
/// problem, whose cost the table may miss by a third, should decide for the next one.
const MEMORY: f64 = 100.0;

/// Calls below it are mostly what the table does not price.
const LEAST_SECONDS: f64 = 2e-3;

/// The quantities that a rate depends on: the method, bytes of a number, threads and the instruction set.
pub(super) type Key = (Method, usize, usize, Level);

/// The geometric mean of seconds over those of the table, the latest calls counting most.
#[derive(Clone, Copy, Default)]
struct Rate {
    calls: f64,
    log: f64,
}

static KNOWN: Mutex<Vec<(Key, Rate)>> = Mutex::new(Vec::new());

/// Seconds on this machine over those of the table; 1 where it is not known yet.
pub(super) fn factor(key: Key) -> f64 {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().find(|(other, _)| *other == key).map_or(1.0, |(_, rate)| rate.log.exp())
}

/// Whether a call of so many seconds says anything of the machine.
pub(super) fn counts(seconds: f64) -> bool {
    seconds >= LEAST_SECONDS
}

/// Records the seconds of a call, and those of the table for a machine of rate 1.
pub(super) fn observe(key: Key, seconds: f64, predicted: f64) {
    if !counts(seconds.min(predicted)) {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let place = known.iter().position(|(other, _)| *other == key).unwrap_or_else(|| {
        known.push((key, Rate::default()));
        known.len() - 1
    });
    let rate = &mut known[place].1;
    rate.calls += 1.0;
    rate.log += ((seconds / predicted).ln() - rate.log) / rate.calls.min(MEMORY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_take_longer_make_forecasts_longer() {
        let key = (Method::Exact, 1, 7, Level::Baseline);
        assert_eq!(factor(key), 1.0);
        observe(key, 1e-3, 1.0);
        assert_eq!(factor(key), 1.0);
        for _ in 0..1000 {
            observe(key, 0.03, 0.01);
        }
        assert!((factor(key) - 3.0).abs() < 1e-12);
        // The mean forgets.
        for _ in 0..1000 {
            observe(key, 0.01, 0.01);
        }
        assert!((factor(key) - 1.0).abs() < 1e-3);
    }
}
