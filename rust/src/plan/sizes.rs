//! About what each row can contribute to the error: what outliers stand out by, and what errors by token are in proportion
//! to (docs/math.md, equation 135). A rigorous cap costs as much as the passes; these are a few norms.

use super::rows::{strided, typical_key, typical_of, wide};
use super::stages::Stages;
use crate::buffer;
use crate::certificate::outliers::{budget, outliers};
use crate::error::Error;
use crate::exact::gradient::{row_major, rows};
use crate::float::Float;
use crate::moments::CHUNK;
use crate::norms::many_row_norms;
use crate::pool::Run;
use crate::problem::{Problem, Weights, Wrt};
use crate::products::product;
use crate::tile::Rows;

/// Rows that stand out are computed apart where they hold this part of the sum of squared caps: with less they move a
/// standard error by a hundredth.
const WEIGHTY: f64 = 0.02;

/// Of the rows that an error is made of in effect, a sample must hold this many: with fewer, its spread says little.
pub const LEAST_SEEN: f64 = 12.0;

/// Of every row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sizes {
    /// In proportion to ‖w_j − w̃_j‖.
    pub own: Vec<f64>,
    /// The same times ‖a_j‖.
    pub weighted: Vec<f64>,
}

impl Sizes {
    /// ‖c_j‖ min(1, x^(g+1) e^x / (g+1)!), x = ‖q_j‖ typical ‖k‖, for degree g; of ‖c_j‖ is
    /// known ‖E_j‖ + typical ‖h‖, or ‖E_j‖ where that is c. Time O(n d (d1 + dv)).
    pub fn new<T: Float>(problem: &Problem<'_, T>, degree: usize, stages: &mut Stages<'_>) -> Result<Self, Error> {
        stages.run(0.1, |options, watch| {
            let mut run = Run::new(options, watch);
            run.phase(1.0);
            let (n, weights) = match problem.weights {
                Weights::Product(X) => (problem.A1.nrows(), X),
                Weights::Pair(W_Q, _) => (problem.A1.nrows(), W_Q),
            };
            let queries = product(problem.A1, weights, problem.scale, &mut run)?;
            let queries = many_row_norms(Rows { data: &queries, count: n, width: weights.ncols() }, &mut run)?;
            let inputs = many_row_norms(rows(&row_major(problem.A1)?)?, &mut run)?;
            let targets = many_row_norms(rows(&row_major(problem.E)?)?, &mut run)?;
            let value = typical_of(wide(strided(problem.A3)).dot(&wide(problem.Y)));
            let key = typical_key(problem);
            // Factor by factor: the power alone may overflow.
            let powers = |x: f64| (1..=degree + 1).map(|k| x / k as f64).product::<f64>();
            let reach = |query: f64| (powers(query * key) * (query * key).exp()).min(1.0);
            let moved = if problem.is_target { value } else { 0.0 };
            let own = buffer::collected(queries.iter().zip(&targets).map(|(q, e)| (e + moved) * reach(*q)))?;
            let weighted = buffer::collected(own.iter().zip(&inputs).map(|(own, a)| own * a))?;
            Ok(Sizes { own, weighted })
        })
    }

    /// What a causal mask makes of them: a row is a mean over the keys that it sees, of `count` in all, and those of its own
    /// chunk have no error.
    pub fn mask(&mut self, count: usize) {
        for sizes in [&mut self.own, &mut self.weighted] {
            for (row, size) in sizes.iter_mut().enumerate() {
                *size = if row < CHUNK { 0.0 } else { *size / (count.min(row + 1) as f64).sqrt() };
            }
        }
    }

    /// Counts some rows out.
    pub fn without(&mut self, indices: &[usize]) {
        for &row in indices {
            self.own[row] = 0.0;
            self.weighted[row] = 0.0;
        }
    }
}

/// Rows that stand out by their share of a sum, and by their own error where an output has them as rows. Where more
/// stand out than may be taken, the others are a tail that a uniform sample sees.
pub fn stand_out(sizes: &Sizes, asked: &[Wrt], n: usize) -> Result<Vec<usize>, Error> {
    let mut exact = weighty(&sizes.weighted, n)?;
    if asked.contains(&Wrt::A1) {
        let own = weighty(&sizes.own, n)?;
        buffer::reserve(&mut exact, own.len())?;
        exact.extend(own);
        exact.sort_unstable();
        exact.dedup();
    }
    Ok(exact)
}

/// Rows that stand out by their cap, where they hold enough of the sum of the squares to be worth another pass.
fn weighty(caps: &[f64], n: usize) -> Result<Vec<usize>, Error> {
    let exact = outliers(caps, budget(n))?.exact;
    let largest = caps.iter().copied().fold(0.0, f64::max);
    let square = |cap: f64| (cap / largest).powi(2);
    let held: f64 = exact.iter().map(|&row| square(caps[row])).sum();
    let all: f64 = caps.iter().copied().map(square).sum();
    // NaN, of caps that are infinite, takes them all.
    Ok(if held < WEIGHTY * all { Vec::new() } else { exact })
}

/// Whether one row holds by itself what rows apart must hold together.
pub fn spiked(sizes: &[f64]) -> bool {
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    largest > 0.0 && sizes.iter().map(|size| (size / largest).powi(2)).sum::<f64>() * WEIGHTY < 1.0
}

/// The share of all rows that a sample must have to see enough of those that a sum of squares is made of:
/// (Σ M²)² / Σ M⁴ is how many they are in effect.
pub fn least_share(sizes: &[f64]) -> f64 {
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return 0.0;
    }
    let (squares, fourths) = sizes.iter().fold((0.0, 0.0), |(squares, fourths), size| {
        let square = (size / largest).powi(2);
        (squares + square, fourths + square * square)
    });
    LEAST_SEEN * fourths / (squares * squares)
}
