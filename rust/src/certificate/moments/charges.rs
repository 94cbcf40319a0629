//! Contribution of one query row to the bounds of the gradients (docs/math.md, equations 9.38 to 9.46).

use super::setting::{Setting, Spread as Flat};
use crate::certificate::rigorous::{Difference, Enclosure, Incoming, Row, Spread, Weights};
use crate::certificate::rounding::{RowRounding, RowSizes};
use crate::linalg::outward::{FOLD_UNIT, gamma, outward};

/// Bounds of P relative to e^t for |t| up to some b.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// lo ≤ P(t) e^−t ≤ hi.
    pub ratio: (f64, f64),
    /// |P(t) − e^t| at most.
    pub difference: f64,
    /// The root of its mean square over the keys, at most.
    pub usual: f64,
    /// The root of the mean of its square times ⟨v, k⟩² in the keys' own coordinates, for any unit vector v, at most.
    pub joint: f64,
}

impl Known {
    /// Nothing is.
    pub const NOTHING: Self = Known {
        ratio: (f64::NEG_INFINITY, f64::INFINITY),
        difference: f64::INFINITY,
        usual: f64::INFINITY,
        joint: f64::INFINITY,
    };
}

/// Which part of [`Known`] bounds are made from: each has its own, and the smaller one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Equations 9.1 to 9.10.
    Ratio,
    /// Equations 9.12 to 9.17, which allow P of both signs.
    Difference,
    /// P stands for itself: only rounding errors are left.
    Itself,
}

/// Both of exp.
pub const LAWS: [Law; 2] = [Law::Ratio, Law::Difference];

/// A row, or all rows of a bucket at once: every number is the worst one of theirs.
pub struct Charges<'a> {
    setting: &'a Setting,
    weights: Weights,
    /// m P̄(b) / z.
    amplification: f64,
    /// m times a bound of max_i f̃_ji, or of max_i f_ji where the law is of differences.
    peak: f64,
    /// Σ_i |f̃_ji| at most.
    mass: f64,
    /// Whether weights of either sign are bounded by their sizes alone: then no ball holds a mean under them.
    is_signed: bool,
    /// The mean under f̃ is no further from that of all keys alike than this times a deviation.
    shifted: f64,
    /// The joint mean of [`Known`] with the error of the logits, in units of the mean weight.
    joint: f64,
    /// ‖x‖.
    query: f64,
    /// ‖o‖.
    output: f64,
    /// Error of w from sums of integers, relative to ‖[c, −r]‖ (equation 9.41).
    integers: f64,
}

/// The numbers of a row, upper bounds but for the last.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// ‖x‖ in the coordinates.
    pub query: f64,
    /// ‖a‖.
    pub input: f64,
    /// ‖o‖ in the unit of the values.
    pub output: f64,
    /// The normaliser as computed, at least.
    pub normaliser: f64,
}

impl<'a> Charges<'a> {
    /// From the bounds of P over |t| ≤ ‖x‖ max ‖k‖.
    pub fn new(setting: &'a Setting, law: Law, known: Known, sizes: Sizes) -> Self {
        let Sizes { query, input, output, normaliser } = sizes;
        let [_, keys] = setting.counts;
        let reach = outward(query * setting.key);
        let steep = setting.powers.iter().skip(1).rev().fold(0.0, |sum, p| outward(sum * reach + p));
        let absolute = outward(steep * reach + setting.powers.first().copied().unwrap_or(0.0));
        let amplification = outward(keys * absolute / normaliser);
        let lost = setting.sums[0].loss() * amplification;
        // keys over the exact normaliser.
        let mean = if lost < 1.0 { outward(keys / (normaliser * (1.0 - lost))) } else { f64::INFINITY };
        // Bound of the error of the logits.
        let wrong =
            if setting.unit > 0.0 { outward(setting.logits[0] * input + setting.logits[1] * query) } else { 0.0 };
        let (lo, hi) = known.ratio;
        let mut joint = f64::INFINITY;
        let (weights, peak, mass) = match law {
            Law::Ratio => {
                let enclosure = Enclosure { lo, hi };
                let enclosure = if wrong > 0.0 { enclosure.widened(wrong) } else { enclosure };
                // P itself is at most hi e^t.
                (Weights::Ratio(enclosure), outward(mean * absolute.min(outward(hi * reach.exp()))), 1.0)
            }
            Law::Difference => {
                let moved = outward(outward(reach.exp()) * outward(wrong.exp_m1()));
                let [off, usual] = [known.difference, known.usual].map(|off| outward(off + moved));
                let largest = outward((reach + wrong).exp()).min(outward(absolute + off));
                joint = outward(outward(known.joint + moved * setting.keys[1].deviation) * mean);
                let difference = Difference { largest: outward(off * mean), usual: outward(usual * mean) };
                let grown = outward(1.0 + difference.of_true());
                (Weights::Difference(difference), outward(grown * mean * largest), outward(1.0 + difference.mass()))
            }
            Law::Itself => {
                let same = Weights::Ratio(Enclosure { lo: 1.0, hi: 1.0 });
                let largest = outward(mean * absolute);
                (same, largest, if lo > 0.0 { 1.0 } else { largest })
            }
        };
        // |P(t) − P_0| ≤ |t| Σ_(a ≥ 1) |P_a| b^(a − 1), and the mean square of t is at most ‖x‖² that of the keys.
        let shifted = outward(mean * steep * reach.min(outward(query * setting.keys[0].deviation)));
        // Weights of both signs: Σ f̃ (k − k̃)(h − h̃)ᵀ with both means written out.
        let is_signed = law == Law::Itself && mass != 1.0;
        let peak = if is_signed { outward(peak + shifted * shifted) } else { peak };
        let integers = outward(setting.last_power() * setting.integers[0] * query.powi(setting.degree()) / normaliser);
        Charges { setting, weights, amplification, peak, mass, is_signed, shifted, joint, query, output, integers }
    }

