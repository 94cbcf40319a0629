//! How far logits reach: lengths of all queries and keys in the metric of the logits, keys that stand out, and the range on
//! which a polynomial is believed where no sample looks (docs/math.md, equations 161 to 163).

use std::cell::OnceCell;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};

use super::rows::{typical_of, wide};
use super::stages::Stages;
use crate::buffer;
use crate::certificate::outliers::{budget, weighty};
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::exact::gradient::{row_major, rows};
use crate::float::Float;
use crate::moments::Coordinates;
use crate::norms::{inner, largest, largest_of, length, norm, row_norms};
use crate::polynomial::horner;
use crate::pool::Run;
use crate::problem::{Problem, Weights};
use crate::some_rows::some_rows_but;

/// Most keys that are left to exp: at 16 coordinates they cost less than the moments of degree 1.
const MOST_KEYS: usize = 64;

/// What P may be off by, in units of the mean weight, for any logit that a query can have: a pair that is off by less does
/// not stand out among those of its row ...
const HARMLESS: f64 = 2.0;

/// ... nor does one that is off by less than this part of its weight, which the normaliser has then seen ...
const SEEN: f64 = 0.5;

/// ... and √512 pairs, of 64 queries with 8 keys, that are off by ε √(n m) / 32 add half to the squares that n m pairs off by
/// ε make.
const PAIRS: f64 = 32.0;

/// The degree whose neglected power says which keys stand out, whatever the degree of a try: what is left to exp must not
/// depend on where a search begins.
const KEY_DEGREE: usize = 2;

/// Steps to 1 of the scan for the range of a polynomial, and the largest range. Between two of them P(t) − e^t is off its
/// chord by less than the room that is left.
const STEPS: usize = 64;
const LARGEST: usize = 16;
const ROOM: f64 = 0.99;

/// An exponential and the power beside it.
const EXP_NANOSECONDS: usize = 15;

/// Lengths of the queries and the keys of a problem.
pub struct Reach {
    /// ‖q_j‖, the scale included.
    queries: Vec<f64>,
    /// √d times the root mean square of the logits of each query: ‖q_j‖ ‖k‖ where no direction is special.
    pub logits: Vec<f64>,
    /// ‖k_i‖ around the mean of those that do not stand out.
    keys: Vec<f64>,
    /// Keys that stand out, in rising order; none under a mask.
    pub exact_keys: Vec<usize>,
    /// How much more an error of the normaliser moves w_j where the query looks at keys that stand out, one for each query;
    /// nothing where no key does.
    pulls: Vec<f64>,
    /// Root mean square of the length of a value.
    pub value: f64,
    /// Lengths of queries and keys in balanced coordinates, measured when first asked for.
    balanced: OnceCell<[Vec<f64>; 2]>,
    /// ‖a_j‖, measured when first asked for.
    inputs: OnceCell<Vec<f64>>,
}

impl Reach {
    /// Of a problem. Time O(n (d1 + d) d + m (d2 d + d3 dv)), and O(n K d) for K keys that stand out.
    pub fn new<T: Float>(problem: &Problem<'_, T>, stages: &mut Stages<'_>) -> Result<Self, Error> {
        stages.run(0.05, |options, watch| {
            let mut run = Run::new(options, watch);
            run.phase(1.0);
            let maps = Maps::of(problem);
            let mut lengths = Lengths::new(problem, &maps, &[], &mut run)?;
            let exact_keys = standing_keys(problem, &maps, &lengths, &mut run)?;
            let mut pulls = Vec::new();
            if !exact_keys.is_empty() {
                lengths = Lengths::new(problem, &maps, &exact_keys, &mut run)?;
                pulls = pulled(problem, &maps, &lengths, &exact_keys, &mut run)?;
            }
            let Lengths { queries, logits, keys, value, .. } = lengths;
            let (balanced, inputs) = (OnceCell::new(), OnceCell::new());
            Ok(Reach { queries, logits, keys, exact_keys, pulls, value, balanced, inputs })
        })
    }

    /// ‖a_j‖ of every row of A1.
    pub fn inputs<T: Float>(&self, problem: &Problem<'_, T>, run: &mut Run<'_>) -> Result<&[f64], Error> {
        if let Some(inputs) = self.inputs.get() {
            return Ok(inputs);
        }
        let inputs = row_norms(rows(&row_major(problem.A1)?)?, run)?;
        Ok(self.inputs.get_or_init(|| inputs))
    }

