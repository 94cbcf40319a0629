//! Index sets against all multi-indices.

use attngrad::features::{IndexSet, feature_count};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

/// Contributions are multiples of 2^-30, and a level a few of them.
const LEVEL: f64 = 1e-7;

fn everything(dimension: usize, degree: u32) -> Vec<Vec<u32>> {
    let mut all: Vec<Vec<u32>> = vec![vec![]];
    for _ in 0..dimension {
        let longer = |beta: Vec<u32>| (0..=degree).map(move |power| [&beta[..], &[power]].concat());
        all = all.into_iter().flat_map(longer).filter(|beta| beta.iter().sum::<u32>() <= degree).collect();
    }
    all
}

/// No member twice, parents first, and with each β everything below it.
fn check_well_formed(set: &IndexSet) -> Vec<Vec<u32>> {
    let exponents = set.exponents().expect("a small set");
    let members: Vec<Vec<u32>> = exponents.rows().into_iter().map(|beta| beta.to_vec()).collect();
    let mut sorted = members.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), set.count());
    for (index, (beta, &(parent, last))) in members.iter().zip(set.steps()).enumerate() {
        let grade: u32 = beta.iter().sum();
        assert!(set.grade(grade as usize).contains(&index));
        let factorial = |n: u32| (1..=u128::from(n)).product::<u128>();
        let exact = factorial(grade) / beta.iter().map(|&power| factorial(power)).product::<u128>();
        assert_eq!(set.multinomials()[index], exact as f64);
        if index > 0 {
            let mut above = members[parent as usize].clone();
            above[last as usize] += 1;
            assert!((parent as usize) < index);
            assert_eq!(&above, beta);
        }
        for coordinate in (0..beta.len()).filter(|&i| beta[i] > 0) {
            let mut below = beta.clone();
            below[coordinate] -= 1;
            assert!(sorted.binary_search(&below).is_ok());
        }
    }
    members
}

#[test]
fn total_degree_is_complete() {
    for dimension in 0..=8 {
        for degree in 0..=6 {
            let set = IndexSet::total_degree(dimension, degree).expect("a small set");
            let mut members = check_well_formed(&set);
            members.sort();
            let mut all = everything(dimension, degree as u32);
            all.sort();
            assert_eq!(members, all);
            assert_eq!(feature_count(dimension, degree), Some(all.len()));
        }
    }
    // 30!/(10!)³ has 43 bits, and 30! on the way 108.
    check_well_formed(&IndexSet::total_degree(3, 30).expect("5456 members"));
    assert_eq!(feature_count(1 << 40, 9), None);
    assert_eq!(feature_count(0, usize::MAX), Some(1));
}

/// ln of eq. (10.6) with the envelope that makes it fall, from its definition.
fn contribution(beta: &[u32], spectrum: &[f64], degree: u32) -> f64 {
    let phi = |power: u32, variance: f64| {
        let odd: f64 = (1..=power).map(|k| f64::from(2 * k - 1).ln()).sum();
        let factorial: f64 = (1..=power).map(|k| f64::from(k).ln()).sum();
        odd - factorial + f64::from(power) * variance.ln()
    };
    let of = |(&power, &variance): (&u32, &f64)| {
        let above = |least: u32| (least..=degree).map(|b| phi(b, variance)).fold(f64::NEG_INFINITY, f64::max);
        above(power) - above(0)
    };
    beta.iter().zip(spectrum).map(of).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, rng_seed: RngSeed::Fixed(16), ..ProptestConfig::default() })]

    #[test]
    fn anisotropic_sets_are_the_largest_levels_that_fit(
        spectrum in prop::collection::vec(1e-6f64..0.4, 1..5),
        twins in any::<bool>(),
        degree in select(vec![0u32, 1, 3, 5]),
        most in 1usize..90,
    ) {
        let mut spectrum = spectrum;
        if twins && spectrum.len() > 1 {
            spectrum[1] = spectrum[0];
        }
        let set = IndexSet::anisotropic(&spectrum, degree as usize, most).expect("a small set");
        prop_assert!(set.count() <= most);
        let members = check_well_formed(&set);
        let of = |beta: &Vec<u32>| contribution(beta, &spectrum, degree);
        let least = members.iter().map(of).fold(f64::INFINITY, f64::min);
        let everything = everything(spectrum.len(), degree);
        let others: Vec<f64> = everything.iter().filter(|beta| !members.contains(beta)).map(of).collect();
        let next = others.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // A level set: what is left out contributes less than what is in, and the next level does not fit.
        prop_assert!(next <= least + LEVEL, "{next} {least}");
        let level = others.iter().filter(|&&value| value >= next - LEVEL).count();
        prop_assert!(others.is_empty() || set.count() + level > most, "{} {level} {most}", set.count());
    }
}
