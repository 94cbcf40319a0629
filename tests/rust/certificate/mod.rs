//! Certificates are held to the truth from both sides: never below it, and not uselessly above.

mod apart;
mod cases;
mod estimated;
mod exact;
mod integers;
mod outliers;
mod passes;
mod populations;
mod rigorous;
mod rounding;
mod row;
mod statistical;
mod stronger;

use std::time::Instant;

use crate::data::Rng;

/// Problems of a deep test, and after how many it says how far it is.
const DEEP: u64 = 100_000;
const SAID: u64 = 10_000;

/// The seeds of so many problems; a long test says how far it is (`cargo test -- --nocapture` shows it).
#[allow(clippy::print_stderr, reason = "how much was tested is the result")]
fn seeds(title: &str, problems: u64) -> impl Iterator<Item = u64> {
    let start = Instant::now();
    (0..problems).inspect(move |seed| {
        if *seed > 0 && seed.is_multiple_of(SAID) {
            eprintln!("{title}: {seed} of {problems} problems in {:.0} s", start.elapsed().as_secs_f64());
        }
    })
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    // In (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - 0.5 * (rng.uniform() + 1.0)).ln()).sqrt();
    radius * (std::f64::consts::PI * rng.uniform()).cos()
}

fn norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The middle of some numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    assert!(numbers.iter().all(|x| !x.is_nan()), "not a number among {} numbers", numbers.len());
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}
