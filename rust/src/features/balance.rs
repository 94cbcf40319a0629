//! Coordinates in which queries and keys are centred and equally large (docs/math.md, equations 8.15 and 10.1 to 10.3).

use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2};

use super::rows::{Lanes, by_parts, centred, mapped};
use crate::constants::BALANCED_MOST;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::eigen::symmetric;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{row_major, rows};
use crate::linalg::norms;
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::{blame, check_scale};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// Share of the mean eigenvalue that every covariance is widened by, so that a singular one can be inverted: directions
/// with less than this are balanced as if they had it.
const REGULARISATION: f64 = 1e-6;

/// T, T⁻¹ and σ: keys · T and queries · T⁻ᵀ both have the second moments diag(σ).
pub(crate) struct Balanced {
    /// T, (d, d).
    pub transform: Array2<f64>,
    /// T⁻¹, (d, d).
    pub inverse: Array2<f64>,
    /// σ, falling, (d). The mean square of the products of all pairs is Σ σ².
    pub spectrum: Array1<f64>,
}

/// The maps of second moments of queries and of keys, eq. (10.2): with L Lᵀ those of the keys and
/// Lᵀ (those of the queries) L = U Σ² Uᵀ, T = L⁻ᵀ U Σ^½. Nothing where a number is not finite. Time O(d³).
pub(crate) fn balanced(queries: &Array2<f64>, keys: &Array2<f64>) -> Option<Balanced> {
    let d = keys.ncols();
    let (sizes, axes) = symmetric(regularised(keys)?);
    let root = sizes.mapv(f64::sqrt);
    // L = axes · diag(root)
    let lower = &axes * &root;
    let (squares, rotation) = symmetric(lower.t().dot(&regularised(queries)?).dot(&lower));
    let spectrum = squares.mapv(f64::sqrt);
    let half = spectrum.mapv(f64::sqrt);
    if d == 0 || !half.iter().chain(&root).all(|x| x.is_finite() && *x > 0.0) {
        return None;
    }
    let transform = (&axes / &root).dot(&rotation) * &half;
    let inverse = (lower.dot(&rotation) / &half).reversed_axes();
    Some(Balanced { transform, inverse, spectrum })
}

/// The same where each coordinate is balanced by itself. Time O(d²).
fn apart(queries: &Array2<f64>, keys: &Array2<f64>) -> Option<Balanced> {
    let (queries, keys) = (regularised(queries)?.diag().to_owned(), regularised(keys)?.diag().to_owned());
    let products = (&queries * &keys).mapv(f64::sqrt);
    let mut order: Vec<usize> = (0..products.len()).collect();
    order.sort_by(|&i, &j| products[j].total_cmp(&products[i]));
    let d = keys.len();
    let (mut transform, mut inverse) = (Array2::zeros((d, d)), Array2::zeros((d, d)));
    for (place, &axis) in order.iter().enumerate() {
        let stretch = (queries[axis] / keys[axis]).sqrt().sqrt();
        transform[(axis, place)] = stretch;
        inverse[(place, axis)] = stretch.recip();
    }
    Some(Balanced { transform, inverse, spectrum: order.iter().map(|&axis| products[axis]).collect() })
}

/// Second moments widened by a share of their trace; the identity where all is zero.
fn regularised(moment: &Array2<f64>) -> Option<Array2<f64>> {
    let d = moment.ncols();
    let mean = moment.diag().sum() / d.max(1) as f64;
    if mean == 0.0 {
        return Some(Array2::eye(d));
    }
    (mean.is_finite() && mean.recip().is_finite()).then(|| moment + REGULARISATION * mean * Array2::<f64>::eye(d))
}

