//! The statistical bound keeps its confidence, counted, and is not uselessly wide.

use attngrad::certificate::statistical::{self, Capped, allowance, bernstein, mean_at_most, stream};
use attngrad::rng;
use ndarray::Array2;

use super::median;
use super::populations::{Family, Population};

/// Runs, the share that may miss, and how many misses that allows.
const RUNS: u64 = 2000;
/// Samples of each population.
const SAMPLES: u64 = 20;
const MISS: f64 = statistical::MISS;
const ALLOWED: usize = (RUNS as f64 * MISS) as usize;
/// Most looks of a run that does not find what it wants.
const LOOKS: u32 = 6;
/// Median of bound / error where the caps are tight and errors are independent: the norm of the estimate is some
/// standard errors of which √(n/m) make the error, and √(2 ln 6/0.01) = 3.6 more are allowed for.
const USEFUL: f64 = 12.0;

/// Bound over error for one sample.
fn run(population: &Population, caps: &[f64], count: usize, rng: &mut rng::Rng, miss: f64) -> f64 {
    let capped = Capped::new(caps).expect("finite caps");
    let draws = capped.draw(rng, count).expect("memory for the draws");
    let mut estimate = Array2::<f64>::zeros(population.sum.dim());
    let mut norms = Vec::new();
    for draw in &draws {
        let weight = 1.0 / (draw.probability * count as f64);
        let (a, b) = population.rows(&[draw.row]);
        estimate.scaled_add(weight, &a.t().dot(&b));
        norms.push(population.norm(draw.row));
    }
    let correction = estimate.iter().map(|x| x * x).sum::<f64>().sqrt();
    let bound = capped.bound(&draws, &norms, &vec![0.0; count], correction, miss);
    let nothing = Array2::zeros(population.sum.dim());
    bound / population.error(nothing.view()) * (1.0 + 1e-12)
}

/// Caps that are this many times the norms, with a floor for rows that are zero.
fn caps(population: &Population, looseness: f64, floor: f64) -> Vec<f64> {
    (0..population.left.nrows()).map(|j| looseness * population.norm(j).max(floor) * (1.0 + 1e-12)).collect()
}

#[test]
fn misses_are_counted() {
    let cases = [
        (Family::Uniform, 3, 1.0, 0.0),
        (Family::Coherent, 2, 3.0, 0.0),
        (Family::Normal, 1, 1.0, 0.0),
        (Family::Sparse, 2, 1.0, 0.5),
        // One row of which nothing is seen unless it is drawn.
        (Family::OneSpike, 1, 1.0, 0.02),
        (Family::OneSpike, 2, 1.0, 1.0),
    ];
    for (family, width, looseness, floor) in cases {
        for count in [10, 200] {
            let mut missed = 0;
            let mut population = Population::new(family, 100, width, RUNS);
            for seed in 0..RUNS {
                if seed % SAMPLES == 0 {
                    population = Population::new(family, 100, width, seed);
                }
                let mut rng = rng::Rng::new(seed);
                let ratio = run(&population, &caps(&population, looseness, floor), count, &mut rng, MISS);
                assert!(!ratio.is_nan(), "{family:?}: bound or error is not a number");
                missed += usize::from(ratio < 1.0);
            }
            assert!(missed <= ALLOWED, "{family:?}, {count} rows: {missed} of {RUNS} missed");
        }
    }
}

/// Looking until a result is good enough must not miss more often than looking once.
#[test]
fn looks_spend_the_confidence_once() {
    let spent: f64 = (1..=60).map(allowance).sum();
    assert!(spent <= MISS * (1.0 + 1e-12) && spent > 0.99 * MISS && allowance(1) >= 0.7 * MISS, "{spent}");
    for (family, floor) in [(Family::Uniform, 0.0), (Family::OneSpike, 0.02), (Family::Coherent, 0.0)] {
        let (mut missed, mut looked) = (0, 0);
        let mut population = Population::new(family, 100, 2, RUNS);
        for seed in 0..RUNS {
            if seed % SAMPLES == 0 {
                population = Population::new(family, 100, 2, seed);
            }
            let (caps, mut count, mut worst) = (caps(&population, 1.0, floor), 20, f64::INFINITY);
            for look in 1..=LOOKS {
                looked += 1;
                let least = run(&population, &caps, count, &mut stream(seed, look), allowance(look));
                worst = worst.min(least);
                if least < 2.0 {
                    break;
                }
                // As many rows as what was seen says.
                count = (count as f64 * least.clamp(1.2, 3.0)) as usize;
            }
            missed += usize::from(worst < 1.0);
        }
        assert!(missed <= ALLOWED, "{family:?}: {missed} of {RUNS} runs missed in some look");
        assert!(10 * looked > 13 * RUNS, "{family:?}: {looked} looks");
    }
}

