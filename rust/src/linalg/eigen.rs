//! Eigenvalues of small symmetric matrices, by Jacobi's rotations.

use ndarray::{Array1, Array2};

/// Sweeps after which the rest is rounding: convergence is quadratic, and 6 to 10 sweeps are usual.
const SWEEPS: usize = 30;

/// A = V diag(λ) Vᵀ with λ in decreasing order; the columns of V are orthonormal. Time O(d³) per sweep.
pub fn symmetric(a: Array2<f64>) -> (Array1<f64>, Array2<f64>) {
    let d = a.nrows();
    let mut a: Vec<f64> = a.iter().copied().collect();
    // Its rows are the vectors, so that a rotation runs along memory.
    let mut vectors: Vec<f64> = Array2::eye(d).iter().copied().collect();
    for _ in 0..SWEEPS {
        let square = |(at, x): (usize, &f64)| if at % (d + 1) == 0 { 0.0 } else { x * x };
        let off: f64 = a.iter().enumerate().map(square).sum();
        let all: f64 = a.iter().map(|x| x * x).sum();
        if off <= f64::EPSILON * f64::EPSILON * all {
            break;
        }
        for i in 0..d {
            for j in i + 1..d {
                rotate(&mut a, &mut vectors, d, (i, j));
            }
        }
    }
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| a[j * d + j].total_cmp(&a[i * d + i]));
    let values = order.iter().map(|&i| a[i * d + i]).collect();
    (values, Array2::from_shape_fn((d, d), |(k, i)| vectors[order[i] * d + k]))
}

/// Jacobi's rotation: of two coordinates, the one that makes a symmetric matrix of theirs diagonal.
pub struct Rotation {
    tangent: f64,
    cosine: f64,
    sine: f64,
}

impl Rotation {
    /// Of the matrix with these entries: the first on the diagonal, the one beside it, which is not zero, and the
    /// second.
    pub fn new([first, off, second]: [f64; 3]) -> Self {
        let theta = (second - first) / (2.0 * off);
        // The smaller root of t² + 2θt − 1 = 0; hypot, so that a large θ does not overflow.
        let tangent = theta.signum() / (theta.abs() + theta.hypot(1.0));
        let cosine = tangent.hypot(1.0).recip();
        Rotation { tangent, cosine, sine: tangent * cosine }
    }

    /// Turns both coordinates of many vectors.
    pub fn turn(&self, left: &mut [f64], right: &mut [f64]) {
        let Rotation { cosine, sine, .. } = *self;
        for (left, right) in left.iter_mut().zip(right) {
            (*left, *right) = (cosine * *left - sine * *right, sine * *left + cosine * *right);
        }
    }
}

/// The rotation of coordinates i < j that makes a_ij zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], d: usize, (i, j): (usize, usize)) {
    let off = a[i * d + j];
    if off == 0.0 {
        return;
    }
    let (first, second) = (a[i * d + i], a[j * d + j]);
    let rotation = Rotation::new([first, off, second]);
    for rows in [&mut *a, vectors] {
        let (above, below) = rows.split_at_mut(j * d);
        rotation.turn(&mut above[i * d..(i + 1) * d], &mut below[..d]);
    }
    // Columns are as the rows are, but where both meet.
    for k in 0..d {
        a[k * d + i] = a[i * d + k];
        a[k * d + j] = a[j * d + k];
    }
    (a[i * d + i], a[j * d + j]) = (first - rotation.tangent * off, second + rotation.tangent * off);
    (a[i * d + j], a[j * d + i]) = (0.0, 0.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decomposes_matrices_of_every_rank() {
        for d in [0, 1, 2, 3, 5, 16, 40] {
            for rank in [0, 1, d / 2, d] {
                let b = Array2::from_shape_fn((d, rank), |(i, j)| (1.3 * (i * 7 + j * 3 + 1) as f64).sin());
                let a = b.dot(&b.t());
                let size = a.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
                let (values, vectors) = symmetric(a.clone());
                let back = vectors.dot(&Array2::from_diag(&values)).dot(&vectors.t());
                let bar = 1e-13 * (d + 1) as f64 * size;
                assert!(back.iter().zip(&a).all(|(x, y)| (x - y).abs() <= bar));
                let unit = vectors.t().dot(&vectors) - Array2::<f64>::eye(d);
                assert!(unit.iter().all(|x| x.abs() <= 1e-13 * (d + 1) as f64));
                assert!(values.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));
            }
        }
    }
}
