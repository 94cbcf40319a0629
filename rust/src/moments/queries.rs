//! The query side of the moment form: o, c, r, and w = p K, block by block (docs/math.md, equations 8.5 to 8.10).

use std::ops::Range;

use super::collect::Collector;
use super::evaluate::{Evaluator, Moments};
use super::near::{Beside, Limits, Near, Nothing, unshifted_square};
use super::sides::Sides;
use crate::certificate::moments::{Buckets, RowNumbers};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::{Outer, Product};
use crate::kernels::rhs::C;
use crate::kernels::tile::{self, square_norms, wide_norms, widest};
use crate::linalg::layout::Rows;
use crate::linalg::norms::wider;
use crate::runtime::buffer::{self, Aligned};
use crate::runtime::pool::Cancel;
use crate::simd::Vector;

/// Shared inputs of the tasks of the query side.
#[derive(Clone, Copy)]
pub struct Queries<'a, T> {
    /// The inputs in their coordinates.
    pub sides: &'a Sides<'a, T>,
    /// E.
    pub target: Rows<'a, T>,
    /// Whether c = o − E; otherwise E is c.
    pub is_target: bool,
    /// Turns E into the unit of c.
    pub target_unit: T,
    /// Turns c into its unit for the sums, from that of the passes.
    pub residual_unit: T,
    /// Moments of the keys, if there are any.
    pub moments: Option<&'a Moments<T>>,
    /// Rows beyond these are unsafe.
    pub limits: Limits<T>,
    /// max ‖k‖²: ‖x‖² times this is the square of the reach of a row's logits.
    pub key_square: f64,
    /// w mapped to rows of an output.
    pub product: Option<&'a Product<T>>,
    /// Whether w is wanted.
    pub slopes: bool,
    /// Whether the sums of the highest grade may be of integers.
    pub integers: bool,
}

/// One part of the queries.
#[derive(Default)]
pub struct QueryTask<'a, T> {
    /// Its rows.
    pub rows: Range<usize>,
    /// Rows of [`Queries::product`].
    pub output: Option<&'a mut [T]>,
    /// Rows of o, in the unit of the values.
    pub values: Option<&'a mut [T]>,
    /// Rows of [c, −r] / z.
    pub residuals: Option<&'a mut [T]>,
    /// ‖c‖ of each row, in its unit; where it is wanted, bounds are wanted as well.
    pub norms: Option<&'a mut [f64]>,
    /// += wᵀ A1, `[dimension][d1]`; N_β = Σ q^β [c, −r] / z, `[count][dv + 1]`; and fᵀ c and pᵀ Q of each of
    /// [`Sides::exact`], `[keys][dv + dimension]`.
    pub sums: [Option<&'a mut [f64]>; 3],
}

/// Statistics of one part of the queries.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Σ ‖c‖² of the safe rows, in the unit of c.
    pub squares: f64,
    /// Rows whose normaliser or output is not safe: they count for nothing in any sum.
    pub unsafe_rows: Vec<usize>,
    /// max ‖x‖².
    pub widest: f64,
    /// Upper bound of the error of integer sums in each block of `C` rows (docs/math.md, equation 8.13), where there
    /// are moments.
    pub lost: Vec<f64>,
    /// Safe rows by the reach of their logits, where bounds are wanted.
    pub buckets: Buckets,
}

impl Found {
    /// Nothing yet, with room for as many unsafe rows as the part has rows, and for buckets where bounds are wanted.
    pub fn of(rows: usize, has_bounds: bool) -> Result<Self, Error> {
        let buckets = if has_bounds { Buckets::new()? } else { Buckets::default() };
        let lost = buffer::with_capacity(rows.div_ceil(C))?;
        Ok(Found { unsafe_rows: buffer::with_capacity(rows)?, buckets, lost, ..Found::default() })
    }

    /// Counts the next part in.
    pub fn merge(&mut self, next: Found) -> Result<(), Error> {
        self.squares += next.squares;
        buffer::reserve(&mut self.unsafe_rows, next.unsafe_rows.len())?;
        self.unsafe_rows.extend(next.unsafe_rows);
        self.widest = wider(self.widest, next.widest);
        buffer::reserve(&mut self.lost, next.lost.len())?;
        self.lost.extend(next.lost);
        self.buckets.merge(&next.buckets);
        Ok(())
    }
}

