//! Operations of every method from shapes alone, a multiplication and an addition counting as two.

use crate::moments::CHUNK;
use crate::problem::{Problem, Weights, Wrt};

/// Prices in operations of the exact passes, of which two threads with AVX2 do 143 a nanosecond: least squares over the
/// times of n = 1024 … 65536 and d = 2 … 64, whole calls from Python, which they meet within a third (docs/math.md, equation
/// 136). A fixed table, so that a decision never depends on a timing.
mod price {
    /// A call of either method: arguments, copies, waking threads.
    pub const CALL: f64 = 1.5e8;
    /// A query with its key in the exact passes: norms, and the order of the kernels.
    pub const EXACT_TOKEN: f64 = 9e4;
    /// The exponential and the sums of one pair, in each of two passes.
    pub const PAIR: f64 = 16.0;
    /// The polynomial, the coordinates and three more lists of tasks.
    pub const MOMENTS: f64 = 2.2e8;
    /// The eigenvectors of d × d matrices, over d³.
    pub const BALANCE: f64 = 1.9e4;
    /// A query with its key, and each of their coordinates.
    pub const TOKEN: [f64; 2] = [3e3, 1.05e3];
    /// A feature of a token, and each of its products with a column.
    pub const FEATURE: [f64; 2] = [26.0, 1.56];
    /// A chunk of a causal problem starts from moments of its own.
    pub const CAUSAL: f64 = 1.4;
    /// Sampled rows: drawing, and the spread of what they miss.
    pub const SAMPLE: f64 = 1.0e8;
    /// The share in it of each query with its key, and of each of their coordinates: norms, and keys and values in the order
    /// of the kernels.
    pub const SAMPLE_TOKEN: [f64; 2] = [1.6e4, 2.7e3];
    /// A pair of a sampled row over one of the exact passes: few rows share the keys that stream by, and nothing is kept of
    /// one pass for the next.
    pub const SAMPLE_PAIR: f64 = 1.6;
    /// An entry of the correction in each sampled row, some ten steps of the power iteration.
    pub const SAMPLE_ENTRY: f64 = 1e3;
}

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
        price::CALL + price::EXACT_TOKEN * 0.5 * (self.n + self.m) + self.pairs * self.pair(self.key_side)
    }

    fn pair(&self, key_side: bool) -> f64 {
        let products = 2.0 * (self.d as f64 + self.dv);
        let second = if self.slopes || key_side { products + price::PAIR } else { 0.0 };
        products + price::PAIR + second + if key_side { products } else { 0.0 }
    }

    /// `count` exact rows, o and w, and what they say of the error.
    pub fn rows(&self, count: usize) -> f64 {
        let (count, d) = (count as f64, self.d as f64);
        let share = if self.n > 0.0 { count / self.n } else { 0.0 };
        let [token, coordinate] = price::SAMPLE_TOKEN;
        price::SAMPLE
            + (token + coordinate * d) * 0.5 * (self.n + self.m)
            + price::SAMPLE_PAIR * share * self.pairs * self.pair(false)
            + price::SAMPLE_ENTRY * count * d * d
    }

    /// The moment form of a degree; infinite where its features cannot be had.
    pub fn moments(&self, degree: usize) -> f64 {
        let (outer, inner) = (features(self.d, degree + 1), features(self.d, degree));
        let query_side = self.m * outer + self.n * (outer + inner);
        let key_side = if self.key_side { (self.n + self.m) * (outer + inner) } else { 0.0 };
        let d = self.d as f64;
        let [token, coordinate] = price::TOKEN;
        let [feature, column] = price::FEATURE;
        let masked = if self.near > 0.0 { price::CAUSAL } else { 1.0 };
        price::CALL
            + price::MOMENTS
            + price::BALANCE * d.powi(3)
            + (token + coordinate * d) * 0.5 * (self.n + self.m)
            + masked * (feature + column * (self.dv + 1.0)) * (query_side + key_side)
            + self.near * self.pair(self.key_side)
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

    /// d.
    pub fn dimension(&self) -> usize {
        self.d
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
