//! The query side of one chunk: moments of the keys before it, and the keys of the chunk themselves
//! (docs/math.md, equation 68).

use std::ops::Range;

use crate::error::Error;
use crate::float::Float;
use crate::kernels::chunk::Chunk;
use crate::kernels::rhs::C;
use crate::kernels::tile::square_norms;
use crate::moments::collect::Keys;
use crate::moments::evaluate::Coefficients;
use crate::moments::near::{Limits, Near, NearQueries};
use crate::moments::queries::{Queries, QueryTask, queries};
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Shared inputs of the tasks of the query side.
pub struct CausalQueries<'a, T> {
    /// As without a mask; its moments are not used.
    pub queries: Queries<'a, T>,
    /// The keys and their values.
    pub keys: &'a Keys<'a, T>,
    /// P, as the moments use it.
    pub coefficients: &'a Coefficients,
    /// |P_0|, …, |P_g|.
    pub magnitudes: &'a [f64],
    /// The index of each query row, ascending, where it is not its place.
    pub indices: Option<&'a [usize]>,
}

/// One chunk of the queries.
pub struct CausalTask<'a, T> {
    /// Its rows and their outputs.
    pub task: QueryTask<'a, T>,
    /// Rows of [c, −r] / z.
    pub residuals: Option<&'a mut [T]>,
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
) -> Result<(), Error> {
    if task.task.rows.is_empty() {
        return Ok(());
    }
    let width = operands.keys.values.columns() + 1;
    // Before the first chunk there are no keys.
    let moments = match task.keys.start {
        0 => None,
        _ => Some(operands.coefficients.moments::<T>(task.before, width, width, J)?),
    };
    let moments_fit = moments.as_ref().is_none_or(|moments| moments.finite);
    let &Keys { keys, values, .. } = operands.keys;
    let (chunk, all_finite) = Chunk::of_keys::<V, W, L, J>(keys, values, task.keys.clone())?;
    let mut own = Own {
        rule: Rule::new(operands, &task, all_finite && moments_fit)?,
        first_key: task.keys.start,
        indices: operands.indices,
        width,
        residuals: task.residuals,
        chunk,
    };
    // Where the moments do not fit the precision no row is safe, and results without any row are finite.
    let moments = moments.as_ref().filter(|moments| moments.finite);
    queries::<T, V, W, L, J>(&Queries { moments, ..operands.queries }, task.task, &mut own, cancel)
}

/// Which rows of a chunk are safe (docs/math.md, equation 69).
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
        let (d, width) = (operands.keys.keys.columns(), operands.keys.values.columns() + 1);
        let before = task.keys.start as f64;
        let (mut mean, mut magnitudes) = (buffer::with_capacity(d)?, buffer::with_capacity(operands.magnitudes.len())?);
        // The monomials after the constant are the coordinates.
        let sums = task.before.chunks_exact(width).skip(1).take(d).map(|row| row[width - 1]);
        mean.extend(sums.map(|sum| T::narrow(sum / before.max(1.0))));
        magnitudes.extend(operands.magnitudes.iter().map(|&p| T::narrow(p)));
        Ok(Rule {
            mean,
            before: T::narrow(before),
            magnitudes,
            widest: T::narrow(task.widest),
            largest: T::narrow((T::UNSHIFTED_MAX * std::f64::consts::LN_2).powi(2)),
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
    width: usize,
    residuals: Option<&'a mut [T]>,
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> Near<T, V, W, L, J> for Own<'_, T> {
    #[inline(always)]
    fn values(&mut self, first: usize, rows: usize, _: &[T], sums: &mut [T]) {
        let mut last = [-1; L];
        for (l, last) in last.iter_mut().enumerate().take(rows) {
            let index = self.indices.map_or(first + l, |indices| indices[first + l]);
            *last = (index - self.first_key).min(C) as i32;
        }
        self.chunk.values::<V, W, L, J>(&last, sums);
    }

    #[inline(always)]
    fn slopes(&mut self, payload: &[T], out: &mut [T]) {
        self.chunk.slopes::<V, W, L, J>(payload, out);
    }
}

impl<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize> NearQueries<T, V, W, L, J>
    for Own<'_, T>
{
    #[inline(always)]
    fn fits(&mut self, _: &Limits<T>, x: &[T], sums: &[T]) -> [bool; L] {
        let fits = match sums.as_chunks::<L>().0.last() {
            Some(z) => self.rule.fits(x.as_chunks::<L>().0, z),
            None => [false; L],
        };
        self.chunk.set(x, &fits);
        fits
    }

    #[inline(always)]
    fn take(&mut self, first: usize, rows: usize, payload: &[T]) {
        let Some(residuals) = &mut self.residuals else { return };
        let residuals = residuals[first * self.width..].chunks_exact_mut(self.width);
        for (l, row) in residuals.enumerate().take(rows) {
            for (to, column) in row.iter_mut().zip(payload.as_chunks::<L>().0) {
                *to = column[l];
            }
        }
    }
}