/// The buffers of one task.
struct Scratch<T> {
    input: Aligned<T>,
    x: Aligned<T>,
    /// E, and then o.
    target: Aligned<T>,
    /// The values times z, and z; then c and −r, divided by z.
    sums: Aligned<T>,
    w: Aligned<T>,
}

impl<T: Float> Scratch<T> {
    fn new<const L: usize>(operands: &Queries<'_, T>) -> Result<Self, Error> {
        let lanes = |width: usize| buffer::aligned::<T>(buffer::size(&[width, L])?);
        let (side, dv) = (&operands.sides.queries, operands.target.width);
        Ok(Scratch {
            input: lanes(side.rows.width)?,
            x: lanes(side.columns())?,
            target: lanes(dv)?,
            sums: lanes(dv + 1)?,
            w: lanes(side.columns())?,
        })
    }
}

/// The query side without a mask, with the keys that stand out beside the moments where there are any. Time as
/// [`queries`], and 4 · rows · keys · (d + dv + 1) flops.
#[inline(always)]
pub fn queries_beside<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Queries<'_, T>,
    task: QueryTask<'_, T>,
    cancel: &Cancel,
) -> Result<Found, Error> {
    let Some([keys, values]) = &operands.sides.exact else {
        return queries::<T, V, W, L, J>(operands, task, &mut Nothing, cancel);
    };
    let (chunk, finite) = operands.sides.chunk::<L, J>(keys, values, 0..keys.rows.count)?;
    let reach = T::narrow(unshifted_square::<T>() / chunk.widest::<J>());
    let (largest, mut limits) = (if finite { reach } else { -T::one() }, operands.limits);
    // So that NaN stays what it is.
    if largest < limits.largest_square {
        limits.largest_square = largest;
    }
    queries::<T, V, W, L, J>(&Queries { limits, ..*operands }, task, &mut Beside(chunk), cancel)
}

/// o, c and w of one part, and the sums over it. Time 2 · rows · (N_(g+1) + N_g)(dv + 1) flops and that of the outputs
/// asked for besides.
#[inline(always)]
pub fn queries<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    operands: &Queries<'_, T>,
    mut task: QueryTask<'_, T>,
    near: &mut impl Near<T, L>,
    cancel: &Cancel,
) -> Result<Found, Error> {
    let &Sides { tree, queries: ref side, blocks, .. } = operands.sides;
    let dv = operands.target.width;
    let mut found = Found::of(task.rows.len(), task.norms.is_some())?;
    let mut scratch = Scratch::<T>::new::<L>(operands)?;
    let mut evaluator = Evaluator::<T>::new::<L>(tree)?;
    let mut weights = match task.sums[0] {
        Some(_) => Some(Outer::<T>::new::<W, J>(side.columns(), side.rows.width)?),
        None => None,
    };
    let mut gathered = match task.sums[1] {
        Some(_) => Some((
            Collector::<T>::new::<V, W, J>(tree, dv + 1, operands.integers)?,
            Outer::<T>::new::<W, J>(side.columns(), dv + 1)?,
        )),
        None => None,
    };
    for first in task.rows.clone().step_by(C) {
        cancel.check()?;
        let count = C.min(task.rows.end - first);
        for at in (0..count).step_by(L) {
            let (rows, row) = ((count - at).min(L), first + at - task.rows.start);
            blocks.coordinates(side, first + at, rows, &mut scratch.input, &mut scratch.x, L);
            blocks.values(&mut evaluator, tree, operands.moments, &scratch.x, &mut scratch.sums);
            let fits = near.fits(&operands.limits, &scratch.x, &scratch.sums);
            near.values(blocks, (first + at, rows), &scratch.x, &fits, &mut scratch.sums);
            if operands.residual::<V, W, L>(first + at, rows, &fits, &mut scratch, &mut task, &mut found) {
                blocks.set(&mut evaluator, tree, &scratch.x);
            }
            if let Some(residuals) = &mut task.residuals {
                tile::untranspose::<T, L>(&scratch.sums, (row, rows), residuals);
            }
            if let (Some(chunk), Some(sums)) = (near.chunk(), &mut task.sums[2]) {
                blocks.gather(chunk, &scratch.sums, sums);
            }
            if let Some((_, gathered)) = &mut gathered {
                gathered.columns.set::<L>(at, &scratch.x);
                gathered.payload.set_lanes::<W, L>(at, &scratch.sums);
            }
            if !operands.slopes {
                continue;
            }
            blocks.slopes(&mut evaluator, tree, operands.moments, &scratch.sums, &scratch.x, &mut scratch.w);
            near.slopes(blocks, &scratch.sums, &mut scratch.w);
            if let Some(outer) = &mut weights {
                outer.columns.set::<L>(at, &scratch.w);
            }
            if let (Some(product), Some(output)) = (operands.product, &mut task.output) {
                blocks.map_rows(product, &scratch.w, row, rows, output);
            }
        }
        if let (Some(outer), Some(sums)) = (&mut weights, &mut task.sums[0]) {
            outer.payload.set_rows::<W, L>(side.slice(first, count));
            blocks.add_outer(outer, sums);
        }
        if let (Some((collector, gathered)), Some(sums)) = (&mut gathered, &mut task.sums[1]) {
            blocks.collect(collector, tree, &mut gathered.columns.data, count, &gathered.payload, sums);
            found.lost.push(collector.take_lost());
        }
    }
    Ok(found)
}

