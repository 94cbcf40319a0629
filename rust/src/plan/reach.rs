//! How far logits reach: lengths of all queries and keys in the metric of the logits, keys that stand out, and the
//! range on which a polynomial is believed where no sample looks (docs/math.md, equations 11.10 to 11.13).

use std::cell::OnceCell;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::lengths::{Lengths, Maps, are_seen};
use super::stages::Stages;
use crate::certificate::outliers::{budget, weighty};
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::features::Coordinates;
use crate::float::Float;
use crate::linalg::layout::{row_major, rows, wide};
use crate::linalg::norms::{largest, largest_of, norm};
use crate::options::Isa;
use crate::polynomial::horner;
use crate::probe::exponentials;
use crate::probe::lengths::{Measured, Measures};
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Most keys that are left to exp: at 16 coordinates they cost less than the moments of degree 1.
const MOST_KEYS: usize = 64;

/// Largest harmless error of P, in units of the mean weight, for any logit that a query can have: a pair that is off by
/// less does not stand out among those of its row ...
const HARMLESS: f64 = 2.0;

/// ... nor does one that is off by less than this part of its weight, which the normaliser has then seen ...
const SEEN: f64 = 0.5;

/// ... and √512 pairs, of 64 queries with 8 keys, that are off by ε √(n m) / 32 add half to the squares that n m pairs
/// off by ε make.
const PAIRS: f64 = 32.0;

/// The degree whose neglected power says which keys stand out, whatever the degree of a try: what is left to exp must
/// not depend on where a search begins.
const KEY_DEGREE: usize = 2;

/// Steps to 1 of the scan for the range of a polynomial, and the largest range. Between two of them P(t) − e^t is off
/// its chord by less than the room that is left.
const STEPS: usize = 64;
const LARGEST: usize = 16;
const ROOM: f64 = 0.99;

/// Of a logit of this size every degree neglects more than all: 64³¹ e^64 is above 31!.
const ALL_NEGLECTED: f64 = 64.0;

/// Lengths of the queries and the keys of a problem.
pub struct Reach {
    /// Around the mean of the keys that do not stand out.
    pub lengths: Lengths,
    /// Keys that stand out, in rising order; none under a mask.
    pub exact_keys: Vec<usize>,
    /// Factor by which an error of the normaliser moves w_j more where the query looks at keys that stand out, one for
    /// each query; nothing where no key does.
    pulls: Vec<f64>,
    /// Lengths of queries and keys in balanced coordinates, measured when first asked for.
    balanced: OnceCell<[Vec<f64>; 2]>,
    isa: Isa,
}

impl Reach {
    /// Of a problem. Time O(n (d1 + d) d + m (d2 d + d3 dv)), and O(n K d) for K keys that stand out.
    pub fn new<T: Float>(problem: &Problem<'_, T>, stages: &mut Stages<'_>) -> Result<Self, Error> {
        stages.run(0.05, |options, watch| {
            let mut run = Run::new(options, watch);
            run.phase(1.0);
            let (maps, isa) = (Maps::of(problem), options.isa()?);
            let mut lengths = Lengths::new(problem, &maps, &[], isa, &mut run)?;
            let exact_keys = standing_keys(&lengths, isa)?;
            let mut pulls = Vec::new();
            // Around the mean of the others, which is that of all where a look has seen none of these.
            if are_seen(&exact_keys, problem.A2.nrows()) {
                lengths = Lengths::new(problem, &maps, &exact_keys, isa, &mut run)?;
            }
            if !exact_keys.is_empty() {
                pulls = pulled(problem, &maps, &lengths, &exact_keys, &mut run)?;
            }
            Ok(Reach { lengths, exact_keys, pulls, balanced: OnceCell::new(), isa })
        })
    }

    /// The share of the weights of each query that a polynomial of a degree neglects, as it moves w.
    pub fn lost(&self, degree: usize) -> Result<Vec<f64>, Error> {
        let mut lost = buffer::copied(&self.lengths.logits)?;
        neglect(&mut lost, degree, self.isa);
        // No pulls where no key stands out.
        lost.iter_mut().zip(&self.pulls).for_each(|(lost, pull)| *lost *= pull);
        Ok(lost)
    }

    /// Queries one of whose logits may be above `limit`, the keys `exact_keys` left out; nothing where there are more
    /// than may be computed exactly. Balanced coordinates are tried too where they are `affordable`.
    pub fn beyond<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        exact_keys: &[usize],
        limit: f64,
        affordable: bool,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let most = if problem.is_causal { 0 } else { budget(problem.A1.nrows()) };
        let own = above(&self.lengths.queries, &self.lengths.keys, exact_keys, limit, most)?;
        if own.is_some() || !affordable {
            return Ok(own);
        }
        let balanced = match self.balanced.get() {
            Some(balanced) => balanced,
            None => {
                let measured = stages.run(0.05, |options, watch| {
                    let mut run = Run::new(options, watch);
                    run.phase(1.0);
                    balanced(problem, exact_keys, self.isa, &mut run)
                })?;
                self.balanced.get_or_init(|| measured)
            }
        };
        let [queries, keys] = balanced;
        above(queries, keys, exact_keys, limit, most)
    }
}

