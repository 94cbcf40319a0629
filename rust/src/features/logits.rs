//! [`LogitSample`]: the centred logits that polynomials are fitted to and judged by.

use ndarray::ArrayView2;

use super::balance::Balance;
use super::fit::{fit_polynomial, logit_interval};
use super::sample::{Looks, Sample};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::{row_major, rows};
use crate::options::Options;
use crate::polynomial::{Kind, Polynomial};
use crate::problem::blame;
use crate::runtime::pool::{Run, Watch};
use crate::runtime::rng::Rng;

/// Centred logits of some queries and keys, s⟨q − a, k − b⟩ with b the mean of the keys and a that of the queries or 0,
/// what is known of all others, and polynomials for them (docs/math.md, equation 10.7).
///
/// ```
/// use attngrad::Options;
/// use attngrad::features::LogitSample;
/// use attngrad::polynomial::Kind;
/// use ndarray::Array2;
///
/// let matrix = |a: f64| Array2::from_shape_fn((90, 4), |(j, i)| (a * (4 * j + i + 1).pow(2) as f64).sin());
/// let (q, k) = (matrix(0.7), matrix(0.9));
/// let sample = LogitSample::draw(q.view(), k.view(), 0.5, true, 0, &Options::default(), None)?;
/// let (low, high) = sample.range();
/// assert!(sample.is_complete() && -sample.bound() <= low && high <= sample.bound());
/// let errors = [1, 2, 3].map(|degree| sample.error(&sample.fit(Kind::LeastSquares, degree).expect("small logits")));
/// assert!(errors[0] > 3.0 * errors[1] && errors[1] > 3.0 * errors[2]);
/// # Ok::<(), attngrad::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LogitSample {
    balance: Balance,
    sample: Sample,
    bound: f64,
}

impl LogitSample {
    /// The sample of queries, (n, d), and keys, (m, d): 256 of each, or all where there are no more; a = 0 unless
    /// `center_query`.
    ///
    /// Time O((n + m) d² + d³ + 65536 d), memory O(n + m + d²).
    ///
    /// # Errors
    /// Those of [`Balance::new`].
    pub fn draw<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        scale: f64,
        center_query: bool,
        seed: u64,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        compiled!(
            T,
            LogitSample::draw_in::<T>
                as fn(
                    ArrayView2<'_, T>,
                    ArrayView2<'_, T>,
                    f64,
                    bool,
                    u64,
                    &Options,
                    Option<Watch<'_>>,
                ) -> Result<LogitSample, Error>
        )(query, key, scale, center_query, seed, options, watch)
    }

    fn draw_in<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        scale: f64,
        center_query: bool,
        seed: u64,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        options.isa()?;
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let (queries, keys) = (row_major(query)?, row_major(key)?);
        let (queries, keys) = (rows(&queries)?, rows(&keys)?);
        let mut of = || {
            let balance = Balance::of(queries, keys, scale, center_query, &mut run)?;
            let looks = Looks::new(&balance, queries, keys, &mut run)?;
            let sample = Sample::draw(&balance, &looks, queries, keys, &mut Rng::new(seed), &mut run)?;
            Ok(LogitSample { bound: looks.logit_bound(balance.scale), balance, sample })
        };
        of().map_err(|error| blame(error, [("query", &query), ("key", &key)]))
    }

    /// The polynomial of a kind and degree for logits in the [`interval`](Self::interval).
    ///
    /// # Errors
    /// [`Error::Option`] for a degree that is too large; [`Error::Range`] where the logits are too large for any.
    pub fn fit(&self, kind: Kind, degree: usize) -> Result<Polynomial, Error> {
        fit_polynomial(kind, degree, self.interval(), &self.sample)
    }

    /// The root mean square relative error of P, eq. (10.7): a query drawn at random and its keys by their attention.
    pub fn error(&self, polynomial: &Polynomial) -> f64 {
        self.sample.error(self.sample.logits.iter().map(|&t| polynomial.eval(t)))
    }

    /// The coordinates in which the logits were taken.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// The sampled logits, query by query.
    pub fn logits(&self) -> &[f64] {
        &self.sample.logits
    }

    /// The smallest and the largest of them; zeros without any.
    pub fn range(&self) -> (f64, f64) {
        self.sample.range
    }

    /// The standard deviation of the logits of all pairs, each sampled one for as many as it stands for.
    pub fn spread(&self) -> f64 {
        self.sample.spread
    }

    /// No logit of any pair is larger, by Cauchy and Schwarz.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// An interval that holds every logit: their range where the sample is complete, otherwise −bound to bound.
    pub fn interval(&self) -> (f64, f64) {
        logit_interval(&self.sample, self.bound)
    }

    /// Whether all pairs are in the sample.
    pub fn is_complete(&self) -> bool {
        self.sample.complete
    }
}
