//! The rounding estimate from sizes alone, where it is not worth the time to find out which rows are alike: all of them
//! are taken to be (docs/math.md, Rule 5.8 at its worst). Time O(1) beside the sizes.

use std::f64::consts::LN_2;

use super::row::{Constant, RowErrors, RowsAlike};
use super::{Before, Inherited, both_errors};
use crate::constants::{KEY_SIDE_QUERIES, ROUNDING_SAFETY};
use crate::exact::alike::Trace;
use crate::exact::forward::Spread;
use crate::exact::measures::{Keys, Place};
use crate::exact::residual::Row;
use crate::float::Float;

/// Sizes of a head and of what its passes found. Numbers of rows enter as their root mean squares: the estimate is
/// linear in them.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Queries and keys.
    pub counts: [usize; 2],
    /// Columns of the keys and of the values.
    pub widths: [usize; 2],
    /// Keys that are summed in working precision at a time, and those of a strip.
    pub block: usize,
    pub strip: usize,
    /// The longest query, times scale · log2 e, the longest key and the longest value.
    pub query: f64,
    pub key: f64,
    pub value: f64,
    /// The largest ‖query‖ · ‖key‖ in base-2 units, with what is added to a logit.
    pub bound: f64,
    /// Whether something is added to logits.
    pub is_biased: bool,
    /// ‖c_j‖, r_j, ‖p_j‖ and ‖w_j‖.
    pub c: f64,
    pub r: f64,
    pub p: f64,
    pub w: f64,
    /// The largest number of roundings of a row that may all go the same way; [`Spread::small`].
    pub small: f64,
}

/// Estimates of one head.
pub struct Coarse {
    row: RowErrors,
    rows: f64,
    query: f64,
    w: f64,
}

impl Coarse {
    /// Every row as all rows are in the mean, every key and value like every other.
    pub fn new<T: Float>(sizes: &Sizes) -> Self {
        let [n, m] = sizes.counts;
        let (all, rows) = (m.max(1) as f64, n.max(1) as f64);
        let place = |largest: f64| Place { largest, mean: largest, farthest: 2.0 * largest };
        let keys = Keys {
            key: place(sizes.key),
            value: place(sizes.value),
            key_repeats: all,
            value_repeats: all,
            value_losses: all,
            key_terms: all,
            value_terms: all,
            terms: all,
            small_terms: all,
            folded: sizes.value,
            values_line_up: 1.0,
            products_line_up: 1.0,
        };
        let before = Before {
            queries: vec![Trace { norm: sizes.query, ..Trace::default() }],
            bound: vec![sizes.bound],
            keys,
            inherited: Inherited { logits: vec![0.0], keys: 0.0, values: 0.0 },
            widths: sizes.widths,
            count: m,
            block: sizes.block,
            strip: sizes.strip,
            is_target: false,
            // No more is known of how the weights are spread.
            is_masked: true,
            is_biased: sizes.is_biased,
            mixed: None,
        };
        let c = Trace { norm: sizes.c, ..Trace::default() };
        let mut row = RowErrors {
            u: T::UNIT_ROUNDOFF,
            before,
            count: n,
            rows: vec![Row { r: sizes.r, c, output: sizes.value }],
            spread: vec![Spread { squares: 1.0, small: sizes.small }],
            p: vec![sizes.p],
            query_cell: 0.0,
            weights_cell: 0.0,
            c_cell: 0.0,
            block: 1.0,
            sums: Constant::default(),
            rows_alike: RowsAlike { queries: rows, weights: rows, c: rows },
        };
        row.sums = row.constant();
        row.block = row.summed_keys(all).max(1.0);
        Coarse { row, rows, query: sizes.query, w: sizes.w }
    }

    /// Of w, whose rows do not meet.
    pub fn query_rows(&self) -> f64 {
        ROUNDING_SAFETY * self.rows.sqrt() * self.row.of_w(&self.row.row(0), self.w).total()
    }

    /// Of Σ_j p_j ⊗ s q_j.
    pub fn key_side(&self) -> f64 {
        let lost = self.row.u * self.row.summed_rows(KEY_SIDE_QUERIES, self.rows);
        LN_2 * self.query * self.summed(self.row.row(0).of_keys(lost).total())
    }

    /// Of Σ_j f_j ⊗ c_j.
    pub fn value_side(&self) -> f64 {
        let lost = self.row.u * self.row.summed_rows(KEY_SIDE_QUERIES, self.rows);
        self.summed(self.row.row(0).of_values(lost).total())
    }

    /// As [`RowErrors::finish`].
    pub fn finish<T: Float>(&self, sums: f64, result: f64, entries: usize) -> f64 {
        self.row.finish::<T>(sums, 1.0, result, entries)
    }

    /// The sum over all rows of errors of this size each, which line up.
    fn summed(&self, each: f64) -> f64 {
        both_errors(self.rows.sqrt() * each, self.rows * each)
    }
}
