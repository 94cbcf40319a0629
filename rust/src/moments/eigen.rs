//! Eigenvalues of small symmetric matrices, by Jacobi's rotations.

use ndarray::{Array1, Array2};

/// Sweeps after which the rest is rounding: convergence is quadratic, and 6 to 10 sweeps are usual.
const SWEEPS: usize = 30;

/// A = V diag(λ) Vᵀ with λ in decreasing order; the columns of V are orthonormal. Time O(d³) per sweep.
pub fn symmetric(mut a: Array2<f64>) -> (Array1<f64>, Array2<f64>) {
    let d = a.nrows();
    let mut v = Array2::eye(d);
    for _ in 0..SWEEPS {
        let off: f64 = a.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, x)| x * x).sum();
        let all: f64 = a.iter().map(|x| x * x).sum();
        if off <= f64::EPSILON * f64::EPSILON * all {
            break;
        }
        for i in 0..d {
            for j in i + 1..d {
                rotate(&mut a, &mut v, i, j);
            }
        }
    }
    let mut order: Vec<usize> = (0..d).collect();
    order.sort_by(|&i, &j| a[(j, j)].total_cmp(&a[(i, i)]));
    let values = order.iter().map(|&i| a[(i, i)]).collect();
    (values, v.select(ndarray::Axis(1), &order))
}

/// The rotation of coordinates i and j that makes a_ij zero.
fn rotate(a: &mut Array2<f64>, v: &mut Array2<f64>, i: usize, j: usize) {
    if a[(i, j)] == 0.0 {
        return;
    }
    let theta = (a[(j, j)] - a[(i, i)]) / (2.0 * a[(i, j)]);
    // The smaller root of t² + 2θt − 1 = 0; hypot, so that a large θ does not overflow.
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cosine = t.hypot(1.0).recip();
    let sine = t * cosine;
    for k in 0..a.nrows() {
        let (left, right) = (a[(k, i)], a[(k, j)]);
        a[(k, i)] = cosine * left - sine * right;
        a[(k, j)] = sine * left + cosine * right;
    }
    for k in 0..a.nrows() {
        let (left, right) = (a[(i, k)], a[(j, k)]);
        a[(i, k)] = cosine * left - sine * right;
        a[(j, k)] = sine * left + cosine * right;
        let (left, right) = (v[(k, i)], v[(k, j)]);
        v[(k, i)] = cosine * left - sine * right;
        v[(k, j)] = sine * left + cosine * right;
    }
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
