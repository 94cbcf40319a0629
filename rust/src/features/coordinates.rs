//! Centred and balanced coordinates: the same logits from smaller monomials (docs/math.md, equation 8.15).

use ndarray::{Array1, Array2, Axis};

use super::balance::balanced;
use crate::constants::BALANCED_MOST;
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::some_rows::{some_rows, some_rows_but};
use crate::linalg::spectral::{frobenius, spectral};
use crate::problem::{Problem, Weights};

/// Largest condition number of the map of the queries with which rows are recovered from their coordinates: 4 bits of
/// what was computed may be lost on the way.
const MOST_CONDITION: f64 = 16.0;

/// Steps to an inverse: 16 until the norm is a half, for that condition and [`BALANCED_MOST`] coordinates, and 6 to
/// squares of squares of it that are below rounding; and the error that is left then, with room.
const INVERSE_STEPS: usize = 22;
const INVERSE_MISSED: f64 = 1e-10;

/// The linear maps into and out of the coordinates. Any invertible ones are valid: logits do not change.
#[derive(Debug, Clone)]
pub struct Coordinates {
    /// The mean that is subtracted from every row of A2, (d2).
    pub mean: Array1<f64>,
    /// From rows of A1, the scale included, (d1, d).
    pub query: Array2<f64>,
    /// From the coordinates of a query back to its row of A1, (d, d1): the inverse of the above as it is rounded, where
    /// its condition is small.
    pub row: Option<Array2<f64>>,
    /// From rows of A2, (d2, d).
    pub key: Array2<f64>,
    /// From balanced w = p K to the original one, (d, d).
    pub inverse: Array2<f64>,
    /// From balanced pᵀ Q to the original one, (d, d).
    pub transposed: Array2<f64>,
    /// Root mean square of ⟨q, k⟩ over all pairs, of a sample of them; 0 where it is not known.
    pub spread: f64,
    /// A row near the middle of those of A3, (d3): their spread is measured around it.
    pub input_centre: Array1<f64>,
    /// log2 of the unit of the values: h / 2^this is near 1.
    pub value_exponent: f64,
    /// log2 of the unit of c in the passes: that of the values where c = o − E, its own where c is given.
    pub incoming_exponent: f64,
    /// log2 of the unit of c in the sums, in that of the passes.
    pub residual_exponent: f64,
}

impl Coordinates {
    /// From some of the rows, of keys and values those that are not left to exp. Time
    /// O(1024 d (d1 + d2 + d3 + dv) + d³).
    pub fn new<T: Float>(problem: &Problem<'_, T>, exact_keys: &[usize]) -> Self {
        let [query_weights, key_weights] = problem.weights.wide();
        let keys = some_rows_but(problem.A2, exact_keys);
        let mean = mean(&keys);
        let query = problem.scale * query_weights;
        let d = query.ncols();
        let (transform, inverse, spread) = if d <= BALANCED_MOST {
            let (queries, keys) = (some_rows(problem.A1).dot(&query), (&keys - &mean).dot(&key_weights));
            balanced(&second_moment(&queries), &second_moment(&keys))
        } else {
            None
        }
        .map_or_else(
            || (Array2::eye(d), Array2::eye(d), 0.0),
            |both| (both.transform, both.inverse, both.spectrum.mapv(|x| x * x).sum().sqrt()),
        );
        let inputs = some_rows_but(problem.A3, exact_keys);
        let values = size(&inputs.dot(&wide(problem.Y)));
        let target = size(&some_rows(problem.E));
        let value_exponent = exponent(values);
        // The gradients are linear in a c that is given, so that no size of it is too small for the passes.
        let (incoming_exponent, residual_exponent) = match problem.is_target {
            true => (value_exponent, exponent(target.max(values)) - value_exponent),
            false => (exponent(target).clamp(T::MIN_EXP, -T::MIN_EXP), 0.0),
        };
        let query = query.dot(&inverse.t());
        Coordinates {
            mean,
            row: inverted(query.mapv(|x| T::narrow(x).widen())),
            query,
            key: key_weights.dot(&transform),
            inverse,
            spread,
            transposed: transform.reversed_axes(),
            input_centre: self::mean(&inputs),
            value_exponent,
            incoming_exponent,
            residual_exponent,
        }
    }

    /// The unit of w and pᵀ Q.
    pub fn slope_unit(&self) -> f64 {
        (self.value_exponent + self.incoming_exponent + self.residual_exponent).exp2()
    }

    /// The unit of fᵀ c.
    pub fn value_unit(&self) -> f64 {
        (self.incoming_exponent + self.residual_exponent).exp2()
    }

