//! [`ExpFeatures`]: U Vᵀ near exp(scale · q kᵀ).

use ndarray::{Array2, ArrayView2};

use super::balance::Balance;
use super::index_set::{IndexSet, feature_count};
use super::map::{FeatureMap, Side};
use super::options::FeatureOptions;
use super::select::{Choice, select};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::{row_major, rows};
use crate::options::Options;
use crate::polynomial::{MAX_RANGE, Polynomial};
use crate::problem::blame;
use crate::runtime::pool::{Run, Watch};

/// Polynomial features of queries and keys whose inner products are near the exponential, eqs. (10.1) to (10.7): with
/// U = [`transform_query`](Self::transform_query) and V = [`transform_key`](Self::transform_key),
/// U Vᵀ = P(t) e^(s⟨q, b⟩) e^(s⟨a, k − b⟩) ≈ exp(s q kᵀ) to rounding, where t = s⟨q − a, k − b⟩.
///
/// ```
/// use attngrad::{ExpFeatures, Options};
/// use attngrad::features::FeatureOptions;
/// use ndarray::Array2;
///
/// let matrix = |rows, a: f64| Array2::from_shape_fn((rows, 4), |(j, i)| (a * (4 * j + i + 1).pow(2) as f64).sin());
/// let (q, k) = (matrix(200, 0.7), matrix(100, 0.9));
/// let wanted = FeatureOptions { rtol: Some(1e-3), ..FeatureOptions::default() };
/// let features = ExpFeatures::fit(q.view(), k.view(), &wanted, &Options::default(), None)?;
/// assert!(features.error() <= 1e-3 && features.error() <= features.bound());
///
/// let U = features.transform_query(q.view(), &Options::default(), None)?;
/// let V = features.transform_key(k.view(), &Options::default(), None)?;
/// assert_eq!((U.dim(), V.dim()), ((200, features.count()), (100, features.count())));
/// let exact = (0.5 * q.dot(&k.t())).exp();
/// let near = |(value, exact): (&f64, &f64)| (value / exact - 1.0).abs() <= features.bound();
/// assert!(U.dot(&V.t()).iter().zip(&exact).all(near));
/// # Ok::<(), attngrad::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ExpFeatures {
    balance: Balance,
    set: IndexSet,
    polynomial: Polynomial,
    /// P_0, …, P_g by powers of the centred logit.
    power: Vec<f64>,
    interval: (f64, f64),
    error: f64,
    bound: f64,
}

