//! Outliers are found, in bounded number.

use attngrad::certificate::outliers::{budget, outliers};
use attngrad::rng::{self, without_replacement};

use super::normal;
use crate::data::Rng;

#[test]
fn one_spike_is_found() {
    for (at, spike) in [(0, 100.0), (37, 1e6), (999, f64::INFINITY), (500, f64::NAN)] {
        let mut rng = Rng::new(7);
        let mut caps: Vec<f64> = (0..1000).map(|_| 1.0 + 0.3 * rng.uniform()).collect();
        let rest: f64 = caps.iter().sum::<f64>() - caps[at];
        caps[at] = spike;
        let found = outliers(&caps, budget(1000)).expect("memory for a thousand indices");
        assert_eq!(found.exact, [at]);
        assert!(!found.overflow && found.largest <= 1.3);
        assert!(found.remaining >= rest * (1.0 - 1e-14) && found.remaining <= rest * (1.0 + 1e-10));
    }
}

#[test]
fn the_tail_of_a_student_t_is_cut() {
    let mut rng = Rng::new(11);
    // Two degrees of freedom: infinite variance.
    let mut student = || normal(&mut rng) / ((normal(&mut rng).powi(2) + normal(&mut rng).powi(2)) / 2.0).sqrt();
    let caps: Vec<f64> = (0..4096).map(|_| student().abs()).collect();
    let found = outliers(&caps, budget(4096)).expect("memory for the indices");
    assert!(!found.exact.is_empty() && found.exact.len() <= budget(4096));
    let least = found.exact.iter().map(|&index| caps[index]).fold(f64::INFINITY, f64::min);
    assert!(found.exact.is_sorted() && least >= found.largest);
}

#[test]
fn plain_data_has_none() {
    let mut rng = Rng::new(13);
    let uniform: Vec<f64> = (0..4096).map(|_| (0..4).map(|_| rng.uniform().powi(2)).sum::<f64>().sqrt()).collect();
    assert!(outliers(&uniform, budget(4096)).expect("memory for the indices").exact.is_empty());
    let equal = outliers(&[2.0; 50], 10).expect("memory for the indices");
    assert!(equal.exact.is_empty() && equal.remaining >= 100.0);
}

#[test]
fn more_than_the_budget_is_said() {
    let caps: Vec<f64> = (0..100).map(|index| if index % 10 == 0 { 50.0 } else { 1.0 }).collect();
    let found = outliers(&caps, 3).expect("memory for the indices");
    assert_eq!((found.exact, found.overflow, found.largest), (vec![0, 10, 20], true, 50.0));
    let unknown = outliers(&[f64::INFINITY; 8], 3).expect("memory for the indices");
    assert_eq!((unknown.exact.len(), unknown.remaining), (3, f64::INFINITY));
    let none = outliers(&[], 3).expect("no memory at all");
    assert_eq!((none.exact.len(), none.remaining, none.overflow), (0, 0.0, false));
}

#[test]
fn drawn_sets_are_distinct_uniform_and_grow() {
    let mut rng = rng::Rng::new(3);
    let (population, wanted, runs) = (12, 5, 6000);
    let mut counts = [0.0; 12];
    for _ in 0..runs {
        let drawn = without_replacement(&mut rng, population, wanted).expect("memory for five indices");
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(drawn.len() == wanted && sorted.len() == wanted);
        drawn.iter().for_each(|&index| counts[index] += 1.0);
    }
    let expected = f64::from(runs) * wanted as f64 / population as f64;
    // χ² with 11 degrees of freedom exceeds 40 once in 30 000 times; drawing without replacement makes it smaller.
    let chi: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
    assert!(chi < 40.0, "{counts:?}");
    let mut all = without_replacement(&mut rng, 3, 9).expect("memory for three indices");
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2]);
    let of = |wanted| without_replacement(&mut rng::Rng::new(7), 40, wanted).expect("memory for the indices");
    assert_eq!(of(9), of(30)[..9]);
}

#[test]
fn the_numbers_are_the_same_on_every_platform() {
    let mut rng = rng::Rng::new(0);
    // From the reference implementation.
    assert_eq!([rng.bits(), rng.bits()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    assert_eq!(rng.below(0), 0);
    assert!((0..1000).all(|_| rng.below(7) < 7));
    assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.unit())));
}

#[test]
fn scattered_rows_are_of_no_period() {
    for (count, wanted) in [(0, 4), (3, 4), (4, 4), (5, 4), (1000, 64), (65_536, 1024), (131_072, 1024)] {
        let rows = rng::scattered(count, wanted);
        assert_eq!(rows.len(), count.min(wanted));
        for (stretch, &row) in rows.iter().enumerate() {
            let length = count as f64 / rows.len() as f64;
            let (low, high) = ((stretch as f64 * length).floor(), ((stretch + 1) as f64 * length).floor());
            assert!((low..high).contains(&(row as f64)), "row {row} of stretch {stretch}, {wanted} of {count}");
        }
        for period in [64, 128, 256] {
            let (first, some) = (rows.iter().filter(|&&row| row % period == 0).count(), rows.len() as f64);
            let (mean, share) = (some / period as f64, 1.0 / period as f64);
            // Six standard deviations, and a few of few rows.
            let room = 6.0 * (mean * (1.0 - share)).sqrt() + 4.0;
            assert!((first as f64 - mean).abs() <= room, "{first} of {some} rows begin a window of {period}");
        }
    }
}