/// A change of coordinates with sign(s) ⟨q′, k′⟩ = s ⟨q − a, k − b⟩, eqs. (10.1) to (10.3).
///
/// ```
/// use attngrad::Options;
/// use attngrad::features::Balance;
/// use ndarray::array;
///
/// let (q, k) = (array![[30.0, 0.1], [10.0, 0.3], [20.0, -0.1]], array![[0.1, 5.0], [0.2, 1.0], [0.0, 2.0]]);
/// let balance = Balance::new(q.view(), k.view(), 0.5, true, &Options::default(), None)?;
/// let (query, key) = (balance.queries(q.view(), &Options::default())?, balance.keys(k.view(), &Options::default())?);
/// let t = 0.5 * (&q - &balance.query_mean).dot(&(&k - &balance.key_mean).t());
/// assert!((query.dot(&key.t()) - t).iter().all(|x: &f64| x.abs() < 1e-12));
///
/// // Both sides have the same second moments, but for what singular ones are widened by.
/// let moments = (query.t().dot(&query) - key.t().dot(&key)) / 3.0;
/// assert!(moments.iter().all(|x| x.abs() < 1e-2 * balance.spectrum[0]));
/// # Ok::<(), attngrad::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// s.
    pub scale: f64,
    /// a, (d): the mean of the queries as far as single precision tells it, or 0.
    pub query_mean: Array1<f64>,
    /// b, (d): that of the keys.
    pub key_mean: Array1<f64>,
    /// From q − a to q′, (d, d).
    pub query_map: Array2<f64>,
    /// From k − b to k′, (d, d); query_map key_mapᵀ = |s| I.
    pub key_map: Array2<f64>,
    /// Second moments of the new coordinates, the same for queries and keys, falling, (d). The mean square of the
    /// logits is the sum of their squares. Coordinates beyond 256 are balanced one by one, and these are the moments on
    /// the diagonal.
    pub spectrum: Array1<f64>,
}

