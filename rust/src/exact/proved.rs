//! A proved bound of the rounding error of the exact gradients, from norms of the inputs alone (docs/math.md, Theorem
//! 9.14, equations 9.25 to 9.31). The estimate of `exact/rounding.rs` is far nearer to the error, and proves nothing.

use std::f64::consts::LN_2;

use ndarray::{ArrayView1, ArrayView2, Axis};

use super::kernels::Kernels;
use super::operands::{block_steps, key_block, most_rescalings};
use crate::certificate::rigorous::Incoming;
use crate::certificate::rounding::{ExactArithmetic, ExactRounding, ExactSizes, blocked_sum};
use crate::constants::{LAZY_SHIFT, PRODUCT_ROWS, WAVE_CHUNKS, WAVE_QUERIES};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::{largest, length, norm};
use crate::linalg::outward::{FOLD_UNIT, gamma, outward, root_total, total};
use crate::linalg::spectral::{frobenius, spectral};
use crate::options::Options;
use crate::problem::{Problem, Weights, Wrt};
use crate::runtime::buffer;

/// Spectral and Frobenius norm of a small matrix.
#[derive(Debug, Clone, Copy)]
struct Norms {
    spectral: f64,
    frobenius: f64,
}

impl Norms {
    fn of<T: Float>(matrix: ArrayView2<'_, T>) -> Self {
        let wide = matrix.mapv(T::widen);
        Norms { spectral: spectral(wide.view()), frobenius: frobenius(wide.view()) }
    }
}

/// One query row.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// ‖a_j‖, and s ‖q_j‖.
    input: f64,
    query: f64,
    incoming: Incoming,
    rounding: ExactRounding,
}

/// Bounds of the rounding of all that the exact method makes of a problem: never below the error, and some hundreds of
/// times above it, because roundings cancel and nothing here counts on that.
#[derive(Debug, Clone)]
pub struct ProvedRounding {
    unit: f64,
    scale: f64,
    rows: Vec<Row>,
    /// Of the weights of the queries, of those of the keys if there are any, and of Y.
    weights: [Option<Norms>; 3],
    /// Widths of A1, of A3, of the keys and of the values, and how many keys there are.
    widths: [f64; 4],
    keys: usize,
    /// max ‖a2‖ and max ‖a3‖, and max ‖k‖ as computed.
    inputs: [f64; 2],
    key: f64,
    /// The smallest normal number, and √ of the entries of each of [`Wrt::ALL`], for the final underflow.
    least: f64,
    entries: [f64; 8],
}

