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

/// Laws of the sizes of rows that err in all directions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sizes {
    /// All rows alike.
    Equal,
    /// Alike, and four times as large in one direction.
    LargeInOneDirection,
    /// e^x, x normal.
    LogNormal,
    /// A Student t with three degrees of freedom.
    Student,
    /// One row in 64 is six times as large.
    Rare,
    /// One row in 64 is ten times as large, and in one direction.
    RareInOneDirection,
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

    /// Rows of `width` numbers each, whose sum is along the direction in which they vary the most and `size` standard
    /// errors of a sample of `drawn` of them long: the hardest sum to see in the spread of a sample.
    pub fn aligned(sizes: Sizes, (count, drawn): (usize, usize), width: usize, size: f64, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut right = Array2::from_shape_simple_fn((count, width), || normal(&mut rng));
        for (j, mut row) in right.rows_mut().into_iter().enumerate() {
            let rare = j % 64 == 0;
            match sizes {
                Sizes::Equal => {}
                Sizes::LargeInOneDirection => row[0] *= 4.0,
                Sizes::LogNormal => {
                    let size = normal(&mut rng).exp();
                    row *= size;
                }
                Sizes::Student => {
                    let square: f64 = (0..3).map(|_| normal(&mut rng).powi(2)).sum();
                    row /= square.sqrt();
                }
                Sizes::Rare if rare => row *= 6.0,
                Sizes::RareInOneDirection if rare => row[0] = 10.0 * (width as f64).sqrt() * row[0].signum(),
                Sizes::Rare | Sizes::RareInOneDirection => {}
            }
        }
        let mean = right.sum_axis(ndarray::Axis(0)) / count as f64;
        right -= &mean;
        let left = Array2::ones((count, 1));
        let sum = left.t().dot(&right);
        let mut population = Population { left, right, sum };
        let apart = size * population.standard_error(drawn) / count as f64;
        population.right.column_mut(0).mapv_inplace(|x| x + apart);
        population.sum = population.left.t().dot(&population.right);
        population
    }

    /// Root of the expected ‖Δ̂ − Δ‖² of a sample of that many rows of width one on the left.
    pub fn standard_error(&self, drawn: usize) -> f64 {
        let (all, some) = (self.right.nrows() as f64, drawn as f64);
        let centred = &self.right - &(self.right.sum_axis(ndarray::Axis(0)) / all);
        let square: f64 = centred.iter().map(|x| x * x).sum();
        ((1.0 - some / all) * square * all / some).sqrt()
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
