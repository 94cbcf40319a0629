//! Lengths of all queries, keys, values and targets, in one list of tasks.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use super::rows::typical_of;
use crate::constants::{PRODUCT_ROWS, SAMPLE_ROWS};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{row_major, rows, wide};
use crate::linalg::some_rows::some_rows_but;
use crate::options::Isa;
use crate::probe::lengths::{Measured, Measures};
use crate::problem::{Problem, Weights};
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::runtime::rng::scattered;

/// Whether some of the keys, in rising order, are among those of so many that a mean is taken of.
pub fn are_seen(keys: &[usize], of: usize) -> bool {
    !keys.is_empty() && scattered(of, SAMPLE_ROWS).iter().any(|key| keys.binary_search(key).is_ok())
}

/// Entries that are measured in a nanosecond, and products of a map.
const ENTRIES_PER_NANOSECOND: usize = 2;
const PRODUCTS_PER_NANOSECOND: usize = 24;

/// From rows of the inputs to what is measured.
pub struct Maps {
    /// From rows of A1 to queries, the scale included.
    pub query: Array2<f64>,
    /// From rows of A2 to keys, where those are not the rows.
    pub key: Option<Array2<f64>>,
    /// From rows of A3 to values.
    pub value: Array2<f64>,
}

impl Maps {
    /// Of a problem.
    pub fn of<T: Float>(problem: &Problem<'_, T>) -> Self {
        let (query, key) = match problem.weights {
            Weights::Product(X) => (wide(X), None),
            Weights::Pair(W_Q, W_K) => (wide(W_Q), Some(wide(W_K))),
        };
        Maps { query: problem.scale * query, key, value: wide(problem.Y) }
    }

    /// Keys from some rows of A2.
    pub fn keys(&self, rows: Array2<f64>) -> Array2<f64> {
        match &self.key {
            Some(map) => rows.dot(map),
            None => rows,
        }
    }
}

/// The lengths, keys and values around the mean of those that are not left out.
pub struct Lengths {
    /// ‖q_j‖, the scale included.
    pub queries: Vec<f64>,
    /// √d times the root mean square of the logits of each query: ‖q_j‖ ‖k‖ where no direction is special.
    pub logits: Vec<f64>,
    /// ‖a_j‖.
    pub inputs: Vec<f64>,
    /// ‖E_j‖.
    pub targets: Vec<f64>,
    /// ‖k_i‖.
    pub keys: Vec<f64>,
    /// ‖h_i‖ around the mean; none under a mask, where no key is taken apart.
    pub spreads: Vec<f64>,
    /// Root mean squares of the length of a value, and of that around the mean.
    pub value: f64,
    pub spread: f64,
    /// The root mean square of ‖k_i‖, from some keys.
    pub key: f64,
    /// The mean rows of A2 and A3.
    pub mean: Array1<f64>,
    pub input_mean: Array1<f64>,
}

