//! Operations of every method from shapes and the instruction set alone, a multiplication and an addition counting as
//! two.

use super::prices::Prices;
use crate::constants::MOMENT_ROWS as CHUNK;
use crate::float::Float;
use crate::options::Level;
use crate::problem::{ExactPasses, OutputSet, Shape, Wrt};

/// Prices that are much the same for every instruction set, in the unit of [`Prices`]: least squares over the times of
/// n = 1024 … 65536 and d = 2 … 64, whole calls from Python, which they meet within a third (docs/math.md, equation
/// 11.5). A fixed table, so that a decision never depends on a timing.
mod price {
    /// A call of either method: arguments, copies, waking threads.
    pub const CALL: f64 = 1.5e8;
    /// A query with its key in the exact passes: norms, and the order of the kernels.
    pub const EXACT_TOKEN: f64 = 9e4;
    /// The polynomial, the coordinates and three more lists of tasks.
    pub const MOMENTS: f64 = 2.2e8;
    /// The eigenvectors of d × d matrices, over d³.
    pub const BALANCE: f64 = 1.9e4;
    /// A query with its key, and each of their coordinates.
    pub const TOKEN: [f64; 2] = [3e3, 1.05e3];
    /// A chunk of a causal problem starts from moments of its own.
    pub const CAUSAL: f64 = 1.4;
    /// Sampled rows: drawing, and the spread of what they miss.
    pub const SAMPLE: f64 = 1.0e8;
    /// The share in it of each query with its key, and of each of their coordinates: norms, and keys and values in the
    /// order of the kernels.
    pub const SAMPLE_TOKEN: [f64; 2] = [1.6e4, 2.7e3];
    /// An entry of the correction in each sampled row, some ten steps of the power iteration.
    pub const SAMPLE_ENTRY: f64 = 1e3;
    /// A pair of a sampled row with a key in double precision, for outputs by key, and each of its coordinates.
    pub const KEYED: [f64; 2] = [3e2, 12.0];
    /// A glance at logits, and each of their coordinates ...
    pub const GLANCE: [f64; 2] = [1.1e7, 3e5];
    /// ... a look at four times as many, with the polynomials that are held against them ...
    pub const LOOK: [f64; 2] = [2.5e7, 9e5];
    /// ... and one at the size of a gradient.
    pub const PROBE: [f64; 2] = [1e7, 2.5e6];
    /// Lengths of queries, keys and values, of each with its key, and each of their products with a map.
    pub const GUARD: [f64; 3] = [1.2e8, 1.1e4, 5.0];
    /// The pilot, a pair of a row of it, and each of its coordinates.
    pub const PILOT: [f64; 3] = [2.5e7, 100.0, 7.0];
    /// Cost of the bounds of every gradient and of rounding in the passes, for each query with its key, and of one of
    /// every row.
    pub const BOUNDS: f64 = 3.3e5;
    pub const CAPS: f64 = 1.5e5;
}

/// The sizes that costs depend on.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    n: f64,
    m: f64,
    d: usize,
    d3: f64,
    dv: f64,
    pairs: f64,
    /// Pairs that the moment form takes one by one: half of each chunk of a causal problem.
    near: f64,
    outputs: OutputSet,
    passes: ExactPasses,
    /// Whether the output alone is wanted: no slopes.
    is_output: bool,
    prices: Prices,
}

impl Cost {
    /// From shapes, in the precision T; the dimension is that of the logits.
    pub fn of_shape<T: Float>(
        Shape { n, m, d, d3, dv, .. }: Shape,
        wrt: &[Wrt],
        is_causal: bool,
        level: Level,
    ) -> Self {
        let outputs = OutputSet::of(wrt);
        Cost {
            prices: Prices::of::<T>(level),
            n: n as f64,
            m: m as f64,
            d,
            d3: d3 as f64,
            dv: dv as f64,
            near: if is_causal { 0.5 * (n.min(m) as f64 * CHUNK as f64) } else { 0.0 },
            pairs: n as f64 * m as f64 * if is_causal { 0.5 } else { 1.0 },
            outputs,
            passes: outputs.exact_passes((d3, dv)),
            is_output: false,
        }
    }

