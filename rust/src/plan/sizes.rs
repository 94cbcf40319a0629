//! Approximate contribution of each row to the error: outliers stand out by it, and errors by token are in proportion
//! to it (docs/math.md, equation 11.9). A rigorous cap costs as much as the passes; these are a few norms.

use super::lengths::Lengths;
use super::reach::Reach;
use crate::certificate::outliers::{WEIGHTY, budget, weighty};
use crate::constants::MOMENT_ROWS as CHUNK;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::{LANES, largest, largest_of, sum_of};
use crate::problem::{Problem, Wrt};
use crate::runtime::buffer;

/// Of the rows that an error is made of in effect, a sample must hold this many: with fewer, its spread says little.
pub const LEAST_SEEN: f64 = 12.0;

/// Sizes of every row, twice: with the c that the polynomial gives it, and with the possible change of o in the place
/// of c, where c moves with o; a row may stand out by either.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sizes {
    /// In proportion to ‖w_j − w̃_j‖.
    pub own: [Vec<f64>; 2],
    /// The same times ‖a_j‖.
    pub weighted: [Vec<f64>; 2],
}

impl Sizes {
    /// ‖c_j‖ times the share that a polynomial of degree g neglects of logits of the size that the row has. `residuals`
    /// are ‖c̃_j‖; without them, ‖E_j‖ + typical ‖h‖ serves. Time O(n (d1 + dv)).
    pub fn new<T: Float>(
        problem: &Problem<'_, T>,
        degree: usize,
        reach: &Reach,
        residuals: &[f64],
    ) -> Result<Self, Error> {
        let Lengths { inputs, targets, value, .. } = &reach.lengths;
        let lost = reach.lost(degree)?;
        let moved = if problem.is_target { *value } else { 0.0 };
        let times = |a: &[f64], b: &[f64]| buffer::collected(a.iter().zip(b).map(|(a, b)| a * b));
        let own = match residuals.len() == inputs.len() {
            true => times(residuals, &lost)?,
            false => buffer::collected(targets.iter().zip(&lost).map(|(target, lost)| (target + moved) * lost))?,
        };
        let mut sizes = Sizes { weighted: [times(&own, inputs)?, Vec::new()], own: [own, Vec::new()] };
        if problem.is_target {
            let own = buffer::collected(lost.iter().map(|lost| moved * lost))?;
            (sizes.weighted[1], sizes.own[1]) = (times(&own, inputs)?, own);
        }
        Ok(sizes)
    }

    /// The same of the output, which the values of all rows make alike: what a polynomial neglects.
    pub fn of_output(degree: usize, reach: &Reach) -> Result<Self, Error> {
        let own = reach.lost(degree)?;
        Ok(Sizes { weighted: [buffer::copied(&own)?, Vec::new()], own: [own, Vec::new()] })
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Vec<f64>> {
        self.own.iter_mut().chain(&mut self.weighted).filter(|sizes| !sizes.is_empty())
    }

    /// Adapts them to a causal mask: a row is a mean over the keys that it sees, of `count` in all, and those of its
    /// own chunk have no error.
    pub fn mask(&mut self, count: usize) {
        for sizes in self.all() {
            for (row, size) in sizes.iter_mut().enumerate() {
                *size = if row < CHUNK { 0.0 } else { *size / (count.min(row + 1) as f64).sqrt() };
            }
        }
    }

    /// Counts some rows out.
    pub fn without(&mut self, indices: &[usize]) {
        for sizes in self.all() {
            indices.iter().for_each(|&row| sizes[row] = 0.0);
        }
    }

    /// Rows that stand out, to be computed exactly; nothing where one of them weighs by itself and no row can be, as
    /// under a mask.
    pub fn standing(&self, asked: &[Wrt], is_causal: bool) -> Result<Option<Vec<usize>>, Error> {
        if is_causal {
            return Ok(self.weighted.iter().all(|sizes| !spiked(sizes)).then(Vec::new));
        }
        stand_out(self, asked, self.own[0].len()).map(Some)
    }

    /// Rows that a uniform sample must hold to see enough of those that the error is made of, `apart` of all being
    /// counted out.
    pub fn least_samples(&self, apart: usize) -> usize {
        let population = self.own[0].len().saturating_sub(apart);
        let share = self.least_share();
        // NaN, of sizes that are infinite, takes them all.
        if share.is_nan() { population } else { population.min((share * population as f64).ceil() as usize) }
    }

    /// The share of all rows that a sample must have to see enough of those that a sum of squares is made of.
    fn least_share(&self) -> f64 {
        let all = self.own.iter().chain(&self.weighted).map(|sizes| least_share(sizes));
        largest(all)
    }
}

/// Rows that stand out by their share of a sum, and by their own error where an output has them as rows. Where more
/// stand out than may be taken, the others are a tail that a uniform sample sees.
fn stand_out(sizes: &Sizes, asked: &[Wrt], n: usize) -> Result<Vec<usize>, Error> {
    let mut exact = Vec::new();
    for (own, weighted) in sizes.own.iter().zip(&sizes.weighted) {
        join(&mut exact, weighty(weighted, budget(n))?)?;
        // The terms of dL/dY and dL/dA3 have no ‖a‖, and dL/dA1 has them as rows.
        if asked.iter().any(|wrt| matches!(wrt, Wrt::A1 | Wrt::A3 | Wrt::Y)) {
            join(&mut exact, weighty(own, budget(n))?)?;
        }
    }
    exact.sort_unstable();
    exact.dedup();
    Ok(exact)
}

/// Adds indices to others.
fn join(all: &mut Vec<usize>, more: Vec<usize>) -> Result<(), Error> {
    buffer::reserve(all, more.len())?;
    all.extend(more);
    Ok(())
}

/// Whether one row holds by itself what rows apart must hold together.
fn spiked(sizes: &[f64]) -> bool {
    let largest = largest_of(sizes);
    largest > 0.0 && powers(sizes, largest)[0] * WEIGHTY < 1.0
}

/// The same for one sum: (Σ M²)² / Σ M⁴ is how many rows it is made of in effect.
fn least_share(sizes: &[f64]) -> f64 {
    let largest = largest_of(sizes);
    if largest == 0.0 {
        return 0.0;
    }
    let [squares, fourths] = powers(sizes, largest);
    LEAST_SEEN * fourths / (squares * squares)
}

/// Σ M² and Σ M⁴ of sizes M in units of the largest; NaN where that is too small for a unit.
fn powers(sizes: &[f64], largest: f64) -> [f64; 2] {
    let unit = largest.recip();
    let (chunks, rest) = sizes.as_chunks::<LANES>();
    let (mut squares, mut fourths) = ([0.0; LANES], [0.0; LANES]);
    let mut add = |sizes: &[f64]| {
        for ((squares, fourths), size) in squares.iter_mut().zip(&mut fourths).zip(sizes) {
            let square = (size * unit).powi(2);
            *squares += square;
            *fourths += square * square;
        }
    };
    chunks.iter().for_each(|chunk| add(chunk));
    add(rest);
    [squares, fourths].map(sum_of)
}