/// Replaces logits, of which none is negative, by what their first neglected power is of their weight:
/// x^(g+1) e^x / (g+1)!, at most 1.
fn neglect(logits: &mut [f64], degree: usize, isa: Isa) {
    for logits in logits.chunks_mut(PRODUCT_ROWS) {
        let mut weights = [0.0; PRODUCT_ROWS];
        let weights = &mut weights[..logits.len()];
        for (weight, logit) in weights.iter_mut().zip(&mut *logits) {
            // NaN, of which all is neglected, becomes that as well.
            *logit = logit.min(ALL_NEGLECTED);
            *weight = *logit;
        }
        exponentials(isa, weights);
        // Factor by factor: the power alone may overflow.
        for k in 1..=degree + 1 {
            let share = 1.0 / k as f64;
            weights.iter_mut().zip(&*logits).for_each(|(weight, logit)| *weight *= logit * share);
        }
        logits.iter_mut().zip(weights).for_each(|(to, weight)| *to = weight.min(1.0));
    }
}

/// The largest r such that a P(t) = Σ P_a t^a is believed for |t| ≤ r: its error is harmless, seen, or small compared
/// with that of `pairs` pairs that are off by `error` in the mean square.
pub fn believed(coefficients: &[f64], error: f64, pairs: f64) -> f64 {
    let little = error * pairs.sqrt() / PAIRS;
    let allowed = |t: f64| HARMLESS.max(SEEN * t.exp()).max(little);
    let off = |t: f64| (horner(coefficients, t) - t.exp()).abs();
    let believed = |&step: &usize| {
        let t = step as f64 / STEPS as f64;
        [t, -t].into_iter().all(|t| off(t) <= ROOM * allowed(t))
    };
    (0..=LARGEST * STEPS).take_while(believed).last().map_or(0.0, |step| step as f64 / STEPS as f64)
}

/// Queries of which the product with the longest key is above a limit; nothing where there are more than `most`.
fn above(
    queries: &[f64],
    keys: &[f64],
    exact_keys: &[usize],
    limit: f64,
    most: usize,
) -> Result<Option<Vec<usize>>, Error> {
    // Between two of the keys that are left out.
    let mut first = 0;
    let others = exact_keys.iter().copied().chain([keys.len()]).map(|key| {
        let others = &keys[first..key];
        first = key + 1;
        largest_of(others)
    });
    let key = largest(others);
    // NaN is above any limit.
    let is_far = |query: f64| query * key > limit || (query * key).is_nan() || limit.is_nan();
    // Lengths are not negative: where the longest is near, so are all.
    if !is_far(largest_of(queries)) {
        return Ok(Some(Vec::new()));
    }
    let far = || queries.iter().enumerate().filter(|(_, query)| is_far(**query)).map(|(row, _)| row);
    if far().take(most + 1).count() > most {
        return Ok(None);
    }
    let mut rows = buffer::with_capacity(most)?;
    rows.extend(far());
    Ok(Some(rows))
}

/// Keys that stand out by (11.10); none under a mask.
fn standing_keys(all: &Lengths, isa: Isa) -> Result<Vec<usize>, Error> {
    if all.spreads.is_empty() {
        return Ok(Vec::new());
    }
    let query = norm(&all.queries) / (all.queries.len().max(1) as f64).sqrt();
    let mut caps = buffer::collected(all.keys.iter().map(|key| query * key))?;
    neglect(&mut caps, KEY_DEGREE, isa);
    for ((cap, key), value) in caps.iter_mut().zip(&all.keys).zip(&all.spreads) {
        *cap *= key * (value + all.spread);
    }
    weighty(&caps, MOST_KEYS)
}

/// Lengths of queries and keys in balanced coordinates.
fn balanced<T: Float>(
    problem: &Problem<'_, T>,
    exact_keys: &[usize],
    isa: Isa,
    run: &mut Run<'_>,
) -> Result<[Vec<f64>; 2], Error> {
    let coordinates = Coordinates::new(problem, exact_keys);
    let mut of = |array: ArrayView2<'_, T>, map: &Array2<f64>, shift: Option<&[f64]>| {
        let array = row_major(array)?;
        let measured = Measured::new(rows(&array)?, map.view(), shift, isa)?;
        let mut lengths = buffer::zeros(array.nrows())?;
        let blocks = lengths.chunks_mut(PRODUCT_ROWS).enumerate();
        run.for_each(blocks, |(block, lengths), cancel| {
            cancel.check()?;
            let first = block * PRODUCT_ROWS;
            let of = first..first + lengths.len();
            measured.measure(of, Measures { mapped: Some(lengths), ..Measures::default() })
        })?;
        Ok(lengths)
    };
    let queries = of(problem.A1, &coordinates.query, None)?;
    Ok([queries, of(problem.A2, &coordinates.key, Some(&coordinates.mean.to_vec()))?])
}