    /// The same without a normaliser: by Jensen's inequality Σe^t is at least m e^⟨x, mean k⟩, ΣP(t) at least lo times
    /// that, or less by what the difference allows, and a safe row has at least half of m as computed (8.16).
    pub fn least(setting: &'a Setting, law: Law, known: Known, sizes: Sizes) -> Self {
        let [_, keys] = setting.counts;
        let least = (-outward(sizes.query * setting.mean_key)).exp().next_down();
        let exact = (known.ratio.0 * least).max(least - known.usual).next_down();
        let normaliser = (keys * exact).next_down();
        // The rounding error is relative to the sum of absolute values, amplification times the normaliser.
        let with = Charges::new(setting, law, known, Sizes { normaliser, ..sizes });
        let computed = normaliser * (1.0 - setting.sums[0].loss() * with.amplification) * (1.0 - 4.0 * f64::EPSILON);
        let half = keys / 2.0 * (1.0 - 2.0 * setting.unit);
        Charges::new(setting, law, known, Sizes { normaliser: computed.max(half), ..sizes })
    }

    /// Of vectors under the weights of the row (equation 9.36), and around their mean under f̃.
    fn spread(&self, of: Flat) -> Spread {
        Spread {
            weighted: outward(self.peak.sqrt() * of.deviation).min(if self.is_signed {
                f64::INFINITY
            } else {
                of.radius
            }),
            flat: outward(outward(1.0 + self.shifted * self.shifted).sqrt() * of.deviation),
            joint: f64::INFINITY,
        }
    }

    /// That of the keys in their own coordinates, of which more may be known (equation 9.49).
    fn own_spread(&self) -> Spread {
        let own = self.setting.keys[1];
        let Weights::Difference(difference) = self.weights else { return self.spread(own) };
        // Deviations are from the mean under f̃.
        let mean = self.setting.mean_key * self.setting.maps[0].spectral + self.shifted * own.deviation;
        Spread { joint: outward(self.joint + difference.usual * mean), ..self.spread(own) }
    }

    fn largest_weight(&self) -> f64 {
        (self.peak / self.setting.counts[1]).min(1.0)
    }

    /// The row of equations (9.1) to (9.10) and (9.12) to (9.17), for ‖c‖ in exact arithmetic.
    fn row_of(&self, incoming: Incoming) -> Row {
        Row { weights: self.weights, values: self.spread(self.setting.values), incoming, peak: self.largest_weight() }
    }

    /// ‖Δo‖, of P alone.
    fn moved(&self) -> f64 {
        self.row_of(self.incoming(0.0)).output()
    }

    /// ‖Δc‖, of P alone.
    fn moved_incoming(&self) -> f64 {
        if self.setting.is_target { self.moved() } else { 0.0 }
    }

    fn incoming(&self, c: f64) -> Incoming {
        if self.setting.is_target { Incoming::Residual(c) } else { Incoming::Given(c) }
    }