impl<T: Float> Queries<'_, T> {
    /// Turns sums into c and −r, both divided by z and in their unit; whether some row is unsafe, whose x becomes zero
    /// so that nothing but zeros comes of it.
    #[inline(always)]
    fn residual<V: Vector<T, W>, const W: usize, const L: usize>(
        &self,
        first: usize,
        rows: usize,
        fits: &[bool; L],
        scratch: &mut Scratch<T>,
        task: &mut QueryTask<'_, T>,
        found: &mut Found,
    ) -> bool {
        let dv = self.target.width;
        tile::transpose::<T, L>(&self.target.data[first * dv..][..rows * dv], dv, &mut scratch.target);
        let (values, z) = scratch.sums.as_chunks_mut::<L>().0.split_at_mut(dv);
        let z = &mut z[0];
        let (mut inverse, mut r, mut squares) = ([T::zero(); L], [T::zero(); L], [T::zero(); L]);
        let mut outputs_squared = [T::zero(); L];
        for l in 0..L {
            inverse[l] = z[l].recip();
        }
        for (value, target) in values.iter_mut().zip(scratch.target.as_chunks_mut::<L>().0) {
            for l in 0..L {
                let output = value[l] * inverse[l];
                let given = target[l] * self.target_unit;
                let c = if self.is_target { output - given } else { given };
                r[l] += c * output;
                outputs_squared[l] += output * output;
                squares[l] += c * c;
                (value[l], target[l]) = (c, output);
            }
        }
        let row = first - task.rows.start;
        if let Some(outputs) = &mut task.values {
            tile::untranspose::<T, L>(&scratch.target, (row, rows), outputs);
        }
        let x = scratch.x.as_chunks_mut::<L>().0;
        let lengths = square_norms(x);
        let inputs = wide_norms::<T, L>(scratch.input.as_chunks().0);
        let mut c = [0.0; L];
        for l in 0..L {
            c[l] = squares[l].widen().sqrt();
        }
        if let Some(norms) = &mut task.norms {
            norms[row..][..rows].copy_from_slice(&c[..rows]);
        }
        let mut all_safe = true;
        for l in 0..L {
            let safe = fits[l] && (squares[l] + r[l]).is_finite();
            let used = safe && l < rows;
            found.squares += if used { squares[l].widen() } else { 0.0 };
            if used {
                let (x, o) = (lengths[l].widen(), outputs_squared[l].widen());
                let row = RowNumbers { reach: x * self.key_square, c: c[l], a: inputs[l], o, z: z[l].widen() };
                found.buckets.add(&row);
            }
            if l < rows && !safe {
                found.unsafe_rows.push(first + l);
            }
            all_safe &= safe;
            inverse[l] = if used { inverse[l] * self.residual_unit } else { T::zero() };
        }
        for l in 0..L {
            z[l] = -r[l] * inverse[l];
        }
        // In registers by name: along the values, the compiler would gather them and scatter them again.
        let factor: tile::Pair<V> = tile::load(&inverse);
        for value in values.iter_mut() {
            tile::store(tile::zip(tile::load(value), factor, V::mul), value);
        }
        if !all_safe {
            for l in (0..L).filter(|&l| inverse[l] == T::zero()) {
                z[l] = T::zero();
                values.iter_mut().chain(x.iter_mut()).for_each(|column| column[l] = T::zero());
            }
        }
        found.widest = wider(found.widest, widest(x));
        !all_safe
    }
}
