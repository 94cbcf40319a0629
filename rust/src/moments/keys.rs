//! The keys of the moment form: their moments (docs/math.md, equation 8.4), and pᵀ Q and fᵀ c of each key from moments
//! of the queries (equation 8.11).

use std::ops::Range;

use super::collect::Collector;
use super::evaluate::{Evaluator, Moments};
use super::near::Near;
use super::sides::Sides;
use crate::certificate::moments::{Ball, BallLanes};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::{Outer, Product};
use crate::kernels::rhs::{C, Rhs};
use crate::kernels::tile::widest;
use crate::linalg::norms::wider;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

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

/// Statistics of one part of the keys.
#[derive(Debug, Clone, Default)]
pub struct KeyFound {
    /// max ‖k‖².
    pub widest: f64,
    /// Upper bound of the error of integer sums (docs/math.md, equation 8.13).
    pub lost: f64,
    /// Rows of A2 around the mean, rows of A3, and values in their unit, around a centre.
    pub balls: [Ball; 3],
}

/// M_β of some keys: `sums` += Σ k^β [h, 1], `[count][dv + 1]`; those of the highest grade may be of `integers`. Time
/// 2 · rows · N · (dv + 1) flops.
#[inline(always)]
pub fn key_moments<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    sides: &Sides<'_, T>,
    rows: Range<usize>,
    integers: bool,
    sums: &mut [f64],
    cancel: &Cancel,
) -> Result<KeyFound, Error> {
    let &Sides { tree, ref keys, ref values, blocks, .. } = sides;
    let width = values.columns();
    let mut collector = Collector::<T>::new::<V, W, J>(tree, width + 1, integers)?;
    let mut payload = Rhs::<T>::new::<W>(width + 1)?;
    let mut x = buffer::aligned::<T>(buffer::size(&[keys.columns().max(1), C])?)?;
    let mut h = buffer::aligned::<T>(buffer::size(&[width + 1, L])?)?;
    h[width * L..].fill(T::one());
    let mut scratch = buffer::aligned::<T>(buffer::size(&[keys.rows.width.max(values.rows.width), L])?)?;
    let [mut inputs, mut value_inputs, mut outputs] = [const { BallLanes::<L>::NONE }; 3];
    let mut widest_key = 0.0;
    for first in rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(rows.end - first);
        for at in (0..count).step_by(L) {
            let rows = (count - at).min(L);
            blocks.coordinates(keys, first + at, rows, &mut scratch, &mut x[at..], C);
            inputs.add(&scratch.as_chunks().0[..keys.rows.width], &[], rows);
            blocks.coordinates(values, first + at, rows, &mut scratch, &mut h, L);
            value_inputs.add(&scratch.as_chunks().0[..values.rows.width], &values.centres[0], rows);
            outputs.add(&h.as_chunks().0[..width], &values.centres[1], rows);
            sides.leave_out::<C>(first + at, rows, at, &mut x);
            sides.leave_out::<L>(first + at, rows, 0, &mut h);
            payload.set_lanes::<W, L>(at, &h);
            h[width * L..].fill(T::one());
        }
        blocks.collect(&mut collector, tree, &mut x, count, &payload, sums);
        widest_key = wider(widest_key, widest::<T, C>(x.as_chunks().0));
    }
    let balls = [inputs, value_inputs, outputs].map(|lanes| lanes.ball());
    Ok(KeyFound { widest: widest_key, lost: collector.take_lost(), balls })
}
