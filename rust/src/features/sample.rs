//! Logits of sampled pairs of a query and a key, and the error of P on them (docs/math.md, equation 10.7).

use super::balance::Balance;
use super::rows::{LANES, Lanes, mapped};
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::products::{product, view};
use crate::linalg::some_rows::other;
use crate::polynomial::MAX_DEGREE;
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::runtime::rng::{Rng, without_replacement};

/// Rows of each side in a sample: 65536 pairs place a root mean square within a few per cent.
const SAMPLED: usize = 256;

/// Rows of largest norm, and keys that all queries attend to most, that are always in it: a few outliers can carry all
/// of the error.
const EXTREMES: usize = 16;

/// Different logits per coefficient below which least squares takes the whole interval for them.
pub(super) const SAMPLES_PER_COEFFICIENT: usize = 4;

/// Number of different logits beyond which more of them do not matter: more than any polynomial has coefficients,
/// several times.
const MOST_DISTINCT: usize = SAMPLES_PER_COEFFICIENT * (MAX_DEGREE + 1);

/// Squared norms of a row in its coordinates and, less the mean, as it is given in units of its size; and the logarithm
/// of the factor that centring took.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    balanced: f64,
    plain: f64,
    exponent: f64,
}

/// All rows of both sides, measured.
pub(super) struct Looks {
    queries: Vec<Look>,
    keys: Vec<Look>,
}

impl Looks {
    /// Time O((n + m) d²).
    pub fn new<T: Float>(
        balance: &Balance,
        query: Rows<'_, T>,
        key: Rows<'_, T>,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let queries = Lanes::new(&balance.query_mean, &balance.query_map)?;
        let keys = Lanes::new(&balance.key_mean, &balance.key_map)?;
        let (direction, offset) = balance.key_exponent();
        let none = buffer::zeros(direction.len())?;
        let direction = direction.to_vec();
        Ok(Looks {
            queries: looks(query, &queries, (&none, 0.0), run)?,
            keys: looks(key, &keys, (&direction, offset), run)?,
        })
    }

    /// A bound of |s⟨q − a, k − b⟩| by Cauchy and Schwarz, in the better coordinates.
    pub fn logit_bound(&self, scale: f64) -> f64 {
        let largest = |looks: &[Look], of: fn(&Look) -> f64| looks.iter().map(of).fold(0.0, f64::max).sqrt();
        let balanced = |look: &Look| look.balanced;
        let plain = |look: &Look| look.plain;
        let new = largest(&self.queries, balanced) * largest(&self.keys, balanced);
        let old = scale.abs() * largest(&self.queries, plain) * largest(&self.keys, plain);
        // NaN, as of zero times what overflowed, is no bound, and the other one is.
        new.min(old)
    }
}

