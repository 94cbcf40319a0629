//! The query side, all of it: the kernels over parts of the queries, or under a mask over waves of chunks from the
//! first key on.

use std::ops::Range;

use super::MOMENTS_SHARE;
use super::causal::queries::{CausalQueries, CausalTask};
use super::fit::Polynomial;
use super::kernels::Kernels;
use super::parts::Parts;
use super::queries::{Found, Queries, QueryTask};
use super::sides::Sides;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::rhs::C;
use crate::linalg::layout::cut;
use crate::linalg::norms::wider;
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::runtime::scan::{Waves, rows};
use crate::runtime::sums::Sums;

/// Destinations of the rows that are wanted.
#[derive(Default)]
pub struct RowOutputs<'a, T> {
    /// w mapped by the product of the operands, and how wide a row is.
    pub slopes: (Option<&'a mut [T]>, usize),
    /// o, in the unit of the values.
    pub values: Option<&'a mut [T]>,
    /// ‖c‖ in its unit, which bounds are made of as well: buckets are filled where it is wanted.
    pub norms: Option<&'a mut [f64]>,
    /// [c, −r] / z; under a mask alone.
    pub residuals: Option<&'a mut [T]>,
}

/// Statistics and sums of the query side.
pub struct QuerySide {
    /// Of all rows.
    pub found: Found,
    /// The sums of [`QueryTask`] that were wanted.
    pub sums: [Option<Vec<f64>>; 3],
    /// max ‖k‖ of the keys that are seen.
    pub largest_key: f64,
}

impl<'a, T: Default> RowOutputs<'a, T> {
    /// The task of the next rows, no sums yet.
    fn task(&mut self, rows: Range<usize>, dv: usize) -> QueryTask<'a, T> {
        QueryTask {
            output: cut(&mut self.slopes.0, rows.len() * self.slopes.1),
            values: cut(&mut self.values, rows.len() * dv),
            residuals: cut(&mut self.residuals, rows.len() * (dv + 1)),
            norms: cut(&mut self.norms, rows.len()),
            rows,
            ..QueryTask::default()
        }
    }
}

/// The query side over all rows. `sizes` are the lengths of the sums of [`QueryTask`] that are wanted, of which a mask
/// has a use for the first alone; `indices` are the places of the queries where they are only some of a causal problem;
/// progress goes up to `end`.
///
/// Time 2 n (N_(g+1) + N_g)(dv + 1) and that of the outputs wanted besides; under a mask also that of the moments of
/// the keys, and 4 n C (d + dv + 1) flops.
pub fn query_side<T: Float>(
    polynomial: &Polynomial,
    operands: Queries<'_, T>,
    mut outputs: RowOutputs<'_, T>,
    sizes: [Option<usize>; 3],
    indices: Option<&[usize]>,
    end: f64,
    run: &mut Run<'_>,
) -> Result<QuerySide, Error> {
    let kernels = Kernels::<T>::of(polynomial.isa);
    if polynomial.is_causal {
        let operands = CausalQueries { queries: operands, coefficients: &polynomial.coefficients, indices };
        return operands.side(kernels, outputs, sizes[0], end, run);
    }
    let (n, dv) = (operands.sides.queries.rows.count, operands.target.width);
    let parts = Parts::new(n, sizes.iter().flatten().sum());
    let sums = Sums::new(sizes);
    run.phase(end);
    let all = sums.each(0, parts.all().map(|rows| outputs.task(rows, dv)), run, |task, sums, cancel| {
        kernels.queries(&operands, QueryTask { sums, ..task }, cancel)
    })?;
    let mut found = Found::default();
    all.into_iter().try_for_each(|one| found.merge(one))?;
    Ok(QuerySide { found, sums: sums.totals()?, largest_key: polynomial.keys.largest_key() })
}

impl<T: Float> CausalQueries<'_, T> {
    fn side(
        &self,
        kernels: Kernels<T>,
        mut outputs: RowOutputs<'_, T>,
        weights: Option<usize>,
        end: f64,
        run: &mut Run<'_>,
    ) -> Result<QuerySide, Error> {
        let sides = self.queries.sides;
        let (n, m, dv) = (sides.queries.rows.count, sides.keys.rows.count, sides.values.columns());
        let last = self.indices.map_or(n.checked_sub(1), |indices| indices.last().copied());
        let chunks = last.map_or(0, |last| last / C + 1);
        let mut waves = Waves::new(chunks, self.moments()?, weights.unwrap_or(0))?;
        let sums = Sums::new([weights]);
        let (mut found, mut widest_key, mut next) = (Found::default(), 0.0, 0);
        for wave in waves.all() {
            let progress = |done: f64| end * (wave.start as f64 + done * wave.len() as f64) / chunks as f64;
            run.phase(progress(MOMENTS_SHARE));
            let keys = waves.before(wave.clone(), false, run, |chunk, sums, cancel| {
                kernels.key_moments(sides, rows(chunk, m), false, sums, cancel)
            })?;
            let (next, widest_key, outputs) = (&mut next, &mut widest_key, &mut outputs);
            let tasks = wave.clone().zip(waves.scanned(wave.len())).zip(&keys);
            let tasks = tasks.map(|((chunk, before), keys)| {
                *widest_key = wider(*widest_key, keys.widest);
                let rows_of = *next..self.end_of(chunk, n);
                *next = rows_of.end;
                CausalTask { task: outputs.task(rows_of, dv), keys: rows(chunk, m), before, widest: *widest_key }
            });
            run.phase(progress(1.0));
            let all = sums.each(wave.start, tasks, run, |task, [sums], cancel| {
                let own = QueryTask { sums: [sums, None, None], ..task.task };
                kernels.causal_queries(self, CausalTask { task: own, ..task }, cancel)
            })?;
            all.into_iter().try_for_each(|one| found.merge(one))?;
        }
        let [weights] = sums.totals()?;
        Ok(QuerySide { found, sums: [weights, None, None], largest_key: f64::sqrt(widest_key) })
    }

    /// Moments of a chunk of keys: one row for each monomial that is needed, the coordinates always among them.
    fn moments(&self) -> Result<usize, Error> {
        let Sides { tree, keys, values, .. } = self.queries.sides;
        let count = if self.queries.slopes { tree.count() } else { tree.inner().max(1 + keys.columns()) };
        buffer::size(&[count, values.columns() + 1])
    }

    /// One past the last of `n` query rows in a chunk.
    fn end_of(&self, chunk: usize, n: usize) -> usize {
        self.indices.map_or(n.min((chunk + 1) * C), |indices| indices.partition_point(|&index| index / C <= chunk))
    }
}