    /// What a polynomial of a degree neglects of the logits of each query, as it moves w.
    pub fn lost(&self, degree: usize, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
        let mut lost = buffer::copied(&self.logits)?;
        run.short(EXP_NANOSECONDS * lost.len(), lost.chunks_mut(PRODUCT_ROWS), |lost, _| {
            lost.iter_mut().for_each(|logit| *logit = neglected(*logit, degree));
            Ok(())
        })?;
        // No pulls where no key stands out.
        lost.iter_mut().zip(&self.pulls).for_each(|(lost, pull)| *lost *= pull);
        Ok(lost)
    }

    /// Queries one of whose logits may be above `limit`, the keys `exact_keys` left out; nothing where there are more than
    /// may be computed exactly. Balanced coordinates are tried too where they are `affordable`.
    pub fn beyond<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        exact_keys: &[usize],
        limit: f64,
        affordable: bool,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let most = if problem.is_causal { 0 } else { budget(problem.A1.nrows()) };
        let own = above(&self.queries, &self.keys, exact_keys, limit, most)?;
        if own.is_some() || !affordable {
            return Ok(own);
        }
        let balanced = match self.balanced.get() {
            Some(balanced) => balanced,
            None => {
                let measured = stages.run(0.05, |options, watch| {
                    let mut run = Run::new(options, watch);
                    run.phase(1.0);
                    let coordinates = Coordinates::new(problem, exact_keys);
                    let nothing = Array1::zeros(problem.A1.ncols());
                    let queries = lengths(problem.A1, &nothing, Some(&coordinates.query), &mut run)?;
                    Ok([queries, lengths(problem.A2, &coordinates.mean, Some(&coordinates.key), &mut run)?])
                })?;
                self.balanced.get_or_init(|| measured)
            }
        };
        let [queries, keys] = balanced;
        above(queries, keys, exact_keys, limit, most)
    }
}

/// What the first neglected power of a logit of about `x` is of its weight: x^(g+1) e^x / (g+1)!, at most 1.
fn neglected(x: f64, degree: usize) -> f64 {
    // Factor by factor: the power alone may overflow.
    let powers: f64 = (1..=degree + 1).map(|k| x / k as f64).product();
    (powers * x.exp()).min(1.0)
}

/// The largest r such that a P(t) = Σ P_a t^a is believed for |t| ≤ r: what it is off by is harmless, seen, or little beside
/// what `pairs` pairs make that are off by `error` in the mean square.
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
    let others = keys.iter().enumerate().filter(|(key, _)| exact_keys.binary_search(key).is_err());
    let key = largest(others.map(|(_, key)| key));
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

/// From rows of the inputs to what is measured.
struct Maps {
    /// From rows of A1 to queries, the scale included.
    query: Array2<f64>,
    /// From rows of A2 to keys, where those are not the rows.
    key: Option<Array2<f64>>,
    /// From rows of A3 to values.
    value: Array2<f64>,
}

impl Maps {
    fn of<T: Float>(problem: &Problem<'_, T>) -> Self {
        let (query, key) = match problem.weights {
            Weights::Product(X) => (wide(X), None),
            Weights::Pair(W_Q, W_K) => (wide(W_Q), Some(wide(W_K))),
        };
        Maps { query: problem.scale * query, key, value: wide(problem.Y) }
    }
}

/// What is measured around the mean of the keys that are not left out.
struct Lengths {
    queries: Vec<f64>,
    logits: Vec<f64>,
    keys: Vec<f64>,
    /// Root mean squares of the length of a value, and of that around the mean.
    value: f64,
    spread: f64,
    /// Some keys around their mean.
    sample: Array2<f64>,
    /// The mean rows of A2 and A3.
    mean: Array1<f64>,
    input_mean: Array1<f64>,
}

impl Lengths {
    /// Without the keys `left_out`, in rising order.
    fn new<T: Float>(
        problem: &Problem<'_, T>,
        maps: &Maps,
        left_out: &[usize],
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (sample, inputs) = (some_rows_but(problem.A2, left_out), some_rows_but(problem.A3, left_out));
        let (mean, input_mean) = (middle(&sample), middle(&inputs));
        let sample = mapped(&sample - &mean, maps.key.as_ref());
        let keys = lengths(problem.A2, &mean, maps.key.as_ref(), run)?;
        let (queries, logits) = reaches(problem.A1, &maps.query, &sample, run)?;
        let value = typical_of(inputs.dot(&maps.value));
        let spread = typical_of((&inputs - &input_mean).dot(&maps.value));
        Ok(Lengths { queries, logits, keys, value, spread, sample, mean, input_mean })
    }
}

