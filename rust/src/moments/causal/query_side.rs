//! The query side of a causal problem: waves of chunks from the first key on.

use super::queries::{CausalQueries, CausalTask};
use super::waves::{Sums, Waves, rows};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::cut;
use crate::linalg::norms::wider;
use crate::moments::collect::{KeyFound, KeyMoments};
use crate::moments::kernels::Kernels;
use crate::moments::payload::C;
use crate::moments::queries::{Found, QueryTask};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Share of the moments of the keys in the time of the query side, for the progress.
const MOMENTS_SHARE: f64 = 0.4;

/// Where rows go that are wanted.
#[derive(Default)]
pub struct Outputs<'a, T> {
    /// w mapped by the product of the operands, and how wide a row is.
    pub output: (Option<&'a mut [T]>, usize),
    /// o, in the unit of the values.
    pub values: Option<&'a mut [T]>,
    /// [c, −r] / z.
    pub residuals: Option<&'a mut [T]>,
}

/// What the query side found besides rows.
pub struct QuerySide {
    /// Of all rows.
    pub found: Found,
    /// wᵀ A1, if it was wanted.
    pub weights: Option<Vec<f64>>,
    /// max ‖k‖² of the keys that are seen.
    pub widest_key: f64,
}

/// All chunks. `weights` is the size of wᵀ A1, if it is wanted, and `end` the progress when all is done.
///
/// Time as without a mask, moments of the keys included, and 4 n C (d + dv + 1) flops.
pub fn query_side<T: Float>(
    operands: &CausalQueries<'_, T>,
    kernels: Kernels<T>,
    mut outputs: Outputs<'_, T>,
    weights: Option<usize>,
    (start, end): (f64, f64),
    run: &mut Run<'_>,
) -> Result<QuerySide, Error> {
    let (n, m) = (operands.queries.queries.rows.count, operands.keys.keys.rows.count);
    let dv = operands.keys.values.columns();
    let last = operands.indices.map_or(n.checked_sub(1), |indices| indices.last().copied());
    let chunks = last.map_or(0, |last| last / C + 1);
    let mut waves = Waves::new(chunks, operands.moments()?, weights.unwrap_or(0))?;
    let mut sums = Sums::new(weights.is_some(), weights.unwrap_or(0), waves.chunks())?;
    let mut side = QuerySide { found: Found::default(), weights: None, widest_key: 0.0 };
    let mut next = 0;
    for wave in waves.all() {
        let progress =
            |done: f64| start + (end - start) * (wave.start as f64 + done * wave.len() as f64) / chunks as f64;
        let mut keys_found = buffer::filled(wave.len(), KeyFound::default())?;
        run.phase(progress(MOMENTS_SHARE));
        let tasks = wave.clone().zip(waves.room(wave.len())).zip(&mut keys_found);
        let tasks =
            tasks.map(|((chunk, sums), found)| KeyMoments { rows: rows(chunk, m), integers: false, sums, found });
        run.for_each(tasks, |task, cancel| {
            task.sums.fill(0.0);
            kernels.key_moments(operands.keys, task, cancel)
        })?;
        waves.scan(wave.len(), false, run)?;
        let mut found = buffer::filled(wave.len(), Found::default())?;
        let size = Sums::size(&sums);
        let mut parts = Sums::parts(&mut sums);
        let (next, side, outputs) = (&mut next, &mut side, &mut outputs);
        let tasks = wave.clone().zip(waves.scanned(wave.len())).zip(&keys_found).zip(&mut found);
        let tasks = tasks.map(|(((chunk, before), keys), found)| {
            side.widest_key = wider(side.widest_key, keys.widest);
            let rows_of = *next..operands.end_of(chunk, n);
            *next = rows_of.end;
            CausalTask {
                task: QueryTask {
                    output: cut(&mut outputs.output.0, rows_of.len() * outputs.output.1),
                    values: cut(&mut outputs.values, rows_of.len() * dv),
                    weight_sums: cut(&mut parts, size),
                    moment_sums: None,
                    exact_sums: None,
                    residuals: None,
                    found,
                    rows: rows_of.clone(),
                },
                residuals: cut(&mut outputs.residuals, rows_of.len() * (dv + 1)),
                keys: rows(chunk, m),
                before,
                widest: side.widest_key,
            }
        });
        run.phase(progress(1.0));
        run.for_each(tasks, |task, cancel| kernels.causal_queries(operands, task, cancel))?;
        Sums::fold(&mut sums);
        for found in found {
            side.found.squares += found.squares;
            buffer::reserve(&mut side.found.unsafe_rows, found.unsafe_rows.len())?;
            side.found.unsafe_rows.extend(found.unsafe_rows);
            side.found.widest = wider(side.found.widest, found.widest);
        }
    }
    side.weights = Sums::total(sums);
    Ok(side)
}

impl<T: Float> CausalQueries<'_, T> {
    /// Moments of a chunk of keys: one payload row for each monomial that is needed, the coordinates always among them.
    fn moments(&self) -> Result<usize, Error> {
        let tree = self.keys.tree;
        let count = if self.queries.slopes { tree.count() } else { tree.inner().max(1 + self.keys.keys.columns()) };
        buffer::size(&[count, self.keys.values.columns() + 1])
    }

    /// One past the last of `n` query rows in a chunk.
    fn end_of(&self, chunk: usize, n: usize) -> usize {
        self.indices.map_or(n.min((chunk + 1) * C), |indices| indices.partition_point(|&index| index / C <= chunk))
    }
}