    fn sizes(&self, c: f64, keys: f64, inherited_keys: f64) -> RowSizes {
        // Equation (9.24) is applied on the side of the truth as well, whose o and c are this much larger.
        let moved = self.moved();
        RowSizes {
            amplification: self.amplification,
            mass: self.mass,
            values: self.setting.value,
            keys,
            output: self.output + moved,
            incoming: self.incoming(c + self.moved_incoming()),
            inherited_values: self.setting.lost[0],
            inherited_keys,
        }
    }

    fn rounding(&self, c: f64) -> RowRounding {
        self.setting.sums[0].row(&self.sizes(c, self.setting.key, self.setting.lost[1]))
    }

    /// Bound of the rounding error of w, sums of integers included.
    fn lost(&self, c: f64) -> f64 {
        // r was computed from c and o.
        let r = c * self.output * (1.0 + gamma(self.setting.widths[1] + 4.0, self.setting.unit));
        outward(self.rounding(c).w + self.integers * (c + r))
    }

    /// Bound of the rounding error of a p_ji, in units of f̃_ji.
    fn entry(&self, c: f64) -> f64 {
        self.setting.sums[0].row(&self.sizes(c, 1.0, 0.0)).w
    }

    /// |⟨c, h_i⟩ − r| at most.
    fn difference(&self, c: f64) -> f64 {
        let moved = self.moved();
        outward(
            (c + self.moved_incoming()) * (self.setting.value + self.setting.lost[0] + self.output + moved)
                + self.entry(c),
        )
    }

    /// The row for ‖c‖ as computed.
    pub fn row(&self, c: f64) -> Row {
        self.row_of(self.incoming(outward(c + self.rounding(c).residual)))
    }

    /// ‖Σ_i p_ji x_i‖ at most, for the true p: with x the rows of A2, what multiplies an error of a map of theirs.
    fn covariance(&self, c: f64, spread: Flat) -> f64 {
        self.row(c).true_w(self.spread(spread))
    }

    /// ‖w‖ as computed, in the coordinates.
    fn computed(&self, c: f64) -> f64 {
        outward(self.row(c).approximate_w(self.spread(self.setting.keys[0])) + self.lost(c))
    }

    /// ‖Δw‖ in the keys' own coordinates, where ‖w‖ without rounding is at most `w` there.
    fn own(&self, c: f64, w: f64) -> f64 {
        let setting = self.setting;
        let truth = self.row(c).w_beside(self.own_spread(), w);
        let missed = setting.key_error * self.covariance(c, setting.rows[0]);
        outward(truth + setting.maps[0].spectral * self.lost(c) + missed)
    }

    /// The same of w as rows of it are returned, of which this one has the norm `w`.
    pub fn slopes(&self, c: f64, w: f64) -> f64 {
        let product = self.product() * self.computed(c);
        outward(self.own(c, outward(w + product + self.setting.maps[0].spectral * self.lost(c))) + product)
    }

    /// Bound of the rounding error of the product that makes rows of w, in units of ‖w‖.
    fn product(&self) -> f64 {
        outward(gamma(self.setting.widths[0] + 4.0, self.setting.unit) * self.setting.maps[0].frobenius)
    }

    /// The term of dL/dX and dL/dW_Q: ‖Δw‖, and the rounding error of the sum of a ⊗ w.
    pub fn weights(&self, c: f64) -> f64 {
        outward(self.own(c, f64::INFINITY) + self.summing(c))
    }

    /// How far the term of dL/dX and dL/dW_Q is from a ⊗ w with w as rows of it are returned, where the law is that P
    /// stands for itself: each has a rounding error of its own (equation 9.58).
    pub fn drift(&self, c: f64) -> f64 {
        let lost = 2.0 * self.setting.maps[0].spectral * self.lost(c) + self.product() * self.computed(c);
        outward(lost + self.summing(c))
    }

    /// Bound of the rounding error of the sum of a ⊗ w, or of the contraction of the moments of both sides
    /// (equations 9.39 and 9.40).
    fn summing(&self, c: f64) -> f64 {
        let setting = self.setting;
        let back = &setting.maps[0];
        let [length, missed] = setting.row;
        let small = gamma(setting.widths[0] + 4.0, setting.unit.min(FOLD_UNIT));
        let summed = length * self.summed() * setting.key * self.difference(c);
        let lost = setting.outer[0] * back.spectral + small * back.frobenius + missed * back.spectral;
        outward(lost * self.computed(c) + back.spectral * summed)
    }