fn looks<T: Float>(
    rows: Rows<'_, T>,
    lanes: &Lanes<f64>,
    (direction, offset): (&[f64], f64),
    run: &mut Run<'_>,
) -> Result<Vec<Look>, Error> {
    let d = rows.width;
    let mut found = buffer::filled(rows.count, Look { exponent: offset, ..Look::default() })?;
    if d == 0 {
        return Ok(found);
    }
    let tasks = found.chunks_mut(PRODUCT_ROWS).zip(rows.data.chunks(PRODUCT_ROWS * d));
    run.for_each(tasks, |(found, given), cancel| {
        cancel.check()?;
        let mut shifted = buffer::filled(d, [0.0; LANES])?;
        let mut coordinates = buffer::filled(d, [0.0; LANES])?;
        for (found, given) in found.chunks_mut(LANES).zip(given.chunks(LANES * d)) {
            lanes.of(given, found.len(), &mut shifted, &mut coordinates);
            for (lane, (look, row)) in found.iter_mut().zip(given.chunks_exact(d)).enumerate() {
                look.balanced = coordinates.iter().map(|x| x[lane] * x[lane]).sum();
                look.plain = shifted.iter().map(|x| x[lane] * x[lane]).sum();
                look.exponent += row.iter().zip(direction).map(|(x, y)| x.widen() * y).sum::<f64>();
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Centred logits of some queries by some keys.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Which rows were drawn, rising.
    pub queries: Vec<usize>,
    pub keys: Vec<usize>,
    /// s⟨q − a, k − b⟩, `[queries][keys]`.
    pub logits: Vec<f64>,
    /// How much each pair counts in eq. (10.7): attention by queries, with sum 1.
    pub pair_weights: Vec<f64>,
    /// Smallest and largest logit; zeros without any.
    pub range: (f64, f64),
    /// The standard deviation of the logits of all pairs.
    pub spread: f64,
    /// How many different logits there are, as far as [`MOST_DISTINCT`].
    pub distinct: usize,
    /// Whether all pairs are in it, so that its figures are those of the data.
    pub complete: bool,
}

impl Sample {
    /// Draws [`SAMPLED`] queries and keys (all, where there are no more) and takes their logits, in time O(65536 d).
    pub fn draw<T: Float>(
        balance: &Balance,
        looks: &Looks,
        query: Rows<'_, T>,
        key: Rows<'_, T>,
        rng: &mut Rng,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (queries, query_weights) = draw(&[&|row: usize| looks.queries[row].balanced], query.count, rng)?;
        let by_norm = |row: usize| looks.keys[row].balanced;
        let by_exponent = |row: usize| looks.keys[row].exponent;
        let (keys, key_weights) = draw(&[&by_norm, &by_exponent], key.count, rng)?;
        let d = query.width;
        let left = selected(query, &queries)?;
        let right = selected(key, &keys)?;
        let lanes = Lanes::new(&balance.query_mean, &balance.query_map)?;
        let left = mapped(Rows { data: &left, count: queries.len(), width: d }, &lanes, run)?;
        let lanes = Lanes::new(&balance.key_mean, &balance.key_map)?;
        let right = mapped(Rows { data: &right, count: keys.len(), width: d }, &lanes, run)?;
        let right = view(&right, keys.len(), d)?;
        let logits: Vec<f64> = product(view(&left, queries.len(), d)?, right.reversed_axes(), balance.sign(), run)?;
        let exponents: Vec<f64> = keys.iter().map(|&key| looks.keys[key].exponent).collect();
        let range = logits.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &t| (low.min(t), high.max(t)));
        Ok(Sample {
            complete: queries.len() == query.count && keys.len() == key.count,
            spread: spread(&logits, &query_weights, &key_weights),
            pair_weights: attention(&logits, &exponents, &query_weights, &key_weights)?,
            range: if logits.is_empty() { (0.0, 0.0) } else { range },
            distinct: distinct(&logits)?,
            queries,
            keys,
            logits,
        })
    }

    /// Root mean square relative error of eq. (10.7) of values that stand for e^t; infinite where it is not a number:
    /// what overflows is not near.
    pub fn error(&self, approximation: impl IntoIterator<Item = f64>) -> f64 {
        let terms = self.logits.iter().zip(&self.pair_weights).zip(approximation);
        let mean: f64 = terms.map(|((t, weight), value)| weight * (value / t.exp() - 1.0).powi(2)).sum();
        if mean.is_finite() { mean.sqrt() } else { f64::INFINITY }
    }
}

/// How many different numbers there are, as far as [`MOST_DISTINCT`]: most samples show that many at once.
fn distinct(numbers: &[f64]) -> Result<usize, Error> {
    let mut seen: Vec<f64> = buffer::with_capacity(MOST_DISTINCT)?;
    for x in numbers {
        if let Err(place) = seen.binary_search_by(|other| other.total_cmp(x)) {
            seen.insert(place, *x);
            if seen.len() == MOST_DISTINCT {
                break;
            }
        }
    }
    Ok(seen.len())
}

/// The standard deviation of logits, each for as many pairs as its query and its key stand for; 0 without any.
fn spread(logits: &[f64], queries: &[f64], keys: &[f64]) -> f64 {
    let moment = |center: f64, power: i32| {
        let rows = logits.chunks(keys.len().max(1)).zip(queries);
        let of_row = |row: &[f64]| row.iter().zip(keys).map(|(t, key)| key * (t - center).powi(power)).sum::<f64>();
        rows.map(|(row, query)| query * of_row(row)).sum::<f64>()
    };
    let pairs = queries.iter().sum::<f64>() * keys.iter().sum::<f64>();
    if pairs > 0.0 { (moment(moment(0.0, 1) / pairs, 2) / pairs).sqrt() } else { 0.0 }
}

/// f_ji over the keys that each drawn one stands for, times the share of the query.
fn attention(logits: &[f64], exponents: &[f64], queries: &[f64], keys: &[f64]) -> Result<Vec<f64>, Error> {
    let mut weights = buffer::zeros(logits.len())?;
    let all: f64 = queries.iter().sum();
    let rows = weights.chunks_mut(keys.len().max(1)).zip(logits.chunks(keys.len().max(1)));
    for ((to, logits), query) in rows.zip(queries) {
        let seen = |key: usize| logits[key] + exponents[key];
        let largest = (0..keys.len()).map(seen).fold(f64::NEG_INFINITY, f64::max);
        to.iter_mut().enumerate().for_each(|(key, to)| *to = keys[key] * (seen(key) - largest).exp());
        let sum: f64 = to.iter().sum();
        to.iter_mut().for_each(|to| *to *= query / all / sum);
    }
    Ok(weights)
}

/// Some rows one after the other.
pub(super) fn selected<T: Float>(rows: Rows<'_, T>, chosen: &[usize]) -> Result<Vec<T>, Error> {
    let mut out = buffer::with_capacity(buffer::size(&[chosen.len(), rows.width])?)?;
    chosen.iter().for_each(|&row| out.extend_from_slice(&rows.data[row * rows.width..(row + 1) * rows.width]));
    Ok(out)
}

/// The rows of largest scores, and others at random that stand for all the rest; in rising order, with how many each is
/// for.
fn draw(scores: &[&dyn Fn(usize) -> f64], total: usize, rng: &mut Rng) -> Result<(Vec<usize>, Vec<f64>), Error> {
    if total <= SAMPLED {
        return Ok(((0..total).collect(), vec![1.0; total]));
    }
    let mut extremes: Vec<usize> = scores.iter().flat_map(|score| largest(score, total)).collect();
    extremes.sort_unstable();
    extremes.dedup();
    let rest = total - extremes.len();
    let drawn = without_replacement(rng, rest, SAMPLED - extremes.len())?;
    let weight = rest as f64 / drawn.len() as f64;
    let mut chosen: Vec<(usize, f64)> = extremes.iter().map(|&row| (row, 1.0)).collect();
    chosen.extend(drawn.into_iter().map(|place| (other(place, &extremes), weight)));
    chosen.sort_unstable_by_key(|&(row, _)| row);
    Ok(chosen.into_iter().unzip())
}

/// The rows of largest scores, of equal ones the last.
fn largest(score: &dyn Fn(usize) -> f64, total: usize) -> Vec<usize> {
    let mut best: Vec<(f64, usize)> = Vec::with_capacity(EXTREMES + 1);
    for row in 0..total {
        let value = score(row);
        if best.len() == EXTREMES && value < best[0].0 {
            continue;
        }
        let place = best.partition_point(|&(other, _)| other.total_cmp(&value).is_le());
        best.insert(place, (value, row));
        if best.len() > EXTREMES {
            best.remove(0);
        }
    }
    best.into_iter().map(|(_, row)| row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_numbers_are_counted_as_far_as_it_matters() {
        let repeated: Vec<f64> = (0..1000).map(|i| f64::from(i % 7) - 3.0).collect();
        let many: Vec<f64> = (0..1000).map(|i| f64::from(i * 389 % 1000)).collect();
        for (numbers, count) in [(&[][..], 0), (&repeated, 7), (&many[..50], 50), (&many, MOST_DISTINCT)] {
            assert_eq!(distinct(numbers).expect("a small buffer"), count);
        }
    }

    #[test]
    fn draws_hold_the_extremes_and_stand_for_all() {
        for total in [0, 1, 256, 257, 300, 5000] {
            let score = |row: usize| ((row * 7919) % 1009) as f64;
            let other = |row: usize| -(row as f64);
            let (rows, weights) = draw(&[&score, &other], total, &mut Rng::new(3)).expect("few rows");
            assert_eq!(rows.len(), total.min(SAMPLED));
            assert!(rows.windows(2).all(|two| two[0] < two[1]) && rows.iter().all(|&row| row < total));
            assert!((weights.iter().sum::<f64>() - total as f64).abs() < 1e-9 * total as f64 + 1e-12);
            let mut ordered: Vec<usize> = (0..total).collect();
            ordered.sort_by(|&a, &b| score(a).total_cmp(&score(b)));
            for row in ordered.into_iter().rev().take(EXTREMES).chain(0..EXTREMES.min(total)) {
                assert!(rows.contains(&row), "{total}: {row}");
            }
        }
    }
}
