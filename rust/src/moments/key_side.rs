//! The key side, all of it: the kernels over parts of the keys, or under a mask over waves of chunks from the last
//! query back.

use std::ops::Range;

use super::MOMENTS_SHARE;
use super::causal::keys::{CausalKeyTask, CausalKeys};
use super::fit::Polynomial;
use super::kernels::Kernels;
use super::keys::{KeySide, KeyTask};
use super::parts::Parts;
use super::sides::Sides;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::rhs::C;
use crate::linalg::layout::{Rows, cut, cut_tail, in_range};
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::runtime::scan::{Waves, rows};
use crate::runtime::sums::Sums;

/// Query-side operands of the key side.
pub enum Answers<'a, T> {
    /// N_β, the sums over all safe queries.
    Moments(&'a [f64]),
    /// Rows of [c, −r] / z of the queries up to the last safe one, for a mask.
    Residuals(Rows<'a, T>),
}

/// Destinations of the rows that are wanted, with their widths, and which sums are wanted.
pub struct KeyOutputs<'a, T> {
    /// pᵀ Q and fᵀ c, each mapped by its product.
    pub rows: [(Option<&'a mut [T]>, usize); 2],
    /// Whether (pᵀ Q)ᵀ A2 and (fᵀ c)ᵀ A3 are wanted.
    pub sums: [bool; 2],
}

/// All keys; returns (pᵀ Q)ᵀ A2 and (fᵀ c)ᵀ A3 where they are wanted. Progress is at `start` before.
///
/// Time 2 m (N_(g+1) + N_g)(dv + 1) and that of the outputs wanted besides; under a mask also that of the moments of
/// the queries, and 4 m C (d + dv + 1) flops.
pub fn key_side<T: Float>(
    polynomial: &Polynomial,
    operands: KeySide<'_, T>,
    answers: Answers<'_, T>,
    mut outputs: KeyOutputs<'_, T>,
    start: f64,
    run: &mut Run<'_>,
) -> Result<[Option<Vec<f64>>; 2], Error> {
    let kernels = Kernels::<T>::of(polynomial.isa);
    let sides = operands.sides;
    let sizes = [&sides.keys, &sides.values].map(|side| side.columns() * side.rows.width);
    let wanted = [0, 1].map(|i| outputs.sums[i].then_some(sizes[i]));
    match answers {
        Answers::Residuals(residuals) => {
            let operands = CausalKeys { keys: operands, residuals, coefficients: &polynomial.coefficients };
            operands.side(kernels, outputs, wanted, start, run)
        }
        Answers::Moments(moments) => {
            let dv = sides.values.columns();
            let moments = polynomial.coefficients.moments(moments, dv + 1, dv, polynomial.strip::<T>())?;
            in_range("a moment of the queries", T::NAME, moments.finite)?;
            let operands = KeySide { moments: Some(&moments), ..operands };
            let parts = Parts::new(sides.keys.rows.count, sizes.iter().sum());
            let sums = Sums::new(wanted);
            run.phase(1.0);
            sums.each(0, parts.all().map(|rows| outputs.task(rows)), run, |task, sums, cancel| {
                kernels.key_side(&operands, KeyTask { sums, ..task }, cancel)
            })?;
            sums.totals()
        }
    }
}

impl<'a, T> KeyOutputs<'a, T> {
    /// The task of the next rows, no sums yet.
    fn task(&mut self, rows: Range<usize>) -> KeyTask<'a, T> {
        let outputs = self.rows.each_mut().map(|(output, width)| cut(output, rows.len() * *width));
        KeyTask { rows, outputs, sums: [None, None] }
    }

    /// Those of the rows from `first` on, which are cut off.
    fn tail(&mut self, first: usize) -> Self {
        let rows = self.rows.each_mut().map(|(output, width)| (cut_tail(output, first * *width), *width));
        KeyOutputs { rows, ..*self }
    }
}

impl<T: Float> CausalKeys<'_, T> {
    fn side(
        &self,
        kernels: Kernels<T>,
        mut outputs: KeyOutputs<'_, T>,
        wanted: [Option<usize>; 2],
        start: f64,
        run: &mut Run<'_>,
    ) -> Result<[Option<Vec<f64>>; 2], Error> {
        let Sides { tree, keys, .. } = self.keys.sides;
        let (end, width) = (self.residuals.count, self.residuals.width);
        let chunks = end.div_ceil(C);
        // Later keys are not seen.
        let m = keys.rows.count.min(chunks * C);
        let count = if self.keys.slopes { tree.count() } else { tree.inner() };
        let mut waves = Waves::new(chunks, buffer::size(&[count, width])?, wanted.iter().flatten().sum())?;
        let sums = Sums::new(wanted);
        outputs.tail(m);
        let mut done = 0;
        for wave in waves.all().rev() {
            let left = |part: f64| 1.0 - (wave.end as f64 - part * wave.len() as f64) / chunks as f64;
            let progress = |part: f64| start + (1.0 - start) * left(part);
            run.phase(progress(MOMENTS_SHARE));
            waves.before(wave.clone(), true, run, |chunk, sums, cancel| {
                kernels.query_moments(self, rows(chunk, end), sums, cancel)
            })?;
            let mut own = outputs.tail(m.min(wave.start * C));
            let seen = wave.start..wave.end.min(m.div_ceil(C)).max(wave.start);
            let tasks = seen.clone().zip(waves.scanned(wave.len())).map(|(chunk, after)| CausalKeyTask {
                task: own.task(rows(chunk, m)),
                queries: rows(chunk, end),
                after,
            });
            run.phase(progress(1.0));
            sums.each(done, tasks, run, |task, sums, cancel| {
                let own = KeyTask { sums, ..task.task };
                kernels.causal_keys(self, CausalKeyTask { task: own, ..task }, cancel)
            })?;
            done += seen.len();
        }
        sums.totals()
    }
}
