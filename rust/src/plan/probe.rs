//! A look at a few rows with a part of the keys: about how large the gradients are (docs/math.md, section 11).
//!
//! A tolerance for the largest entry, or an absolute one, says nothing about the relative error that is allowed in the
//! Frobenius norm, in which degrees and rows are chosen, until the size of the gradient is known.

use ndarray::{Array2, ArrayView2, Axis};

use super::logits::queries;
use super::request::{Norm, Request};
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::norms::largest;
use crate::problem::{Problem, Weights, Wrt};
use crate::runtime::rng::Rng;

/// Rows looked at, and keys for all of them: some ten million operations at d = 64, of a call that takes thousands of
/// them.
const ROWS: usize = 16;
const KEYS: usize = 1024;

/// Seed of both.
const SEED: u64 = 0x5EED_10C2;

/// Deviations by which rows must agree before their sum counts as larger than that of rows that have nothing in common.
const AGREE: f64 = 2.0;

/// With a relative error of 1 nothing is known of a gradient: no goal is looser.
const LOOSEST: f64 = 1.0;

/// Approximate size of one output: ‖g‖_F, and its largest entry over that.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    norm: f64,
    peak: f64,
}

impl Size {
    /// The error in the Frobenius norm, relative to that of the gradient, that a request allows.
    fn allowed(self, request: &Request) -> f64 {
        let Size { norm, peak } = self;
        let rtol = request.rtol.unwrap_or(0.0);
        let relative = if request.norm == Norm::Largest { rtol * peak } else { rtol };
        let absolute = if request.atol > 0.0 { request.atol / norm } else { 0.0 };
        // NaN where nothing is known of the size.
        if absolute.is_nan() { relative } else { relative + absolute }
    }
}

/// Whether the goal depends on sizes.
pub fn is_needed(request: &Request) -> bool {
    request.atol > 0.0 || request.norm == Norm::Largest
}

/// The relative error in the Frobenius norm that a request allows in each of the outputs.
pub fn goal<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> f64 {
    let rtol = request.rtol.unwrap_or(0.0);
    if !is_needed(request) {
        return rtol;
    }
    let Some(rows) = Rows::draw(problem) else { return rtol };
    let allowed = wrt.iter().filter_map(|&wrt| rows.size(problem, wrt)).map(|size| size.allowed(request));
    // Of a gradient that is zero in these rows nothing is known.
    let least = allowed.filter(|allowed| !allowed.is_nan()).fold(f64::INFINITY, f64::min);
    // Of outputs by token nothing but the relative part is known.
    if least.is_finite() {
        least.min(LOOSEST)
    } else if rtol > 0.0 {
        rtol
    } else {
        LOOSEST
    }
}

/// The same for the output of a problem whose target is zero.
pub fn goal_of_output<T: Float>(problem: &Problem<'_, T>, request: &Request) -> f64 {
    let rtol = request.rtol.unwrap_or(0.0);
    if !is_needed(request) {
        return rtol;
    }
    let Some(rows) = Rows::draw(problem) else { return rtol };
    let norm = (rows.population * rows.c.mapv(|x| x * x).sum() / rows.c.nrows().max(1) as f64).sqrt();
    let allowed = Size { norm, peak: largest_entry(&rows.c) / norm }.allowed(request);
    if allowed.is_nan() { LOOSEST } else { allowed.min(LOOSEST) }
}

/// Contribution of some rows to the gradients.
struct Rows {
    /// s a_j.
    left: Array2<f64>,
    /// About w_j: that of a part of the keys, less what chance adds to its length.
    w: Array2<f64>,
    /// f A3.
    mixed: Array2<f64>,
    /// c.
    c: Array2<f64>,
    /// n.
    population: f64,
}