#[test]
fn no_look_sees_the_rows_of_another() {
    let capped = Capped::new(&[1.0; 1000]).expect("finite caps");
    let rows = |seed, look| -> Vec<usize> {
        let draws = capped.draw(&mut stream(seed, look), 50).expect("memory for the draws");
        draws.into_iter().map(|draw| draw.row).collect()
    };
    let all: Vec<_> = (0..3).flat_map(|seed| (1..=LOOKS).map(move |look| rows(seed, look))).collect();
    for (i, one) in all.iter().enumerate() {
        for other in &all[..i] {
            let equal = one.iter().zip(other).filter(|(a, b)| a == b).count();
            assert!(equal < 5, "{equal} of 50 places have the same row in two looks");
        }
    }
    assert_eq!(rows(1, 2), rows(1, 2));
}

/// The rounding error of the rows makes a bound larger by at least as much.
#[test]
fn what_rows_lost_is_charged() {
    let population = Population::new(Family::Uniform, 100, 2, 3);
    let capped = Capped::new(&caps(&population, 2.0, 0.0)).expect("finite caps");
    let draws = capped.draw(&mut rng::Rng::new(3), 200).expect("memory for the draws");
    let norms: Vec<f64> = draws.iter().map(|draw| population.norm(draw.row)).collect();
    let bound = |share: f64| {
        let lost: Vec<f64> = norms.iter().map(|norm| share * norm).collect();
        capped.bound(&draws, &norms, &lost, 1.0, MISS)
    };
    let mean = draws.iter().zip(&norms).map(|(draw, norm)| norm / draw.probability).sum::<f64>() / 200.0;
    let (without, with) = (bound(0.0), bound(0.1));
    assert!(with >= without + 0.1 * mean, "{without} {with}");
    assert!(with <= without + 0.2 * mean, "{without} {with}");
}

#[test]
fn tight_caps_give_a_useful_bound() {
    for (family, looseness, limit) in
        [(Family::Uniform, 1.0, USEFUL), (Family::Coherent, 1.0, 1.3), (Family::Uniform, 10.0, 1.5 * USEFUL)]
    {
        let population = Population::new(family, 4096, 4, 1);
        let caps = caps(&population, looseness, 0.0);
        let one = |seed| run(&population, &caps, 1024, &mut rng::Rng::new(seed), MISS);
        let ratios = (0..40).map(one).collect();
        let middle = median(ratios);
        assert!(
            (1.0..=limit).contains(&middle),
            "{family:?}, caps {looseness} × the norms: median bound / error {middle}"
        );
    }
}

#[test]
fn probabilities_are_those_of_the_caps() {
    let caps = [3.0, 0.0, 1e-300, 1.0, 0.0];
    let capped = Capped::new(&caps).expect("finite caps");
    assert!((4.0..4.0 + 1e-12).contains(&capped.total()));
    let draws = capped.draw(&mut rng::Rng::new(5), 40_000).expect("memory for the draws");
    let share = |row| draws.iter().filter(|draw| draw.row == row).count() as f64 / 40_000.0;
    assert_eq!([share(1), share(2), share(4)], [0.0; 3]);
    // Six standard errors.
    assert!((share(0) - 0.75).abs() < 6.0 * (0.75f64 * 0.25 / 40_000.0).sqrt());
    assert!(draws.iter().all(|draw| draw.cap >= caps[draw.row] && (draw.probability - draw.cap / 4.0).abs() < 1e-12));
}

#[test]
fn what_is_not_known_is_infinite() {
    let capped = Capped::new(&[1.0, 2.0]).expect("finite caps");
    let draws = capped.draw(&mut rng::Rng::new(1), 3).expect("memory for the draws");
    let infinite = |norms: &[f64], correction, miss| {
        capped.bound(&draws, norms, &vec![0.0; norms.len()], correction, miss) == f64::INFINITY
    };
    assert!(infinite(&[9.0; 3], 1.0, 0.01) && infinite(&[f64::NAN; 3], 1.0, 0.01) && infinite(&[0.1; 2], 1.0, 0.01));
    assert!(infinite(&[0.1; 3], f64::NAN, 0.01) && infinite(&[0.1; 3], 1.0, 0.0) && infinite(&[0.1; 3], 1.0, f64::NAN));
    assert_eq!(bernstein(0.0, 0, 1.0, (0.0, 0.0), 0.01), f64::INFINITY);
    for caps in [[1.0, f64::NAN], [1.0, f64::INFINITY], [1.0, -1.0], [f64::MAX, f64::MAX]] {
        assert!(Capped::new(&caps).is_err(), "{caps:?}");
    }
}

