//! Rounding errors of one row: of o, p and w.

use std::f64::consts::LN_2;

use super::before::Before;
use crate::constants::{KEY_SIDE_QUERIES, LINED_UP_SAFETY, PRODUCT_ROWS};
use crate::error::Error;
use crate::exact::alike::{SKETCH, Trace, alike, both, longest, most_in_a_cell, outer};
use crate::exact::forward::Spread;
use crate::exact::measures::{Keys, LOOK};
use crate::exact::operands::block_steps;
use crate::exact::residual::Row;
use crate::float::Float;
use crate::linalg::norms::{largest, norm};

/// Roundings of one weight besides its logit: shift, exponential, normaliser.
const WEIGHT_ROUNDINGS: f64 = 4.0;

/// Roundings of a sum of k terms in a row, over √k and the size of the largest partial sum: each is uniform within half
/// a unit of its partial sum, which is half of the largest in the mean.
const SUM_ROUNDINGS: f64 = 0.25;

/// Steps that count as rounded alike where none are: √k is the expected size of their sum, and where all rows share one
/// sum there is one draw, which may be twice that.
const ONE_DRAW: f64 = 4.0;

/// Rounding errors of o and p, row by row.
pub struct RowErrors {
    pub(super) u: f64,
    pub(super) before: Before,
    /// How many rows there are.
    pub(super) count: usize,
    /// Statistics of c, row by row.
    pub(super) rows: Vec<Row>,
    /// Spread of the weights of each row.
    pub(super) spread: Vec<Spread>,
    /// ‖p_j‖, after pass 2.
    pub(super) p: Vec<f64>,
    /// Differences of tags up to which sums over rows or over keys round alike: of queries that are factors of the
    /// terms, of queries of which only the weights are, and of rows of c.
    pub(super) query_cell: f64,
    pub(super) weights_cell: f64,
    pub(super) c_cell: f64,
    /// Rounding error of a sum over keys, in roundings of the whole sum.
    pub(super) block: f64,
    /// Rounding errors of sums over keys, the same for every row.
    pub(super) sums: Constant,
    pub(super) rows_alike: RowsAlike,
}

/// Mean number of rows that are alike as terms of a sum over rows.
#[derive(Clone, Copy)]
pub(super) struct RowsAlike {
    /// In query and c.
    pub(super) queries: f64,
    /// In weights and c.
    pub(super) weights: f64,
    /// In c.
    pub(super) c: f64,
}

/// The errors of one row, in absolute size.
pub(super) struct Errors {
    /// ‖f_j‖ = √Σ_i f_ji², and ‖c_j‖.
    pub spread: f64,
    pub c: f64,
    /// m Σ_i f_ji² = 1 + uneven²; infinite where the row does not see all keys.
    pub uneven: f64,
    /// Of f_j by its own logits, and by what all rows share.
    pub f: f64,
    pub f_shared: f64,
    /// Of o_j by its own weights and sums, by what all rows share, by its product of (f A3)_j with Y; and of c_j
    /// itself.
    pub o: f64,
    pub o_shared: f64,
    pub o_mixed: f64,
    pub own: f64,
    /// ‖p_j‖, and its error by its logits, by its own products, and by what all rows share: entries independent of one
    /// another.
    pub p_norm: f64,
    pub p: f64,
    pub p_own: f64,
    pub p_shared: f64,
    /// Of r_j itself and by o_j: the same multiple of f_j in every entry of p_j.
    pub r: f64,
    pub r_output: f64,
    /// Errors of p_j, and of p_j K over max ‖key‖, that an error of c_j of size one makes.
    pub p_share: f64,
    pub share: f64,
    /// Of a logit, and of the normaliser: a relative error of w_j.
    pub logit: f64,
    /// Errors common to rows whose sums run over small strips: relative, of the normaliser; and of r_j by it.
    pub total_shared: f64,
    pub r_shared: f64,
    /// Rounding errors of sums: of the normaliser, relative; of o_j; of (f A3)_j, where pass 1 runs on A3; and of p_j K
    /// over max ‖key‖.
    pub total: f64,
    pub sums: f64,
    pub mixed_sums: Option<f64>,
    pub p_sums: f64,
    /// ‖o_j‖ over the largest value.
    pub left: f64,
}

