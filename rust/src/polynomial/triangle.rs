//! Small dense least squares: rows are folded into a triangle by Householder reflections, and the triangle is solved
//! through its singular values, so that what the rows do not determine stays zero.

/// Rows reflected at a time; the triangle is reworked once per block.
const BLOCK_ROWS: usize = 128;

/// Sweeps of Jacobi's method; it converges quadratically, in 6 to 10 for such sizes.
const MAX_SWEEPS: usize = 60;

/// A triangle R with RᵀR = AᵀA for all rows of A so far, row by row.
pub struct Triangle {
    width: usize,
    rows: Vec<Vec<f64>>,
}

impl Triangle {
    /// A triangle of no rows yet.
    pub fn new(width: usize) -> Self {
        Triangle { width, rows: Vec::new() }
    }

    /// Takes in one more row.
    pub fn push(&mut self, row: Vec<f64>) {
        self.rows.push(row);
        if self.rows.len() >= self.width + BLOCK_ROWS {
            self.fold();
        }
    }

    /// Reflects all rows onto the first `width`.
    fn fold(&mut self) {
        for k in 0..self.width.min(self.rows.len()) {
            reflect(&mut self.rows[k..], k);
        }
        self.rows.truncate(self.width);
    }

    /// The shortest x with the least ‖A x − b‖, where b is the last column; singular values below
    /// width · ε of the largest count as zero.
    pub fn solve(mut self) -> Vec<f64> {
        self.fold();
        let unknowns = self.width - 1;
        let column = |j: usize| -> Vec<f64> { self.rows.iter().map(|row| row[j]).collect() };
        let mut columns: Vec<Vec<f64>> = (0..unknowns).map(column).collect();
        let right = column(unknowns);
        let rotations = orthogonalise(&mut columns);
        let squares: Vec<f64> = columns.iter().map(|c| dot(c, c)).collect();
        let largest = squares.iter().fold(0.0, |max: f64, &s| max.max(s));
        let cutoff = largest * (self.width as f64 * f64::EPSILON).powi(2);
        let mut solution = vec![0.0; unknowns];
        for ((column, &square), rotation) in columns.iter().zip(&squares).zip(&rotations) {
            if square > cutoff {
                let share = dot(column, &right) / square;
                solution.iter_mut().zip(rotation).for_each(|(x, v)| *x += share * v);
            }
        }
        solution
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Makes column k zero below the first of these rows.
fn reflect(rows: &mut [Vec<f64>], k: usize) {
    let norm = crate::norms::norm(&rows.iter().map(|row| row[k]).collect::<Vec<_>>());
    if norm == 0.0 {
        return;
    }
    // The sign that adds, so that nothing cancels.
    let pivot = rows[0][k];
    let corner = if pivot > 0.0 { -norm } else { norm };
    let mut mirror: Vec<f64> = rows.iter().map(|row| row[k] / norm).collect();
    mirror[0] -= corner / norm;
    let half_square = 1.0 + pivot.abs() / norm;
    for column in k..rows[0].len() {
        let overlap: f64 = rows.iter().zip(&mirror).map(|(row, v)| row[column] * v).sum();
        rows.iter_mut().zip(&mirror).for_each(|(row, v)| row[column] -= overlap / half_square * v);
    }
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
                let zeta = (b - a) / (2.0 * c);
                let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                turn(columns, (i, j), cosine, tangent * cosine);
                turn(&mut rotations, (i, j), cosine, tangent * cosine);
            }
        }
        if !turned {
            break;
        }
    }
    rotations
}

fn turn(columns: &mut [Vec<f64>], (i, j): (usize, usize), cosine: f64, sine: f64) {
    let (head, tail) = columns.split_at_mut(j);
    for (x, y) in head[i].iter_mut().zip(&mut tail[0]) {
        (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
    }
}
