//! The law from queries to keys against its words, key by key.

use super::*;
use crate::problem::Interval;
use crate::runtime::rng::Rng;

#[test]
fn intervals_are_the_keys_that_are_seen() {
    for seed in 0..3000 {
        let rng = &mut Rng::new(seed);
        let below = |rng: &mut Rng, end: usize| rng.below(end as u64 + 1) as usize;
        let (n, m) = (below(rng, 9), below(rng, 9));
        let reach = |rng: &mut Rng| (rng.below(2) == 0).then(|| [0, 1, 2, 5, usize::MAX][below(rng, 4)]);
        let cuts = |rng: &mut Rng, end: usize| {
            let mut cuts = vec![0, below(rng, end), below(rng, end), end];
            cuts.sort_unstable();
            cuts
        };
        let (queries, keys) = (cuts(rng, n), cuts(rng, m));
        let is_packed = rng.below(2) == 0;
        let mask = Mask {
            window: [reach(rng), reach(rng)],
            align: if rng.below(2) == 0 { Align::TopLeft } else { Align::BottomRight },
            keys: (!is_packed && rng.below(2) == 0).then(|| below(rng, m)),
            sequences: is_packed.then_some([&queries, &keys]),
        };
        let found = mask.intervals(n, m).expect("there is memory");
        let found = found.unwrap_or_else(|| vec![Interval { begin: 0, end: m }; n]);
        assert_eq!(found.len(), n, "{mask:?}");
        for (query, seen) in found.iter().enumerate() {
            for key in 0..m {
                let is_seen = (seen.begin..seen.end).contains(&key);
                assert_eq!(is_seen, sees(&mask, (n, m), query, key), "{query}, {key} of {n} x {m}, {mask:?}");
            }
        }
        assert!(found.is_sorted_by(|a, b| a.begin <= b.begin && a.end <= b.end), "{found:?} of {mask:?}");
        assert!(found.iter().all(|seen| seen.begin <= seen.end && seen.end <= m), "{found:?} of {mask:?}");
        if n > 0 {
            assert_eq!(mask.end(n, m), found[n - 1].end, "{mask:?}");
        }
    }
}
