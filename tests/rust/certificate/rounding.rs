//! The a-priori rounding bounds against a plain f32 moment form on two-dimensional keys, degree 2.

use attngrad::certificate::gamma;
use attngrad::certificate::rigorous::Incoming;
use attngrad::certificate::rounding::{Arithmetic, RowSizes, blocked_sum};

use super::{median, norm, normal};
use crate::data::Rng;

const UNIT: f64 = 0.5 * f32::EPSILON as f64;
const DEGREE: usize = 2;
/// P(t) = 1 + t + t²/2, positive everywhere.
const COEFFICIENTS: [f64; DEGREE + 1] = [1.0, 1.0, 0.5];
const KEYS: usize = 500;
const BLOCK: usize = 32;
/// Worst cases do not happen: roundings cancel, here about √k of k, and no vector is parallel to all others.
const USEFUL: f64 = 10_000.0;

/// Exponents (a, b) of the monomials x^a y^b of degree at most `degree`, and their binomials.
fn monomials(degree: usize) -> Vec<(usize, usize, f64)> {
    let pascal = [[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 2.0, 1.0, 0.0], [1.0, 3.0, 3.0, 1.0]];
    (0..=degree).flat_map(|total| (0..=total).map(move |a| (a, total - a, pascal[total][a]))).collect()
}

fn power(x: [f32; 2], (a, b): (usize, usize)) -> f32 {
    let factor = |x: f32, times| (0..times).fold(1.0, |product, _| product * x);
    factor(x[0], a) * factor(x[1], b)
}

struct Problem {
    keys: Vec<[f32; 2]>,
    values: Vec<[f32; 2]>,
    query: [f32; 2],
    target: [f32; 2],
}

impl Problem {
    fn random(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let size = [0.2, 1.0, 2.0][seed as usize % 3];
        let offset = [0.0, 5.0][seed as usize % 2];
        let mut vectors = |size: f64, offset: f64| {
            (0..KEYS).map(|_| [0, 1].map(|_| (offset + size * normal(&mut rng)) as f32)).collect::<Vec<_>>()
        };
        let (keys, values) = (vectors(1.0, 0.0), vectors(1.0, offset));
        let [query, target] = [vectors(size, 0.0)[0], vectors(1.0, offset)[0]];
        Problem { keys, values, query, target }
    }

    /// Σ_i k^β x_i for x = (h, 1): blocks in f32, folded in f64.
    fn moment(&self, exponents: (usize, usize)) -> [f32; 3] {
        let mut sums = [0.0f64; 3];
        for (keys, values) in self.keys.chunks(BLOCK).zip(self.values.chunks(BLOCK)) {
            let mut block = [0.0f32; 3];
            for (key, value) in keys.iter().zip(values) {
                for (sum, x) in block.iter_mut().zip([value[0], value[1], 1.0]) {
                    *sum += power(*key, exponents) * x;
                }
            }
            sums.iter_mut().zip(block).for_each(|(sum, block)| *sum += f64::from(block));
        }
        sums.map(|sum| sum as f32)
    }

    /// z, o, c, w as the moment form gives them in f32.
    fn computed(&self) -> (f32, [f32; 2], [f32; 2], [f32; 2]) {
        let mut sums = [0.0f32; 3];
        let features = monomials(DEGREE)
            .into_iter()
            .map(|(a, b, binomial)| ((a, b), (COEFFICIENTS[a + b] * binomial) as f32 * power(self.query, (a, b))));
        let features: Vec<_> = features.collect();
        for (exponents, feature) in &features {
            sums.iter_mut().zip(self.moment(*exponents)).for_each(|(sum, moment)| *sum += feature * moment);
        }
        let z = sums[2];
        let o = [sums[0] / z, sums[1] / z];
        let c = [o[0] - self.target[0], o[1] - self.target[1]];
        let r = c[0] * o[0] + c[1] * o[1];
        let w = [(1, 0), (0, 1)].map(|(x, y)| {
            let terms = features.iter().map(|((a, b), feature)| {
                let moment = self.moment((a + x, b + y));
                feature * (moment[0] * c[0] + moment[1] * c[1] - moment[2] * r)
            });
            terms.sum::<f32>() / z
        });
        (z, o, c, w)
    }

    /// o, c, w in f64, key by key.
    fn exact(&self) -> ([f64; 2], [f64; 2], [f64; 2]) {
        let wide = |x: [f32; 2]| x.map(f64::from);
        let inner = |a: [f64; 2], b: [f64; 2]| a[0] * b[0] + a[1] * b[1];
        let polynomial = |t: f64| COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
        let weights: Vec<f64> = self.keys.iter().map(|&key| polynomial(inner(wide(self.query), wide(key)))).collect();
        let z: f64 = weights.iter().sum();
        let mean = |x: &dyn Fn(usize) -> [f64; 2]| {
            [0, 1].map(|l| weights.iter().enumerate().map(|(i, weight)| weight * x(i)[l]).sum::<f64>() / z)
        };
        let o = mean(&|i| wide(self.values[i]));
        let target = wide(self.target);
        let c = [o[0] - target[0], o[1] - target[1]];
        let w = mean(&|i| {
            let p = inner(c, wide(self.values[i])) - inner(c, o);
            wide(self.keys[i]).map(|key| p * key)
        });
        (o, c, w)
    }
}