    /// From w to rows of dL/dA1, and their unit.
    pub fn to_A1<T: Float>(&self, problem: &Problem<'_, T>) -> (Array2<f64>, f64) {
        let (Weights::Product(weights) | Weights::Pair(weights, _)) = problem.weights;
        (self.inverse.dot(&wide(weights).t()), problem.scale * self.slope_unit())
    }

    /// From w in the coordinates to w in those of the keys, and its unit.
    pub fn to_w(&self) -> (Array2<f64>, f64) {
        (self.inverse.clone(), self.slope_unit())
    }

    /// From pᵀ Q to rows of dL/dA2, and their unit.
    pub fn to_A2<T: Float>(&self, problem: &Problem<'_, T>) -> (Array2<f64>, f64) {
        let map = match problem.weights {
            Weights::Product(_) => self.transposed.clone(),
            Weights::Pair(_, W_K) => self.transposed.dot(&wide(W_K).t()),
        };
        (map, self.slope_unit())
    }

    /// From fᵀ c to rows of dL/dA3, and their unit.
    pub fn to_A3<T: Float>(&self, problem: &Problem<'_, T>) -> (Array2<f64>, f64) {
        (wide(problem.Y).reversed_axes(), self.value_unit())
    }

    /// Coordinates of a monomial.
    pub fn dimension(&self) -> usize {
        self.query.ncols()
    }
}

/// The inverse Y of a square matrix M whose condition is small: Y ← Y (2 − M Y) squares 1 − M Y, whose norm is less
/// than one from Y = Mᵀ / ‖M‖² on. A fraction of the time of an eigenvalue problem.
fn inverted(matrix: Array2<f64>) -> Option<Array2<f64>> {
    let (size, d) = (size(&matrix), matrix.nrows());
    if !matrix.is_square() || d > BALANCED_MOST || !size.is_normal() || !size.recip().is_normal() {
        return None;
    }
    let matrix = matrix / size;
    let twice = 2.0 * Array2::<f64>::eye(d);
    let square = frobenius(matrix.view()).powi(2);
    let mut inverse = matrix.t().mapv(|x| x / square);
    for _ in 0..INVERSE_STEPS {
        inverse = inverse.dot(&(&twice - matrix.dot(&inverse)));
    }
    let missed = frobenius((matrix.dot(&inverse) - Array2::<f64>::eye(d)).view());
    // So that NaN is not small.
    (missed <= INVERSE_MISSED && spectral(matrix.view()) * spectral(inverse.view()) <= MOST_CONDITION)
        .then(|| inverse / size)
}

/// rowsᵀ rows / count.
fn second_moment(rows: &Array2<f64>) -> Array2<f64> {
    rows.t().dot(rows) / rows.nrows().max(1) as f64
}

/// The mean of rows, zero where it is not finite.
fn mean(rows: &Array2<f64>) -> Array1<f64> {
    rows.mean_axis(Axis(0)).filter(finite1).unwrap_or_else(|| Array1::zeros(rows.ncols()))
}

fn finite1(array: &Array1<f64>) -> bool {
    array.iter().all(|x| x.is_finite())
}

fn size(array: &Array2<f64>) -> f64 {
    array.iter().fold(0.0, |max: f64, x| max.max(x.abs()))
}

/// A power of two near `size`, 0 for zero and for what is not finite.
fn exponent(size: f64) -> f64 {
    let exponent = size.log2().round();
    if exponent.is_finite() { exponent } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::eigen::symmetric;

    fn matrix(rows: usize, columns: usize, step: f64) -> Array2<f64> {
        Array2::from_shape_fn((rows, columns), |(j, i)| (step * ((j * columns + i + 1) as f64).powi(2)).sin())
    }

    #[test]
    fn only_well_conditioned_maps_are_inverted() {
        let turned = symmetric(matrix(6, 6, 0.7).dot(&matrix(6, 6, 0.7).t())).1;
        for size in [1.0, 1e-9, 1e200] {
            for (condition, inverts) in [(1.0, true), (15.0, true), (16.5, false), (f64::INFINITY, false)] {
                let mut sizes = Array1::from_elem(6, size);
                sizes[2] /= condition;
                let map = &turned * &sizes;
                let inverse = inverted(map.clone());
                assert_eq!(inverse.is_some(), inverts, "condition {condition}");
                if let Some(inverse) = inverse {
                    assert!((map.dot(&inverse) - Array2::<f64>::eye(6)).iter().all(|x| x.abs() < 1e-12));
                }
            }
        }
        for map in
            [matrix(3, 4, 0.7), Array2::zeros((3, 3)), Array2::zeros((0, 0)), Array2::from_elem((2, 2), f64::NAN)]
        {
            assert!(inverted(map).is_none());
        }
    }
}
