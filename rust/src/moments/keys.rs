//! The key side of the moment form: pᵀ Q and fᵀ c of each key, from moments of the queries (docs/math.md, equation 63).

use std::ops::Range;

use super::collect::{Keys, clear};
use super::evaluate::{Evaluator, Moments};
use super::near::Near;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::{Outer, Product};
use crate::kernels::rhs::C;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Shared inputs of the tasks of the key side.
#[derive(Clone, Copy)]
pub struct KeySide<'a, T> {
    /// The keys and their values.
    pub keys: &'a Keys<'a, T>,
    /// N_β, moments of the queries with [c, −r] / z, if there are any.
    pub moments: Option<&'a Moments<T>>,
    /// pᵀ Q mapped to rows of dL/dA2.
    pub key_product: Option<&'a Product<T>>,
    /// fᵀ c mapped to rows of dL/dA3.
    pub value_product: Option<&'a Product<T>>,
    /// Whether pᵀ Q is wanted.
    pub slopes: bool,
}

/// One part of the keys.
pub struct KeyTask<'a, T> {
    /// Its rows.
    pub rows: Range<usize>,
    /// Rows of [`KeySide::key_product`].
    pub key_output: Option<&'a mut [T]>,
    /// Rows of [`KeySide::value_product`].
    pub value_output: Option<&'a mut [T]>,
    /// += (pᵀ Q)ᵀ A2, `[dimension][d2]`.
    pub key_sums: Option<&'a mut [f64]>,
    /// += (fᵀ c)ᵀ A3, `[dv][d3]`.
    pub value_sums: Option<&'a mut [f64]>,
}

/// pᵀ Q and fᵀ c of one part. Time 2 · rows · (N_(g+1) + N_g)(dv + 1) flops.
#[inline(always)]
pub fn key_side<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &KeySide<'_, T>,
    mut task: KeyTask<'_, T>,
    near: &mut impl Near<T, V, W, L, J>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let &Keys { tree, keys, values, .. } = operands.keys;
    let lanes = |width: usize| buffer::aligned::<T>(buffer::size(&[width, L])?);
    let (d, dv) = (keys.columns(), values.columns());
    let mut evaluator = Evaluator::<T>::new::<L>(tree)?;
    let mut scratch = lanes(keys.rows.width.max(values.rows.width))?;
    let (mut x, mut v, mut g) = (lanes(d)?, lanes(d)?, lanes(dv)?);
    let mut payload = lanes(dv + 1)?;
    payload[dv * L..].fill(T::one());
    let outer = |wanted: bool, count, width| {
        if wanted { Outer::<T>::new::<W, J>(count, width).map(Some) } else { Ok(None) }
    };
    let mut key_outer = outer(task.key_sums.is_some(), d, keys.rows.width)?;
    let mut value_outer = outer(task.value_sums.is_some(), dv, values.rows.width)?;
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(task.rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            let row = first + at - task.rows.start;
            keys.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut x, L);
            values.coordinates::<V, W, L, J>(first + at, rows, &mut scratch, &mut payload, L);
            match operands.moments {
                Some(moments) => {
                    evaluator.set::<V, W, L>(tree, &x);
                    evaluator.values::<V, W, L, J>(moments, &mut g);
                }
                None => g.fill(T::zero()),
            }
            near.values(first + at, rows, &x, &mut g);
            operands.keys.left_out(first + at, rows).for_each(|lane| clear::<T, L>(&mut g, lane));
            if let Some(outer) = &mut value_outer {
                outer.columns.set::<L>(at, &g);
            }
            if let (Some(product), Some(output)) = (operands.value_product, &mut task.value_output) {
                product.rows::<V, W, L, J>(&g, row, rows, output);
            }
            if !operands.slopes {
                continue;
            }
            match operands.moments {
                Some(moments) => evaluator.slopes::<V, W, L, J>(tree, moments, &payload, &x, &mut v),
                None => v.fill(T::zero()),
            }
            near.slopes(&payload, &mut v);
            operands.keys.left_out(first + at, rows).for_each(|lane| clear::<T, L>(&mut v, lane));
            if let Some(outer) = &mut key_outer {
                outer.columns.set::<L>(at, &v);
            }
            if let (Some(product), Some(output)) = (operands.key_product, &mut task.key_output) {
                product.rows::<V, W, L, J>(&v, row, rows, output);
            }
        }
        let sides = [(&mut key_outer, &mut task.key_sums, keys), (&mut value_outer, &mut task.value_sums, values)];
        for (outer, sums, side) in sides {
            if let (Some(outer), Some(sums)) = (outer, sums) {
                outer.payload.set_rows::<W, L>(side.slice(first, count));
                outer.add::<V, W, L, J>(sums);
            }
        }
    }
    Ok(())
}
