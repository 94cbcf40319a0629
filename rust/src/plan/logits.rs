//! A sample of logits, and how well a polynomial serves for it (docs/math.md, equations 11.1 and 11.2).

use std::cell::{OnceCell, RefCell};

use ndarray::{Array1, Array2, ArrayView1, Axis};

use super::rows::row_rounding;
use crate::float::Float;
use crate::linalg::some_rows::other;
use crate::polynomial::{Interval, Polynomial};
use crate::problem::{Problem, Weights};
use crate::runtime::rng::Rng;

/// Queries looked at, and keys for each: the error of a polynomial as estimated from 3072 logits is right to a fifth
/// where tails are short, and costs nothing compared with the rows that verify it.
const QUERIES: usize = 64;
const KEYS: usize = 48;

/// Queries of a glance, which tells what is far out of reach.
const GLANCE: usize = 16;

/// One in so many of them is used to fit the polynomial: enough for a few coefficients, and the others test it as
/// unseen data would.
const FITTED: usize = 3;

/// A Poisson variable of at least this mean is beyond every degree that is looked at; e^−mean is a number below it.
const MOST_MEAN: f64 = 700.0;

/// Points to a wave of the error of a polynomial.
const WAVE_POINTS: usize = 8;

/// Seed of the sample: the choice of a polynomial is no part of what `rng` draws.
const SEED: u64 = 0x5EED_10C1;

/// Logits that are drawn when first asked for.
pub type Drawn = OnceCell<Logits>;

/// Those of the problem.
pub fn drawn<'a, T: Float>(logits: &'a Drawn, problem: &Problem<'_, T>) -> &'a Logits {
    logits.get_or_init(|| Logits::draw(problem, &[]))
}

/// Logits of drawn rows less that of the mean key, row by row.
pub struct Logits {
    /// `[rows][keys]`.
    values: Vec<f64>,
    /// e^t of each.
    exponentials: Vec<f64>,
    /// ‖k‖² of the centred key of each.
    key_squares: Vec<f64>,
    /// ‖a_j‖² of each row.
    row_squares: Vec<f64>,
    keys: usize,
    /// max ‖q‖ max ‖k‖ of what was looked at.
    range: f64,
    /// The root mean square of ‖q‖ in the place of its largest.
    typical: f64,
    /// Assumed rounding error of exact rows, relative to the size of rows of independent terms.
    pub rounding: f64,
    /// The polynomials that were asked for so far.
    fits: RefCell<Vec<Fit>>,
}

/// The polynomial of a degree, where there is one, and its error.
#[derive(Clone)]
struct Fit {
    degree: usize,
    polynomial: Option<Polynomial>,
    error: f64,
}

impl Logits {
    /// From at most 64 queries and 48 keys for each, all of which a mask lets through, without the keys `left_out` (in
    /// rising order, and none under a mask). Time O(3072 d + 64 d1 d).
    pub fn draw<T: Float>(problem: &Problem<'_, T>, left_out: &[usize]) -> Self {
        Logits::of(problem, left_out, QUERIES)
    }

    /// From a quarter as many.
    pub fn glance<T: Float>(problem: &Problem<'_, T>) -> Self {
        Logits::of(problem, &[], GLANCE)
    }

    fn of<T: Float>(problem: &Problem<'_, T>, left_out: &[usize], queries_wanted: usize) -> Self {
        let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
        let mut rng = Rng::new(SEED);
        let others = m - left_out.len();
        let (count, keys) = if others == 0 { (0, 0) } else { (queries_wanted.min(n), KEYS) };
        let mean = mean_key(problem, left_out, &mut rng);
        let rows: Vec<usize> = (0..count).map(|_| rng.below(n as u64) as usize).collect();
        let inputs = problem.A1.select(Axis(0), &rows).mapv(T::widen);
        let queries = queries(problem, &inputs);
        let most = rows.len() * keys;
        let (mut values, mut key_squares) = (Vec::with_capacity(most), Vec::with_capacity(most));
        for (&row, query) in rows.iter().zip(queries.rows()) {
            let seen = if problem.is_causal { m.min(row + 1) } else { others };
            for _ in 0..keys {
                let key = problem.A2.row(other(rng.below(seen as u64) as usize, left_out));
                let (t, square) = centred_products(key, &mean, query);
                values.push(t);
                key_squares.push(square);
            }
        }
        let square = |row: ArrayView1<'_, f64>| row.dot(&row);
        let largest = |squares: &mut dyn Iterator<Item = f64>| squares.fold(0.0, f64::max);
        let longest_key = largest(&mut key_squares.iter().copied());
        let widest = largest(&mut queries.rows().into_iter().map(square)) * longest_key;
        let mean_key = key_squares.iter().sum::<f64>() / key_squares.len().max(1) as f64;
        let mean_square = queries.rows().into_iter().map(square).sum::<f64>() / queries.nrows().max(1) as f64;
        Logits {
            exponentials: values.iter().map(|t| t.exp()).collect(),
            values,
            key_squares,
            row_squares: inputs.rows().into_iter().map(square).collect(),
            keys: keys.max(1),
            range: widest.sqrt(),
            typical: (mean_square * longest_key).sqrt(),
            rounding: row_rounding::<T>((mean_square * mean_key).sqrt()),
            fits: RefCell::default(),
        }
    }

