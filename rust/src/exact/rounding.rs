//! The rounding estimate of the exact gradient (docs/math.md, Rule 5.8).
//!
//! Each step's error is taken by its size, row by row. Rounding errors of different rows cancel like independent ones,
//! and those of rows that are alike add up: both sums are taken, the second over the errors that line up in the data.

use std::f64::consts::LN_2;

use ndarray::ArrayView2;

use self::parts::Parts;
use self::row::{Constant, Errors, RowsAlike};
use self::sums::{Cells, Sums};
use super::alike::{LinedUp, Trace, alike, both, longest, outer};
use super::forward::Spread;
use super::measures::Place;
use super::residual::Row;
use crate::constants::{KEY_SIDE_QUERIES, LINED_UP_SAFETY, PRODUCT_ROWS, ROUNDING_SAFETY};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::{largest, norm, spectral_bound};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

mod before;
mod coarse;
mod parts;
mod row;
mod sums;

pub use before::{Before, Inherited, Mixed};
pub use coarse::{Coarse, Sizes};
pub use row::{RowErrors, isotropic};

/// Parts that a sum over rows is made in at most, and rows of a part at least.
const MOST_PARTS: usize = 16;
const LEAST_ROWS: usize = 512;

/// Nanoseconds that a row of such a sum takes.
const ROW_NANOSECONDS: usize = 200;

impl RowErrors {
    /// After pass 1: all but the part of p that only pass 2 can measure.
    pub fn new<T: Float>(before: Before, rows: Vec<Row>, spread: Vec<Spread>) -> Self {
        let u = T::UNIT_ROUNDOFF;
        let query = longest(&before.queries);
        let c = largest(rows.iter().map(|row| row.c.norm));
        // No block of keys is longer.
        let terms = PRODUCT_ROWS as f64;
        let mut errors = RowErrors {
            u,
            // Logits that differ by less than a rounding of a weight give weights that are alike.
            weights_cell: alike(query.max(before.keys.key.largest.recip()), u, terms),
            query_cell: alike(query, u, terms),
            c_cell: alike(c, u, terms),
            block: 1.0,
            sums: Constant::default(),
            before,
            count: rows.len(),
            rows,
            spread,
            p: Vec::new(),
            rows_alike: RowsAlike { queries: 1.0, weights: 1.0, c: 1.0 },
        };
        errors.sums = errors.constant();
        let mut alike: [LinedUp; 3] = std::array::from_fn(|_| LinedUp::new());
        for j in 0..errors.rows.len() {
            let c = errors.c_cell(j);
            let query = errors.before.queries[j].cell(errors.query_cell);
            for (alike, cell) in alike.iter_mut().zip([both(query, c), both(errors.weights_cell(j), c), c]) {
                alike.add(1.0, cell, &[1.0]);
            }
        }
        let rows = errors.rows.len().max(1) as f64;
        errors.block = errors.summed_keys(errors.before.keys.terms).max(1.0);
        let [queries, weights, c] = alike.map(|alike| (alike.total().powi(2) / rows).max(1.0));
        errors.rows_alike = RowsAlike { queries, weights, c };
        errors
    }

    /// After pass 2, from Σ_i p_i² of each row, which it turns into ‖p‖.
    pub fn add_second_pass(&mut self, mut squares: Vec<f64>, unit: f64) {
        for square in &mut squares {
            *square = unit * square.sqrt();
        }
        self.p = squares;
    }

    /// Statistics of c, row by row.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Of the loss.
    pub fn loss(&self, loss: f64, run: &mut Run<'_>) -> Result<f64, Error> {
        let parts = |e: &Errors| Parts {
            logits: e.o * e.c,
            own: e.own * e.c,
            shared: e.o_shared * e.c,
            mixed: e.o_mixed * e.c,
            square: (e.o + e.o_shared + e.o_mixed + e.own).powi(2),
            ..Parts::default()
        };
        // Twice the share of one direction: the loss has no other direction for an excess to hide in.
        let [_, width] = self.before.widths;
        let share = (2.0 * isotropic(width)).min(1.0);
        let (apart, together) = self.sums(run, None, |_, e| parts(e))?;
        // Norms and their sum are taken in double precision.
        let steps = 4.0 * self.u + (width as f64 + 4.0) * f64::UNIT_ROUNDOFF;
        Ok(both_errors(share * apart, together) + steps * loss)
    }

    /// Of one row of p K, `w` being its norm.
    fn of_w(&self, e: &Errors, w: f64) -> Parts {
        let keys = self.before.keys.key.largest;
        // An error of r moves w by the mean key of the row.
        let middle = self.before.keys.key.weighted(e.uneven);
        let sum =
            (self.u * w * self.block.max(self.summed_rows(PRODUCT_ROWS, self.rows_alike.queries))).max(e.p_sums * keys);
        Parts {
            logits: e.p * keys + e.r_output * middle + e.logit * w,
            own: (e.p_own + e.own * e.share) * keys + e.r * middle + sum,
            shared: e.p_shared * keys + e.r_shared * middle + e.total_shared * w,
            output: e.o * e.share * keys,
            output_shared: e.o_shared * e.share * keys,
            ..Parts::default()
        }
    }