/// Keys that stand out by (161); none under a mask.
fn standing_keys<T: Float>(
    problem: &Problem<'_, T>,
    maps: &Maps,
    all: &Lengths,
    run: &mut Run<'_>,
) -> Result<Vec<usize>, Error> {
    if problem.is_causal {
        return Ok(Vec::new());
    }
    let mut caps = lengths(problem.A3, &all.input_mean, Some(&maps.value), run)?;
    let query = norm(&all.queries) / (all.queries.len().max(1) as f64).sqrt();
    let blocks = caps.chunks_mut(PRODUCT_ROWS).zip(all.keys.chunks(PRODUCT_ROWS));
    run.short(EXP_NANOSECONDS * all.keys.len(), blocks, |(caps, keys), _| {
        for (cap, key) in caps.iter_mut().zip(keys) {
            *cap = neglected(query * key, KEY_DEGREE) * key * (*cap + all.spread);
        }
        Ok(())
    })?;
    weighty(&caps, MOST_KEYS)
}

/// The mean of rows; zero of none.
fn middle(rows: &Array2<f64>) -> Array1<f64> {
    rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols()))
}

fn mapped(rows: Array2<f64>, map: Option<&Array2<f64>>) -> Array2<f64> {
    map.map_or_else(|| rows.clone(), |map| rows.dot(map))
}

/// ‖(row − centre) · map‖ of every row.
fn lengths<T: Float>(
    rows: ArrayView2<'_, T>,
    centre: &Array1<f64>,
    map: Option<&Array2<f64>>,
    run: &mut Run<'_>,
) -> Result<Vec<f64>, Error> {
    let (centre, map) = (centre.mapv(T::narrow), map.map(|map| map.mapv(T::narrow)));
    let mut lengths = buffer::zeros(rows.nrows())?;
    run.for_each(lengths.chunks_mut(PRODUCT_ROWS).enumerate(), |(block, lengths), cancel| {
        cancel.check()?;
        let first = block * PRODUCT_ROWS;
        let centred = &rows.slice(s![first..first + lengths.len(), ..]) - &centre;
        let centred = match &map {
            Some(map) => centred.dot(map),
            None => centred,
        };
        lengths.iter_mut().zip(centred.rows()).for_each(|(to, row)| *to = length(row));
        Ok(())
    })?;
    Ok(lengths)
}

/// ‖q‖ of every query, and √d times the root mean square of its products with some keys.
fn reaches<T: Float>(
    rows: ArrayView2<'_, T>,
    map: &Array2<f64>,
    keys: &Array2<f64>,
    run: &mut Run<'_>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let typical = typical_of(keys.view().to_owned());
    // Of keys of mean square 1, so that it is in the range of the precision.
    let unit = if typical > 0.0 { keys / typical } else { keys.clone() };
    let moment = unit.t().dot(&unit) * (unit.ncols() as f64 / unit.nrows().max(1) as f64);
    let (map, moment) = (map.mapv(T::narrow), moment.mapv(T::narrow));
    let (mut lengths, mut logits) = (buffer::zeros(rows.nrows())?, buffer::zeros(rows.nrows())?);
    let blocks = lengths.chunks_mut(PRODUCT_ROWS).zip(logits.chunks_mut(PRODUCT_ROWS)).enumerate();
    run.for_each(blocks, |(block, (lengths, logits)), cancel| {
        cancel.check()?;
        let first = block * PRODUCT_ROWS;
        let queries = rows.slice(s![first..first + lengths.len(), ..]).dot(&map);
        let moved = queries.dot(&moment);
        for (((to, logit), query), moved) in lengths.iter_mut().zip(logits).zip(queries.rows()).zip(moved.rows()) {
            *to = length(query);
            *logit = typical * inner(query, moved).max(0.0).sqrt();
        }
        Ok(())
    })?;
    Ok((lengths, logits))
}

/// 1 + √m R φ (1 − φ) of every query, φ the share that the keys `exact_keys` have of its attention, R how far they and their
/// values stand out from the others (docs/math.md, equation 164).
fn pulled<T: Float>(
    problem: &Problem<'_, T>,
    maps: &Maps,
    others: &Lengths,
    exact_keys: &[usize],
    run: &mut Run<'_>,
) -> Result<Vec<f64>, Error> {
    let of = |all: ArrayView2<'_, T>| wide(all.select(Axis(0), exact_keys).view());
    let chosen = mapped(of(problem.A2) - &others.mean, maps.key.as_ref());
    let values = (of(problem.A3) - &others.input_mean).dot(&maps.value);
    let typical = typical_of(others.sample.view().to_owned());
    let one = |(key, value): (ArrayView1<'_, f64>, ArrayView1<'_, f64>)| {
        key.dot(&key).sqrt() / typical * (1.0 + value.dot(&value).sqrt() / others.spread)
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
        assert_eq!([neglected(0.0, 2), neglected(1e200, 3), neglected(f64::INFINITY, 1)], [0.0, 1.0, 1.0]);
        assert!((neglected(0.1, 1) - 0.005 * 0.1f64.exp()).abs() < 1e-15);
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
