//! Sizes of rows, and what they show, against their words.

use ndarray::{Array2, ArrayView2};

use super::*;
use crate::options::Options;
use crate::runtime::rng::Rng;

fn pairs<'a, T: Float>(entries: ArrayView2<'a, T>, seen: Option<&[Interval]>) -> Result<(Pairs<'a, T>, Shown), Error> {
    let (dim, options) = (entries.dim(), Options::default());
    Pairs::new(Entries::Added(entries), dim, seen, &mut Run::new(&options, None))
}

#[test]
fn rows_show_what_they_show() {
    for seed in 0..500 {
        let rng = &mut Rng::new(seed);
        let (n, m) = (1 + rng.below(2 * LOOK_ROWS as u64) as usize, 1 + rng.below(70) as usize);
        let share = [0.02, 0.5, 0.98][rng.below(3) as usize];
        let hidden = [f64::NEG_INFINITY, f64::MIN, 2.0 * least_added::<f64>()][rng.below(3) as usize];
        let entries =
            Array2::from_shape_simple_fn((n, m), || if rng.unit() < share { 8.0 * rng.unit() - 5.0 } else { hidden });
        let turned = entries.t().as_standard_layout().into_owned();
        for entries in [entries.view(), turned.t()] {
            let (found, shown) = pairs(entries, None).expect("no NaN");
            let sees = |j: usize, i: usize| entries[[j, i]] > hidden;
            for j in 0..n {
                let seen: Vec<usize> = (0..m).filter(|&i| sees(j, i)).collect();
                assert_eq!(shown.blind[j], seen.is_empty());
                let own = shown.intervals[j];
                assert!(seen.iter().all(|&i| (own.begin..own.end).contains(&i)), "{seen:?} in {own:?}");
                let sizes = seen.iter().map(|&i| LOG2_E * entries[[j, i]]);
                if !seen.is_empty() {
                    assert_eq!(found.rows[j].most, sizes.clone().fold(f64::MIN, f64::max));
                    assert_eq!(found.rows[j].least, sizes.fold(f64::MAX, f64::min));
                }
            }
            for i in 0..m {
                assert_eq!(shown.unseen[i], (0..n).all(|j| !sees(j, i)));
            }
            assert!(shown.intervals.is_sorted_by(|a, b| a.begin <= b.begin && a.end <= b.end));
        }
    }
}

/// Entries that say no more than ranges of keys with ascending ends are known for it; one hole, or one number that is
/// added, and they are not.
#[test]
fn entries_that_are_ranges_of_keys() {
    for seed in 0..500 {
        let rng = &mut Rng::new(seed);
        let (n, m) = (1 + rng.below(2 * LOOK_ROWS as u64) as usize, 3 + rng.below(200) as usize);
        let mut ends = |count: usize| {
            let mut ends: Vec<usize> = (0..count).map(|_| rng.below(m as u64 + 1) as usize).collect();
            ends.sort_unstable();
            ends
        };
        let (begins, ends) = (ends(n), ends(n));
        let sees = |j: usize, i: usize| begins[j] <= i && i < ends[j];
        let mut added = Array2::from_shape_fn((n, m), |(j, i)| if sees(j, i) { 0.0 } else { f64::NEG_INFINITY });
        let mut seen = added.mapv(|x| u8::from(x == 0.0));
        let options = Options::default();
        let of_seen = |seen: ArrayView2<'_, u8>| {
            Pairs::<f64>::new(Entries::Seen(seen), (n, m), None, &mut Run::new(&options, None)).expect("bytes").1
        };
        // A row that sees nothing has no place of its own where the rows around it have keys in common.
        let blind: Vec<usize> = (0..n).filter(|&j| begins[j] >= ends[j]).collect();
        let has_place = |&j: &usize| {
            let before = (0..j).filter(|&j| begins[j] < ends[j]).map(|j| ends[j]).max().unwrap_or(0);
            (j..n).find(|&j| begins[j] < ends[j]).is_none_or(|next| before <= begins[next])
        };
        let is_plain = blind.iter().all(has_place);
        for shown in [of_seen(seen.view()), pairs(added.view(), None).expect("no NaN").1] {
            assert_eq!(shown.is_plain, is_plain, "{begins:?} to {ends:?}");
            for (j, own) in shown.intervals.iter().enumerate().filter(|_| is_plain) {
                let want = if begins[j] < ends[j] { begins[j]..ends[j] } else { own.begin..own.begin };
                assert_eq!(own.begin..own.end, want);
            }
        }
        if let Some(j) = (0..n).find(|&j| begins[j] + 2 < ends[j]) {
            let i = begins[j] + 1;
            (seen[[j, i]], added[[j, i]]) = (0, 1e-30);
            assert!(!of_seen(seen.view()).is_plain);
            assert!(!pairs(added.view(), None).expect("no NaN").1.is_plain);
        }
    }
}

/// A number that is none is named; where another mask hides it, it is not looked at.
#[test]
fn entries_that_are_no_numbers() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut entries = Array2::<f32>::zeros((3, 50));
        entries[[1, 40]] = bad;
        let want = Error::NonFinite { argument: "attn_mask", found: bad.to_string(), row: 1, column: 40 };
        assert_eq!(pairs(entries.view(), None).err(), Some(want));
        let seen = [Interval { begin: 0, end: 40 }; 3];
        assert!(pairs(entries.view(), Some(&seen)).is_ok());
    }
}

/// Entries whose weights are zero beside the largest do not count in the bound; those that are left do.
#[test]
fn bounds_are_of_entries_that_count() {
    let entries = ndarray::array![[0.0, -1e9, -20.0], [-1e9, -1e9, f64::NEG_INFINITY], [f64::NEG_INFINITY; 3]];
    let (mut found, _) = pairs(entries.view(), None).expect("no NaN");
    let mut bound = [3.0, 3.0, 3.0];
    found.bound(&mut bound);
    let dropped = LAZY_SHIFT + 1.0 - f64::EXP2_MIN;
    assert_eq!(bound[0], 3.0 + 6.0 + dropped);
    assert!((bound[1] - 1e9 * LOG2_E - 3.0).abs() < 1e-3);
    assert_eq!(bound[2], 3.0);
    let mut row = [0.0; 3];
    found.read(0, 0..3, &mut row);
    assert_eq!(row, [0.0, f64::NEG_INFINITY, -20.0 * LOG2_E]);
}