    /// The row of dL/dA1, without the scale.
    pub fn queries(&self, c: f64) -> f64 {
        let setting = self.setting;
        let [own, rows, ..] = &setting.maps;
        let stretch = if own.frobenius > 0.0 { rows.frobenius / own.frobenius } else { 0.0 };
        let truth = self.row(c).w(self.spread(setting.keys[2]));
        let missed = stretch * setting.key_error * self.covariance(c, setting.rows[0]);
        let product = gamma(setting.widths[0] + 4.0, setting.unit) * rows.frobenius * self.computed(c);
        outward(truth + rows.spectral * self.lost(c) + missed + product)
    }

    /// Bound of the rounding error of a term in sums over the queries, in units of its absolute value at a key of
    /// average weight.
    fn summed(&self) -> f64 {
        self.setting.sums[1].loss() * self.amplification
    }

    /// ‖Δ(A2ᵀ p_j)‖, and the norm itself, to be multiplied by ‖s q‖ and by the error of a query: dL/dW_K.
    pub fn key_weights(&self, c: f64) -> (f64, f64) {
        let setting = self.setting;
        let summed = self.summed();
        let lost = self.entry(c) + (summed + setting.outer[1] * (2.0 + summed)) * self.difference(c);
        let small = gamma(setting.widths[0] + 4.0, setting.unit.min(FOLD_UNIT)) * self.difference(c);
        let change = self.row(c).w(self.spread(setting.rows[0]))
            + self.mass * setting.inputs[0] * (lost + small * setting.widths[0]);
        (outward(change), self.covariance(c, setting.rows[0]))
    }

    /// ‖f_j‖₂ and ‖f̃_j‖₂ at most.
    fn weights_norm(&self) -> f64 {
        outward(self.mass * self.row_of(self.incoming(0.0)).true_norm())
    }

    /// ‖Δp_j‖₂ and ‖p_j‖₂, to be multiplied as above: dL/dA2.
    pub fn keys(&self, c: f64, by_peak: bool) -> (f64, f64) {
        let row = self.row(c);
        let truth = if by_peak { row.p_by_peak() } else { row.p() };
        let norm = self.weights_norm();
        let summed = self.summed() * self.difference(c) / self.setting.counts[1].sqrt();
        (outward(truth + norm * self.entry(c) + summed), outward(norm * self.difference(c)))
    }

    /// ‖Δ(f_j ⊗ c_j)‖ and the norm itself, for dL/dA3.
    pub fn values(&self, c: f64) -> (f64, f64) {
        let (row, norm) = (self.row(c), self.weights_norm());
        let lost = self.setting.sums[0].loss() * self.amplification;
        let residual = self.rounding(c).residual;
        let size = row.incoming.norm() + row.residual();
        let summed = self.summed() * size / self.setting.counts[1].sqrt();
        (outward(row.value_side() + norm * (lost * size + residual) + summed), outward(norm * size))
    }

    /// ‖Δ((f A3)_j ⊗ c_j)‖, for dL/dY.
    pub fn value_weights(&self, c: f64) -> f64 {
        let (row, setting) = (self.row(c), self.setting);
        let sums = setting.sums[0].loss() * self.amplification + self.summed();
        let lost = sums + setting.outer[1] * (1.0 + sums);
        let size = row.incoming.norm() + row.residual();
        let truth = row.mixed(setting.inputs[1], self.spread(setting.rows[1]));
        outward(truth + self.mass * setting.inputs[1] * (lost * size + self.rounding(c).residual))
    }

    /// ‖Δo‖ of a row as it is returned.
    pub fn output(&self) -> f64 {
        outward(self.moved() + self.rounding(0.0).output)
    }

    /// |Δ ½‖c‖²|.
    pub fn loss(&self, c: f64) -> f64 {
        let setting = self.setting;
        let moved = self.row(c).residual() + self.rounding(c).residual;
        let fold = gamma(setting.counts[0] + 8.0, setting.unit.min(FOLD_UNIT));
        let squares = 0.5 * (gamma(setting.widths[1] + 4.0, setting.unit) + 2.0 * fold) * c * c;
        outward(moved * (c + 0.5 * moved) + squares)
    }

    /// ‖x‖ at most.
    pub fn query(&self) -> f64 {
        self.query
    }
}
