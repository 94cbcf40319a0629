//! A-priori bounds of what rounding adds to the sums of the polynomial path (docs/math.md, equations 78 to 82).
//!
//! Assumed: no overflow; what underflows is below the bounds (the path scales its operands so); the order of a sum
//! within a block is free, and a fused product counts as a rounded one.

use super::outward;
use super::rigorous::Incoming;

/// Unit roundoff of the precision in which blocks are folded.
pub(crate) const FOLD_UNIT: f64 = 0.5 * f64::EPSILON;

/// Roundings of one term besides powers and sums: coefficient, scale, value, moment, their products, the rounding of
/// moments and sums to working precision, and the division by the normaliser.
const TERM_ROUNDINGS: f64 = 8.0;

/// γ_k = k u / (1 − k u), which bounds the product of k factors 1 + δ, |δ| ≤ u, less one; infinite from k u = 1 on.
pub fn gamma(roundings: f64, unit: f64) -> f64 {
    let loss = roundings * unit;
    if loss < 1.0 { outward(loss / (1.0 - loss)) } else { f64::INFINITY }
}

/// What a sum of `length` terms loses, relative to the sum of absolute values, when blocks of `block` terms are summed
/// with unit roundoff `unit` and folded in f64.
pub fn blocked_sum(length: usize, block: usize, unit: f64) -> f64 {
    let block = block.max(1);
    joint(gamma(length.min(block) as f64, unit), gamma(length.div_ceil(block) as f64, FOLD_UNIT))
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
    /// throughout (equation 79).
    pub fn loss(&self) -> f64 {
        let powers = 2 * self.degree + 2;
        let term = gamma(powers as f64 + TERM_ROUNDINGS + (self.width + 1) as f64, self.unit);
        let keys = blocked_sum(self.keys, self.key_block, self.unit);
        joint(term, joint(keys, blocked_sum(self.features, self.feature_block, self.unit)))
    }

    /// Bounds for one row, as computed against the same formulas in exact arithmetic on the true operands (equations
    /// 81 and 82). They need weights P(t) that are positive, as the rigorous bounds do.
    pub fn row(&self, row: &RowSizes) -> RowRounding {
        let relative = self.loss() * row.amplification;
        // The exact normaliser is at least (1 − relative) times the computed one.
        let share = if relative < 1.0 { relative / (1.0 - relative) } else { f64::INFINITY };
        let values = row.values + row.inherited_values;
        let keys = row.keys + row.inherited_keys;
        let output = share * (values + row.output) + self.unit * row.output + row.inherited_values;
        let c = row.incoming.norm();
        let residual = match row.incoming {
            Incoming::Residual(_) => output + self.unit * c,
            Incoming::Given(_) => 0.0,
        };
        let r = gamma(self.width as f64, self.unit) * c * row.output + residual * row.output + (c + residual) * output;
        // |⟨c, h_i⟩ − r| at most, r as computed.
        let difference = c * (values + row.output) + r;
        let w = 2.0 * relative * keys * difference
            + row.inherited_keys * difference
            + keys * (c * row.inherited_values + residual * values + r);
        RowRounding { output: outward(output), residual: outward(residual), w: outward(w) }
    }
}

/// The sizes of one row that its rounding depends on, all as computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowSizes {
    /// m P̄(b_j) / z_j: the sum of weights with all coefficients and logits made positive, b_j = s ‖q_j‖ max ‖k‖, over
    /// the normaliser as computed (equation 80).
    pub amplification: f64,
    /// max ‖h_i‖.
    pub values: f64,
    /// max ‖k_i‖.
    pub keys: f64,
    /// ‖o_j‖.
    pub output: f64,
    /// ‖c_j‖.
    pub incoming: Incoming,
    /// max ‖δh_i‖: what the product A3 Y lost.
    pub inherited_values: f64,
    /// max ‖δk_i‖: what centring, balancing and A2 W_K lost. (What logits lost widens the enclosure instead.)
    pub inherited_keys: f64,
}

/// What rounding adds to one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowRounding {
    /// Of ‖o_j‖.
    pub output: f64,
    /// Of ‖c_j‖.
    pub residual: f64,
    /// Of ‖w_j‖, w = p K; with the inputs A2 in the place of K, of ‖A2ᵀ p_j‖.
    pub w: f64,
}
