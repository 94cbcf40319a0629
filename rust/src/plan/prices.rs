//! Prices of the kernels, for every instruction set and precision.

use crate::float::Float;
use crate::options::Level;

/// Operations of the exact passes that two threads do in a nanosecond with AVX2 in single precision, on the machine of
/// the table: the unit of all prices is the time of one of them.
pub const REFERENCE: f64 = 199.0;

/// Threads of that machine.
pub const THREADS: f64 = 2.0;

/// Prices of one instruction set and precision: least squares over the times of whole calls, by `python
/// benches/prices.py`. Processors with and without VNNI are of one level, and results of one level have the same bits
/// on all of them, so there is one row for both.
#[derive(Debug, Clone, Copy)]
pub struct Prices {
    /// An operation of the products in the exact passes.
    pub operation: f64,
    /// The exponential and the sums of one pair, in each of two passes.
    pub exponential: f64,
    /// A feature of a token, and each of its products with a column; in single precision most are sums of integers.
    pub feature: [f64; 2],
    /// A pair of a sampled row over one of the exact passes: few rows share the keys that stream by, and nothing is
    /// kept of one pass for the next.
    pub sampled_pair: f64,
}

const fn row(operation: f64, exponential: f64, feature: [f64; 2], sampled_pair: f64) -> Prices {
    Prices { operation, exponential, feature, sampled_pair }
}

/// In single and in double precision.
const BASELINE: [Prices; 2] = [row(4.7, 57.0, [32.0, 6.1], 1.2), row(6.5, 205.0, [16.0, 12.0], 1.5)];
const AVX2: [Prices; 2] = [row(1.0, 4.4, [18.0, 2.2], 1.9), row(2.0, 38.0, [13.0, 4.4], 1.6)];
const AVX512: [Prices; 2] = [row(0.98, 2.9, [10.5, 1.8], 2.6), row(2.0, 25.0, [21.0, 3.6], 1.5)];

impl Prices {
    /// Those of a level in the precision T.
    pub fn of<T: Float>(level: Level) -> Self {
        let [single, double] = match level {
            Level::Baseline => BASELINE,
            Level::Avx512 => AVX512,
            _ => AVX2,
        };
        if size_of::<T>() == size_of::<f32>() { single } else { double }
    }
}
