//! The pair W_Q, W_K multiplied out.

use ndarray::{Array2, ArrayView2};

use super::decision::Backing;
use crate::float::Float;
use crate::problem::{Problem, Weights, Wrt};

/// W_Q W_Kᵀ, where dL/dW_K is certified from rows.
pub(super) fn unfolded<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], backing: Backing) -> Option<Array2<T>> {
    match problem.weights {
        Weights::Pair(W_Q, W_K) if backing == Backing::Estimated && wrt.contains(&Wrt::WK) => Some(product(W_Q, W_K)),
        _ => None,
    }
}

/// The problem with weights that were multiplied out, where they were.
pub(super) fn with_product<'b, T: Float>(
    problem: &'b Problem<'_, T>,
    product: &'b Option<Array2<T>>,
) -> Problem<'b, T> {
    match product {
        Some(X) => Problem { weights: Weights::Product(X.view()), ..problem.reborrow() },
        None => problem.reborrow(),
    }
}

/// W_Q W_Kᵀ, rounded once.
pub(super) fn product<T: Float>(W_Q: ArrayView2<'_, T>, W_K: ArrayView2<'_, T>) -> Array2<T> {
    W_Q.mapv(T::widen).dot(&W_K.mapv(T::widen).t()).mapv(T::narrow)
}
