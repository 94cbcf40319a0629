//! What one query row adds to the bounds of the gradients (docs/math.md, equations 118 to 123).

use super::setting::{Setting, Spread};
use crate::certificate::outward;
use crate::certificate::rigorous::{Enclosure, Incoming, Row};
use crate::certificate::rounding::{FOLD_UNIT, RowRounding, RowSizes, gamma};

/// A row, or all rows of a bucket at once: every number is the worst one of theirs.
pub struct Charges<'a> {
    setting: &'a Setting,
    enclosure: Enclosure,
    /// m P̄(b) / z.
    amplification: f64,
    /// m times a bound of max_i f̃_ji.
    peak: f64,
    /// ‖x‖.
    query: f64,
    /// ‖o‖.
    output: f64,
    /// What integers lose of w, over ‖[c, −r]‖ (equation 140).
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
    /// With lo ≤ P(t) e^−t ≤ hi over |t| ≤ ‖x‖ max ‖k‖.
    pub fn new(setting: &'a Setting, (lo, hi): (f64, f64), sizes: Sizes) -> Self {
        let Sizes { query, input, output, normaliser } = sizes;
        let [_, keys] = setting.counts;
        let reach = outward(query * setting.key);
        let absolute = setting.powers.iter().rev().fold(0.0, |sum, p| outward(sum * reach + p));
        let amplification = outward(keys * absolute / normaliser);
        let lost = setting.sums[0].loss() * amplification;
        // P itself is at most hi e^t.
        let largest = absolute.min(outward(hi * reach.exp()));
        let peak = if lost < 1.0 { outward(keys * largest / (normaliser * (1.0 - lost))) } else { f64::INFINITY };
        let wrong = setting.logits[0] * input + setting.logits[1] * query;
        let enclosure = Enclosure { lo, hi };
        let enclosure = if setting.unit > 0.0 { enclosure.widened(outward(wrong)) } else { enclosure };
        let integers = outward(setting.last_power() * setting.integers[0] * query.powi(setting.degree()) / normaliser);
        Charges { setting, enclosure, amplification, peak, query, output, integers }
    }

    /// The same without a normaliser: by Jensen's inequality the exact one is at least m lo e^⟨x, mean k⟩, and a safe row
    /// has at least half of m as computed (66).
    pub fn least(setting: &'a Setting, ratios: (f64, f64), sizes: Sizes) -> Self {
        let [_, keys] = setting.counts;
        let mean = outward(sizes.query * setting.mean_key);
        let normaliser = keys * (ratios.0 * (-mean).exp()).next_down();
        // What is lost is relative to the absolute sum, amplification times the normaliser.
        let exact = Charges::new(setting, ratios, Sizes { normaliser, ..sizes });
        let computed = normaliser * (1.0 - setting.sums[0].loss() * exact.amplification) * (1.0 - 4.0 * f64::EPSILON);
        let half = keys / 2.0 * (1.0 - 2.0 * setting.unit);
        Charges::new(setting, ratios, Sizes { normaliser: computed.max(half), ..sizes })
    }

    /// Of vectors under the weights of the row (equation 116).
    fn spread(&self, of: Spread) -> f64 {
        outward(self.peak.sqrt() * of.deviation).min(of.radius)
    }

    fn largest_weight(&self) -> f64 {
        (self.peak / self.setting.counts[1]).min(1.0)
    }

    /// ‖Δo‖, of P alone.
    fn moved(&self) -> f64 {
        outward(self.enclosure.variation() * self.spread(self.setting.values))
    }

    /// ‖Δc‖, of P alone.
    fn moved_incoming(&self) -> f64 {
        if self.setting.is_target { self.moved() } else { 0.0 }
    }

    fn incoming(&self, c: f64) -> Incoming {
        if self.setting.is_target { Incoming::Residual(c) } else { Incoming::Given(c) }
    }

    fn sizes(&self, c: f64, keys: f64, inherited_keys: f64) -> RowSizes {
        // Equation (82) is applied on the side of the truth as well, whose o and c are this much larger.
        let moved = self.moved();
        RowSizes {
            amplification: self.amplification,
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

    /// What rounding does to w, sums of integers included.
    fn lost(&self, c: f64) -> f64 {
        // r was computed from c and o.
        let r = c * self.output * (1.0 + gamma(self.setting.widths[1] + 4.0, self.setting.unit));
        outward(self.rounding(c).w + self.integers * (c + r))
    }

    /// What rounding does to a p_ji, in units of f_ji.
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

    /// The row of equations (70) to (77), for ‖c‖ as computed.
    pub fn row(&self, c: f64) -> Row {
        let incoming = self.incoming(outward(c + self.rounding(c).residual));
        Row {
            enclosure: self.enclosure,
            values: self.spread(self.setting.values),
            incoming,
            peak: self.largest_weight(),
        }
    }

    /// ‖Σ_i p_ji x_i‖ at most, for the true p: with x the rows of A2, what multiplies an error of a map of theirs.
    fn covariance(&self, c: f64, spread: Spread) -> f64 {
        let row = self.row(c);
        outward(self.enclosure.ratio() * row.values * self.spread(spread) * (row.incoming.norm() + row.residual()))
    }

    /// Σ_i ‖p_ji k_i‖ of w as computed, in the coordinates.
    fn computed(&self, c: f64) -> f64 {
        let row = self.row(c);
        outward(row.values * self.spread(self.setting.keys[0]) * row.incoming.norm() + self.lost(c))
    }

    /// ‖Δw‖ in the keys' own coordinates.
    pub fn own(&self, c: f64) -> f64 {
        let setting = self.setting;
        let truth = self.row(c).w(self.spread(setting.keys[1]));
        let missed = setting.key_error * self.covariance(c, setting.rows[0]);
        outward(truth + setting.maps[0].spectral * self.lost(c) + missed)
    }

    /// The same of w as rows of it are returned.
    pub fn slopes(&self, c: f64) -> f64 {
        let product = gamma(self.setting.widths[0] + 4.0, self.setting.unit) * self.setting.maps[0].frobenius;
        outward(self.own(c) + product * self.computed(c))
    }

    /// The term of dL/dX and dL/dW_Q: the above, and what summing a ⊗ w loses, or the contraction of the
    /// moments of both sides (equations 119 and 138).
    pub fn weights(&self, c: f64) -> f64 {
        let setting = self.setting;
        let back = &setting.maps[0];
        let [length, missed] = setting.row;
        let small = gamma(setting.widths[0] + 4.0, setting.unit.min(FOLD_UNIT));
        let summed = length * self.summed() * setting.key * self.difference(c);
        let lost = setting.outer[0] * back.spectral + small * back.frobenius + missed * back.spectral;
        outward(self.own(c) + lost * self.computed(c) + back.spectral * summed)
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

    /// What sums over the queries lose of a term, in units of its absolute value at a key of average weight.
    fn summed(&self) -> f64 {
        self.setting.sums[1].loss() * self.amplification
    }

    /// ‖Δ(A2ᵀ p_j)‖, and the norm itself, to be multiplied by ‖s q‖ and by what a query is wrong by: dL/dW_K.
    pub fn key_weights(&self, c: f64) -> (f64, f64) {
        let setting = self.setting;
        let summed = self.summed();
        let lost = self.entry(c) + (summed + setting.outer[1] * (2.0 + summed)) * self.difference(c);
        let small = gamma(setting.widths[0] + 4.0, setting.unit.min(FOLD_UNIT)) * self.difference(c);
        let change =
            self.row(c).w(self.spread(setting.rows[0])) + setting.inputs[0] * (lost + small * setting.widths[0]);
        (outward(change), self.covariance(c, setting.rows[0]))
    }

    /// ‖f_j‖₂ at most, of the true weights too.
    fn weights_norm(&self) -> f64 {
        let variation = self.enclosure.variation();
        outward((self.largest_weight() * (1.0 + variation * variation)).sqrt()).min(1.0)
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
        outward(truth + setting.inputs[1] * (lost * size + self.rounding(c).residual))
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