/// Rounding errors of sums over keys, and other constants of all rows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Constant {
    /// √ of the keys of a block.
    block: f64,
    /// Rounding error of the normaliser where queries tell keys apart; and where weights are one, beside their mean and
    /// at most.
    total: f64,
    flat_totals: [f64; 2],
    /// Number of blocks of keys, and for each the number of others whose sums are alike where they are small.
    blocks: f64,
    small_blocks: f64,
    /// Rounding errors of o, of (f A3)_j where pass 1 runs on A3, and of p K for a c of size one.
    values: SumOf,
    inputs: SumOf,
    products: SumOf,
    /// √ of the keys that are alike, of the values, and of the values that lost the same when they were made.
    key_repeats: f64,
    value_repeats: f64,
    value_losses: f64,
    /// √ of the columns of the keys; the share of an error that one direction sees, and that of independent entries.
    dimension: f64,
    one_direction: f64,
    isotropic: f64,
    /// Difference of logits up to which all weights count as one.
    flat: f64,
}

/// Rounding error of Σ_i f_ji h_i, where queries tell keys apart and where weights are one.
#[derive(Debug, Clone, Copy, Default)]
struct SumOf {
    /// For a whole sum of norm one whose partial sums only grow.
    whole: [f64; 2],
    /// For a row in which every weight is as large as a weight can be; most of it.
    walked: [f64; 2],
    most: f64,
    /// When blocks are folded: sums over blocks may be large where that over all keys is not.
    folded: f64,
}

impl SumOf {
    /// The whole sum being of norm `output`, and `spread` the weights of a block over the most that they can be.
    fn lost(&self, output: f64, spread: f64, is_flat: bool) -> f64 {
        let kind = usize::from(is_flat);
        (self.whole[kind] * output).max((self.walked[kind] * spread).min(self.most)) + self.folded
    }
}

impl RowErrors {
    /// The cell of the rows whose weights are alike as terms of a sum are.
    pub(super) fn weights_cell(&self, j: usize) -> u64 {
        if self.is_one(j) { 0 } else { self.before.queries[j].cell(self.weights_cell) }
    }

    pub(super) fn c_cell(&self, j: usize) -> u64 {
        self.rows[j].c.cell(self.c_cell)
    }

    /// Keys of a block, and how many blocks there are.
    fn blocks(&self) -> [f64; 2] {
        let length = self.before.block.min(self.before.count).max(1) as f64;
        [length, (self.before.count as f64 / length).max(1.0)]
    }

    /// Rounding error of a sum over all keys, in roundings of the whole sum where its partial sums only grow: `repeats`
    /// equal terms round alike, in every block.
    pub(super) fn summed_keys(&self, repeats: f64) -> f64 {
        let ([length, blocks], repeats) = (self.blocks(), repeats.max(1.0));
        let [apart, alike] = self.walks((repeats / blocks).min(length));
        SUM_ROUNDINGS * (apart / blocks.sqrt()).max(alike) + self.folded(length, blocks, repeats)
    }

    /// Effective steps of the rounding of a sum over a block: √ of all where terms are independent, with room for one
    /// draw; and all times √ of the share of terms that are alike, where `repeats` are.
    fn walks(&self, repeats: f64) -> [f64; 2] {
        let [length, _] = self.blocks();
        let steps = block_steps(length as usize, self.before.strip) as f64;
        [steps.min((ONE_DRAW * steps).sqrt()), steps * (repeats / length).sqrt()]
    }

    /// Rounding error of a sum over rows, in roundings of a row where these are of either sign: those of equal rows all
    /// go the same way.
    pub(super) fn summed_rows(&self, length: usize, rows_alike: f64) -> f64 {
        let length = length as f64;
        let blocks = (self.count as f64 / length).max(1.0);
        SUM_ROUNDINGS * (length * rows_alike.min(length)).sqrt() + self.folded(length, blocks, rows_alike)
    }

    /// The same in roundings of the whole sum where its partial sums only grow.
    pub(super) fn grown_rows(&self) -> f64 {
        let length = KEY_SIDE_QUERIES as f64;
        let blocks = (self.count as f64 / length).max(1.0);
        SUM_ROUNDINGS * (length / blocks).sqrt() + self.folded(length, blocks, 1.0)
    }

