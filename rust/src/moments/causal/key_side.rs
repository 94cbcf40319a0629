//! The key side of a causal problem: waves of chunks from the last query back.

use super::keys::{CausalKeyTask, CausalKeys, QueryMoments};
use super::waves::{Sums, Waves, rows};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{cut, cut_tail};
use crate::moments::kernels::Kernels;
use crate::moments::keys::KeyTask;
use crate::moments::payload::C;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Share of the moments of the queries in the time of the key side, for the progress.
const MOMENTS_SHARE: f64 = 0.4;

/// Where the key side goes: rows of each key with their widths, and the sizes of the sums that are wanted.
pub struct KeyOutputs<'a, T> {
    /// pᵀ Q mapped by its product.
    pub keys: (Option<&'a mut [T]>, usize),
    /// fᵀ c mapped by its product.
    pub values: (Option<&'a mut [T]>, usize),
    /// (pᵀ Q)ᵀ A2.
    pub key_sums: Option<usize>,
    /// (fᵀ c)ᵀ A3.
    pub value_sums: Option<usize>,
}

/// All chunks, the queries before `end` alone; returns (pᵀ Q)ᵀ A2 and (fᵀ c)ᵀ A3 where they are wanted.
///
/// Time as without a mask, moments of the queries included, and 4 m C (d + dv + 1) flops.
pub fn key_side<T: Float>(
    operands: &CausalKeys<'_, T>,
    kernels: Kernels<T>,
    outputs: KeyOutputs<'_, T>,
    end: usize,
    start: f64,
    run: &mut Run<'_>,
) -> Result<[Option<Vec<f64>>; 2], Error> {
    let chunks = end.div_ceil(C);
    // Later keys are not seen.
    let m = operands.keys.keys.keys.rows.count.min(chunks * C);
    let tree = operands.queries.tree;
    let count = if operands.keys.slopes { tree.count() } else { tree.inner() };
    let size = buffer::size(&[count, operands.queries.residuals.width])?;
    let others = [outputs.key_sums, outputs.value_sums];
    let mut waves = Waves::new(chunks, size, others.into_iter().flatten().sum())?;
    let [key_sums, value_sums] = others.map(|size| Sums::new(size.is_some(), size.unwrap_or(0), waves.chunks()));
    let (mut key_sums, mut value_sums) = (key_sums?, value_sums?);
    let [mut keys, mut values] =
        [outputs.keys, outputs.values].map(|(rows, width)| (cut(&mut { rows }, m * width), width));
    for wave in waves.all().rev() {
        let left = |done: f64| 1.0 - (wave.end as f64 - done * wave.len() as f64) / chunks as f64;
        let progress = |done: f64| start + (1.0 - start) * left(done);
        run.phase(progress(MOMENTS_SHARE));
        let tasks = wave.clone().zip(waves.room(wave.len()));
        let tasks = tasks.map(|(chunk, sums)| QueryMoments { rows: rows(chunk, end), sums });
        run.for_each(tasks, |task, cancel| {
            task.sums.fill(0.0);
            kernels.query_moments(operands.queries, task, cancel)
        })?;
        waves.scan(wave.len(), true, run)?;
        let sizes = [Sums::size(&key_sums), Sums::size(&value_sums)];
        let (mut key_parts, mut value_parts) = (Sums::parts(&mut key_sums), Sums::parts(&mut value_sums));
        let first = m.min(wave.start * C);
        let mut key_rows = cut_tail(&mut keys.0, first * keys.1);
        let mut value_rows = cut_tail(&mut values.0, first * values.1);
        let (key_width, value_width) = (keys.1, values.1);
        let seen = wave.start..wave.end.min(m.div_ceil(C)).max(wave.start);
        let tasks = seen.zip(waves.scanned(wave.len())).map(|(chunk, after)| {
            let rows_of = rows(chunk, m);
            CausalKeyTask {
                task: KeyTask {
                    key_output: cut(&mut key_rows, rows_of.len() * key_width),
                    value_output: cut(&mut value_rows, rows_of.len() * value_width),
                    key_sums: cut(&mut key_parts, sizes[0]),
                    value_sums: cut(&mut value_parts, sizes[1]),
                    rows: rows_of,
                },
                queries: rows(chunk, end),
                after,
            }
        });
        run.phase(progress(1.0));
        run.for_each(tasks, |task, cancel| kernels.causal_keys(operands, task, cancel))?;
        Sums::fold(&mut key_sums);
        Sums::fold(&mut value_sums);
    }
    Ok([Sums::total(key_sums), Sums::total(value_sums)])
}
