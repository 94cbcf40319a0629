//! Between the passes: c = o − E, r = ⟨c, o⟩, and their scaling for pass 2.

use super::alike::Trace;
use super::forward::quotient;
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::norms::{LANES, largest, norm, row_norms, sum_of};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Most binary orders of magnitude that c may grow by when it is scaled for tiny values.
pub const GROWTH: f64 = 60.0;

/// Rows that c is made of: a target E, so that c = o − E, or c itself.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a, T> {
    /// The rows, row-major.
    pub rows: &'a [T],
    /// Whether they are a target.
    pub is_target: bool,
}

impl<'a, T: Float> Given<'a, T> {
    /// Some of the rows.
    #[inline(always)]
    pub fn rows(&self, rows: std::ops::Range<usize>, width: usize) -> Given<'a, T> {
        Given { rows: &self.rows[rows.start * width..rows.end * width], ..*self }
    }

    /// The entry of c, from the index and the entry of o.
    #[inline(always)]
    fn c(&self, i: usize, output: T) -> T {
        if self.is_target { output - self.rows[i] } else { self.rows[i] }
    }

    /// Replaces a row of o by c, and returns ⟨c, o⟩.
    #[inline(always)]
    pub fn replace(&self, row: &mut [T]) -> f64 {
        let mut r = [0.0; LANES];
        for (part, entries) in row.chunks_mut(LANES).enumerate() {
            for (k, entry) in entries.iter_mut().enumerate() {
                let c = self.c(LANES * part + k, *entry);
                r[k] += c.widen() * entry.widen();
                *entry = c;
            }
        }
        sum_of(r)
    }

    /// The power of two that brings p near f, known before c is: no row of c has a larger norm than its target and the
    /// largest value that it sees, one of `seen`, together.
    pub fn unit(&self, width: usize, seen: &[f64], run: &mut Run<'_>) -> Result<f64, Error> {
        let mut rows = row_norms(Rows { data: self.rows, count: seen.len(), width }, run)?;
        if self.is_target {
            rows.iter_mut().zip(seen).for_each(|(c, value)| *c += value);
        }
        Ok(unit(&rows, seen))
    }
}

/// Statistics of a row of c.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row {
    /// r_j = ⟨c_j, o_j⟩, which needs no pass of its own (docs/math.md, section 2).
    pub r: f64,
    /// Size and direction of c_j.
    pub c: Trace,
    /// ‖o_j‖.
    pub output: f64,
}

impl Row {
    /// Replaces a row of o by c, which is made of the one `given` row.
    #[inline(always)]
    pub fn new<T: Float>(row: &mut [T], given: Given<'_, T>) -> Row {
        let output = norm(row);
        let r = given.replace(row);
        Row { r, c: Trace::new(row), output }
    }

    /// Divides c and r by `divisor`, the row's normaliser times the unit, which is zero where the row sees nothing: it
    /// then has no part in anything; returns the latter.
    #[inline(always)]
    pub fn prepare<T: Float>(&self, c: &mut [T], divisor: f64) -> T {
        let divisor = if divisor == 0.0 { f64::INFINITY } else { divisor };
        let reciprocal = divisor.recip();
        for c in c {
            *c = quotient(c.widen(), divisor, reciprocal);
        }
        quotient(self.r, divisor, reciprocal)
    }
}

/// The power of two that brings p near f, from upper bounds of the norms of each row of c and of the values that it
/// sees.
pub fn unit(c: &[f64], seen: &[f64]) -> f64 {
    let (most_c, most_value) = (largest(c), largest(seen));
    // Of the product of both in one row: where they are largest in different rows, it is smaller than theirs.
    let share = c.iter().zip(seen).fold(0.0, |most: f64, (c, value)| most.max(c / most_c * (value / most_value)));
    let (c, value) = (most_c.log2(), most_value.log2());
    let exponent = if c.is_finite() && value.is_finite() { (c + value + share.log2()).max(c - GROWTH) } else { 0.0 };
    exponent.floor().exp2()
}

/// The incoming gradient c as pass 2 wants it.
pub struct Prepared<T> {
    /// c / (α · unit), (n, dv).
    pub c: Vec<T>,
    /// ⟨c, o⟩ / (α · unit).
    pub r: Vec<T>,
}

/// The incoming gradient, row by row, before scaling.
pub struct Incoming<T> {
    /// c, (n, dv).
    pub c: Vec<T>,
    /// One a row.
    pub rows: Vec<Row>,
    width: usize,
}

impl<T: Float> Incoming<T> {
    /// From o, replaced by c = o − E, or by the c that is given.
    pub fn new(
        mut output: Vec<T>,
        width: usize,
        n: usize,
        given: Given<'_, T>,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let mut rows = buffer::filled(n, Row::default())?;
        if width > 0 {
            let tasks = output.chunks_mut(PRODUCT_ROWS * width).zip(rows.chunks_mut(PRODUCT_ROWS)).enumerate();
            run.short(2 * n * width, tasks, |(task, (c, rows)), _| {
                let first = task * PRODUCT_ROWS;
                let given = given.rows(first..first + rows.len(), width);
                for (j, (c, row)) in c.chunks_exact_mut(width).zip(rows).enumerate() {
                    *row = Row::new(c, given.rows(j..j + 1, width));
                }
                Ok(())
            })?;
        }
        Ok(Incoming { c: output, rows, width })
    }

    /// Divides c and r by the row's normaliser, of which `total` has all, and by `unit`; returns the statistics of c as
    /// well.
    pub fn prepare(mut self, total: &[f64], unit: f64, run: &mut Run<'_>) -> Result<(Prepared<T>, Vec<Row>), Error> {
        let mut r = buffer::zeros(self.rows.len())?;
        if self.width == 0 {
            return Ok((Prepared { c: self.c, r }, self.rows));
        }
        let width = self.width;
        let known = self.rows.chunks(PRODUCT_ROWS).zip(total.chunks(PRODUCT_ROWS));
        let tasks = known.zip(self.c.chunks_mut(PRODUCT_ROWS * width).zip(r.chunks_mut(PRODUCT_ROWS)));
        run.short(2 * self.rows.len() * width, tasks, |((rows, total), (c, r)), _| {
            for (((row, total), c), r) in rows.iter().zip(total).zip(c.chunks_exact_mut(width)).zip(r) {
                *r = row.prepare(c, total * unit);
            }
            Ok(())
        })?;
        Ok((Prepared { c: self.c, r }, self.rows))
    }
}

/// ½ ‖c‖²_F.
pub fn loss(rows: &[Row]) -> f64 {
    // Compensated (Neumaier): many equal terms would all be rounded the same way.
    let (mut sum, mut lost) = (0.0, 0.0);
    for row in rows {
        let (before, term) = (sum, row.c.norm * row.c.norm);
        sum += term;
        lost += if before >= term { (before - sum) + term } else { (term - sum) + before };
    }
    // Past the range the compensation is not a number.
    0.5 * if sum.is_finite() { sum + lost } else { sum }
}
