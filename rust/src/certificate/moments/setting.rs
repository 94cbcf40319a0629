//! Shared quantities of the bounds of all rows: sizes, spreads, norms of maps, and the rounding errors of the products
//! before them (docs/math.md, equations 9.34 to 9.36).

use ndarray::{Array2, ArrayView2};

use super::{Ball, Counted, Fitted};
use crate::certificate::rounding::{Arithmetic, blocked_sum};
use crate::constants::{MOMENT_ROWS as C, PRODUCT_ROWS};
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::norms::norm;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward};
use crate::linalg::spectral::{frobenius, largest_eigenvalue, product_error, spectral};
use crate::problem::Problem;

/// Room for products of the errors of integers with the other errors, which are thousandths.
const SECOND_ORDER: f64 = 1.0 + 1.0 / 64.0;

/// How far vectors are from their mean.
#[derive(Debug, Clone, Copy)]
pub struct Spread {
    /// The largest standard deviation over the directions, all keys alike.
    pub deviation: f64,
    /// The radius of a ball that holds them: no weights give more.
    pub radius: f64,
}

/// Norms of a small matrix.
#[derive(Debug, Clone, Copy)]
pub struct Norms {
    /// The spectral one.
    pub spectral: f64,
    /// That of Frobenius, which also holds for the absolute values.
    pub frobenius: f64,
}

/// The numbers of one problem, h in the unit of the values, c in its own and w in that of both.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Unit roundoff; 0 for exact arithmetic.
    pub unit: f64,
    /// Whether c moves with o.
    pub is_target: bool,
    /// n and m.
    pub counts: [f64; 2],
    /// How often sums over queries were added to those over others.
    pub merges: f64,
    /// |P_a|.
    pub powers: Vec<f64>,
    /// Sums over the keys for a query, and over the queries for a key.
    pub sums: [Arithmetic; 2],
    /// Rounding errors of sums of outer products over the queries, and over the keys.
    pub outer: [f64; 2],
    /// max ‖k‖ in the coordinates.
    pub key: f64,
    /// max ‖h‖.
    pub value: f64,
    /// max ‖a2‖ and max ‖a3‖ of the inputs themselves.
    pub inputs: [f64; 2],
    /// max ‖x‖ of the queries in the coordinates.
    pub query: f64,
    /// Of the values h.
    pub values: Spread,
    /// Of the keys in the coordinates, in their own, and mapped to rows of dL/dA1.
    pub keys: [Spread; 3],
    /// Of the rows of A2 and of A3.
    pub rows: [Spread; 2],
    /// max ‖δh‖ and max ‖δk‖.
    pub lost: [f64; 2],
    /// A logit is wrong by at most this times ‖a‖, and this times ‖x‖.
    pub logits: [f64; 2],
    /// ‖x‖ is wrong by at most this times ‖a‖.
    pub query_lost: f64,
    /// ‖Σ k / m‖ in the coordinates.
    pub mean_key: f64,
    /// ‖key map · inverse − W_K‖: what w misses of the keys' own coordinates, in units of the inputs.
    pub key_error: f64,
    /// The same of a query, s q = x · transposed, in units of ‖a‖.
    pub query_error: f64,
    /// Rows of A1 as they are recovered from their coordinates, in units of ‖a‖ (9.40): bounds of their norm and of
    /// their error. Zeros where dL/dX is no contraction of moments.
    pub row: [f64; 2],
    /// Errors of sums of integers over the keys, and over the queries, in units of |P_g| and of powers of a length of
    /// the other side (equations 8.13 and 9.41).
    pub integers: [f64; 2],
    /// ‖Q̂⁻¹‖₂ of the same way back.
    pub back: f64,
    /// From w in the coordinates to its own, then to dL/dA1; from pᵀ Q to its own, then to dL/dA2; and Y in its unit.
    pub maps: [Norms; 5],
    /// d, dv.
    pub widths: [f64; 2],
    /// d1.
    pub input_width: f64,
    /// ‖x‖ and ‖c‖ as computed are below the truth by this factor and this number.
    pub measured: [(f64, f64); 2],
    /// max ‖k‖ as computed, which buckets are made with.
    pub bucket_key: f64,
}