#[test]
fn without_draws_the_caps_hold() {
    let capped = Capped::new(&[1.0, 2.0]).expect("finite caps");
    assert_eq!(capped.bound(&[], &[], &[], 0.0, 0.01), capped.total());
    assert!((3.0..3.1).contains(&capped.total()));
    let zero = Capped::new(&[0.0, 0.0]).expect("finite caps");
    assert!(zero.draw(&mut rng::Rng::new(1), 9).expect("no draws").is_empty());
    assert_eq!(zero.bound(&[], &[], &[], 0.0, 0.01), 0.0);
}

/// Rows that were never seen to err may still be so many that it is likely to have missed them, and no more.
#[test]
fn caps_that_nothing_comes_near_count_with_what_a_sample_may_miss() {
    let capped = Capped::new(&[1.0; 400]).expect("finite caps");
    let draws = capped.draw(&mut rng::Rng::new(2), 100).expect("memory for the draws");
    let bound = capped.bound(&draws, &[0.0; 100], &[0.0; 100], 0.0, MISS);
    // A share that 100 draws miss with the probability of half of the confidence.
    let share = 1.0 - (0.5 * MISS).powf(0.01);
    assert!((400.0 * share..400.0 * share * (1.0 + 1e-6)).contains(&bound), "{bound} for {}", 400.0 * share);
}

/// The probability that of `count` coins that show heads with probability `heads` at most `most` do.
fn coins(count: usize, most: usize, heads: f64) -> f64 {
    let mut one = (1.0 - heads).powi(count as i32);
    let mut sum = one;
    for k in 1..=most {
        one *= heads / (1.0 - heads) * (count - k + 1) as f64 / k as f64;
        sum += one;
    }
    sum
}

/// Of all numbers in [0, 1] with a given mean, coins are spread out most: the bound of their mean covers them, and is
/// not much more than they ask for.
#[test]
fn a_mean_covers_coins() {
    for count in [10, 200] {
        for most in [0, 1, count / 10, count / 2] {
            let bound = mean_at_most(most as f64 / count as f64, count, (1.0 / MISS).ln());
            let (chance, below) = (coins(count, most, bound), coins(count, most, 0.85 * bound));
            assert!(
                chance <= MISS * (1.0 + 1e-9) && below > 0.5 * MISS,
                "{most} of {count}: {bound}, {chance}, {below}"
            );
        }
    }
    assert_eq!(mean_at_most(1.0, 10, 1.0), 1.0);
    assert_eq!(mean_at_most(f64::NAN, 10, 1.0), 1.0);
    assert_eq!(mean_at_most(0.0, 0, 1.0), 1.0);
    assert!(mean_at_most(1e-300, 1 << 40, 1e-30) < 1e-29);
}

/// Equation 9.54 as it stands: the right-hand side at r, for ‖Δ̂‖ = `mean`.
fn right_hand_side(squares: f64, count: f64, cap: f64, mean: f64, r: f64) -> f64 {
    let level = (3.0 / MISS).ln();
    let moment = cap * mean_at_most(squares / count / (cap * cap), count as usize, level).sqrt();
    let variance = moment.powi(2) - (mean - r).max(0.0).powi(2);
    let tail = (cap + cap.min(mean + r)) * level / (3.0 * count);
    tail + (tail.powi(2) + 2.0 * variance * level / count).sqrt()
}

#[test]
fn the_radius_solves_its_inequality() {
    for (squares, count, cap, mean) in [(0.0, 50, 1.0, 0.0), (800.0, 1000, 1.0, 0.5), (3.0, 200, 2.0, 0.1)] {
        let r = bernstein(squares, count, cap, (mean, 0.0), MISS);
        let again = right_hand_side(squares, count as f64, cap, mean, r);
        assert!(r >= again * (1.0 - 1e-12) && r <= again * (1.0 + 1e-6), "{r} for {again}");
        // No larger r solves it: every such r is above what it gives.
        let larger = (1..100).map(|step| r + 0.01 * f64::from(step) * (mean + cap - r));
        larger.for_each(|r| assert!(r > right_hand_side(squares, count as f64, cap, mean, r), "{r} solves it too"));
    }
    // Few draws: all that is known is that both are at most the cap.
    assert!((3.0..3.0 + 1e-9).contains(&bernstein(1.0, 1, 2.0, (1.0, 0.0), MISS)));
}
