//! Rigorous bounds of the polynomial path, row by row (docs/math.md, Theorems 9.5 and 9.11, equations 9.1 to 9.10 and
//! 9.12 to 9.17).
//!
//! A row's approximate weights are f̃ = P(t) / ΣP(t) where the true ones are f = e^t / Σe^t. All that enters is how far
//! the ratio P(t) e^−t moves over the range of the row's logits and the spread of values and keys under f̃; or how
//! large P(t) − e^t is there, and their spread over all keys alike. The second needs no P(t) > 0. Rounding is not
//! included: see [`super::rounding`].

use crate::linalg::outward::{outward, total};

/// P(t) e^−t ∈ [`lo`, `hi`] for every logit t of a row; a common factor of both does not matter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Enclosure {
    /// The lower end. Not positive: nothing is known.
    pub lo: f64,
    /// The upper end.
    pub hi: f64,
}

impl Enclosure {
    /// The same for logits that are wrong by up to `error`: e^±error comes on top.
    pub fn widened(self, error: f64) -> Self {
        Enclosure { lo: self.lo * (-error).exp().next_down(), hi: outward(self.hi * error.exp()) }
    }

    /// R = hi / lo ≥ 1, infinite where the enclosure says nothing.
    pub fn ratio(self) -> f64 {
        if self.known() { outward(1.0 + (self.hi - self.lo) / self.lo) } else { f64::INFINITY }
    }

    /// R − 1, without the cancellation.
    pub fn excess(self) -> f64 {
        if self.known() { outward((self.hi - self.lo) / self.lo) } else { f64::INFINITY }
    }

    /// κ = (R − 1) / 2√R: no density whose largest and smallest value have the ratio R has a larger coefficient of
    /// variation (equation 9.2).
    pub fn variation(self) -> f64 {
        if self.known() {
            outward(0.5 * (self.hi - self.lo) / (self.lo.sqrt() * self.hi.sqrt()))
        } else {
            f64::INFINITY
        }
    }

    /// η = 2 (√R − 1) / (√R + 1): at most this is ‖f − f̃‖₁ (equation 9.3).
    pub fn mass(self) -> f64 {
        let root = self.ratio().sqrt();
        if root.is_finite() { outward(2.0 * self.excess() / ((root + 1.0) * (root + 1.0))) } else { f64::INFINITY }
    }

    fn known(self) -> bool {
        self.lo > 0.0 && self.hi >= self.lo && self.hi < f64::INFINITY
    }
}

/// How far P(t) is from e^t over the m keys, in units of ΣP(t) / m.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// ε∞: |P(t) − e^t| is at most this for every key.
    pub largest: f64,
    /// ε₂ ≤ ε∞: its root mean square over the keys is at most this. From 1 on, and where it is NaN, nothing is known.
    pub usual: f64,
}

impl Difference {
    /// ε₂, infinite where nothing is known: Σ|P(t) − e^t| is at most this part of ΣP(t).
    fn of_approximate(self) -> f64 {
        if self.usual >= 0.0 && self.usual < 1.0 { self.usual } else { f64::INFINITY }
    }

    /// ε₂′ = ε₂ / (1 − ε₂): the same part of Σe^t.
    pub fn of_true(self) -> f64 {
        let share = self.of_approximate();
        if share < 1.0 { outward(share / (1.0 - share)) } else { f64::INFINITY }
    }

    /// ‖Δf‖₁ (equation 9.13).
    pub fn mass(self) -> f64 {
        outward(2.0 * self.of_approximate())
    }
}

/// Bounds of P(t) relative to e^t in a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weights {
    /// Their ratio.
    Ratio(Enclosure),
    /// Their difference.
    Difference(Difference),
}

/// Spread of vectors around their mean in the direction where it is largest: the standard deviation of ⟨v, x⟩ for the
/// worst unit vector v. The root of a trace of a covariance is never below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// With [`Weights::Ratio`] under f̃, with [`Weights::Difference`] under f.
    pub weighted: f64,
    /// Around the mean under f̃, all keys counted alike; only [`Weights::Difference`] asks for it.
    pub flat: f64,
    /// The same with |P(t) − e^t| of each key for a factor, in units of ΣP(t) / m; infinite where it is not known.
    pub joint: f64,
}

/// The norm of c_j under the approximation, and whether it moves with the output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Incoming {
    /// ‖õ_j − E_j‖: the gradient of the loss.
    Residual(f64),
    /// ‖dout_j‖: given from outside, without error.
    Given(f64),
}

impl Incoming {
    /// The norm.
    pub fn norm(self) -> f64 {
        match self {
            Incoming::Residual(norm) | Incoming::Given(norm) => norm,
        }
    }
}