impl Setting {
    /// For so many `queries` of a problem with the widths and weights of `problem`, of which none is longer than
    /// `widest`² in the coordinates, and whose sums of integers have the error `lost`. Time O(d³).
    pub fn new<T: Float>(
        fitted: &Fitted<'_>,
        problem: &Problem<'_, T>,
        queries: Counted,
        widest: f64,
        lost: f64,
    ) -> Self {
        let unit = T::UNIT_ROUNDOFF;
        let coordinates = fitted.coordinates;
        let (d1, d2) = (problem.A1.ncols(), problem.A2.ncols());
        let (keys, [m, n]) = (fitted.counted, [fitted.counted, queries].map(|counted| counted.summed()));
        let (d, d3, dv) = (coordinates.dimension(), problem.A3.ncols(), problem.Y.ncols());
        let [query_weights, key_weights] = problem.weights.wide();
        let scaled = problem.scale * &query_weights;
        let Y = wide(problem.Y) * (-coordinates.value_exponent).exp2();
        let degree = fitted.coefficients.len() - 1;
        // As many monomials end in one coordinate as there are below the highest grade, at most; and on its way up the
        // tree a term passes through one sum over children a grade.
        let features = fitted.features + (degree + 1) * (d + 1);
        let sums = [m, n].map(|keys| Arithmetic {
            unit,
            degree,
            keys,
            key_block: C,
            features,
            feature_block: features,
            width: dv,
        });
        let single = Measure { unit, tiny: T::MIN_EXP.exp2() };
        let double = Measure { unit: FOLD_UNIT, tiny: f64::MIN_POSITIVE };
        let [key_rows, value_rows, values] = &fitted.balls;
        let ball = |ball: &Ball, width: usize| double.spread(ball, keys, width);
        let mut values = ball(values, dv);
        let mut rows = [ball(key_rows, d2), ball(value_rows, d3)];
        // Rows of A2 are measured as they were once the mean had been subtracted in working precision.
        rows[0] =
            Spread { deviation: rows[0].deviation * (1.0 + 2.0 * unit), radius: rows[0].radius * (1.0 + 2.0 * unit) };
        let key = single.norm(fitted.largest_key.powi(2), d);
        let Y_norms = Norms::of(&Y, 0.0);
        if let Some(deviation) = value_deviation(fitted, &Y, Y_norms, unit) {
            values.deviation = values.deviation.min(deviation);
        }
        let centre = frobenius(coordinates.input_centre.view().insert_axis(ndarray::Axis(0)));
        let mean = frobenius(coordinates.mean.view().insert_axis(ndarray::Axis(0)));
        let inputs = [outward(rows[0].radius + mean), outward(rows[1].radius + centre)];
        let query_map = coordinates.query.mapv(|x| T::narrow(x).widen());
        let key_map = coordinates.key.mapv(|x| T::narrow(x).widen());
        let map_of = |a: &Array2<f64>, b: ArrayView2<'_, f64>| {
            let lost = gamma(a.ncols() as f64 + 2.0, FOLD_UNIT) * frobenius(a.view()) * frobenius(b);
            Norms { frobenius: outward(frobenius(a.view()) * frobenius(b)), ..Norms::of(&a.dot(&b), lost) }
        };
        let to_own = Norms::of(&coordinates.inverse, 0.0);
        let to_rows = map_of(&coordinates.inverse, query_weights.t());
        let back_own = Norms::of(&coordinates.transposed, 0.0);
        let back_rows = map_of(&coordinates.transposed, key_weights.t());
        let per_a = gamma(d1 as f64 + 2.0, unit) * frobenius(query_map.view());
        let back = coordinates.row.as_ref().map_or(Norms { spectral: 0.0, frobenius: 0.0 }, |row| Norms::of(row, 0.0));
        let row = coordinates.row.as_ref().map_or([0.0; 2], |row| {
            let there = outward(spectral(query_map.view()));
            let missed = product_error(query_map.view(), row.view(), Array2::eye(d1).view());
            let small = gamma(d as f64 + 4.0, FOLD_UNIT) * (there + per_a) * back.frobenius;
            [outward((there + per_a) * back.spectral + small), outward(per_a * back.spectral + missed + small)]
        });
        let lost_key = outward(gamma(d2 as f64 + 2.0, unit) * rows[0].radius * frobenius(key_map.view()));
        let lost_value = outward(gamma(d3 as f64 + 2.0, unit) * inputs[1] * Y_norms.frobenius);
        let logit_error = product_error(query_map.view(), key_map.t(), scaled.dot(&key_weights.t()).view())
            + gamma(d as f64 + 4.0, FOLD_UNIT) * frobenius(scaled.view()) * frobenius(key_weights.view());
        let covariance = Covariance::new(fitted, unit);
        let key_maps = [Array2::eye(d), coordinates.inverse.clone(), coordinates.inverse.dot(&query_weights.t())];
        let key_spreads = [(0, Norms { spectral: 1.0, frobenius: (d as f64).sqrt() }), (1, to_own), (2, to_rows)].map(
            |(i, norms)| {
                covariance.as_ref().map_or_else(|| ball_of(key, norms), |c| c.mapped(&key_maps[i], norms, key))
            },
        );
        let outer = |rows: usize| outward(blocked_sum(rows, C, unit) + 2.0 * unit);
        Setting {
            unit,
            is_target: problem.is_target,
            counts: [queries.rows as f64, keys.rows as f64],
            merges: queries.merges as f64,
            powers: fitted.coefficients.iter().map(|p| p.abs()).collect(),
            sums,
            outer: [outer(n), outer(m)],
            key,
            value: outward(
                values.radius + frobenius(coordinates.input_centre.dot(&Y).insert_axis(ndarray::Axis(0)).view()),
            ),
            inputs,
            query: single.norm(widest, d),
            values,
            keys: key_spreads,
            rows,
            lost: [lost_value, lost_key],
            logits: [outward(per_a * (key + lost_key) + logit_error * rows[0].radius), lost_key],
            query_lost: per_a,
            mean_key: mean_key(fitted, unit, key),
            key_error: product_error(key_map.view(), coordinates.inverse.view(), key_weights.view()),
            query_error: outward(
                product_error(query_map.view(), coordinates.transposed.view(), scaled.view())
                    + per_a * back_own.spectral,
            ),
            row,
            integers: [(fitted.lost, m), (lost * coordinates.residual_exponent.exp2(), n)]
                .map(|(lost, count)| outward(lost * (1.0 + gamma(count as f64 + 64.0, FOLD_UNIT)))),
            back: back.spectral,
            maps: [to_own, to_rows, back_own, back_rows, Y_norms],
            widths: [d as f64, dv as f64],
            input_width: d1 as f64,
            measured: [single.factor(d), single.factor(dv)],
            bucket_key: fitted.largest_key,
        }
    }

    /// g.
    pub fn degree(&self) -> i32 {
        self.powers.len() as i32 - 1
    }

    /// The root mean square of the logits of a row is at most this part of what Cauchy and Schwarz allow one of them.
    pub fn direction(&self) -> f64 {
        outward(self.keys[0].deviation / self.key)
    }

    /// |P_g|.
    pub fn last_power(&self) -> f64 {
        self.powers.last().copied().unwrap_or(0.0)
    }

    /// Error of pᵀ Q at each key from sums of integers over the queries (equation 9.41).
    pub fn key_integers(&self) -> f64 {
        let h = (self.value + self.lost[0]).hypot(1.0);
        outward(self.last_power() * self.integers[1] * self.key.powi(self.degree()) * h * SECOND_ORDER)
    }

    /// Error of Σ w ⊗ a from them, where it is a contraction of moments (equation 9.42).
    pub fn contracted_integers(&self) -> f64 {
        let [keys, queries] = self.integers;
        let sums = self.counts[1] * self.key * self.key_integers() + self.last_power() * queries * keys;
        outward(self.back * self.maps[0].spectral * sums * SECOND_ORDER)
    }

    /// The same problem in exact arithmetic: only the error of P is left.
    pub fn without_rounding(&self) -> Self {
        Setting {
            unit: 0.0,
            sums: self.sums.map(|sums| Arithmetic { unit: 0.0, ..sums }),
            outer: [0.0; 2],
            lost: [0.0; 2],
            logits: [0.0; 2],
            key_error: 0.0,
            query_error: 0.0,
            row: [0.0; 2],
            integers: [0.0; 2],
            ..self.clone()
        }
    }
}