    /// The same for the output alone.
    pub fn of_output(self) -> Self {
        Cost { is_output: true, ..self }
    }

    /// The exact passes.
    pub fn exact(&self) -> f64 {
        price::CALL + price::EXACT_TOKEN * 0.5 * (self.n + self.m) + self.pairs * self.pair()
    }

    /// A pair in the exact passes.
    fn pair(&self) -> f64 {
        let (products, exponential) = (self.products(self.dv), self.prices.exponential);
        let first = if self.passes.mixed_inputs { self.products(self.d3) } else { products };
        let second = if self.passes.query_side || self.passes.key_side { products + exponential } else { 0.0 };
        first + exponential + second + if self.passes.key_side { products } else { 0.0 }
    }

    /// Logits and their weights times values of some width.
    fn products(&self, width: f64) -> f64 {
        2.0 * (self.d as f64 + width) * self.prices.operation
    }

    /// `count` exact rows, o and w, and what they say of the error of a degree.
    pub fn rows(&self, count: usize, degree: usize) -> f64 {
        let (count, d) = (count as f64, self.d as f64);
        let share = if self.n > 0.0 { count / self.n } else { 0.0 };
        let [token, coordinate] = price::SAMPLE_TOKEN;
        let tokens = (token + coordinate * d) * 0.5 * (self.n + self.m);
        let pair = |width: f64| self.prices.sampled_pair * (self.products(width) + self.prices.exponential);
        let pass = |width: f64| share * self.pairs * pair(width);
        // f A3 of the rows: a forward pass with A3 for the values, and moments of its own for the polynomial.
        let mixed = if self.outputs.Y {
            pass(self.d3) + self.features_of(self.m * features(self.d, degree), self.d3)
        } else {
            0.0
        };
        let [pair, coordinate] = price::KEYED;
        let keyed = if self.outputs.A2 || self.outputs.A3 {
            share * self.pairs * (pair + coordinate * (self.d as f64 + self.d3))
        } else {
            0.0
        };
        let passes = if self.is_output { 1.0 } else { 2.0 };
        price::SAMPLE + tokens + passes * pass(self.dv) + mixed + keyed + price::SAMPLE_ENTRY * count * d * d
    }

    /// So many features with as many columns, and the ones.
    fn features_of(&self, count: f64, columns: f64) -> f64 {
        let [feature, column] = self.prices.feature;
        let masked = if self.near > 0.0 { price::CAUSAL } else { 1.0 };
        masked * (feature + column * (columns + 1.0)) * count
    }

    /// The moment form of a degree; infinite where its features cannot be had.
    pub fn moments(&self, degree: usize) -> f64 {
        let (outer, inner) = (features(self.d, degree + 1), features(self.d, degree));
        let query_side =
            if self.is_output { (self.m + self.n) * inner } else { self.m * outer + self.n * (outer + inner) };
        let key_side = if self.outputs.key_side() { (self.n + self.m) * (outer + inner) } else { 0.0 };
        let d = self.d as f64;
        let [token, coordinate] = price::TOKEN;
        price::CALL
            + price::MOMENTS
            + self.balance()
            + (token + coordinate * d) * 0.5 * (self.n + self.m)
            + self.features_of(query_side + key_side, self.dv)
            + self.near * self.pair()
    }

    /// Cost of the bounds in the passes, with `caps` that of one of every row as well.
    pub fn bounds(&self, caps: bool) -> f64 {
        (price::BOUNDS + if caps { price::CAPS } else { 0.0 }) * 0.5 * (self.n + self.m)
    }

    /// A glance at logits.
    pub fn glance(&self) -> f64 {
        self.look(price::GLANCE)
    }

    /// Looks at logits, the glance among them, and at sizes where a tolerance needs those.
    pub fn looks(&self, sizes: bool) -> f64 {
        self.glance() + self.look(price::LOOK) + if sizes { self.look(price::PROBE) } else { 0.0 }
    }

