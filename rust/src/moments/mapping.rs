//! The small matrices that turn what the passes find into rows of an output, units included.

use ndarray::Array2;

use super::fit::Polynomial;
use super::outputs::Product;
use crate::error::Error;
use crate::float::Float;
use crate::problem::{Problem, Weights};

impl Polynomial {
    /// From w to rows of dL/dA1.
    pub(super) fn query_product<T: Float>(&self, problem: &Problem<'_, T>, strip: usize) -> Result<Product<T>, Error> {
        let weights = match problem.weights {
            Weights::Product(X) => X,
            Weights::Pair(W_Q, _) => W_Q,
        };
        let map = self.coordinates.inverse.dot(&weights.mapv(T::widen).t());
        Product::new(map.view(), problem.scale * self.slope_unit(), strip)
    }

    /// From pᵀ Q to rows of dL/dA2.
    pub(super) fn key_product<T: Float>(&self, problem: &Problem<'_, T>, strip: usize) -> Result<Product<T>, Error> {
        let (map, unit) = self.key_map(problem);
        Product::new(map.view(), unit, strip)
    }

    /// The same as a matrix and its unit.
    pub(super) fn key_map<T: Float>(&self, problem: &Problem<'_, T>) -> (Array2<f64>, f64) {
        let map = match problem.weights {
            Weights::Product(_) => self.coordinates.transposed.clone(),
            Weights::Pair(_, W_K) => self.coordinates.transposed.dot(&W_K.mapv(T::widen).t()),
        };
        (map, self.slope_unit())
    }

    /// From fᵀ c to rows of dL/dA3.
    pub(super) fn value_product<T: Float>(&self, problem: &Problem<'_, T>, strip: usize) -> Result<Product<T>, Error> {
        let (map, unit) = self.value_map(problem);
        Product::new(map.view(), unit, strip)
    }

    /// The same as a matrix and its unit.
    pub(super) fn value_map<T: Float>(&self, problem: &Problem<'_, T>) -> (Array2<f64>, f64) {
        (problem.Y.mapv(T::widen).reversed_axes(), self.value_unit())
    }
}