    /// Whether every number is one.
    pub fn finite(&self) -> bool {
        self.range.is_finite() && self.values.iter().all(|t| t.is_finite())
    }

    /// Standard deviation of the logits.
    pub fn spread(&self) -> f64 {
        (self.values.iter().map(|t| t * t).sum::<f64>() / self.values.len().max(1) as f64).sqrt()
    }

    /// The polynomial of least squares for a part of the sample, the same for every kind of certificate: relative
    /// minimax makes bounds smaller and errors larger. Nothing where the logits are too large for any.
    pub fn least_squares(&self, degree: usize) -> Option<Polynomial> {
        self.fit(degree).polynomial
    }

    /// Relative error of a sum over rows of a_j ⊗ Σ_i f_ji (…) k_i whose other factors are independent of the logits,
    /// at a degree: that of the weights, P(t) e^−t over its mean in each row, in the mean square with the weights
    /// ‖a_j‖² f² ‖k‖². The sample has few of the largest logits, of which the error of a high degree is made: the
    /// geometric mean of it with that of normal logits of the same spreads, where that is more.
    pub fn error(&self, degree: usize) -> f64 {
        self.fit(degree).error
    }

    /// Made once, as every law that weighs a degree asks for it.
    fn fit(&self, degree: usize) -> Fit {
        if let Some(known) = self.fits.borrow().iter().find(|fit| fit.degree == degree) {
            return known.clone();
        }
        let most = self.values.iter().fold(0.0, |most: f64, t| most.max(t.abs()));
        let part: Vec<f64> = self.values.iter().copied().step_by(FITTED).collect();
        let weights = vec![1.0; part.len()];
        let polynomial = Interval::symmetric(most)
            .ok()
            .and_then(|interval| Polynomial::least_squares(degree, interval, &part, &weights).ok());
        let seen = polynomial.as_ref().map_or(f64::INFINITY, |polynomial| self.error_of(polynomial));
        // NaN, of spreads that overflow, says nothing.
        let error = seen.max((seen * self.normal_error(degree)).sqrt());
        let fit = Fit { degree, polynomial, error };
        self.fits.borrow_mut().push(fit.clone());
        fit
    }

    /// Bound for the weights of a row of usual length, instead of their error: R − 1 of (9.1), or ε∞ + 2 ε₂′ of (9.14)
    /// where that is less.
    pub fn excess(&self, degree: usize) -> f64 {
        let Some(polynomial) = self.least_squares(degree) else { return f64::INFINITY };
        if Interval::symmetric(self.typical).is_err() {
            return f64::INFINITY;
        }
        // A plan needs no proof: the extrema are met closely enough on as many points as the error has waves, many
        // times.
        let count = WAVE_POINTS * (polynomial.degree() + 2);
        let (mut lo, mut hi, mut share) = (f64::INFINITY, f64::NEG_INFINITY, 0.0f64);
        for point in 0..=count {
            let t = -self.typical * (std::f64::consts::PI * point as f64 / count as f64).cos();
            let (value, exponential) = (polynomial.eval(t), t.exp());
            let ratio = value / exponential;
            (lo, hi, share) = (lo.min(ratio), hi.max(ratio), share.max((value - exponential).abs()));
        }
        let ratio = (hi - lo) / lo;
        // Between steps of the same size the error of P is a line at least.
        let usual = share * (self.spread() / self.typical).min(1.0);
        let difference = share + 2.0 * usual / (1.0 - usual);
        // NaN and what is negative say nothing.
        [ratio, difference].into_iter().filter(|excess| *excess >= 0.0).fold(f64::INFINITY, f64::min)
    }

    /// What a polynomial of a degree neglects of normal logits with the spreads of the rows, in the mean square with the
    /// weights ‖a_j‖² Σ f²: equation 12.26 of docs/math.md.
    fn normal_error(&self, degree: usize) -> f64 {
        let (mut neglected, mut all) = (0.0, 0.0);
        for (values, input) in self.values.chunks_exact(self.keys).zip(&self.row_squares) {
            let square = values.iter().map(|t| t * t).sum::<f64>() / self.keys as f64;
            let size = input * square.exp();
            neglected += size * poisson_beyond(degree, square);
            all += size;
        }
        (neglected / all).sqrt()
    }

