//! The key side of the moment form: pᵀ Q and fᵀ c of each key from moments of the queries (docs/math.md, equation
//! 8.11).

use std::ops::Range;

use super::evaluate::{Evaluator, Moments};
use super::near::Near;
use super::sides::Sides;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::{Outer, Product};
use crate::kernels::rhs::C;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;

/// Shared inputs of the tasks of the key side.
#[derive(Clone, Copy)]
pub struct KeySide<'a, T> {
    /// The inputs in their coordinates.
    pub sides: &'a Sides<'a, T>,
    /// N_β, moments of the queries with [c, −r] / z, if there are any.
    pub moments: Option<&'a Moments<T>>,
    /// pᵀ Q mapped to rows of dL/dA2, and fᵀ c to rows of dL/dA3.
    pub products: [Option<&'a Product<T>>; 2],
    /// Whether pᵀ Q is wanted.
    pub slopes: bool,
}

/// One part of the keys.
pub struct KeyTask<'a, T> {
    /// Its rows.
    pub rows: Range<usize>,
    /// Rows of [`KeySide::products`].
    pub outputs: [Option<&'a mut [T]>; 2],
    /// += (pᵀ Q)ᵀ A2, `[dimension][d2]`, and (fᵀ c)ᵀ A3, `[dv][d3]`.
    pub sums: [Option<&'a mut [f64]>; 2],
}

/// pᵀ Q and fᵀ c of one part. Time 2 · rows · (N_(g+1) + N_g)(dv + 1) flops.
#[inline(always)]
pub fn key_side<T: Float, const W: usize, const L: usize, const J: usize>(
    operands: &KeySide<'_, T>,
    mut task: KeyTask<'_, T>,
    near: &mut impl Near<T, L>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let &Sides { tree, ref keys, ref values, blocks, .. } = operands.sides;
    let lanes = |width: usize| buffer::aligned::<T>(buffer::size(&[width, L])?);
    let (d, dv) = (keys.columns(), values.columns());
    let mut evaluator = Evaluator::<T>::new::<L>(tree)?;
    let mut scratch = lanes(keys.rows.width.max(values.rows.width))?;
    let (mut x, mut v, mut g) = (lanes(d)?, lanes(d)?, lanes(dv)?);
    let mut payload = lanes(dv + 1)?;
    payload[dv * L..].fill(T::one());
    let mut outers = [None, None];
    for ((outer, side), _) in outers.iter_mut().zip([keys, values]).zip(&task.sums).filter(|(_, sums)| sums.is_some()) {
        *outer = Some(Outer::<T>::new::<W, J>(side.columns(), side.rows.width)?);
    }
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(task.rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            let row = first + at - task.rows.start;
            blocks.coordinates(keys, first + at, rows, &mut scratch, &mut x, L);
            blocks.coordinates(values, first + at, rows, &mut scratch, &mut payload, L);
            blocks.values(&mut evaluator, tree, operands.moments, &x, &mut g);
            near.values(blocks, (first + at, rows), &x, &[true; L], &mut g);
            operands.sides.leave_out::<L>(first + at, rows, 0, &mut g);
            if operands.slopes {
                blocks.slopes(&mut evaluator, tree, operands.moments, &payload, &x, &mut v);
                near.slopes(blocks, &payload, &mut v);
                operands.sides.leave_out::<L>(first + at, rows, 0, &mut v);
            }
            for (i, lanes) in [&v, &g].into_iter().enumerate() {
                if let Some(outer) = &mut outers[i] {
                    outer.columns.set::<L>(at, lanes);
                }
                if let (Some(product), Some(output)) = (operands.products[i], &mut task.outputs[i]) {
                    blocks.map_rows(product, lanes, row, rows, output);
                }
            }
        }
        for ((outer, sums), side) in outers.iter_mut().zip(&mut task.sums).zip([keys, values]) {
            if let (Some(outer), Some(sums)) = (outer, sums) {
                outer.payload.set_rows::<W, L>(side.slice(first, count));
                blocks.add_outer(outer, sums);
            }
        }
    }
    Ok(())
}
