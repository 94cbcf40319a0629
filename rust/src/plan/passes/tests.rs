//! Rows that the passes leave for the caps, against the same rows evaluated by themselves.

use ndarray::Array2;

use crate::moments::{Besides, Polynomial};
use crate::options::{Level, Options};
use crate::problem::{Approximation, Problem, Weights, Wrt};
use crate::runtime::rng::Rng;

/// The entries of a row that is beyond the polynomial: rounding drowns its normaliser.
const WIDE: f64 = 1e7;

#[test]
fn caps_from_the_rows_of_the_passes_are_those_from_rows_by_themselves() {
    let (n, m, d, dv) = (700, 900, 4, 3);
    let rng = &mut Rng::new(3);
    let mut uniform =
        |rows: usize, columns: usize| Array2::from_shape_simple_fn((rows, columns), || 2.0 * rng.unit() - 1.0);
    let (mut A1, A2, A3, E) = (uniform(n, d), uniform(m, d), uniform(m, dv), uniform(n, dv));
    A1.row_mut(11).fill(WIDE);
    let (X, Y) = (uniform(d, d), uniform(dv, dv));
    let weights = Weights::Product(X.view());
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), weights, Y.view(), E.view()).expect("shapes fit");
    let coefficients = vec![1.0, 1.0, 0.5, 1.0 / 6.0];
    let approximation = Approximation { coefficients, integers: true, exact_keys: vec![] };
    for level in Level::available() {
        let options = Options { level: Some(level), ..Options::default() };
        let polynomial = Polynomial::fit(&problem, &approximation, &options, None).expect("a small problem");
        let besides = Besides { rows: true, ..Besides::default() };
        let apart = polynomial.fitted_caps(&problem, None, &options, None).expect("a small problem");
        for wrt in [&[Wrt::X][..], &[Wrt::Y, Wrt::X, Wrt::A2]] {
            let found = polynomial.fitted_gradient(&problem, wrt, besides, &options, None).expect("a small problem");
            assert_eq!(found.unsafe_rows, [11], "{level}");
            assert!(found.evaluated.is_some(), "{level} {wrt:?}");
            let caps = polynomial.fitted_caps(&problem, found.evaluated, &options, None).expect("a small problem");
            assert_eq!(caps, apart, "{level} {wrt:?}");
        }
        // Rows of dL/dA1 take the place of w.
        let found = polynomial.fitted_gradient(&problem, &[Wrt::A1], besides, &options, None);
        assert!(found.expect("a small problem").evaluated.is_none());
    }
}
