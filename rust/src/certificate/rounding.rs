//! A-priori bounds of the rounding errors of the sums of the polynomial path (docs/math.md, equations 9.20 to 9.24).
//!
//! Assumed: no overflow; what underflows is below the bounds (the path scales its operands so); the order of a sum
//! within a block is free, and a fused product counts as a rounded one.

use super::rigorous::Incoming;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward};

/// Roundings of one term besides powers and sums: coefficient, scale, value, moment, their products, the rounding of
/// moments and sums to working precision, and the division by the normaliser.
const TERM_ROUNDINGS: f64 = 8.0;

/// Upper bound of the rounding error of a sum of `length` terms, relative to the sum of absolute values, when blocks of
/// `block` terms are summed with unit roundoff `unit` and folded in f64.
pub fn blocked_sum(length: usize, block: usize, unit: f64) -> f64 {
    let block = block.max(1);
    folded_sum(length.min(block), length.div_ceil(block), unit)
}

/// The same where a term passes through `steps` sums in its block, and the block through `folds`.
fn folded_sum(steps: usize, folds: usize, unit: f64) -> f64 {
    joint(gamma(steps as f64, unit), gamma(folds as f64, FOLD_UNIT))
}

/// (1 + a)(1 + b) − 1.
fn joint(a: f64, b: f64) -> f64 {
    outward(a + b + a * b)
}

/// How the polynomial path sums: moments over keys, then a sum over features for each query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arithmetic {
    /// Unit roundoff of the working precision.
    pub unit: f64,
    /// Degree g of the polynomial; powers are made by one multiplication for each factor.
    pub degree: usize,
    /// Keys summed.
    pub keys: usize,
    /// Keys in a block that is summed in working precision.
    pub key_block: usize,
    /// Features summed.
    pub features: usize,
    /// Features in a block that is summed in working precision.
    pub feature_block: usize,
    /// Width of the values: moments are contracted with c.
    pub width: usize,
}

impl Arithmetic {
    /// The loss of Σ_β coef_β q^β ⟨M_β, ·⟩, moments included, relative to the same sum with absolute values
    /// throughout (equation 9.21).
    pub fn loss(&self) -> f64 {
        let powers = 2 * self.degree + 2;
        let term = gamma(powers as f64 + TERM_ROUNDINGS + (self.width + 1) as f64, self.unit);
        let keys = blocked_sum(self.keys, self.key_block, self.unit);
        joint(term, joint(keys, blocked_sum(self.features, self.feature_block, self.unit)))
    }

    /// Bounds for one row, as computed against the same formulas in exact arithmetic on the true operands (equations
    /// 9.23 and 9.24).
    pub fn row(&self, row: &RowSizes) -> RowRounding {
        let relative = self.loss() * row.amplification;
        // The exact normaliser is at least (1 − relative) times the computed one.
        let share = if relative < 1.0 { relative / (1.0 - relative) } else { f64::INFINITY };
        let values = row.values + row.inherited_values;
        let keys = row.keys + row.inherited_keys;
        let output = share * (values + row.output) + self.unit * row.output + row.mass * row.inherited_values;
        let c = row.incoming.norm();
        let residual = match row.incoming {
            Incoming::Residual(_) => output + self.unit * c,
            Incoming::Given(_) => 0.0,
        };
        let r = gamma(self.width as f64, self.unit) * c * row.output + residual * row.output + (c + residual) * output;
        // |⟨c, h_i⟩ − r| at most, r as computed.
        let difference = c * (values + row.output) + r;
        let w = 2.0 * relative * keys * difference
            + row.mass * (row.inherited_keys * difference + keys * (c * row.inherited_values + residual * values + r));
        RowRounding { output: outward(output), residual: outward(residual), w: outward(w) }
    }
}

/// The sizes of one row that its rounding depends on, all as computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSizes {
    /// m P̄(b_j) / z_j: the sum of weights with all coefficients and logits made positive, b_j = s ‖q_j‖ max ‖k‖, over
    /// the normaliser as computed (equation 9.22).
    pub amplification: f64,
    /// Σ_i |f̃_ji|, which is 1 where P is positive.
    pub mass: f64,
    /// max ‖h_i‖.
    pub values: f64,
    /// max ‖k_i‖.
    pub keys: f64,
    /// ‖o_j‖.
    pub output: f64,
    /// ‖c_j‖.
    pub incoming: Incoming,
    /// max ‖δh_i‖: the error of the product A3 Y.
    pub inherited_values: f64,
    /// max ‖δk_i‖: the error of centring, balancing and A2 W_K. (The error of the logits widens the enclosure instead.)
    pub inherited_keys: f64,
}