impl Lengths {
    /// Lengths; those around a mean are without the keys `left_out`, which are in rising order. Time
    /// O(n (d1 d + dv) + m (d2 d + d3 dv)).
    pub fn new<T: Float>(
        problem: &Problem<'_, T>,
        maps: &Maps,
        left_out: &[usize],
        isa: Isa,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
        let some = |array: ArrayView2<'_, T>| some_rows_but(array, left_out);
        let (sample, inputs) = (some(problem.A2), some(problem.A3));
        let (mean, input_mean) = (middle(&sample), middle(&inputs));
        let sample = maps.keys(sample - &mean);
        let (key, some_values) = (typical_of(&sample), inputs.dot(&maps.value));
        let [A1, A2, A3, E] = [problem.A1, problem.A2, problem.A3, problem.E].map(row_major);
        let (A1, A2, A3, E) = (A1?, A2?, A3?, E?);
        let nothing = |width: usize| Array2::zeros((width, 0));
        let key_map = maps.key.clone().unwrap_or_else(|| nothing(sample.ncols()));
        let (mean_row, input_mean_row) = (mean.to_vec(), input_mean.to_vec());
        let sides = [
            Measured::new(rows(&A1)?, with_moment(&maps.query, &sample, key).view(), None, isa)?,
            Measured::new(rows(&E)?, nothing(problem.E.ncols()).view(), None, isa)?,
            Measured::new(rows(&A2)?, key_map.view(), Some(&mean_row), isa)?,
            Measured::new(rows(&A3)?, maps.value.view(), Some(&input_mean_row), isa)?,
        ];
        let room = buffer::zeros::<f64>;
        let (mut queries, mut logits, mut inputs, mut targets) = (room(n)?, room(n)?, room(n)?, room(n)?);
        let (mut keys, mut spreads) = (room(m)?, room(if problem.is_causal { 0 } else { m })?);
        let mut tasks = buffer::with_capacity(4 * n.max(m).div_ceil(PRODUCT_ROWS))?;
        let blocks = queries.chunks_mut(PRODUCT_ROWS).zip(logits.chunks_mut(PRODUCT_ROWS));
        for (block, ((mapped, paired), own)) in blocks.zip(inputs.chunks_mut(PRODUCT_ROWS)).enumerate() {
            let to = Measures { own: Some(own), mapped: Some(&mut *mapped), paired: Some(paired) };
            tasks.push((&sides[0], range(block, n), to));
        }
        for (block, own) in targets.chunks_mut(PRODUCT_ROWS).enumerate() {
            tasks.push((&sides[1], range(block, n), Measures { own: Some(own), ..Measures::default() }));
        }
        for (block, lengths) in keys.chunks_mut(PRODUCT_ROWS).enumerate() {
            let to = match maps.key {
                Some(_) => Measures { mapped: Some(lengths), ..Measures::default() },
                None => Measures { own: Some(lengths), ..Measures::default() },
            };
            tasks.push((&sides[2], range(block, m), to));
        }
        for (block, mapped) in spreads.chunks_mut(PRODUCT_ROWS).enumerate() {
            tasks.push((&sides[3], range(block, m), Measures { mapped: Some(mapped), ..Measures::default() }));
        }
        let entries = |array: ArrayView2<'_, T>, columns: usize| {
            array.len() / ENTRIES_PER_NANOSECOND + array.len().saturating_mul(columns) / PRODUCTS_PER_NANOSECOND
        };
        let nanoseconds = entries(problem.A1, 2 * maps.query.ncols())
            + entries(problem.E, 0)
            + entries(problem.A2, key_map.ncols())
            + entries(problem.A3, maps.value.ncols());
        run.short(nanoseconds, tasks.into_iter(), |(side, of, to), cancel| {
            cancel.check()?;
            side.measure(of, to)
        })?;
        let around = &some_values - &middle(&some_values);
        let (value, spread) = (typical_of(&some_values), typical_of(&around));
        // The unit of the second moments, taken out of them.
        logits.iter_mut().for_each(|logit| *logit *= key);
        Ok(Lengths { queries, logits, inputs, targets, keys, spreads, value, spread, key, mean, input_mean })
    }
}

/// The rows of a block, of so many in all.
fn range(block: usize, of: usize) -> Range<usize> {
    block * PRODUCT_ROWS..of.min((block + 1) * PRODUCT_ROWS)
}

/// The map of the queries beside its product with d times the second moments of some keys in units of their length, of
/// which the products with a query are its mean squares: in that unit they are in the range of the precision.
fn with_moment(map: &Array2<f64>, keys: &Array2<f64>, length: f64) -> Array2<f64> {
    let unit = if length > 0.0 { keys / length } else { keys.clone() };
    let moment = unit.t().dot(&unit) * (unit.ncols() as f64 / unit.nrows().max(1) as f64);
    let d = map.ncols();
    let mut both = Array2::zeros((map.nrows(), 2 * d));
    both.slice_mut(s![.., ..d]).assign(map);
    both.slice_mut(s![.., d..]).assign(&map.dot(&moment));
    both
}

/// The mean of rows; zero of none.
fn middle(rows: &Array2<f64>) -> Array1<f64> {
    rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(rows.ncols()))
}