/// The quantities that the bounds of a row depend on, each an upper bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Over |t| ≤ s ‖q_j‖ max ‖k‖.
    pub weights: Weights,
    /// Of the values h.
    pub values: Spread,
    /// ‖c̃_j‖.
    pub incoming: Incoming,
    /// max_i f̃_ji with [`Weights::Ratio`], max_i f_ji with [`Weights::Difference`]; 1 where it is not known. Only
    /// bounds by key depend on it.
    pub peak: f64,
}

/// Bounds of one row, in Euclidean norms unless they say otherwise.
impl Row {
    /// ‖Δf_j‖₁ (equations 9.3 and 9.13).
    pub fn mass(&self) -> f64 {
        match self.weights {
            Weights::Ratio(enclosure) => enclosure.mass(),
            Weights::Difference(difference) => difference.mass(),
        }
    }

    /// ‖Δf_j‖₂ (equations 9.8 and 9.17).
    pub fn weights_norm(&self) -> f64 {
        let by_peak = match self.weights {
            Weights::Ratio(enclosure) => enclosure.variation(),
            Weights::Difference(_) => self.mass(),
        };
        self.mass().min(outward(by_peak * self.peak.sqrt()))
    }

    /// ‖f_j‖₂, of the true weights.
    pub fn true_norm(&self) -> f64 {
        let by_peak = match self.weights {
            Weights::Ratio(enclosure) => self.peak * (1.0 + enclosure.variation().powi(2)),
            Weights::Difference(_) => self.peak,
        };
        outward(by_peak.sqrt()).min(1.0)
    }

    /// ‖Δ Σ_i f_ji x_i‖ for vectors x of this spread (equations 9.4 and 9.13).
    pub fn mean(&self, spread: Spread) -> f64 {
        outward(match self.weights {
            Weights::Ratio(enclosure) => enclosure.variation() * spread.weighted,
            Weights::Difference(difference) => difference.of_true() * spread.flat,
        })
    }

    /// ‖Δo_j‖.
    pub fn output(&self) -> f64 {
        self.mean(self.values)
    }

    /// ‖Δc_j‖.
    pub fn residual(&self) -> f64 {
        match self.incoming {
            Incoming::Residual(_) => self.output(),
            Incoming::Given(_) => 0.0,
        }
    }

    /// ‖ΔCov_f(x, h)‖ and ‖Cov_f(x, h)‖ for the values h and vectors x of this spread (equations 9.5 and 9.14).
    fn covariance(&self, spread: Spread) -> [f64; 2] {
        let weighted = self.values.weighted * spread.weighted;
        match self.weights {
            Weights::Ratio(enclosure) => [enclosure.excess() * weighted, enclosure.ratio() * weighted].map(outward),
            Weights::Difference(difference) => {
                let usual = difference.of_approximate();
                let flat = outward(difference.largest * spread.flat).min(spread.joint);
                let flat = self.values.flat * (flat + usual * difference.of_true() * spread.flat);
                [outward(usual * weighted + flat), outward(weighted)]
            }
        }
    }

    /// ‖Δ Σ_i p_ji x_i‖ for vectors x of this spread: w_j for the keys, (A2ᵀ p_j) for the inputs A2.
    pub fn w(&self, spread: Spread) -> f64 {
        let [change, size] = self.covariance(spread);
        outward(change * self.incoming.norm() + size * self.residual())
    }

    /// The same where ‖Σ_i p̃_ji x_i‖ is known to be at most `w` (equation 9.50).
    pub fn w_beside(&self, spread: Spread, w: f64) -> f64 {
        let plain = self.w(spread);
        let Weights::Difference(difference) = self.weights else { return plain };
        let ([_, size], c) = (self.covariance(spread), self.incoming.norm());
        let grown = difference.of_true();
        let third = outward(difference.largest * spread.flat).min(spread.joint) * self.values.flat;
        let shifted = grown * grown * self.values.flat * spread.flat;
        let changed = (1.0 + grown) * (third * c + difference.of_approximate() * w) + shifted * c;
        plain.min(outward(changed + size * self.residual()))
    }

    /// ‖Σ_i p_ji x_i‖ of the true p.
    pub fn true_w(&self, spread: Spread) -> f64 {
        let [_, size] = self.covariance(spread);
        outward(size * (self.incoming.norm() + self.residual()))
    }

    /// ‖Σ_i p̃_ji x_i‖.
    pub fn approximate_w(&self, spread: Spread) -> f64 {
        let size = match self.weights {
            Weights::Ratio(_) => self.values.weighted * spread.weighted,
            Weights::Difference(_) => self.covariance(spread).iter().sum(),
        };
        outward(size * self.incoming.norm())
    }

