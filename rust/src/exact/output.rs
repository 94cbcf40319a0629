//! The output of attention with an estimate of its rounding error (docs/math.md, Rule 5.15).

use super::alike::Trace;
use super::attention::logarithms;
use super::kernels::Kernels;
use super::measured::Measured;
use super::pull_back::Estimate;
use super::residual::Row;
use super::rounding::RowErrors;
use super::sight::{Sight, blamed, without};
use super::stack::{Attended, check, each, operations};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::{in_range, rows, take};
use crate::linalg::norms::norm;
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::{Heads, Shape, Stack};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// As [`super::attention_stack`], with the size of the output of each head and an estimate of its rounding error. Time
/// O((n + m)(d + dv)) a head more.
///
/// # Errors
/// Those of [`super::attention()`], of the first head that has one.
pub fn attention_stack_measured<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<(Attended<T>, Vec<Estimate>), Error> {
    type Found<T> = Result<(Attended<T>, Vec<Estimate>), Error>;
    compiled!(T, attended::<T> as fn(&Stack<'_, T>, (bool, bool), &Options, Option<Watch<'_>>) -> Found<T>)(
        stack,
        (has_lse, is_checked),
        options,
        watch,
    )
}

fn attended<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<(Attended<T>, Vec<Estimate>), Error> {
    let Shape { n, dv, .. } = stack.shape();
    let heads = stack.heads();
    let mut output = buffer::zeros::<T>(buffer::size(&[heads.len(), n, dv])?)?;
    let mut lse = buffer::zeros::<T>(if has_lse { buffer::size(&[heads.len(), n])? } else { 0 })?;
    let mut estimates = buffer::filled(heads.len(), Estimate::default())?;
    let mut tasks = buffer::with_capacity(heads.len())?;
    let (mut outputs, mut lses) = (output.as_mut_slice(), lse.as_mut_slice());
    for (head, estimate) in heads.iter().zip(&mut estimates) {
        tasks.push((head, take(&mut outputs, n * dv), has_lse.then(|| take(&mut lses, n)), estimate));
    }
    let (mut run, kernels) = (Run::new(options, watch), Kernels::of(options.isa()?));
    each(tasks, 4.0 * operations(stack), &mut run, |(head, output, lse, estimate), run| {
        if is_checked {
            check(head, [&[], &[]], &kernels, run)?;
        }
        let heads = head.admitted()?;
        let found = of_seen(&heads, (output, lse), options, run);
        *estimate = found.map_err(|error| blamed(&heads, [&[], &[]], error, run))?;
        Ok(())
    })?;
    let output = matrix(output, heads.len() * n, dv)?;
    let lse = if has_lse { Some(matrix(lse, heads.len(), n)?) } else { None };
    Ok((Attended { output, lse }, estimates))
}

/// One head without keys that no query sees.
fn of_seen<T: Float>(
    heads: &Heads<'_, T>,
    (output, lse): (&mut [T], Option<&mut [T]>),
    options: &Options,
    run: &mut Run<'_>,
) -> Result<Estimate, Error> {
    let (m, dv, sight) = (heads.key.nrows(), heads.value.ncols(), Sight::of(heads, run)?);
    let (keys, values) = (without(heads.key, sight.unseen(m))?, without(heads.value, sight.unseen(m))?);
    let Measured { engine, values, before } =
        Measured::new(heads, ([rows(&keys)?, rows(&values)?], sight), true, options, run)?;
    let found = engine.forward_of_few(&values, output, 1.0, run)?;
    in_range("the output", T::NAME, engine.kernels.finite(output))?;
    logarithms(lse, &found);
    // Zero by structure.
    if m == 0 || dv == 0 || values.largest == 0.0 {
        return Ok(Estimate::default());
    }
    let of_row = |row: &[T]| Row { r: 0.0, c: Trace::new(row), output: norm(row) };
    let rows = buffer::collected(output.chunks(dv).map(of_row))?;
    let size = engine.kernels.size(output);
    let errors = RowErrors::new::<T>(before, rows, found.spread);
    Ok(Estimate { norm: size, rounding: errors.finish::<T>(errors.outputs()?, 1.0, size, output.len()) })
}