    /// Of o, whose rows do not meet.
    pub fn outputs(&self) -> Result<f64, Error> {
        let of_row = |e: Errors| e.o + e.o_shared + e.o_mixed;
        let terms = buffer::collected((0..self.rows.len()).map(|j| of_row(self.row(j))))?;
        Ok(ROUNDING_SAFETY * norm(&terms))
    }

    /// Of s Σ_j a_j ⊗ w_j, where w = p K: `left` the rows a_j, `w` the norms of w.
    pub fn query_side(&self, left: &[Trace], w: &[f64], run: &mut Run<'_>) -> Result<f64, Error> {
        self.over_rows(run, Some(left), |j, e| self.of_w(e, w[j]))
    }

    /// Of w, whose rows do not meet: those of `scale` w.
    pub fn query_rows(&self, w: &[f64], run: &mut Run<'_>) -> Result<f64, Error> {
        let mut terms = buffer::copied(w)?;
        run.short(w.len() * ROW_NANOSECONDS, terms.chunks_mut(LEAST_ROWS).enumerate(), |(task, terms), _| {
            let rows = (task * LEAST_ROWS..).zip(terms);
            rows.for_each(|(j, term)| *term = self.of_w(&self.row(j), *term).total());
            Ok(())
        })?;
        Ok(ROUNDING_SAFETY * norm(&terms))
    }

    /// Of Σ_j p_j ⊗ s q_j.
    pub fn key_side(&self, run: &mut Run<'_>) -> Result<f64, Error> {
        let lost = self.u * self.summed_rows(KEY_SIDE_QUERIES, self.rows_alike.queries);
        let sum = self.over_rows(run, Some(&self.before.queries), |_, e| e.of_keys(lost))?;
        Ok(LN_2 * sum)
    }

    /// Of the same times the transpose of the inputs of the keys, which lie at `place`: errors of different keys are
    /// independent, those of r_j and c_j are not. `w` are the norms of p K.
    pub fn key_weights<T: Float>(
        &self,
        place: &Place,
        inputs: ArrayView2<'_, T>,
        w: &[f64],
        run: &mut Run<'_>,
    ) -> Result<f64, Error> {
        let Place { largest, .. } = *place;
        let apart = (2.0 * largest * self.before.keys.key_repeats.sqrt()).min(spectral_bound(inputs));
        let lost = self.u * self.summed_rows(KEY_SIDE_QUERIES, self.rows_alike.queries);
        let key = self.before.keys.key.largest;
        let per_key = if key > 0.0 { largest / key } else { 0.0 };
        let sum = self.over_rows(run, Some(&self.before.queries), |j, e| {
            let middle = place.weighted(e.uneven);
            Parts {
                logits: apart * e.p + e.r_output * middle + e.logit * w[j] * per_key,
                own: apart * (e.p_own + lost * e.p_norm) + e.r * middle + e.own * e.share * largest,
                shared: apart * e.p_shared + e.r_shared * middle + e.total_shared * w[j] * per_key,
                output: e.o * e.share * largest,
                output_shared: e.o_shared * e.share * largest,
                ..Parts::default()
            }
        })?;
        Ok(LN_2 * sum)
    }

    /// Of Σ_j f_j ⊗ c_j.
    pub fn value_side(&self, run: &mut Run<'_>) -> Result<f64, Error> {
        let lost = self.u * self.summed_rows(KEY_SIDE_QUERIES, self.rows_alike.weights);
        self.over_rows(run, None, |_, e| e.of_values(lost))
    }

    /// Of Σ_j (f A3)_j ⊗ c_j, where the rows of A3 lie at `inputs`.
    pub fn mixed(&self, inputs: &Place, run: &mut Run<'_>) -> Result<f64, Error> {
        // Equal values make equal rows of f A3 whatever the queries are.
        let rows = if self.before.mixed.is_some() { PRODUCT_ROWS } else { KEY_SIDE_QUERIES };
        let lost = self.u * self.block.max(self.summed_rows(rows, self.rows_alike.c));
        let value = self.before.keys.value.largest;
        self.over_rows(run, None, |j, e| {
            let size = match &self.before.mixed {
                Some(mixed) => mixed.outputs[j].norm,
                // As much as is left of the values, and of what they have in common, which Y may hide.
                None => (inputs.largest * (e.spread + e.left)).max(inputs.mean).min(inputs.largest),
            };
            let sums = match e.mixed_sums {
                Some(sums) => sums,
                None if value > 0.0 => inputs.largest * e.sums / value,
                None => 0.0,
            };
            Parts {
                logits: (inputs.largest * (e.f - e.total * e.spread) + size * e.total + sums) * e.c,
                own: size * (e.own + e.c * lost),
                shared: (inputs.largest * e.f_shared + size * e.total_shared) * e.c,
                output: size * e.o,
                output_shared: size * e.o_shared,
                output_mixed: size * e.o_mixed,
                ..Parts::default()
            }
        })
    }

