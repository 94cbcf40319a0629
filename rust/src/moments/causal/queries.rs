//! The query side of one chunk: moments of the keys before it, and the keys of the chunk themselves
//! (docs/math.md, equation 8.19).

use std::ops::Range;

use crate::error::Error;
use crate::float::Float;
use crate::kernels::chunk::Chunk;
use crate::kernels::rhs::C;
use crate::kernels::tile::square_norms;
use crate::moments::evaluate::Coefficients;
use crate::moments::near::{Limits, Near, unshifted_square};
use crate::moments::queries::{Found, Queries, QueryTask, queries};
use crate::moments::sides::Sides;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Shared inputs of the tasks of the query side.
pub struct CausalQueries<'a, T> {
    /// As without a mask; its moments are not used.
    pub queries: Queries<'a, T>,
    /// P, as the moments use it.
    pub coefficients: &'a Coefficients,
    /// The index of each query row, ascending, where it is not its place.
    pub indices: Option<&'a [usize]>,
}

/// One chunk of the queries.
pub struct CausalTask<'a, T> {
    /// Its rows and their outputs.
    pub task: QueryTask<'a, T>,
    /// The keys of the chunk.
    pub keys: Range<usize>,
    /// M_β of the keys before it, `[count][dv + 1]`.
    pub before: &'a [f64],
    /// max ‖k‖² of the keys up to the end of the chunk.
    pub widest: f64,
}

/// o, c and w of one chunk. Time as without a mask, and 4 · rows · keys · (d + dv + 1) flops for half of the chunk.
#[inline(always)]
pub fn causal_queries<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &CausalQueries<'_, T>,
    task: CausalTask<'_, T>,
    cancel: &Cancel,
) -> Result<Found, Error> {
    if task.task.rows.is_empty() {
        return Ok(Found::default());
    }
    let Sides { keys, values, .. } = operands.queries.sides;
    let width = values.columns() + 1;
    // Before the first chunk there are no keys.
    let moments = match task.keys.start {
        0 => None,
        _ => Some(operands.coefficients.moments::<T>(task.before, width, width, J)?),
    };
    let moments_fit = moments.as_ref().is_none_or(|moments| moments.finite);
    let (chunk, all_finite) = operands.queries.sides.chunk::<L, J>(keys, values, task.keys.clone())?;
    let mut own = Own {
        rule: Rule::new(operands, &task, all_finite && moments_fit)?,
        first_key: task.keys.start,
        indices: operands.indices,
        chunk,
    };
    // Where the moments do not fit the precision no row is safe, and results without any row are finite.
    let moments = moments.as_ref().filter(|moments| moments.finite);
    queries::<T, V, W, L, J>(&Queries { moments, ..operands.queries }, task.task, &mut own, cancel)
}

/// Which rows of a chunk are safe (docs/math.md, equation 8.20).
struct Rule<T> {
    /// The mean of the keys before the chunk.
    mean: Vec<T>,
    /// Number of the keys before the chunk.
    before: T,
    /// |P_0|, …, |P_g|.
    magnitudes: Vec<T>,
    /// max ‖k‖² of the keys that the chunk sees.
    widest: T,
    /// Largest b² = ‖q‖² max ‖k‖²: beyond it the weights of the diagonal need a shift.
    largest: T,
    /// 1 / (32 u).
    noise: T,
    finite: bool,
}

impl<T: Float> Rule<T> {
    fn new(operands: &CausalQueries<'_, T>, task: &CausalTask<'_, T>, finite: bool) -> Result<Self, Error> {
        let Sides { keys, values, .. } = operands.queries.sides;
        let (width, before) = (values.columns() + 1, task.keys.start as f64);
        // The monomials after the constant are the coordinates.
        let sums = task.before.chunks_exact(width).skip(1).take(keys.columns()).map(|row| row[width - 1]);
        Ok(Rule {
            mean: buffer::collected(sums.map(|sum| T::narrow(sum / before.max(1.0))))?,
            before: T::narrow(before),
            magnitudes: buffer::collected(operands.coefficients.powers.iter().map(|p| T::narrow(p.abs())))?,
            widest: T::narrow(task.widest),
            largest: T::narrow(unshifted_square::<T>()),
            noise: T::narrow(1.0 / (32.0 * T::UNIT_ROUNDOFF)),
            finite,
        })
    }

    #[inline(always)]
    fn fits<const L: usize>(&self, x: &[[T; L]], z: &[T; L]) -> [bool; L] {
        let lengths = square_norms(x);
        let mut mean = [T::zero(); L];
        for (column, &of_mean) in x.iter().zip(&self.mean) {
            for l in 0..L {
                mean[l] += column[l] * of_mean;
            }
        }
        let mut fits = [false; L];
        for l in 0..L {
            let square = lengths[l] * self.widest;
            let bound = square.sqrt();
            let terms = self.magnitudes.iter().rev().fold(T::zero(), |sum, &p| sum * bound + p);
            let least = T::narrow(0.5) * self.before * mean[l].exp();
            fits[l] =
                self.finite && square <= self.largest && z[l] >= least && self.before * terms <= z[l] * self.noise;
        }
        fits
    }
}

/// The keys of the chunk as its queries see them.
struct Own<'a, T> {
    chunk: Chunk<T>,
    rule: Rule<T>,
    first_key: usize,
    indices: Option<&'a [usize]>,
}

impl<T: Float, const L: usize> Near<T, L> for Own<'_, T> {
    #[inline(always)]
    fn chunk(&mut self) -> Option<&mut Chunk<T>> {
        Some(&mut self.chunk)
    }

    #[inline(always)]
    fn last(&self, first: usize, rows: usize) -> [i32; L] {
        let mut last = [-1; L];
        for (l, last) in last.iter_mut().enumerate().take(rows) {
            let index = self.indices.map_or(first + l, |indices| indices[first + l]);
            *last = (index - self.first_key).min(C) as i32;
        }
        last
    }

    #[inline(always)]
    fn fits(&self, _: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L] {
        match sums.as_chunks::<L>().0.last() {
            Some(z) => self.rule.fits(x.as_chunks::<L>().0, z),
            None => [false; L],
        }
    }
}
