//! Rows of errors x_j = a_j ⊗ R_j to draw from.

use ndarray::{Array2, ArrayView2};

use super::normal;
use crate::data::Rng;

/// Joint distributions of the errors of the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Independent, uniform in [−1, 1).
    Uniform,
    /// Independent, normal.
    Normal,
    /// R_j = a_j B + noise: the terms add up.
    Coherent,
    /// The same, but so faint that the sum of all rows is about the standard error of a sample.
    Faint,
    /// Normal, with one direction ten times the others.
    Dominant,
    /// Coherent in one direction, besides noise in all.
    DominantCoherent,
    /// Normal, four times as large in one direction, in which it is faintly coherent.
    DominantFaint,
    /// Most rows are zero.
    Sparse,
    /// All zero but one.
    OneSpike,
}

/// The factors of all rows and the exact sum.
pub struct Population {
    pub left: Array2<f64>,
    pub right: Array2<f64>,
    pub sum: Array2<f64>,
}

impl Population {
    pub fn new(family: Family, count: usize, width: usize, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut matrix = |rows: usize| match family {
            Family::Uniform => rng.matrix(rows, width),
            _ => Array2::from_shape_simple_fn((rows, width), || normal(&mut rng)),
        };
        let (mut left, mut right, mixing) = (matrix(count), matrix(count), matrix(width));
        match family {
            Family::Uniform | Family::Normal => {}
            Family::Coherent => right += &left.dot(&mixing),
            Family::Faint => right.scaled_add(0.1, &left.dot(&mixing)),
            Family::DominantFaint => {
                let along = left.column(0).to_owned();
                right.column_mut(0).scaled_add(0.1, &along);
                left.column_mut(0).mapv_inplace(|x| 4.0 * x);
                right.column_mut(0).mapv_inplace(|x| 4.0 * x);
            }
            Family::Dominant => {
                left.column_mut(0).mapv_inplace(|x| 10.0 * x);
                right.column_mut(0).mapv_inplace(|x| 10.0 * x);
            }
            Family::DominantCoherent => {
                let along = left.column(0).to_owned();
                right.column_mut(0).scaled_add(3.0, &along);
            }
            Family::Sparse | Family::OneSpike => {
                let every = if family == Family::Sparse { 8 } else { count };
                for (j, mut row) in right.rows_mut().into_iter().enumerate() {
                    if j % every != 0 {
                        row.fill(0.0);
                    }
                }
            }
        }
        let sum = left.t().dot(&right);
        Population { left, right, sum }
    }

    /// ‖x_j‖.
    pub fn norm(&self, j: usize) -> f64 {
        let square = |matrix: &Array2<f64>| matrix.row(j).iter().map(|x| x * x).sum::<f64>();
        (square(&self.left) * square(&self.right)).sqrt()
    }

    /// The factors of some rows.
    pub fn rows(&self, rows: &[usize]) -> (Array2<f64>, Array2<f64>) {
        let take = |matrix: &Array2<f64>| matrix.select(ndarray::Axis(0), rows);
        (take(&self.left), take(&self.right))
    }

    /// ‖sum − estimate‖.
    pub fn error(&self, estimate: ArrayView2<'_, f64>) -> f64 {
        (&self.sum - &estimate).iter().map(|x| x * x).sum::<f64>().sqrt()
    }
}
