//! Operations of every method from shapes alone, a multiplication and an addition counting as two.

use crate::moments::CHUNK;
use crate::problem::{Problem, Weights, Wrt};

/// What an operation of the moment form costs in operations of the exact passes, and what a call of either costs before
/// it begins: medians over the levels of cargo bench (docs/performance.md). A fixed table, so that a decision never
/// depends on a timing.
const MOMENT_OPERATION: f64 = 1.8;
const CALL: f64 = 2e7;

/// The sizes that costs depend on.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    n: f64,
    m: f64,
    d: usize,
    dv: f64,
    pairs: f64,
    /// Pairs that the moment form takes one by one: half of each chunk of a causal problem.
    near: f64,
    key_side: bool,
    slopes: bool,
}

impl Cost {
    /// Of a problem; `dimension` is that of its logits.
    pub fn new<T: crate::Float>(problem: &Problem<'_, T>, wrt: &[Wrt]) -> Self {
        let ((n, _), (m, d2)) = (problem.A1.dim(), problem.A2.dim());
        let any = |set: &[Wrt]| wrt.iter().any(|wrt| set.contains(wrt));
        Cost {
            n: n as f64,
            m: m as f64,
            d: match problem.weights {
                Weights::Product(_) => d2,
                Weights::Pair(W_Q, _) => W_Q.ncols(),
            },
            dv: problem.Y.ncols() as f64,
            near: if problem.is_causal { 0.5 * (n.min(m) * CHUNK) as f64 } else { 0.0 },
            pairs: n as f64 * m as f64 * if problem.is_causal { 0.5 } else { 1.0 },
            key_side: any(&[Wrt::WK, Wrt::A2, Wrt::A3, Wrt::A, Wrt::Y]),
            slopes: any(&[Wrt::X, Wrt::WQ, Wrt::WK, Wrt::A1, Wrt::A2, Wrt::A]),
        }
    }

    /// The exact passes.
    pub fn exact(&self) -> f64 {
        CALL + self.pairs * self.pair(self.key_side)
    }

    fn pair(&self, key_side: bool) -> f64 {
        let d = self.d as f64;
        2.0 * (d + self.dv)
            + if self.slopes { 2.0 * (d + self.dv) } else { 0.0 }
            + if key_side { 2.0 * (d + self.dv) } else { 0.0 }
    }

    /// `count` exact rows, o and w.
    pub fn rows(&self, count: usize) -> f64 {
        let share = if self.n > 0.0 { count as f64 / self.n } else { 0.0 };
        CALL + share * self.pairs * 4.0 * (self.d as f64 + self.dv)
    }

    /// The moment form of a degree, in operations of the exact passes; infinite where its features cannot be had.
    pub fn moments(&self, degree: usize) -> f64 {
        let (outer, inner) = (features(self.d, degree + 1), features(self.d, degree));
        let width = 2.0 * (self.dv + 1.0);
        let query_side = self.m * outer + self.n * (outer + inner);
        let key_side = if self.key_side { (self.n + self.m) * (outer + inner) } else { 0.0 };
        CALL + MOMENT_OPERATION * width * (query_side + key_side) + self.near * self.pair(self.key_side)
    }

    /// n.
    pub fn queries(&self) -> f64 {
        self.n
    }

    /// Rows that are in effect as large as the largest, of all of a causal problem: means over j keys from the second chunk
    /// on, whose squares go as 1/j. Nothing without a mask, where rows see alike.
    pub fn masked(&self) -> Option<f64> {
        let chunk = CHUNK as f64;
        (self.near > 0.0 && self.n > chunk).then(|| chunk * (self.n / chunk).ln().powi(2) / (1.0 - chunk / self.n))
    }

    /// √(n m), the ratio of a sum of norms over all pairs to the norm of the sum.
    pub fn incoherence(&self) -> f64 {
        (self.n * self.m).sqrt()
    }

    /// N of a degree.
    pub fn features(&self, degree: usize) -> f64 {
        features(self.d, degree)
    }
}

/// C(d + g, g).
fn features(dimension: usize, degree: usize) -> f64 {
    (1..=degree).map(|k| (dimension + k) as f64 / k as f64).product::<f64>().round()
}
