//! Norms of small matrices in double precision, rounded outward (docs/math.md, equation 9.34).

use ndarray::{Array2, ArrayView2};

use super::norms::norm;
use super::outward::{FOLD_UNIT, gamma, outward};

/// Squarings of a matrix: ‖C^32‖_F^(1/32) is above the largest eigenvalue by d^(1/64) at most, 4 % for d = 16.
const SQUARINGS: i32 = 5;

/// Largest loss to underflow in a product of two numbers in f64, with room for the square root.
const TINY: f64 = 1e-150;

/// ‖M‖_F.
pub fn frobenius(matrix: ArrayView2<'_, f64>) -> f64 {
    let size = matrix.len() as f64;
    let plain = match matrix.as_slice_memory_order() {
        Some(numbers) => norm(numbers),
        None => norm(&matrix.iter().copied().collect::<Vec<_>>()),
    };
    if plain == 0.0 { 0.0 } else { outward(plain * (1.0 + size * f64::EPSILON)) }
}

/// The largest eigenvalue of a symmetric C ⪰ 0, where `error` is the Frobenius norm of the error of C.
pub fn largest_eigenvalue(matrix: &Array2<f64>, error: f64) -> f64 {
    let d = matrix.nrows() as f64;
    let (mut power, mut size) = (matrix.clone(), 0.0);
    for level in 0..=SQUARINGS {
        if level > 0 {
            power = power.dot(&power);
        }
        let norm = frobenius(power.view());
        if norm == 0.0 {
            return if level == 0 { error } else { f64::INFINITY };
        }
        // log2 of the size, in the unit of the matrix itself.
        size += norm.log2() * (-level as f64).exp2();
        power /= norm;
    }
    // Each product loses d of its roundings, relative to a norm that is at least 1/√d of the product of the norms.
    let lost = gamma(8.0 * d * d.sqrt() + 64.0, FOLD_UNIT);
    outward(size.exp2() * (1.0 + lost) * (1.0 + 1024.0 * f64::EPSILON * (1.0 + size.abs())) + error)
}

/// ‖M‖₂.
pub fn spectral(matrix: ArrayView2<'_, f64>) -> f64 {
    let size = frobenius(matrix);
    if size == 0.0 || !size.is_finite() {
        return size;
    }
    let (rows, columns) = matrix.dim();
    let unit = &matrix / size;
    let square = if rows < columns { unit.dot(&unit.t()) } else { unit.t().dot(&unit) };
    let error = gamma(rows.max(columns) as f64 + 4.0, FOLD_UNIT);
    outward(size * (largest_eigenvalue(&square, error) + TINY).sqrt()).min(size)
}

/// ‖A B − C‖_F for the numbers as they are, whatever their product loses here.
pub fn product_error(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, c: ArrayView2<'_, f64>) -> f64 {
    let lost = gamma(a.ncols() as f64 + 2.0, FOLD_UNIT) * (frobenius(a) * frobenius(b) + frobenius(c));
    outward(frobenius((a.dot(&b) - c).view()) + lost + TINY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::eigen::symmetric;

    #[test]
    fn norms_are_above_the_truth_and_near_it() {
        for d in [1, 2, 5, 16, 40] {
            for rank in [1, d] {
                let b = Array2::from_shape_fn((d, rank), |(i, j)| (1.3 * (i * 7 + j * 3 + 1) as f64).sin());
                let exact = symmetric(b.dot(&b.t())).0[0];
                let bound = largest_eigenvalue(&b.dot(&b.t()), 0.0);
                assert!(exact * (1.0 - 1e-12) <= bound && bound <= 1.1 * exact, "{d}, {rank}: {exact} {bound}");
                let norm = spectral(b.view());
                assert!(exact.sqrt() * (1.0 - 1e-12) <= norm && norm <= 1.05 * exact.sqrt());
                assert!(spectral((&b * 1e-200).view()) >= 1e-200 * exact.sqrt() * (1.0 - 1e-12));
            }
        }
        assert_eq!(spectral(Array2::zeros((3, 2)).view()), 0.0);
        assert_eq!(largest_eigenvalue(&Array2::zeros((0, 0)), 0.0), 0.0);
        let nan = Array2::from_elem((2, 2), f64::NAN);
        assert_eq!(largest_eigenvalue(&nan, 0.0), f64::INFINITY);
        assert_eq!(spectral(nan.view()), f64::INFINITY);
    }
}