impl Norms {
    fn of(matrix: &Array2<f64>, lost: f64) -> Self {
        let frobenius = frobenius(matrix.view());
        Norms { spectral: outward(spectral(matrix.view()) + lost), frobenius: outward(frobenius + lost) }
    }
}

/// ‖Σ k / m‖ from the moments of grade 1.
fn mean_key(fitted: &Fitted<'_>, unit: f64, key: f64) -> f64 {
    let lost = blocked_sum(fitted.counted.summed(), C, unit) + 4.0 * unit;
    fitted.keys.as_ref().map_or(key, |sum| outward(norm(sum) / fitted.counted.rows as f64 + lost * key).min(key))
}

/// The largest standard deviation of the values over the directions, from A3ᵀ A3 and from Σ h, the moments of grade 0.
fn value_deviation(fitted: &Fitted<'_>, Y: &Array2<f64>, norms: Norms, unit: f64) -> Option<f64> {
    let count = fitted.counted;
    let gram = fitted.gram?;
    let mean = ArrayView2::from_shape((1, Y.ncols()), fitted.values.as_ref()?).ok()?.mapv(|x| x / count.rows as f64);
    let matrix = Y.t().dot(gram).dot(Y) - mean.t().dot(&mean);
    // A sum of outer products of rows of A3, with their mean square taken from its own trace, and the sums of h.
    let lost = blocked_sum(count.summed(), PRODUCT_ROWS.max(C), unit) + 4.0 * unit;
    let trace = gram.diag().sum() / (1.0 - lost);
    let small = gamma(4.0 * (gram.nrows() + Y.ncols()) as f64 + 16.0, FOLD_UNIT);
    let product = gamma(gram.nrows() as f64 + 4.0, unit);
    let error =
        trace * norms.frobenius.powi(2) * (lost + small) + 4.0 * trace * norms.frobenius.powi(2) * (lost + product);
    (error >= 0.0).then(|| outward(largest_eigenvalue(&matrix, outward(error)).sqrt()))
}