    /// Rounding error of Σ_i a_i ⊗ b_i, from the traces of both: by the largest partial sums in blocks, and over
    /// blocks. Terms that are alike round alike, in every block.
    pub(super) fn product(&self, a: &[Trace], b: &[Trace]) -> Result<f64, Error> {
        let length = PRODUCT_ROWS.min(a.len()).max(1);
        let [of_a, of_b] = [a, b].map(|rows| alike(longest(rows), self.u, length as f64));
        let repeats = most_in_a_cell(a.iter().zip(b).map(|(a, b)| both(a.cell(of_a), b.cell(of_b))))?;
        let (mut whole, mut sizes, mut squares, mut most) = ([0.0; SKETCH * SKETCH], 0.0, 0.0, 0.0);
        for (a, b) in a.chunks(length).zip(b.chunks(length)) {
            let (mut sum, mut in_block) = ([0.0; SKETCH * SKETCH], 0.0);
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                let size = a.norm * b.norm;
                for (sum, product) in sum.iter_mut().zip(outer(&a.sketch, &b.sketch)) {
                    *sum += size * product;
                }
                if i % LOOK == LOOK - 1 {
                    in_block = largest([in_block, norm(&sum)]);
                }
            }
            let in_block = largest([in_block, norm(&sum)]);
            sizes += in_block;
            squares += in_block * in_block;
            whole.iter_mut().zip(&sum).for_each(|(whole, x)| *whole += x);
            most = largest([most, norm(&whole)]);
        }
        let (length, blocks) = (length as f64, (a.len() as f64 / length as f64).max(1.0));
        let in_blocks = SUM_ROUNDINGS * (length * repeats * squares).sqrt().min(length * sizes);
        Ok(self.u * (in_blocks + self.folded(length, blocks, repeats) * most))
    }

    /// The part of both that is lost when blocks are folded in double precision, which is no finer where the numbers
    /// are in double precision too.
    fn folded(&self, length: f64, blocks: f64, repeats: f64) -> f64 {
        let alike = (repeats / length).max(ONE_DRAW).min(blocks);
        SUM_ROUNDINGS * f64::UNIT_ROUNDOFF / self.u * (blocks * alike).sqrt()
    }

    /// Rounding errors of sums over keys of terms whose sizes are at most `size`; `repeats` of them are alike, where
    /// queries tell keys apart and where weights are one.
    fn sum_of(&self, repeats: [f64; 2], size: f64, folded: f64) -> SumOf {
        let [length, blocks] = self.blocks();
        let step = self.u * SUM_ROUNDINGS * size;
        let walk = |repeats: f64| step * largest(self.walks(repeats.max(1.0)));
        SumOf {
            whole: repeats.map(|repeats| self.u * self.summed_keys(repeats).max(1.0)),
            walked: repeats.map(walk),
            most: walk(length),
            folded: self.u * self.folded(length, blocks, 1.0) * folded,
        }
    }

    fn sum_of_values(&self, keys: &Keys) -> SumOf {
        self.sum_of([keys.terms, keys.value_terms], keys.values_line_up * keys.value.largest, keys.folded)
    }

    /// Constants that do not depend on the row.
    pub(super) fn constant(&self) -> Constant {
        let before = &self.before;
        let (keys, [width, value_width]) = (&before.keys, before.widths);
        let [length, blocks] = self.blocks();
        Constant {
            blocks,
            small_blocks: (keys.small_terms / length - 1.0).max(0.0),
            block: length.sqrt(),
            total: self.u * self.summed_keys(keys.key_terms),
            flat_totals: [1.0, before.count as f64].map(|repeats| self.u * self.summed_keys(repeats)),
            values: self.sum_of_values(keys),
            inputs: before.mixed.as_ref().map_or_else(SumOf::default, |mixed| self.sum_of_values(&mixed.keys)),
            products: self.sum_of([keys.terms; 2], keys.value.farthest * keys.products_line_up, 0.0),
            key_repeats: keys.key_repeats.sqrt(),
            value_repeats: keys.value_repeats.sqrt(),
            value_losses: keys.value_losses.sqrt(),
            dimension: (width as f64).sqrt().max(1.0),
            one_direction: isotropic(value_width),
            isotropic: 1.0 / width.min(value_width).max(1) as f64,
            flat: 2.0 * alike(1.0, self.u, length),
        }
    }

    /// Rounding error of the fold of the blocks, relative to a whole that a few of them hold: sums of the others, which
    /// agree to a rounding of the whole, are rounded alike.
    fn small_blocks(&self, squares: f64) -> f64 {
        // Weights of sum one lie on at least 1 / Σ f² keys, all but a little of them; the others are what follows.
        let held = (self.before.count as f64 * squares).recip().min(1.0);
        let small = self.sums.blocks * (1.0 - held);
        // The partial sum is the whole all the while, and not half of it in the mean.
        2.0 * SUM_ROUNDINGS * f64::UNIT_ROUNDOFF * (small * (ONE_DRAW * self.sums.small_blocks).min(small)).sqrt()
    }

    /// Roundings that may all go the same way in sums of a row over small strips, and in the strips that those are
    /// small beside; as many as there are, so that nothing has to be allowed for besides.
    fn rounded_alike(&self, j: usize) -> f64 {
        let small = self.spread[j].small;
        let strip = self.before.strip.min(self.before.count) as f64;
        (small + strip * small.min(1.0)) / LINED_UP_SAFETY
    }

    /// Whether all weights of a row are one but for what its sums do not tell apart.
    pub(super) fn is_one(&self, j: usize) -> bool {
        self.before.bound[j] * LN_2 <= self.sums.flat
    }

    pub(super) fn row(&self, j: usize) -> Errors {
        let before = &self.before;
        let (keys, inherited, sums_of) = (&before.keys, &before.inherited, &self.sums);
        let (u, Row { r, c, output }) = (self.u, &self.rows[j]);
        let (c_norm, query) = (c.norm, before.queries[j].norm * LN_2);
        let Constant { dimension, one_direction, isotropic, .. } = *sums_of;
        let logit = before.bound[j] * LN_2 + inherited.logits[j] / dimension;
        let logit_shared = query * inherited.keys / dimension;
        let (weight, shared) = (u * (WEIGHT_ROUNDINGS + logit), u * logit_shared);
        let logit = logit + logit_shared;
        let squares = self.spread[j].squares;
        let spread = squares.sqrt();
        let uneven = before.count as f64 * squares - 1.0;
        let uneven = if before.is_masked { f64::INFINITY } else { largest([uneven]).sqrt() };
        // Equal keys err equally: the spread of f over the different ones is what counts.
        let different = (sums_of.key_repeats * spread).min(1.0);
        let different_values = (sums_of.value_repeats * different).min(1.0);
        let (h, centred) = (keys.value.largest, keys.value.farthest);
        // Where all logits are about the same, so are all weights, and their roundings in the normaliser; what is lost
        // of logits that only stand in the last bits is no more than they are in the mean.
        let is_flat = !before.is_biased && query * keys.key.farthest <= sums_of.flat;
        let small_blocks = if is_flat { 0.0 } else { self.small_blocks(squares) };
        let total = if is_flat {
            let mean = query * keys.key.weighted(uneven);
            let [least, most] = sums_of.flat_totals;
            (mean + least).min(most)
        } else {
            sums_of.total + small_blocks
        };
        let in_block = (sums_of.block * spread).min(1.0);
        let mut sums = sums_of.values.lost(*output, in_block, is_flat) + small_blocks * output;
        // Equal values lost the same when they were made.
        let mut values_lost = u * inherited.values * (sums_of.value_losses * spread).min(1.0);
        let mut o_mixed = 0.0;
        let mixed_sums = before.mixed.as_ref().map(|mixed| {
            let size = mixed.outputs[j].norm;
            let inputs = sums_of.inputs.lost(size, in_block, is_flat) + small_blocks * size;
            sums = sums.max(mixed.stretch * inputs);
            values_lost = 0.0;
            o_mixed = if before.is_target { u * mixed.lost * size } else { 0.0 };
            inputs
        });
        let total_shared = u * self.rounded_alike(j);
        let (mut o, mut o_shared) = (0.0, 0.0);
        if before.is_target {
            // An error of the query is common to all its logits, and moves o by Cov_f(k, h), which does not fall with
            // the number of keys.
            o = weight * different * centred + sums + total * output + u * logit * centred * isotropic;
            o_shared = shared * different * centred + values_lost + total_shared * (h + output);
        }
        let p_norm = self.p.get(j).copied().unwrap_or(0.0);
        let p = sums_of.key_repeats * p_norm;
        Errors {
            spread,
            uneven,
            c: c_norm,
            f: weight * different + total * spread,
            f_shared: shared * different + total_shared * spread,
            o,
            o_shared,
            o_mixed,
            own: 2.0 * u * c_norm,
            p_norm,
            p: weight * p,
            p_own: 2.0 * u * different_values * c_norm * h,
            p_shared: u * different_values * c_norm * one_direction * inherited.values + shared * p,
            r: u * r.abs(),
            r_output: total * r.abs() + one_direction * c_norm * sums,
            total_shared,
            r_shared: total_shared * (r.abs() + one_direction * c_norm * h),
            p_share: one_direction * centred * spread,
            // An error of c moves w by Cov_f(k, h), which for independent or isotropic keys and values is this share of
            // the product of their sizes.
            share: centred * (one_direction * different + isotropic).min(1.0),
            logit: u * logit + total,
            total,
            sums,
            mixed_sums,
            p_sums: sums_of.products.lost(0.0, in_block, false) * c_norm,
            left: if h > 0.0 { output / h } else { 1.0 },
        }
    }
}

/// The share of an error vector of `width` independent entries that one direction sees, with a factor of two to spare.
pub fn isotropic(width: usize) -> f64 {
    (2.0 / (width.max(1) as f64).sqrt()).min(1.0)
}
