//! Small dense least squares: rows are folded into a triangle by Householder reflections, and the triangle is solved
//! through its singular values, so that what the rows do not determine stays zero.

use crate::linalg::eigen::Rotation;
use crate::linalg::norms::norm;

/// Rows to take in at a time: the triangle is reworked once for each such block, which stays in the first cache.
pub const BLOCK_ROWS: usize = 128;

/// Sums that run side by side in a product of columns.
const CHAINS: usize = 8;

/// Sweeps of Jacobi's method; it converges quadratically, in 6 to 10 for such sizes.
const MAX_SWEEPS: usize = 60;

/// A triangle R with RᵀR = AᵀA for all rows of A so far, column by column.
pub struct Triangle {
    columns: Vec<Vec<f64>>,
}

impl Triangle {
    /// A triangle of no rows yet.
    pub fn new(width: usize) -> Self {
        Triangle { columns: vec![Vec::with_capacity(width + BLOCK_ROWS); width] }
    }

    /// Takes in more rows, column by column.
    pub fn push(&mut self, rows: &[Vec<f64>]) {
        self.columns.iter_mut().zip(rows).for_each(|(column, more)| column.extend_from_slice(more));
        self.fold();
    }

    /// Reflects all rows onto as many as there are columns.
    fn fold(&mut self) {
        let width = self.columns.len();
        for k in 0..width.min(self.columns[0].len()) {
            self.reflect(k);
        }
        self.columns.iter_mut().for_each(|column| column.truncate(width));
    }

    /// Makes column k zero below row k.
    fn reflect(&mut self, k: usize) {
        let below = &self.columns[k][k..];
        let norm = norm(below);
        if norm == 0.0 {
            return;
        }
        // The sign that adds, so that nothing cancels.
        let pivot = below[0];
        let corner = if pivot > 0.0 { -norm } else { norm };
        let mut mirror: Vec<f64> = below.iter().map(|x| x / norm).collect();
        mirror[0] -= corner / norm;
        let half_square = 1.0 + pivot.abs() / norm;
        for column in &mut self.columns[k..] {
            let share = dot(&column[k..], &mirror) / half_square;
            column[k..].iter_mut().zip(&mirror).for_each(|(x, v)| *x -= share * v);
        }
    }

    /// The shortest x with the least ‖A x − b‖, where b is the last column, which is known up to a vector of norm
    /// `noise`: directions whose part of b is no larger are left out, and so are singular values below width · ε of the
    /// largest. A small singular value would make anything of a part that is rounding.
    pub fn solve(mut self, noise: f64) -> Vec<f64> {
        let width = self.columns.len();
        let (columns, right) = self.columns.split_at_mut(width - 1);
        let right = &right[0];
        let rotations = orthogonalise(columns);
        let squares: Vec<f64> = columns.iter().map(|c| dot(c, c)).collect();
        let largest = squares.iter().fold(0.0, |max: f64, &s| max.max(s));
        let cutoff = largest * (width as f64 * f64::EPSILON).powi(2);
        let mut solution = vec![0.0; width - 1];
        for ((column, &square), rotation) in columns.iter().zip(&squares).zip(&rotations) {
            let share = dot(column, right);
            if square > cutoff && share.abs() > noise * square.sqrt() {
                let share = share / square;
                solution.iter_mut().zip(rotation).for_each(|(x, v)| *x += share * v);
            }
        }
        solution
    }
}

/// ⟨a, b⟩ in chains that run side by side.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; CHAINS];
    let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<CHAINS>(), b.as_chunks::<CHAINS>());
    for (a, b) in a.iter().zip(b) {
        for chain in 0..CHAINS {
            sums[chain] += a[chain] * b[chain];
        }
    }
    sums.iter().sum::<f64>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f64>()
}

/// Rotates pairs of columns until all are orthogonal (one-sided Jacobi); returns the columns of the rotation V.
fn orthogonalise(columns: &mut [Vec<f64>]) -> Vec<Vec<f64>> {
    let count = columns.len();
    let mut rotations: Vec<Vec<f64>> =
        (0..count).map(|i| (0..count).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    for _ in 0..MAX_SWEEPS {
        let mut turned = false;
        for i in 0..count {
            for j in i + 1..count {
                let (a, b, c) =
                    (dot(&columns[i], &columns[i]), dot(&columns[j], &columns[j]), dot(&columns[i], &columns[j]));
                if c.abs() <= f64::EPSILON * (a * b).sqrt() {
                    continue;
                }
                turned = true;
                let rotation = Rotation::new([a, c, b]);
                for columns in [&mut *columns, &mut rotations] {
                    let (head, tail) = columns.split_at_mut(j);
                    rotation.turn(&mut head[i], &mut tail[0]);
                }
            }
        }
        if !turned {
            break;
        }
    }
    rotations
}