/// Keys of which only the largest is known, mapped.
fn ball_of(key: f64, norms: Norms) -> Spread {
    let radius = outward(key * norms.spectral);
    Spread { deviation: radius, radius }
}

/// How squares were summed.
struct Measure {
    unit: f64,
    /// Largest loss of a square by underflow.
    tiny: f64,
}

impl Measure {
    /// (factor, summand) from a computed norm of `width` numbers to one that is not below the true one.
    fn factor(&self, width: usize) -> (f64, f64) {
        (outward(1.0 + gamma(width as f64 + 4.0, self.unit)), outward((width as f64 * self.tiny).sqrt()))
    }

    /// The norm from its computed square.
    fn norm(&self, square: f64, width: usize) -> f64 {
        let (factor, summand) = self.factor(width);
        outward(square.sqrt() * factor + summand)
    }

    /// Of `count` vectors around the centre of the ball.
    fn spread(&self, ball: &Ball, count: Counted, width: usize) -> Spread {
        let radius = self.norm(ball.widest, width);
        let mean = ball.squares / count.rows.max(1) as f64 * (1.0 + gamma(count.summed() as f64 + 2.0, FOLD_UNIT));
        Spread { deviation: self.norm(mean, width).min(radius), radius }
    }
}

/// Σ k kᵀ / m from the moments of grade 2, and the Frobenius norm of its error.
struct Covariance {
    matrix: Array2<f64>,
    error: f64,
}

impl Covariance {
    /// Nothing where the moments do not reach that grade.
    fn new(fitted: &Fitted<'_>, unit: f64) -> Option<Self> {
        let matrix = fitted.squares.as_ref()?.mapv(|sum| sum / fitted.counted.rows as f64);
        let lost = blocked_sum(fitted.counted.summed(), C, unit) + 4.0 * unit;
        let error = outward(matrix.diag().sum() * lost / (1.0 - lost));
        (error >= 0.0).then_some(Covariance { matrix, error })
    }

    /// The spread of k · `map`.
    fn mapped(&self, map: &Array2<f64>, norms: Norms, key: f64) -> Spread {
        let mapped = map.t().dot(&self.matrix).dot(map);
        let rounding = gamma(4.0 * self.matrix.nrows() as f64 + 8.0, FOLD_UNIT) * frobenius(self.matrix.view());
        let error = outward(rounding * norms.frobenius.powi(2) + self.error * norms.spectral.powi(2));
        let radius = ball_of(key, norms).radius;
        Spread { deviation: outward(largest_eigenvalue(&mapped, error).sqrt()).min(radius), radius }
    }
}