impl Rows {
    /// Nothing where there are no pairs. Time O(16 · 1024 (d2 + d3)) and a few rows of weights.
    fn draw<T: Float>(problem: &Problem<'_, T>) -> Option<Self> {
        let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
        if n == 0 || m == 0 {
            return None;
        }
        let mut rng = Rng::new(SEED);
        let mut draw = |count: usize, of: usize| -> Vec<usize> {
            if count >= of { (0..of).collect() } else { (0..count).map(|_| rng.below(of as u64) as usize).collect() }
        };
        let (rows, keys) = (draw(ROWS, n), draw(KEYS, m));
        let some = |array: ArrayView2<'_, T>, indices: &[usize]| array.select(Axis(0), indices).mapv(T::widen);
        let inputs = some(problem.A1, &rows);
        let (key, value, target) = (some(problem.A2, &keys), some(problem.A3, &keys), some(problem.E, &rows));
        let Y = wide(problem.Y);
        let mut f = queries(problem, &inputs).dot(&key.t());
        for (mut weights, &row) in f.rows_mut().into_iter().zip(&rows) {
            let hidden = |key: usize| problem.is_causal && key > row;
            weights.iter_mut().zip(&keys).filter(|&(_, &key)| hidden(key)).for_each(|(t, _)| *t = f64::NEG_INFINITY);
            let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            weights.mapv_inplace(|t| if most.is_finite() { (t - most).exp() } else { 0.0 });
            let total = weights.sum();
            weights.mapv_inplace(|weight| if total > 0.0 { weight / total } else { 0.0 });
        }
        let mixed = f.dot(&value);
        let c = if problem.is_target { mixed.dot(&Y) - &target } else { target };
        let mut p = c.dot(&Y.t()).dot(&value.t());
        for (mut p, f) in p.rows_mut().into_iter().zip(f.rows()) {
            let mean = p.dot(&f);
            p.zip_mut_with(&f, |q, f| *q = f * (*q - mean));
        }
        let mut w = p.dot(&key);
        // A part of the keys adds its own spread to ‖w‖², of which all keys keep their share.
        let unseen = 1.0 - keys.len() as f64 / m as f64;
        let centred = &key - &key.mean_axis(Axis(0))?;
        let squares = centred.map_axis(Axis(1), |key| key.dot(&key));
        let spread = p.mapv(|p| p * p).dot(&squares);
        for (mut w, &spread) in w.rows_mut().into_iter().zip(&spread) {
            let square = w.dot(&w);
            let likely = (square - unseen * spread).max((1.0 - unseen) * spread).min(square);
            w *= if square > 0.0 { (likely / square).sqrt() } else { 0.0 };
        }
        Some(Rows { left: problem.scale * inputs, w, mixed, c, population: n as f64 })
    }

    /// Of an output that rows say something of.
    fn size<T: Float>(&self, problem: &Problem<'_, T>, wrt: Wrt) -> Option<Size> {
        let summed = |left: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>| Some(self.summed(left, right));
        match (wrt, &problem.weights) {
            (Wrt::X, _) => summed(self.left.view(), self.w.view()),
            (Wrt::WQ, Weights::Pair(_, W_K)) => summed(self.left.view(), self.w.dot(&wide(W_K.view())).view()),
            (Wrt::WK, Weights::Pair(W_Q, _)) => summed(self.w.view(), self.left.dot(&wide(W_Q.view())).view()),
            (Wrt::Y, _) => summed(self.mixed.view(), self.c.view()),
            (Wrt::A1, weights) => {
                let back = match weights {
                    Weights::Product(X) => wide(X.view()).t().to_owned(),
                    Weights::Pair(W_Q, W_K) => wide(W_K.view()).dot(&wide(W_Q.view()).t()),
                };
                let rows = problem.scale * self.w.dot(&back);
                let mean = rows.mapv(|x| x * x).sum() / rows.nrows().max(1) as f64;
                let norm = (self.population * mean).sqrt();
                Some(Size { norm, peak: largest_entry(&rows) / norm })
            }
            _ => None,
        }
    }

    /// Σ l_j ⊗ r_j over all rows from these: their squares, and what they have in common beyond chance.
    fn summed(&self, left: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>) -> Size {
        let count = left.nrows() as f64;
        let products = left.dot(&left.t()) * right.dot(&right.t());
        let own = products.diag().sum();
        let pairs = (count * (count - 1.0)).max(1.0);
        let common = (products.sum() - own) / pairs;
        // Where rows have nothing in common each pair of them, which is there twice, has a mean of zero.
        let squares = products.iter().map(|x| x * x).sum::<f64>() - products.diag().iter().map(|x| x * x).sum::<f64>();
        let chance = (2.0 * squares).sqrt() / pairs;
        let sum = left.t().dot(&right);
        let (own, all) = (own / count, self.population);
        let norm = (all * own + all * (all - 1.0) * positive(common - AGREE * chance)).sqrt();
        Size { norm, peak: largest_entry(&sum) / sum.mapv(|x| x * x).sum().sqrt() }
    }
}

/// The number, or zero where it is less; NaN stays.
fn positive(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

fn largest_entry(matrix: &Array2<f64>) -> f64 {
    largest(matrix.iter().map(|x| x.abs()))
}