impl Balance {
    /// The coordinates of queries, (n, d), and keys, (m, d); a = 0 unless `center_query`.
    ///
    /// Without rows there is nothing to balance, and the maps are multiples of the identity. Time O((n + m) d² + d³),
    /// memory O(d²).
    ///
    /// # Errors
    /// [`Error::Shape`] where widths differ, [`Error::NonFinite`] with the first such entry, [`Error::Option`] for a
    /// scale that is not finite, [`Error::Range`] where the logits leave the range of double precision;
    /// [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn new<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        scale: f64,
        center_query: bool,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let (queries, keys) = (row_major(query)?, row_major(key)?);
        let balance = Balance::of(rows(&queries)?, rows(&keys)?, scale, center_query, &mut run);
        balance.map_err(|error| blame(error, [("query", &query), ("key", &key)]))
    }

    pub(crate) fn of<T: Float>(
        query: Rows<'_, T>,
        key: Rows<'_, T>,
        scale: f64,
        center_query: bool,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        check_scale(scale)?;
        let d = query.width;
        if key.width != d {
            return Err(Error::Shape {
                argument: "key",
                found: vec![key.count, key.width],
                wanted: format!("query has {d} columns, so key needs {d} columns"),
            });
        }
        // In units of the largest entry no square leaves the range.
        let (query_size, key_size) = (largest(query, run)?, largest(key, run)?);
        let query_mean = if center_query { mean(query, query_size, run)? } else { Array1::zeros(d) };
        let key_mean = mean(key, key_size, run)?;
        let query_moment = second_moment(query, &query_mean, query_size, run)?;
        let key_moment = second_moment(key, &key_mean, key_size, run)?;
        let maps = if d <= BALANCED_MOST { balanced } else { apart };
        let identity = || Balanced { transform: Array2::eye(d), inverse: Array2::eye(d), spectrum: Array1::ones(d) };
        let Balanced { transform, inverse, spectrum } = maps(&query_moment, &key_moment).unwrap_or_else(identity);
        // In this order no product overflows unless the logits do.
        let half = scale.abs().sqrt();
        let between = key_size.sqrt() / query_size.sqrt();
        let mut spectrum = spectrum * half * query_size * half * key_size;
        let query_map = inverse.reversed_axes() * (half * between);
        let key_map = transform * (half / between);
        if !spectrum.iter().chain(&query_map).chain(&key_map).all(|x| x.is_finite()) {
            return Err(out_of_range("the logits of query and key", "float64"));
        }
        if [&query_moment, &key_moment].iter().any(|moment| moment.iter().all(|x| *x == 0.0)) {
            // All logits vanish, whatever the identity above stands for.
            spectrum.fill(0.0);
        }
        Ok(Balance { scale, query_mean, key_mean, query_map, key_map, spectrum })
    }

    /// Refuses parts that were put together by hand and do not fit, or hold numbers that are not finite.
    pub(super) fn check(&self) -> Result<(), Error> {
        check_scale(self.scale)?;
        let d = self.dimension();
        let maps = [&self.query_map, &self.key_map];
        let rows = [&self.query_mean, &self.key_mean, &self.spectrum];
        let wanted = || format!("means and a spectrum of {d} finite numbers, and maps of {d} by {d}");
        let is_square = maps.iter().all(|map| map.dim() == (d, d)) && rows.iter().all(|row| row.len() == d);
        let all = || maps.iter().flat_map(|map| map.iter()).chain(rows.iter().flat_map(|row| row.iter()));
        let found = match (is_square, all().find(|x| !x.is_finite())) {
            (false, _) => "parts of other sizes".into(),
            (true, Some(x)) => x.to_string(),
            (true, None) => return Ok(()),
        };
        Err(Error::Option { option: "balance", found, wanted: wanted() })
    }

    /// The sign of s, which the coordinates lack.
    pub fn sign(&self) -> f64 {
        if self.scale < 0.0 { -1.0 } else { 1.0 }
    }

    /// d, the number of coordinates.
    pub fn dimension(&self) -> usize {
        self.query_mean.len()
    }

    /// q′ of the rows of `query`, (n, d), in their precision. Time n d².
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::NonFinite`], [`Error::Range`] where they leave the range of the precision;
    /// [`Error::OutOfMemory`], [`Error::Deadline`].
    pub fn queries<T: Float>(&self, query: ArrayView2<'_, T>, options: &Options) -> Result<Array2<T>, Error> {
        self.change("query", query, &self.query_mean, &self.query_map, options)
    }

    /// k′ of the rows of `key`, (m, d); as [`Balance::queries`].
    ///
    /// # Errors
    /// As [`Balance::queries`].
    pub fn keys<T: Float>(&self, key: ArrayView2<'_, T>, options: &Options) -> Result<Array2<T>, Error> {
        self.change("key", key, &self.key_mean, &self.key_map, options)
    }

    /// A gradient with respect to q′ as one with respect to q, eq. (10.3). (n, d) → (n, d).
    pub fn query_gradient(&self, gradient: ArrayView2<'_, f64>) -> Array2<f64> {
        gradient.dot(&self.query_map.t())
    }

    /// A gradient with respect to k′ as one with respect to k, eq. (10.3). (m, d) → (m, d).
    pub fn key_gradient(&self, gradient: ArrayView2<'_, f64>) -> Array2<f64> {
        gradient.dot(&self.key_map.t())
    }

    /// The direction and the offset of s⟨q, b⟩, the logits that centring the keys took from a row of exp(s q kᵀ), eq.
    /// (10.1).
    pub(super) fn query_exponent(&self) -> (Array1<f64>, f64) {
        (self.scale * &self.key_mean, 0.0)
    }

    /// The same for s⟨a, k − b⟩, which centring the queries took from a column.
    pub(super) fn key_exponent(&self) -> (Array1<f64>, f64) {
        let direction = self.scale * &self.query_mean;
        let offset = -direction.dot(&self.key_mean);
        (direction, offset)
    }

    fn change<T: Float>(
        &self,
        argument: &'static str,
        array: ArrayView2<'_, T>,
        mean: &Array1<f64>,
        map: &Array2<f64>,
        options: &Options,
    ) -> Result<Array2<T>, Error> {
        self.require_width(argument, array)?;
        let (n, d) = array.dim();
        let given = row_major(array)?;
        let coordinates: Vec<T> = mapped(rows(&given)?, &Lanes::new(mean, map)?, &mut Run::new(options, None))?;
        if !coordinates.iter().all(|x| x.is_finite()) {
            return Err(blame(out_of_range("the coordinates", T::NAME), [(argument, &array)]));
        }
        matrix(coordinates, n, d)
    }

    pub(super) fn require_width<T>(&self, argument: &'static str, array: ArrayView2<'_, T>) -> Result<(), Error> {
        let d = self.dimension();
        if array.ncols() == d {
            return Ok(());
        }
        let wanted = format!("{d} columns are wanted, as in what was fitted");
        Err(Error::Shape { argument, found: array.shape().to_vec(), wanted })
    }
}

pub(super) fn out_of_range(quantity: &str, precision: &'static str) -> Error {
    Error::Range { quantity: quantity.into(), precision, remedy: "scale query, key or scale down, or use float64" }
}

/// The largest entry, 1 where all are zero.
fn largest<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<f64, Error> {
    let parts = by_parts(rows.count, rows.width, run, |range, _| {
        let entries = &rows.data[range.start * rows.width..range.end * rows.width];
        Ok(norms::largest(entries.iter().map(|x| x.widen().abs())))
    })?;
    let most = norms::largest(parts);
    if !most.is_finite() {
        return Err(out_of_range("an entry of query or key", T::NAME));
    }
    Ok(if most == 0.0 { 1.0 } else { most })
}

/// The mean of some rows, as of [`Balance`].
pub(crate) fn mean_row<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Array1<f64>, Error> {
    let size = largest(rows, run)?;
    mean(rows, size, run)
}

/// The mean of some rows, cut to what single precision holds: so it is the same number in either precision, and
/// centring rounds nothing but the rows.
fn mean<T: Float>(rows: Rows<'_, T>, size: f64, run: &mut Run<'_>) -> Result<Array1<f64>, Error> {
    let d = rows.width;
    let parts = by_parts(rows.count, rows.width, run, |range, _| {
        let mut sums = Array1::<f64>::zeros(d);
        for row in rows.data[range.start * d..range.end * d].chunks_exact(d.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x.widen() / size);
        }
        Ok(sums)
    })?;
    let mut sum = Array1::<f64>::zeros(d);
    parts.iter().for_each(|part| sum += part);
    let cut = |x: f64| f64::from_bits(x.to_bits() & !((1 << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS)) - 1));
    Ok(sum.mapv(|x| cut(x / rows.count.max(1) as f64 * size)))
}

/// Σ (x − mean)ᵀ (x − mean) / count over the rows x, in units of the size.
fn second_moment<T: Float>(
    rows: Rows<'_, T>,
    mean: &Array1<f64>,
    size: f64,
    run: &mut Run<'_>,
) -> Result<Array2<f64>, Error> {
    let d = rows.width;
    let parts = by_parts(rows.count, rows.width, run, |range, cancel| {
        let mut sum = zeros(d)?;
        centred(rows, range, mean, size, cancel, |block| {
            general_mat_mul(1.0, &block.t(), &block, 1.0, &mut sum);
        })?;
        Ok(sum)
    })?;
    let mut sum = zeros(d)?;
    parts.iter().for_each(|part| sum += part);
    Ok(sum / rows.count.max(1) as f64)
}

fn zeros(d: usize) -> Result<Array2<f64>, Error> {
    matrix(buffer::zeros(buffer::size(&[d, d])?)?, d, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, step: f64) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(j, i)| (step * ((j * columns + i + 1) as f64).powi(2)).sin())
    }

    fn moment(rows: &Array2<f64>) -> Array2<f64> {
        rows.t().dot(rows) / rows.nrows() as f64
    }

    fn size(array: &Array2<f64>) -> f64 {
        array.iter().fold(0.0, |max: f64, x| max.max(x.abs()))
    }

    #[test]
    fn balanced_sides_have_the_same_moments_and_the_same_logits() {
        for d in [1, 2, 5, 16] {
            let (queries, keys) = (30.0 * matrix(100, d, 0.7), 0.2 * matrix(90, d, 1.9));
            for (by, bar) in [(balanced as fn(&_, &_) -> _, 1e-4), (apart, f64::INFINITY)] {
                let both: Balanced = by(&moment(&queries), &moment(&keys)).expect("regular rows");
                let (q, k) = (queries.dot(&both.inverse.t()), keys.dot(&both.transform));
                let logits = queries.dot(&keys.t());
                assert!((q.dot(&k.t()) - &logits).iter().all(|x| x.abs() <= 1e-11 * size(&logits)));
                let difference = moment(&q) - moment(&k);
                assert!(difference.diag().iter().all(|x| x.abs() <= 1e-4 * both.spectrum[0]));
                assert!(size(&difference) <= bar * both.spectrum[0], "{difference}");
                assert!(
                    (moment(&k).diag().to_owned() - &both.spectrum).iter().all(|x| x.abs() <= 1e-4 * both.spectrum[0])
                );
                if bar.is_finite() {
                    let usual = (logits.mapv(|t| t * t).mean()).expect("some logits").sqrt();
                    let spread = both.spectrum.mapv(|x| x * x).sum().sqrt();
                    assert!((spread - usual).abs() <= 1e-4 * usual, "{spread} {usual}");
                }
            }
        }
    }

    #[test]
    fn singular_and_zero_covariances_are_widened() {
        let keys = moment(&matrix(50, 1, 0.7).dot(&matrix(1, 4, 0.9)));
        let queries = moment(&matrix(60, 4, 1.1));
        let both = balanced(&queries, &keys).expect("regular enough");
        assert!((both.transform.dot(&both.inverse) - Array2::<f64>::eye(4)).iter().all(|x| x.abs() < 1e-9));
        assert!(balanced(&queries, &Array2::zeros((4, 4))).is_some());
        assert!(balanced(&Array2::from_elem((2, 2), f64::NAN), &moment(&matrix(5, 2, 0.3))).is_none());
    }
}