    fn error_of(&self, polynomial: &Polynomial) -> f64 {
        let (mut wrong, mut all) = (0.0, 0.0);
        for (row, input) in self.row_squares.iter().enumerate() {
            let of = row * self.keys..(row + 1) * self.keys;
            let (weights, keys) = (&self.exponentials[of.clone()], &self.key_squares[of.clone()]);
            let ratios: Vec<f64> =
                self.values[of].iter().zip(weights).map(|(&t, weight)| polynomial.eval(t) / weight - 1.0).collect();
            let total: f64 = weights.iter().sum();
            let mean = weights.iter().zip(&ratios).map(|(weight, ratio)| weight * ratio).sum::<f64>() / total;
            for ((weight, key), ratio) in weights.iter().zip(keys).zip(&ratios) {
                let size = input * (weight / total).powi(2) * key;
                wrong += size * ((ratio - mean) / (1.0 + mean)).powi(2);
                all += size;
            }
        }
        // Where all keys are equal, or all queries zero, no weight is wrong. NaN is not known, hence infinite.
        let error = if all == 0.0 { 0.0 } else { (wrong / all).sqrt() };
        if error.is_nan() { f64::INFINITY } else { error }
    }
}

/// P[Poisson(mean) > most]. Summed from the first term beyond, as 1 less the others would be rounding where it is small.
fn poisson_beyond(most: usize, mean: f64) -> f64 {
    let mut term = (1..=most + 1).fold((-mean).exp(), |term, k| term * mean / k as f64);
    let (mut sum, mut k) = (0.0, most + 1);
    // Terms rise up to the mean, and fall faster and faster from there.
    while term > f64::EPSILON * sum || (k as f64) < mean.min(MOST_MEAN) {
        sum += term;
        k += 1;
        term *= mean / k as f64;
    }
    if mean < MOST_MEAN { sum.min(1.0) } else { 1.0 }
}

/// ⟨q, k − mean⟩ and ‖k − mean‖².
fn centred_products<T: Float>(key: ArrayView1<'_, T>, mean: &Array1<f64>, query: ArrayView1<'_, f64>) -> (f64, f64) {
    let (mut t, mut square) = (0.0, 0.0);
    let mut add = |k: &T, mean: &f64, q: &f64| {
        let centred = k.widen() - mean;
        t += q * centred;
        square += centred * centred;
    };
    match (key.as_slice(), mean.as_slice(), query.as_slice()) {
        (Some(key), Some(mean), Some(query)) => {
            key.iter().zip(mean).zip(query).for_each(|((k, mean), q)| add(k, mean, q));
        }
        _ => key.iter().zip(mean).zip(query).for_each(|((k, mean), q)| add(k, mean, q)),
    }
    (t, square)
}

/// Mean of a few keys: any centre serves.
fn mean_key<T: Float>(problem: &Problem<'_, T>, left_out: &[usize], rng: &mut Rng) -> Array1<f64> {
    let (m, d2) = problem.A2.dim();
    let mut mean = Array1::zeros(d2);
    let others = m - left_out.len();
    for _ in 0..if others == 0 { 0 } else { KEYS } {
        mean += &problem.A2.row(other(rng.below(others as u64) as usize, left_out)).mapv(T::widen);
    }
    mean / KEYS as f64
}

/// scale · A1_j X of some rows of A1, (rows, d2).
pub(super) fn queries<T: Float>(problem: &Problem<'_, T>, inputs: &Array2<f64>) -> Array2<f64> {
    let product = match problem.weights {
        Weights::Product(X) => inputs.dot(&X.mapv(T::widen)),
        Weights::Pair(W_Q, W_K) => inputs.dot(&W_Q.mapv(T::widen)).dot(&W_K.mapv(T::widen).t()),
    };
    problem.scale * product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_tails_are_those_of_the_exponential_series() {
        for (mean, most, tail) in [
            // From mpmath, 20 digits: 1 - gammainc(most + 1, mean, regularized=True) and its complement.
            (1e-3, 2, 1.6654171665278076e-10),
            (0.25, 1, 0.026499021160743916),
            (1.0, 3, 0.01898815687615381),
            (4.0, 2, 0.7618966944464557),
            (100.0, 4, 1.0),
            (1e6, 8, 1.0),
            (0.0, 1, 0.0),
        ] {
            let found = poisson_beyond(most, mean);
            assert!((found - tail).abs() <= 1e-13 * tail, "{mean} {most}: {found:e} {tail:e}");
        }
    }
}
