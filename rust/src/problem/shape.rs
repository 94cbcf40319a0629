//! The sizes of a problem.

use super::{Problem, Weights};

/// The shape of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Queries.
    pub n: usize,
    /// Keys.
    pub m: usize,
    /// Width of the logits.
    pub d: usize,
    /// Width of A1.
    pub d1: usize,
    /// Width of A2.
    pub d2: usize,
    /// Width of A3.
    pub d3: usize,
    /// Width of the values.
    pub dv: usize,
    /// Whether X is given as a pair.
    pub pair: bool,
}

impl Shape {
    /// That of a problem.
    pub fn of<T>(problem: &Problem<'_, T>) -> Self {
        let ((n, d1), (m, d2), (d3, dv)) = (problem.A1.dim(), problem.A2.dim(), problem.Y.dim());
        let (d, pair) = match problem.weights {
            Weights::Product(_) => (d2, false),
            Weights::Pair(W_Q, _) => (W_Q.ncols(), true),
        };
        Shape { n, m, d, d1, d2, d3, dv, pair }
    }

    /// That of a head of attention as a problem with unit weights.
    pub fn of_head(n: usize, m: usize, width: usize, dv: usize) -> Self {
        Shape { n, m, d: width, d1: width, d2: width, d3: dv, dv, pair: false }
    }
}
