//! What is known of the keys that are seen, against their words.

use super::*;
use crate::runtime::rng::Rng;

/// Ranges whose ends ascend, some of them empty.
fn at_random(rng: &mut Rng, n: usize, m: usize) -> Vec<Interval> {
    let mut ends = |count: usize| {
        let mut ends: Vec<usize> = (0..count).map(|_| rng.below(m as u64 + 1) as usize).collect();
        ends.sort_unstable();
        ends
    };
    let (begins, ends) = (ends(n), ends(n));
    begins.into_iter().zip(ends).map(|(begin, end)| Interval { begin: begin.min(end), end }).collect()
}

#[test]
fn sizes_and_gaps() {
    for seed in 0..2000 {
        let rng = &mut Rng::new(seed);
        let (n, m) = (rng.below(8) as usize, rng.below(8) as usize);
        let intervals = at_random(rng, n, m);
        let numbers: Vec<f64> =
            (0..m).map(|_| if rng.below(12) == 0 { f64::NAN } else { rng.below(5) as f64 }).collect();
        let sees = |seen: &Interval, key: usize| seen.begin <= key && key < seen.end;
        let sight = Sight::<f64>::between(Some(intervals.clone()));
        let found = sight.largest(&numbers, n).expect("there is memory");
        for (seen, found) in intervals.iter().zip(&found) {
            let want = largest(&numbers[seen.begin..seen.end]);
            assert!(*found == want || found.is_nan() && want.is_nan(), "{found} of {seen:?} in {numbers:?}");
        }
        let unseen: Vec<usize> = sight.unseen(m).flatten().collect();
        let want: Vec<usize> = (0..m).filter(|&key| !intervals.iter().any(|seen| sees(seen, key))).collect();
        assert_eq!(unseen, want, "{intervals:?} of {m}");
        let blind: Vec<usize> = sight.blind().flatten().collect();
        let want: Vec<usize> = (0..n).filter(|&query| intervals[query].len() == 0).collect();
        assert_eq!(blind, want, "{intervals:?}");
    }
    let all = Sight::<f64>::between(None);
    assert_eq!((all.unseen(5).count(), all.blind().count()), (0, 0));
}
