//! The first pass: t and ȯ of a group of queries.

use super::kernels::Kernels;
use super::panels::Visit;
use super::rows::{Group, Sides};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;
use crate::runtime::pool::Cancel;

/// ȯ of a group of queries into `change`, and t into the group, where `output` are its rows of o: docs/math.md,
/// equation 6.3. Time rows · keys · (6 d + 4 dv).
pub fn tangent<T: Float>(
    sides: &Sides<'_, T>,
    group: &mut Group<T>,
    (output, change): (&[T], &mut [T]),
    kernels: &Kernels<T>,
    cancel: &Cancel,
) -> Result<(), Error> {
    let operands = sides.operands;
    let (lanes, width) = (kernels.lanes, operands.values.width);
    // The last column is t.
    let size = (width + 1) * lanes;
    let mut sums = buffer::aligned::<T>(group.tiles() * size)?;
    let mut sums64 = buffer::aligned::<f64>(group.tiles() * size)?;
    let room = || buffer::aligned::<T>(operands.key_block.div_ceil(kernels.keys) * kernels.tile());
    let (mut weights, mut changes) = (room()?, room()?);
    let mut entries = operands.room(lanes)?;
    for block in operands.key_blocks(0..operands.keys.count, group.all()) {
        cancel.check()?;
        for t in 0..group.tiles() {
            let walk = operands.walk(block.clone(), group.rows(t));
            let entries = kernels.entries(operands, entries.as_mut(), &walk);
            let visit = Visit { walk: &walk, entries, first: block.start, step: kernels.tile() };
            let [query, moved] = group.queries.each_ref().map(|packed| packed.lanes(t, lanes));
            kernels.products(&[(query, operands.keys)], visit, &mut weights);
            kernels.products(&[(moved, operands.keys), (query, sides.keys)], visit, &mut changes);
            let (sums, total) = sums[t * size..][..size].split_at_mut(width * lanes);
            kernels.weigh([&mut weights, &mut changes], &group.lanes(t), total, visit);
            kernels.accumulate(&changes, visit, operands.values, sums);
            kernels.accumulate(&weights, visit, sides.values, sums);
        }
        kernels.fold(&mut sums, &mut sums64);
    }
    for row in 0..group.count {
        let sums = &sums64[row / lanes * size..][..size];
        let lane = row % lanes;
        let t = sums[width * lanes + lane];
        group.t[row] = T::narrow(t);
        let own = row * width..(row + 1) * width;
        for (i, (change, o)) in change[own.clone()].iter_mut().zip(&output[own]).enumerate() {
            *change = T::narrow(sums[i * lanes + lane] - t * o.widen());
        }
    }
    Ok(())
}