impl ExpFeatures {
    /// Chooses coordinates, polynomial and monomials for queries, (n, d), and keys, (m, d).
    ///
    /// Time O((n + m) d² + d³), and for each degree that is tried 65536 N for the error; memory 512 N + O(n + m).
    ///
    /// # Errors
    /// [`Error::Shape`] where widths differ; [`Error::NonFinite`] with the first such entry; [`Error::Option`] for
    /// options out of range, an empty set of features, a degree with more than are allowed; [`Error::Unreached`] where
    /// no degree meets the tolerance, with what one would; [`Error::Range`] where logits are too large;
    /// [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn fit<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        features: &FeatureOptions,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        compiled!(
            T,
            ExpFeatures::fit_in::<T>
                as fn(
                    ArrayView2<'_, T>,
                    ArrayView2<'_, T>,
                    &FeatureOptions,
                    &Options,
                    Option<Watch<'_>>,
                ) -> Result<ExpFeatures, Error>
        )(query, key, features, options, watch)
    }

    fn fit_in<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        features: &FeatureOptions,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        let isa = options.isa()?;
        features.size()?;
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let (given_query, given_key) = (row_major(query)?, row_major(key)?);
        let scale = features.scale.unwrap_or_else(|| 1.0 / (query.ncols().max(1) as f64).sqrt());
        let (queries, keys) = (rows(&given_query)?, rows(&given_key)?);
        let balance = Balance::of(queries, keys, scale, true, &mut run)
            .map_err(|error| blame(error, [("query", &query), ("key", &key)]))?;
        let Choice { polynomial, set, interval, error } = select(features, &balance, [queries, keys], isa, &mut run)?;
        let power = polynomial.power();
        let bound = bound(&polynomial, &set, interval)?;
        Ok(ExpFeatures { balance, set, polynomial, power, interval, error, bound })
    }

    /// Features that were fitted before, from their parts: those that the methods of the same names return.
    ///
    /// # Errors
    /// [`Error::Option`] for parts that do not belong together, and for numbers that are not finite.
    pub fn from_parts(
        balance: Balance,
        set: IndexSet,
        polynomial: Polynomial,
        interval: (f64, f64),
        error: f64,
    ) -> Result<Self, Error> {
        let refuse = |option, found: String, wanted: &str| Err(Error::Option { option, found, wanted: wanted.into() });
        balance.check()?;
        if set.dimension() != balance.dimension() || set.degree() > polynomial.degree() {
            let found = format!("monomials of {} coordinates up to degree {}", set.dimension(), set.degree());
            return refuse("set", found, "as many coordinates as the rows have, and no higher degree than P");
        }
        let (low, high) = interval;
        if !(low <= high && low.is_finite() && high.is_finite()) {
            return refuse("interval", format!("{low} to {high}"), "two finite numbers, the lower one first");
        }
        if error.is_nan() || error < 0.0 {
            return refuse("error", error.to_string(), "a number, 0 or more");
        }
        let power = polynomial.power();
        let bound = bound(&polynomial, &set, interval)?;
        Ok(ExpFeatures { balance, set, polynomial, power, interval, error, bound })
    }

    /// U, (n, N), of rows like the queries. Time n (N + d²), no memory beside the result.
    ///
    /// # Errors
    /// [`Error::Shape`] unless rows are as wide as those that were fitted; [`Error::NonFinite`] with the first such
    /// entry; [`Error::Range`] where features leave the range of the precision, as those of rows far from what was
    /// fitted may; [`Error::OutOfMemory`] before anything is computed; [`Error::Deadline`], [`Error::Cancelled`].
    pub fn transform_query<T: Float>(
        &self,
        query: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        compiled!(
            T,
            ExpFeatures::transform_query_in::<T>
                as fn(&ExpFeatures, ArrayView2<'_, T>, &Options, Option<Watch<'_>>) -> Result<Array2<T>, Error>
        )(self, query, options, watch)
    }

    fn transform_query_in<T: Float>(
        &self,
        query: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        self.transform(Side::Query, query, options, watch)
    }

    /// V, (m, N), of rows like the keys; as [`ExpFeatures::transform_query`].
    ///
    /// # Errors
    /// As [`ExpFeatures::transform_query`].
    pub fn transform_key<T: Float>(
        &self,
        key: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        compiled!(
            T,
            ExpFeatures::transform_key_in::<T>
                as fn(&ExpFeatures, ArrayView2<'_, T>, &Options, Option<Watch<'_>>) -> Result<Array2<T>, Error>
        )(self, key, options, watch)
    }

    fn transform_key_in<T: Float>(
        &self,
        key: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        self.transform(Side::Key, key, options, watch)
    }

    fn transform<T: Float>(
        &self,
        side: Side,
        array: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        let isa = options.isa()?;
        self.balance.require_width(side.argument(), array)?;
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let given = row_major(array)?;
        let map = FeatureMap::new(&self.balance, &self.set, &self.power, side, true, isa)?;
        let (features, finite) = map.apply(rows(&given)?, &mut run)?;
        if finite {
            return Ok(features);
        }
        let error = Error::Range {
            quantity: format!("{}: found rows far from what was fitted; a feature of them", side.argument()),
            precision: T::NAME,
            remedy: "fit on such rows, scale them down, or use float64",
        };
        Err(blame(error, [(side.argument(), &array)]))
    }

    /// Bytes that a fit, or a diagnosis, keeps of so many queries and keys together, besides the rows themselves.
    pub fn fit_bytes(rows: usize) -> u128 {
        // Three norms of each row, and its place in the draw.
        4 * size_of::<f64>() as u128 * rows as u128
    }

    /// Bytes that features of so many rows take, in numbers of `itemsize` bytes.
    pub fn transform_bytes(&self, rows: usize, itemsize: usize) -> u128 {
        rows as u128 * self.count() as u128 * itemsize as u128
    }

    /// g, the degree of the polynomial.
    pub fn degree(&self) -> usize {
        self.polynomial.degree()
    }

    /// N, the number of features: at most C(d + g, g).
    pub fn count(&self) -> usize {
        self.set.count()
    }

    /// The root mean square of the relative error of an entry, a query drawn at random and its keys by their attention,
    /// eq. (10.7), as measured in the precision of the data: over all pairs up to 256 rows on a side, otherwise over
    /// sampled ones.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// The relative error of every entry of the data is at most this, rounding aside; infinite where monomials up to
    /// the degree were left out, or logits may be beyond the range that polynomials are bounded on.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// s.
    pub fn scale(&self) -> f64 {
        self.balance.scale
    }

    /// An interval that holds every centred logit of the data.
    pub fn interval(&self) -> (f64, f64) {
        self.interval
    }

    /// P.
    pub fn polynomial(&self) -> &Polynomial {
        &self.polynomial
    }

    /// P_0, …, P_g, by powers of the centred logit.
    pub fn coefficients(&self) -> &[f64] {
        &self.power
    }

    /// The coordinates.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// The monomials.
    pub fn index_set(&self) -> &IndexSet {
        &self.set
    }
}

/// sup |P(t) e^−t − 1| on the interval of all logits.
fn bound(polynomial: &Polynomial, set: &IndexSet, (low, high): (f64, f64)) -> Result<f64, Error> {
    let complete = feature_count(set.dimension(), polynomial.degree()) == Some(set.count());
    if !complete || low < -MAX_RANGE || high > MAX_RANGE {
        return Ok(f64::INFINITY);
    }
    polynomial.relative_bound(low, high)
}