/// Upper bounds of the rounding errors of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowRounding {
    /// Of ‖o_j‖.
    pub output: f64,
    /// Of ‖c_j‖.
    pub residual: f64,
    /// Of ‖w_j‖, w = p K; with the inputs A2 in the place of K, of ‖A2ᵀ p_j‖.
    pub w: f64,
}

/// Roundings of one exponential of the exact passes: 2.4 for the sums of its polynomial, a half for its truncation
/// error, one for its last sum and room for a processor that rounds products before it adds them.
const EXPONENTIAL_ROUNDINGS: f64 = 4.0;

/// Roundings of one rescaling: the exponential of the difference of two shifts, by the standard library, and the
/// product.
const RESCALING_ROUNDINGS: f64 = 6.0;

/// Largest error of a weight that is flushed to zero, where the sum of the weights is at least 1.
const FLUSHED: f64 = 1.0 / (1u128 << 96) as f64;

/// How the exact passes sum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactArithmetic {
    /// Unit roundoff of the working precision.
    pub unit: f64,
    /// Keys summed.
    pub keys: usize,
    /// Sums in working precision that a term of a sum over the keys passes through.
    pub steps: usize,
    /// Sums in f64 that it passes through after them.
    pub folds: usize,
    /// Width of queries and keys.
    pub dimension: usize,
    /// Width of the values.
    pub width: usize,
    /// How often the sums of a row are rescaled, because its running maximum grows.
    pub rescalings: f64,
    /// By how much, in natural units, a running maximum may lag.
    pub lag: f64,
}

/// The sizes of one exact row that its rounding depends on: upper bounds of their values without rounding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactSizes {
    /// s ‖q_j‖ max ‖k_i‖.
    pub logit: f64,
    /// Bound of the error of the logits from the products before the passes.
    pub inherited_logit: f64,
    /// max ‖h_i‖.
    pub values: f64,
    /// max ‖δh_i‖.
    pub inherited_values: f64,
    /// max ‖k_i‖.
    pub keys: f64,
    /// max ‖δk_i‖.
    pub inherited_keys: f64,
    /// ‖c_j‖.
    pub incoming: Incoming,
}

/// Upper bounds of the rounding errors of one exact row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExactRounding {
    /// ε with |f̂_ji / f_ji − 1| ≤ ε for all i but for a mass of ε: ‖δf_j‖₁.
    pub weights: f64,
    /// ‖δo_j‖.
    pub output: f64,
    /// ‖δc_j‖.
    pub residual: f64,
    /// Θ with ‖δp_j‖₁ ≤ Θ.
    pub p: f64,
    /// ξ with Σ_i |p_ji| ≤ ξ, as computed and without rounding.
    pub difference: f64,
    /// ‖δw_j‖.
    pub w: f64,
}

impl ExactArithmetic {
    /// Of one row (equations 9.25 to 9.28).
    pub fn row(&self, row: &ExactSizes) -> ExactRounding {
        let single = |roundings: f64| gamma(roundings, self.unit);
        let keys = outward(folded_sum(self.steps, self.folds, self.unit) + self.keys as f64 * FLUSHED);
        // A logit less its shift, then its exponential; the shifts of a row rise by no more than its logits differ.
        let wrong =
            outward(row.inherited_logit + single(self.dimension as f64 + 2.0) * (row.logit + row.inherited_logit));
        let reach = outward(row.logit + wrong);
        let shifts = outward(self.unit * (4.0 * reach + self.lag));
        let exponential = single(EXPONENTIAL_ROUNDINGS + RESCALING_ROUNDINGS * self.rescalings);
        let weight = outward(wrong + shifts + exponential);
        let sums = if keys < 1.0 { outward(3.0 * keys / (1.0 - keys)) } else { f64::INFINITY };
        let weights = outward((2.0 * weight + sums + single(8.0)).exp_m1());
        let (c, values) = (row.incoming.norm(), outward(row.values + row.inherited_values));
        let output = outward(weights * values + row.inherited_values);
        let residual = match row.incoming {
            Incoming::Residual(_) => outward(output + self.unit * (c + output)),
            Incoming::Given(_) => 0.0,
        };
        let (own, mean) = (outward(c + residual), outward(values + output));
        let last = outward(single(2.0) + gamma(self.width as f64 + 2.0, FOLD_UNIT));
        let r = outward(c * output + residual * mean + last * own * mean);
        let difference = outward(own * (values + mean) * (1.0 + single(4.0)) * (1.0 + weights));
        let products = single(self.width as f64 + 4.0) * difference;
        let p = outward(weights * difference + products + residual * values + c * row.inherited_values + r);
        let length = outward(row.keys + row.inherited_keys);
        let w = outward(length * (p + (keys + single(2.0)) * difference) + row.inherited_keys * difference);
        ExactRounding { weights, output, residual, p, difference, w }
    }
}