    fn look(&self, [call, coordinate]: [f64; 2]) -> f64 {
        call + coordinate * self.d as f64
    }

    /// A look at that many rows with all of their keys.
    pub fn pilot(&self, rows: usize) -> f64 {
        let [call, pair, coordinate] = price::PILOT;
        call + rows as f64 * self.m * (pair + coordinate * (self.d as f64 + 2.0 * self.d3))
    }

    /// Cost of a try that leads to nothing: the exact passes after it need their own call anyway.
    pub fn lost(&self, operations: f64) -> f64 {
        operations - price::CALL
    }

    /// The lengths that say which keys and rows stand out, and how far logits reach.
    pub fn guard(&self) -> f64 {
        let [call, token, product] = price::GUARD;
        let products = (self.d as f64).powi(2) + self.d3 * self.dv;
        call + (token + product * products) * 0.5 * (self.n + self.m)
    }

    /// The balance of the coordinates.
    pub fn balance(&self) -> f64 {
        price::BALANCE * (self.d as f64).powi(3)
    }

    /// n.
    pub fn queries(&self) -> f64 {
        self.n
    }

    /// Number of rows of a causal problem that are in effect as large as the largest: means over j keys from the second
    /// chunk on, whose squares go as 1/j. Nothing without a mask, where rows see alike.
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

    /// The same for what a bound adds up: errors of rows of the output add in squares.
    pub fn added_up(&self) -> f64 {
        if self.is_output { self.m.sqrt() } else { self.incoherence() }
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

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [Level; 3] = [Level::Baseline, Level::Avx2, Level::Avx512];

    fn of<T: Float>(n: usize, level: Level) -> Cost {
        let shape = Shape { n, m: n, d: 16, d1: 16, d2: 16, d3: 16, dv: 16, pair: false };
        Cost::of_shape::<T>(shape, &[Wrt::X], false, level)
    }

    #[test]
    fn long_problems_cost_what_the_kernels_of_the_level_and_precision_take() {
        for method in [Cost::exact, |cost: &Cost| cost.moments(2)] {
            let [baseline, avx2, avx512] = LEVELS.map(|level| method(&of::<f32>(1 << 17, level)));
            assert!(baseline > 1.5 * avx2 && avx2 > avx512, "{baseline:e} {avx2:e} {avx512:e}");
            for level in LEVELS {
                let [single, double] = [method(&of::<f32>(1 << 17, level)), method(&of::<f64>(1 << 17, level))];
                assert!(double > 1.2 * single, "{level}: {single:e} {double:e}");
            }
        }
    }

    #[test]
    fn a_pair_costs_its_products_and_an_exponential_in_each_pass() {
        let Prices { operation, exponential, .. } = Prices::of::<f32>(Level::Avx2);
        for (wrt, products, passes) in [
            (&[Wrt::X][..], 8.0, 2.0),
            (&[Wrt::Y], 4.0, 1.0),
            (&[Wrt::A1], 8.0, 2.0),
            (&[Wrt::A2], 12.0, 2.0),
            (&[Wrt::X, Wrt::Y, Wrt::A3], 12.0, 2.0),
        ] {
            let of = |is_causal| {
                let shape = Shape { n: 100, m: 80, d: 8, d1: 8, d2: 8, d3: 8, dv: 8, pair: false };
                Cost::of_shape::<f32>(shape, wrt, is_causal, Level::Avx2).exact()
            };
            let pairs = 100.0 * 80.0 * (8.0 * products * operation + passes * exponential);
            // Half of them if causal; 1e8 operations of the call take nine digits of the difference.
            let found = of(false) - of(true);
            assert!((found / (0.5 * pairs) - 1.0).abs() < 1e-6, "{wrt:?}: {found} {pairs}");
        }
    }

    #[test]
    fn of_short_problems_the_kernels_are_not_the_price() {
        let costs = LEVELS.map(|level| of::<f32>(16, level).exact());
        assert!(costs.iter().all(|cost| (cost / costs[0] - 1.0).abs() < 1e-2), "{costs:?}");
    }
}
