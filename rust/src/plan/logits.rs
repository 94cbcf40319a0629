//! A sample of logits, and how well a polynomial serves for it (docs/math.md, equations 130 and 131).

use ndarray::Array1;

use crate::certificate::rng::Rng;
use crate::float::Float;
use crate::polynomial::{Interval, Kind, Polynomial};
use crate::problem::{Problem, Weights};

/// Queries looked at, and keys for each: 2048 logits fix the error of a polynomial to a few per cent, which costs nothing
/// beside the rows that verify it.
const QUERIES: usize = 32;
const KEYS: usize = 64;

/// Seed of the sample: the choice of a polynomial is no part of what `rng` draws.
const SEED: u64 = 0x5EED_10C1;

/// Logits of drawn rows less that of the mean key, row by row.
pub struct Logits {
    /// `[rows][keys]`.
    values: Vec<f64>,
    keys: usize,
    /// max ‖q‖ max ‖k‖ of what was looked at.
    pub range: f64,
}

impl Logits {
    /// From at most 32 queries and 64 keys for each, all of which a mask lets through. Time O(2048 d²).
    pub fn draw<T: Float>(problem: &Problem<'_, T>) -> Self {
        let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
        let mut rng = Rng::new(SEED);
        let (queries, keys) = (QUERIES.min(n), if m == 0 { 0 } else { KEYS });
        let mean = mean_key(problem, &mut rng);
        let mut values = Vec::with_capacity(queries * keys);
        let (mut widest_query, mut widest_key) = (0.0f64, 0.0f64);
        for _ in 0..queries {
            let row = rng.below(n as u64) as usize;
            let query = query(problem, row);
            widest_query = widest_query.max(query.dot(&query));
            let seen = if problem.is_causal { m.min(row + 1) } else { m };
            for _ in 0..keys {
                let index = rng.below(seen as u64) as usize;
                let key = problem.A2.row(index).mapv(T::widen) - &mean;
                widest_key = widest_key.max(key.dot(&key));
                values.push(query.dot(&key));
            }
        }
        Logits { values, keys: keys.max(1), range: (widest_query * widest_key).sqrt() }
    }

    /// Whether every number is one.
    pub fn finite(&self) -> bool {
        self.range.is_finite() && self.values.iter().all(|t| t.is_finite())
    }

    /// Standard deviation of the logits.
    pub fn spread(&self) -> f64 {
        (self.values.iter().map(|t| t * t).sum::<f64>() / self.values.len().max(1) as f64).sqrt()
    }

    /// The polynomial of least squares for the sample; nothing where the logits are too large for any.
    pub fn least_squares(&self, degree: usize) -> Option<Polynomial> {
        let most = self.values.iter().fold(0.0, |most: f64, t| most.max(t.abs()));
        let weights = vec![1.0; self.values.len()];
        Polynomial::least_squares(degree, Interval::symmetric(most).ok()?, &self.values, &weights).ok()
    }

    /// The polynomial whose relative error is least on the range that Cauchy–Schwarz allows.
    pub fn minimax(&self, degree: usize) -> Option<Polynomial> {
        Polynomial::new(Kind::MinimaxRelative, degree, Interval::symmetric(self.range).ok()?).ok()
    }

    /// Relative error of the attention weights: the standard deviation of P(t) e^−t under the softmax of each row over its
    /// mean, in the mean square over the rows.
    pub fn error(&self, polynomial: &Polynomial) -> f64 {
        let rows = self.values.chunks_exact(self.keys);
        let count = rows.len().max(1) as f64;
        let square = rows
            .map(|row| {
                let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
                for &t in row {
                    let (weight, ratio) = (t.exp(), polynomial.eval(t) * (-t).exp() - 1.0);
                    total += weight;
                    first += weight * ratio;
                    second += weight * ratio * ratio;
                }
                let mean = first / total;
                (second / total - mean * mean).max(0.0) / (1.0 + mean).powi(2)
            })
            .sum::<f64>();
        // NaN is not known, hence infinite.
        let error = (square / count).sqrt();
        if error.is_nan() { f64::INFINITY } else { error }
    }
}

/// Mean of a few keys: any centre serves.
fn mean_key<T: Float>(problem: &Problem<'_, T>, rng: &mut Rng) -> Array1<f64> {
    let (m, d2) = problem.A2.dim();
    let mut mean = Array1::zeros(d2);
    for _ in 0..if m == 0 { 0 } else { KEYS } {
        mean += &problem.A2.row(rng.below(m as u64) as usize).mapv(T::widen);
    }
    mean / KEYS as f64
}

/// scale · A1_j X, (d2).
fn query<T: Float>(problem: &Problem<'_, T>, row: usize) -> Array1<f64> {
    let input = problem.A1.row(row).mapv(T::widen);
    let product = match problem.weights {
        Weights::Product(X) => input.dot(&X.mapv(T::widen)),
        Weights::Pair(W_Q, W_K) => W_K.mapv(T::widen).dot(&input.dot(&W_Q.mapv(T::widen))),
    };
    problem.scale * product
}