#[test]
fn rounding_is_bounded() {
    let arithmetic = Arithmetic {
        unit: UNIT,
        degree: DEGREE,
        keys: KEYS,
        key_block: BLOCK,
        features: monomials(DEGREE).len(),
        feature_block: monomials(DEGREE).len(),
        width: 2,
    };
    let mut slack = vec![];
    for seed in 0..600 {
        let problem = Problem::random(seed);
        let (z, o, c, w) = problem.computed();
        let largest = |rows: &[[f32; 2]]| rows.iter().map(|row| norm(&row.map(f64::from))).fold(0.0, f64::max);
        let keys = largest(&problem.keys);
        let logit = norm(&problem.query.map(f64::from)) * keys;
        let sum = COEFFICIENTS.iter().rev().fold(0.0, |sum, coefficient| sum * logit + coefficient);
        let sizes = RowSizes {
            amplification: KEYS as f64 * sum / f64::from(z),
            mass: 1.0,
            values: largest(&problem.values),
            keys,
            output: norm(&o.map(f64::from)),
            incoming: Incoming::Residual(norm(&c.map(f64::from))),
            inherited_values: 0.0,
            inherited_keys: 0.0,
        };
        let bound = arithmetic.row(&sizes);
        let truth = problem.exact();
        let pairs = [(o, truth.0, bound.output), (c, truth.1, bound.residual), (w, truth.2, bound.w)];
        for (kind, (got, want, bound)) in pairs.into_iter().enumerate() {
            let error = norm(&[0, 1].map(|l| f64::from(got[l]) - want[l]));
            assert!(error <= bound, "seed {seed}, quantity {kind}: error {error:e}, bound {bound:e}");
            slack.push(bound / error.max(f64::MIN_POSITIVE));
        }
    }
    let middle = median(slack);
    assert!(middle <= USEFUL, "median bound / error {middle}");
}

#[test]
fn what_operands_lost_is_added() {
    let arithmetic =
        Arithmetic { unit: 0.0, degree: 2, keys: 8, key_block: 4, features: 6, feature_block: 6, width: 2 };
    let sizes = RowSizes {
        amplification: 1.0,
        mass: 1.0,
        values: 2.0,
        keys: 3.0,
        output: 1.0,
        incoming: Incoming::Given(1.0),
        inherited_values: 1e-3,
        inherited_keys: 0.0,
    };
    let row = arithmetic.row(&sizes);
    assert!((row.output - 1e-3).abs() < 1e-9 && row.residual < 1e-300 && row.w >= 3e-3 && row.w < 7e-3, "{row:?}");
    let row = arithmetic.row(&RowSizes { inherited_values: 0.0, inherited_keys: 1e-3, ..sizes });
    assert!(row.w >= 1e-3 && row.w < 4e-3, "{row:?}");
    let amplified = RowSizes { amplification: 100.0, inherited_values: 0.0, ..sizes };
    let rounded = Arithmetic { unit: UNIT, ..arithmetic };
    let (row, relative) = (rounded.row(&amplified), 100.0 * rounded.loss());
    // (9.22) and (9.23): ρ (H + ‖o‖) / (1 − ρ) + u ‖o‖.
    assert!((row.output / (3.0 * relative / (1.0 - relative) + UNIT) - 1.0).abs() < 1e-9, "{row:?}");
    // (9.24) without what c lost: at least 2 ρ K ‖c‖ (H + ‖o‖), and ‖c‖ δo comes on top.
    let least = 18.0 * relative + 3.0 * row.output;
    assert!(row.w >= least && row.w <= 1.1 * least, "{row:?}");
    let hopeless = arithmetic.row(&RowSizes { amplification: f64::NAN, ..sizes });
    assert_eq!([hopeless.output, hopeless.w], [f64::INFINITY; 2]);
}

#[test]
fn blocks_keep_gamma_small() {
    let (whole, blocks) = (gamma(131_072.0, UNIT), blocked_sum(131_072, 256, UNIT));
    assert!((7e-3..9e-3).contains(&whole) && (1.4e-5..1.7e-5).contains(&blocks), "{whole:e}, {blocks:e}");
    assert_eq!([gamma(1e8, UNIT), gamma(f64::NAN, UNIT)], [f64::INFINITY; 2]);
    // A plain sum of equal terms in f32 is within its bound, and not far from it.
    let sum = (0..100_000).fold(0.0f32, |sum, _| sum + 0.1);
    let error = (f64::from(sum) - 1e5 * f64::from(0.1f32)).abs() / 1e4;
    assert!((gamma(1e5, UNIT) / 100.0..=gamma(1e5, UNIT)).contains(&error), "{error:e}");
}