impl ProvedRounding {
    /// Of the rows of `problem`. Time O(n d (d1 + dv) + m (d2 + d3)).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn new<T: Float>(problem: &Problem<'_, T>, options: &Options) -> Result<Self, Error> {
        let unit = T::UNIT_ROUNDOFF;
        // A product of this many terms, a factor that is itself rounded, and the last rounding.
        let single = |roundings: usize| gamma(roundings as f64 + 6.0, unit);
        let ((n, d1), (m, d2), (d3, dv)) = (problem.A1.dim(), problem.A2.dim(), problem.Y.dim());
        let (query_weights, key_weights) = match problem.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let d = query_weights.ncols();
        let norms = [Some(Norms::of(query_weights)), key_weights.map(Norms::of), Some(Norms::of(problem.Y))];
        let [Some(of_queries), of_keys, Some(of_values)] = norms else { return Err(missing()) };
        let (longest_key, longest_value) = (longest(problem.A2), longest(problem.A3));
        let (key, lost_key) = match of_keys {
            None => (longest_key, 0.0),
            Some(of) => (outward(longest_key * of.spectral), outward(single(d2) * longest_key * of.frobenius)),
        };
        let value = outward(longest_value * of_values.spectral);
        let lost_value = outward(single(d3) * longest_value * of_values.frobenius);
        let scale = problem.scale.abs();
        let wide = query_weights.mapv(T::widen);
        let query = |a: &[f64]| -> f64 {
            let product = wide.t().dot(&ArrayView1::from(a));
            let lost = gamma(d1 as f64 + 4.0, FOLD_UNIT) * norm(a) * of_queries.frobenius;
            outward(scale * (norm(product.as_slice().unwrap_or_default()) + lost))
        };
        let mut rows = buffer::with_capacity(n)?;
        let mut longest_query: f64 = 0.0;
        for (a, e) in problem.A1.axis_iter(Axis(0)).zip(problem.E.axis_iter(Axis(0))) {
            let a: Vec<f64> = a.iter().map(|x| x.widen()).collect();
            let input = above(norm(&a), d1);
            let e = above(norm(&e.iter().map(|x| x.widen()).collect::<Vec<_>>()), dv);
            let incoming = if problem.is_target { Incoming::Residual(outward(e + value)) } else { Incoming::Given(e) };
            let query = query(&a);
            longest_query = longest_query.max(query);
            rows.push((input, query, incoming));
        }
        // Logits as computed, in base 2, with room for their rounding.
        let largest = outward(1.01 * longest_query * (key + lost_key) / LN_2);
        let strip = Kernels::<T>::of(options.isa()?).keys;
        // dL/dY alone has A3 in the place of the values.
        let blocks = [dv, d3].map(|width| key_block::<T>(options.key_block, d + width, strip));
        let [longest, shortest] = [blocks[0].max(blocks[1]), blocks[0].min(blocks[1])];
        let arithmetic = ExactArithmetic {
            unit,
            keys: m,
            steps: block_steps(longest, strip),
            // The key side cuts the keys in chunks first, and adds their sums.
            folds: m.div_ceil(shortest) + 2 * WAVE_CHUNKS,
            dimension: d,
            width: dv,
            rescalings: most_rescalings::<T>(largest, largest_values(problem, [value + lost_value, longest_value]), m),
            lag: LAZY_SHIFT * LN_2,
        };
        let rows = rows.into_iter().map(|(input, query, incoming)| {
            // Of the query, of its product with a key, and of the key.
            let query_lost = single(d1) * scale * input * of_queries.frobenius;
            let inherited_logit = outward(query_lost * (key + lost_key) + query * lost_key);
            let sizes = ExactSizes {
                logit: outward(query * key),
                inherited_logit,
                values: value,
                inherited_values: lost_value,
                keys: key,
                inherited_keys: lost_key,
                incoming,
            };
            Row { input, query: outward(query + query_lost), incoming, rounding: arithmetic.row(&sizes) }
        });
        let mut all = buffer::with_capacity(n)?;
        all.extend(rows);
        let counts = [d1 * d2, d1 * d, d2 * d, d3 * dv, n * d1, m * d2, m * d3, m * d3];
        Ok(ProvedRounding {
            unit,
            scale,
            rows: all,
            weights: norms,
            widths: [d1, d3, d, dv].map(|width| width as f64),
            keys: m,
            inputs: [longest_key, longest_value],
            key: outward(key + lost_key),
            least: T::MIN_EXP.exp2(),
            entries: counts.map(|count| (count as f64).sqrt()),
        })
    }

    /// ‖δw_j‖ of the row in this place (equation 9.28).
    pub fn w(&self, row: usize) -> f64 {
        self.rows.get(row).map_or(f64::INFINITY, |row| row.rounding.w)
    }

    /// ‖δo_j‖ of the row in this place, and ‖δc_j‖.
    pub fn output(&self, row: usize) -> [f64; 2] {
        self.rows.get(row).map_or([f64::INFINITY; 2], |row| [row.rounding.output, row.rounding.residual])
    }

    /// Of the loss (equation 9.31).
    pub fn loss(&self) -> f64 {
        let sums = gamma(self.rows.len() as f64 + self.widths[3] + 12.0, FOLD_UNIT);
        total(self.rows.iter().map(|row| {
            let (c, moved) = (row.incoming.norm(), row.rounding.residual);
            moved * (c + 0.5 * moved) + sums * (c + moved).powi(2)
        }))
    }

    /// Of dL/d`wrt`, in the Frobenius norm (equations 9.29 to 9.31).
    pub fn gradient(&self, wrt: Wrt) -> f64 {
        let single = |roundings: f64| gamma(roundings + 6.0, self.unit);
        let [d1, d3, d, dv] = self.widths;
        let [of_queries, of_keys, of_values] = self.weights;
        let rows = |block: usize, count: usize| outward(blocked_sum(count, block, self.unit) + single(0.0));
        let (n, m) = (self.rows.len(), self.keys);
        let sum = |of: &dyn Fn(&Row) -> f64| total(self.rows.iter().map(of));
        // w as computed is at most K ξ.
        let w = |row: &Row, lost: f64| outward(row.rounding.w + lost * self.key * row.rounding.difference);
        // pᵀ Q: δp, δq, and the rounding error of sums over the queries; and its norm.
        let query_lost = outward(single(d1) * self.scale * of_queries.map_or(0.0, |of| of.frobenius));
        let waves = rows(WAVE_QUERIES, n);
        let keys = |row: &Row| {
            let Row { input, query, rounding, .. } = row;
            outward(query * (rounding.p + waves * rounding.difference) + query_lost * input * rounding.difference)
        };
        let key_size = sum(&|row| outward(row.query * row.rounding.difference));
        // fᵀ c likewise.
        let values = |row: &Row, lost: f64| {
            let (c, rounding) = (row.incoming.norm(), &row.rounding);
            let weights = outward(rounding.weights + lost * (1.0 + rounding.weights));
            outward(weights * (c + rounding.residual) + rounding.residual)
        };
        let value_size =
            sum(&|row| outward((row.incoming.norm() + row.rounding.residual) * (1.0 + row.rounding.weights)));
        let product = |change: f64, size: f64, by: Option<Norms>, width: f64| match by {
            None => change + single(0.0) * size,
            Some(by) => by.spectral * change + single(width) * by.frobenius * (size + change),
        };
        let entries = Wrt::ALL.iter().zip(self.entries).find(|(of, _)| **of == wrt).map_or(0.0, |(_, entries)| entries);
        outward(
            self.least * entries
                + match wrt {
                    Wrt::X | Wrt::WQ => self.scale * sum(&|row| outward(row.input * w(row, rows(PRODUCT_ROWS, n)))),
                    Wrt::A1 => {
                        let row = |row: &Row| product(w(row, 0.0), self.key * row.rounding.difference, of_queries, d);
                        self.scale * root_total(self.rows.iter().map(row))
                    }
                    Wrt::WK => self.inputs[0] * (sum(&keys) + rows(PRODUCT_ROWS, m) * (key_size + sum(&keys))),
                    Wrt::A2 => product(sum(&keys), key_size, of_keys, d),
                    Wrt::A3 => product(sum(&|row| values(row, waves)), value_size, of_values, dv),
                    Wrt::Y => {
                        // By f A3 or by fᵀ c.
                        let lost = outward(rows(PRODUCT_ROWS, m) + rows(PRODUCT_ROWS, n) + single(d3));
                        self.inputs[1] * (sum(&|row| values(row, lost)) + lost * value_size)
                    }
                    Wrt::A => {
                        let parts = [Wrt::A1, Wrt::A2, Wrt::A3].map(|part| self.gradient(part));
                        let sizes = [
                            product(0.0, self.scale * self.key * self.root_size(), of_queries, d),
                            product(0.0, key_size, of_keys, d),
                            product(0.0, value_size, of_values, dv),
                        ];
                        total(parts) + 2.0 * total(sizes)
                    }
                },
        )
    }

    /// √Σ ξ².
    fn root_size(&self) -> f64 {
        root_total(self.rows.iter().map(|row| row.rounding.difference))
    }
}

fn missing() -> Error {
    Error::Internal("weights without norms".into())
}

/// A norm of `width` numbers as computed, made an upper bound.
fn above(norm: f64, width: usize) -> f64 {
    outward(norm * (1.0 + gamma(width as f64 + 8.0, FOLD_UNIT)))
}

/// The largest norm of a row, at most.
fn longest<T: Float>(rows: ArrayView2<'_, T>) -> f64 {
    above(largest(rows.axis_iter(Axis(0)).map(length)), rows.ncols())
}

/// The largest norm of a value and of a row of A3, from below and from above: either may be the values of a pass.
fn largest_values<T: Float>(problem: &Problem<'_, T>, most: [f64; 2]) -> [f64; 2] {
    let rows = problem.A3.axis_iter(Axis(0)).map(|row| (length(row), row));
    let Some((_, row)) = rows.max_by(|a, b| a.0.total_cmp(&b.0)) else { return [0.0; 2] };
    let value = row.mapv(T::widen).dot(&problem.Y.mapv(T::widen));
    let [value, row] = [value, row.mapv(T::widen)].map(|row| norm(&row.to_vec()));
    // Half of what is found leaves room for rounding.
    [0.5 * value.min(row), most[0].max(most[1])]
}