/// 1 + √m R φ (1 − φ) of every query, φ the share that the keys `exact_keys` have of its attention, R how far they and
/// their values stand out from the others (docs/math.md, equation 11.11).
fn pulled<T: Float>(
    problem: &Problem<'_, T>,
    maps: &Maps,
    others: &Lengths,
    exact_keys: &[usize],
    run: &mut Run<'_>,
) -> Result<Vec<f64>, Error> {
    let of = |all: ArrayView2<'_, T>| wide(all.select(Axis(0), exact_keys).view());
    let chosen = maps.keys(of(problem.A2) - &others.mean);
    let values = (of(problem.A3) - &others.input_mean).dot(&maps.value);
    let one = |(key, value): (ArrayView1<'_, f64>, ArrayView1<'_, f64>)| {
        key.dot(&key).sqrt() / others.key * (1.0 + value.dot(&value).sqrt() / others.spread)
    };
    let levers = buffer::collected(chosen.rows().into_iter().zip(values.rows()).map(one))?;
    let lever = largest_of(&levers);
    let (rows, keys) = (problem.A1, problem.A2.nrows() as f64);
    let (to_logits, dimension) = (maps.query.dot(&chosen.t()), maps.query.ncols().max(1) as f64);
    let mut pulls = buffer::zeros(rows.nrows())?;
    run.for_each(pulls.chunks_mut(PRODUCT_ROWS).enumerate(), |(block, pulls), cancel| {
        cancel.check()?;
        let first = block * PRODUCT_ROWS;
        let own = wide(rows.slice(s![first..first + pulls.len(), ..])).dot(&to_logits);
        for ((pull, own), logit) in pulls.iter_mut().zip(own.rows()).zip(&others.logits[first..]) {
            // Normal logits of that spread have a mean weight of e^(σ²/2).
            let rest = keys.ln() + 0.5 * logit * logit / dimension;
            let odds: f64 = own.iter().map(|t| (t - rest).exp()).sum();
            *pull = 1.0 + keys.sqrt() * lever * (odds / (1.0 + odds)) / (1.0 + odds);
        }
        Ok(())
    })?;
    Ok(pulls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polynomial::MAX_DEGREE;

    /// P = 1 + t + … + t^g / g! is e^t times the chance of at most g events where t are expected, which is a half near
    /// g + 2/3; below zero it is harmless up to about the same.
    #[test]
    fn a_polynomial_is_believed_as_far_as_it_is_near() {
        let taylor = |degree: usize| (0..=degree).map(|a| 1.0 / (1..=a).product::<usize>() as f64).collect::<Vec<_>>();
        for (degree, least, most) in [(1, 1.6, 1.7), (2, 2.5, 2.7), (3, 2.9, 3.1)] {
            let range = believed(&taylor(degree), 0.0, 1e9);
            assert!((least..most).contains(&range), "degree {degree}: {range}");
            // Where pairs are off by much in the mean, a few that are off by more are no news.
            assert!(believed(&taylor(degree), 1e-2, 1e9) > range + 0.2);
        }
        assert_eq!(believed(&[4.0], 0.0, 1.0), 0.0);
        assert_eq!(believed(&[f64::NAN], 0.0, 1.0), 0.0);
    }

    #[test]
    fn what_is_neglected_is_at_most_all() {
        for isa in Isa::shapes() {
            let mut logits = [0.0, 0.1, 1e200, f64::INFINITY, f64::NAN];
            neglect(&mut logits, 1, isa);
            assert!((logits[1] - 0.005 * 0.1f64.exp()).abs() < 1e-15, "{isa:?}");
            assert_eq!([logits[0], logits[2], logits[3], logits[4]], [0.0, 1.0, 1.0, 1.0], "{isa:?}");
            let mut logits = [ALL_NEGLECTED, 2.0 * ALL_NEGLECTED, 1e-200];
            neglect(&mut logits, MAX_DEGREE, isa);
            assert_eq!(logits, [1.0, 1.0, 0.0], "{isa:?}");
        }
    }

    #[test]
    fn rows_beyond_the_limit_are_found_within_their_number() {
        let (queries, keys) = ([1.0, 3.0, 2.0, f64::NAN], [1.0, 9.0, 2.0]);
        let found = |exact: &[usize], limit, most| above(&queries, &keys, exact, limit, most).expect("few rows");
        assert_eq!(found(&[1], 5.0, 3), Some(vec![1, 3]));
        assert_eq!(found(&[1], 5.0, 1), None);
        assert_eq!(found(&[], 5.0, 4), Some(vec![0, 1, 2, 3]));
    }
}