    /// ‖Δp_j‖₁ (equations 9.7 and 9.16).
    pub fn p(&self) -> f64 {
        let (c, moved) = (self.incoming.norm(), self.residual());
        outward(match self.weights {
            Weights::Ratio(enclosure) => (2.0 * enclosure.variation() * (c + moved) + moved) * self.values.weighted,
            Weights::Difference(difference) => {
                let changed = difference.of_approximate() * (self.values.weighted + 2.0 * self.values.flat);
                changed * c + moved * self.values.weighted
            }
        })
    }

    /// ‖Δp_j‖₂ (equations 9.8 and 9.17).
    pub fn p_norm(&self) -> f64 {
        self.p().min(self.p_by_peak())
    }

    /// ‖Δp_j‖₂ by the largest weight alone: a line in ‖c̃_j‖, as the other bounds are.
    pub fn p_by_peak(&self) -> f64 {
        let (residual, values) = (self.residual(), self.values);
        let enclosure = match self.weights {
            Weights::Ratio(enclosure) => enclosure,
            Weights::Difference(difference) => {
                let usual = difference.of_approximate() * (values.weighted + values.flat);
                let changed = (usual + difference.largest * values.flat) * self.incoming.norm();
                return outward(self.peak.sqrt() * (changed + residual * values.weighted));
            }
        };
        let variation = enclosure.variation();
        let c = self.incoming.norm() + residual;
        let moved = enclosure.excess() + (1.0 + variation * variation).sqrt() * variation;
        outward(self.peak.sqrt() * (moved * c + residual) * values.weighted)
    }

    /// ‖Δ(f_j ⊗ c_j)‖_F, the term of fᵀc (equation 9.8).
    pub fn value_side(&self) -> f64 {
        outward(self.weights_norm() * self.incoming.norm() + self.true_norm() * self.residual())
    }

    /// ‖Δ((f A3)_j ⊗ c_j)‖_F, the term of dL/dY: `mean` is ‖(f̃A3)_j‖, `spread` that of the inputs A3 (equation 9.10).
    pub fn mixed(&self, mean: f64, spread: Spread) -> f64 {
        let moved = self.mean(spread);
        outward(moved * self.incoming.norm() + (mean + moved) * self.residual())
    }

    /// |Δ ½‖c_j‖²| (equation 9.10); of a given c there is no loss, hence no error.
    pub fn loss(&self) -> f64 {
        outward(self.residual() * (self.incoming.norm() + 0.5 * self.residual()))
    }

    /// A cap of ‖Δw_j‖ that is finite whatever is known of the weights if the radii are (equation 9.59); `w` is ‖w̃_j‖.
    pub fn cap(&self, spread: Spread, w: f64, radii: &Radii) -> f64 {
        let moved = match self.incoming {
            Incoming::Residual(_) => self.output().min(outward(radii.output + radii.values)),
            Incoming::Given(_) => 0.0,
        };
        let c = self.incoming.norm() + moved;
        self.w(spread).min(outward(w + radii.values * radii.keys * c))
    }
}

/// Balls that hold all values and all keys a row sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Radii {
    /// Radius of the ball of the values.
    pub values: f64,
    /// Radius of the ball of the keys.
    pub keys: f64,
    /// ‖õ_j − centre of the ball of the values‖.
    pub output: f64,
}

/// s Σ_j ‖a_j‖ ‖Δw_j‖ and the like: the Frobenius norm of the error of s Σ_j a_j ⊗ w_j (equation 9.10).
pub fn aggregated(scale: f64, terms: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    // A row of zeros carries no error, whatever is known of it.
    let product = |(left, right): (f64, f64)| if left == 0.0 { 0.0 } else { outward(left * right) };
    let sum = total(terms.into_iter().map(product));
    if scale == 0.0 { 0.0 } else { outward(scale.abs() * sum) }
}

/// Error bounds of the steps of the paper's chain: the largest over the rows, each bounding the entrywise error too.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Steps {
    /// ‖Δf_j‖₁.
    pub f: f64,
    /// ‖Δc_j‖₂.
    pub c: f64,
    /// max_i |Δq_ji|.
    pub q: f64,
    /// ‖Δp1_j‖₁ for p1 = f ∘ q.
    pub p1: f64,
    /// ‖Δp2_j‖₁ for p2 = diag(r) f. p1 and p2 depend on the origin of the values where p = p1 − p2 does not, so their
    /// sum is above what [`Row::p`] charges.
    pub p2: f64,
}

impl Steps {
    /// Count one row in: `values` is max ‖h_i‖, `output` ‖õ_j‖.
    pub fn add(&mut self, row: &Row, values: f64, output: f64) {
        let (f, moved, c) = (row.mass(), row.residual(), row.incoming.norm());
        let r = c * row.output() + moved * (output + row.output());
        self.f = self.f.max(f);
        self.c = self.c.max(moved);
        self.q = self.q.max(outward(moved * values));
        self.p1 = self.p1.max(outward((c * f + moved) * values));
        self.p2 = self.p2.max(outward(c * output * f + r));
    }
}
