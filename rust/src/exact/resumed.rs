//! Pass 2 from what an earlier call of pass 1 returned: c, r and the shift from o and the logarithm of the normaliser.

use std::f64::consts::LOG2_E;
use std::ops::Range;

use super::Operands;
use super::residual::{Given, Row};
use crate::float::Float;

/// Results of pass 1 that the caller has, row by row.
#[derive(Debug, Clone, Copy)]
pub struct Resumed<'a, T> {
    /// o, row-major.
    pub output: &'a [T],
    /// ln Σ_i exp(logit_i) over all keys that a row sees, which may be more than those of the pass; −∞ where it sees
    /// nothing.
    pub lse: &'a [f64],
}

impl<'a, T> Resumed<'a, T> {
    /// Those of some rows.
    pub fn rows(&self, rows: Range<usize>, width: usize) -> Resumed<'a, T> {
        Resumed { output: &self.output[rows.start * width..rows.end * width], lse: &self.lse[rows] }
    }
}

/// Inputs and outputs of the step to c for some rows that begin a tile.
pub struct ResumedTask<'a, T> {
    /// Results of pass 1.
    pub saved: Resumed<'a, T>,
    /// ‖query‖ · max ‖key‖, in the units of the logits.
    pub bound: &'a [f64],
    /// Rows of c.
    pub given: Given<'a, T>,
    /// The power of two taken out of c.
    pub unit: f64,
    /// c / (α · unit), row-major.
    pub c: &'a mut [T],
    /// ⟨c, o⟩ / (α · unit).
    pub r: &'a mut [T],
    /// Shift that is subtracted from the logits of a row.
    pub shift: &'a mut [T],
    /// r of each row; nothing else of it.
    pub rows: &'a mut [Row],
}

/// The step to c for one task. Time rows · dv.
///
/// Tiles that pass 1 left without a shift have none here, and the normaliser is divided out of c; elsewhere the shift
/// is the logarithm itself, so that the weights are f but for its last bits, which c makes up for.
#[inline(always)]
pub fn resumed<T: Float, const L: usize>(operands: &Operands<'_, T>, task: ResumedTask<'_, T>) {
    let width = operands.values.width;
    for (tile, bounds) in task.bound.chunks(L).enumerate() {
        let unshifted = operands.unshifted(bounds);
        for (j, &bound) in (tile * L..).zip(bounds) {
            let log = task.saved.lse[j] * LOG2_E;
            // A row that sees nothing: any shift that keeps its weights finite.
            let (log, is_seen) = if log == f64::NEG_INFINITY { (bound, false) } else { (log, true) };
            let shift = if unshifted { T::zero() } else { T::narrow(log) };
            let divisor = if is_seen { (log - shift.widen()).exp2() * task.unit } else { f64::INFINITY };
            let c = &mut task.c[j * width..][..width];
            c.copy_from_slice(&task.saved.output[j * width..][..width]);
            let given = task.given.rows(j..j + 1, width);
            let r = given.replace(c);
            task.rows[j] = Row { r, ..Row::default() };
            task.r[j] = task.rows[j].prepare(c, divisor);
            task.shift[j] = shift;
        }
    }
}

#[cfg(test)]
mod tests;