    /// Of Σ_i a_i ⊗ b_i over the keys besides, where b_i are sums over rows, of Frobenius norm `size`: of the product,
    /// and of rows of either sign whose sums grew.
    pub fn over_keys(&self, a: &[Trace], b: &[Trace], size: f64) -> Result<f64, Error> {
        Ok(ROUNDING_SAFETY * (self.product(a, b)? + self.u * self.grown_rows() * longest(a) * size))
    }

    /// The two sums together.
    fn over_rows(
        &self,
        run: &mut Run<'_>,
        left: Option<&[Trace]>,
        parts: impl Fn(usize, &Errors) -> Parts + Sync,
    ) -> Result<f64, Error> {
        let (apart, together) = self.sums(run, left, parts)?;
        Ok(both_errors(apart, together))
    }

    /// The error of Σ_j left_j ⊗ (row j): as if rows were independent, and of the parts that line up.
    ///
    /// An error that hangs on c_j is linear in it, so left_j ⊗ c_j says how much such errors line up: among rows whose
    /// logits round alike, among rows whose c_j are the same but for rounding, among rows of f A3 that a product with Y
    /// rounds alike, or among all for what all rows share, be it in one direction of the queries or in all. An error of
    /// o does not hang on c_j; there left_j says it.
    fn sums(
        &self,
        run: &mut Run<'_>,
        left: Option<&[Trace]>,
        parts: impl Fn(usize, &Errors) -> Parts + Sync,
    ) -> Result<(f64, f64), Error> {
        let count = self.rows.len();
        let mut terms = buffer::zeros::<f64>(count)?;
        // By the shape alone: the order of summation must not know the threads.
        let each = count.div_ceil(MOST_PARTS).max(LEAST_ROWS);
        let mut sums = buffer::collected((0..count.div_ceil(each)).map(|_| Sums::new()))?;
        let tasks = terms.chunks_mut(each).zip(&mut sums).enumerate();
        run.short(count * ROW_NANOSECONDS, tasks, |(task, (terms, sums)), _| {
            for (j, term) in (task * each..).zip(terms) {
                let parts = parts(j, &self.row(j));
                let size = left.map_or(1.0, |left| left[j].norm);
                *term = size * parts.total();
                let cells = Cells {
                    weights: self.weights_cell(j),
                    c: self.c_cell(j),
                    direction: self.before.queries[j].direction(),
                    mixed: self.before.mixed.as_ref().map_or(0, |mixed| mixed.outputs[j].cell(mixed.cell)),
                };
                let c = self.rows[j].c.sketch;
                match left {
                    Some(left) => {
                        let alone = left[j].sketch.map(f64::from);
                        sums.add(size, &parts, cells, &outer(&left[j].sketch, &c), &alone);
                    }
                    None => sums.add(1.0, &parts, cells, &c.map(f64::from), &[1.0]),
                }
            }
            Ok(())
        })?;
        let mut all = Sums::new();
        sums.iter().for_each(|sums| all.merge(sums));
        Ok((norm(&terms), all.total()))
    }

    /// Of a result of norm `result`: sums of the error `sums`, times a matrix of spectral norm `factor`.
    pub fn finish<T: Float>(&self, sums: f64, factor: f64, result: f64, entries: usize) -> f64 {
        let tiny = (T::MIN_EXP).exp2() * self.u;
        let total =
            sums * factor + 4.0 * self.u * self.block.max(self.grown_rows()) * result + tiny * (entries as f64).sqrt();
        // NaN must never read as a small error.
        if total.is_nan() { f64::INFINITY } else { total.next_up() }
    }
}

impl Errors {
    /// Of a row's terms in sums over rows for the keys, which lose `lost` besides.
    fn of_keys(&self, lost: f64) -> Parts {
        Parts {
            logits: self.p + self.r_output * self.spread,
            own: self.p_own + lost * self.p_norm + self.r * self.spread + self.own * self.p_share,
            shared: self.p_shared + self.r_shared * self.spread,
            output: self.o * self.p_share,
            output_shared: self.o_shared * self.p_share,
            ..Parts::default()
        }
    }

    /// The same for the values.
    fn of_values(&self, lost: f64) -> Parts {
        Parts {
            logits: self.f * self.c,
            own: self.spread * (lost * self.c + self.own),
            shared: self.f_shared * self.c,
            output: self.spread * self.o,
            output_shared: self.spread * self.o_shared,
            ..Parts::default()
        }
    }
}

/// Independent errors and errors that line up, each with its safety factor. They are different errors, so their squares
/// add up; where rows have nothing in common, the second sum sees the first one again.
fn both_errors(apart: f64, together: f64) -> f64 {
    (ROUNDING_SAFETY * apart).hypot(LINED_UP_SAFETY * together)
}
