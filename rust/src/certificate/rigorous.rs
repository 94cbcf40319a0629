//! Rigorous bounds of the polynomial path, row by row (docs/math.md, equations 70 to 77).
//!
//! A row's approximate weights are f̃ = P(t) / ΣP(t) where the true ones are f = e^t / Σe^t. All that enters is how far
//! the ratio P(t) e^−t moves over the range of the row's logits, and the spread of values and keys under f̃, which the
//! moments give. Rounding is not included: see [`super::rounding`].

use super::{outward, total};

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
    /// variation (equation 71).
    pub fn variation(self) -> f64 {
        if self.known() {
            outward(0.5 * (self.hi - self.lo) / (self.lo.sqrt() * self.hi.sqrt()))
        } else {
            f64::INFINITY
        }
    }

    /// η = 2 (√R − 1) / (√R + 1): at most this is ‖f − f̃‖₁ (equation 72).
    pub fn mass(self) -> f64 {
        let root = self.ratio().sqrt();
        if root.is_finite() { outward(2.0 * self.excess() / ((root + 1.0) * (root + 1.0))) } else { f64::INFINITY }
    }

    fn known(self) -> bool {
        self.lo > 0.0 && self.hi >= self.lo && self.hi < f64::INFINITY
    }
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

/// What the bounds of a row depend on; every number an upper bound.
///
/// A spread σ̃ of vectors is the standard deviation under f̃_j in the direction where it is largest; the root of the
/// trace of the covariance, √(E‖h‖² − ‖Eh‖²), is never below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// Of P(t) e^−t over |t| ≤ s ‖q_j‖ max ‖k‖.
    pub enclosure: Enclosure,
    /// σ̃ of the values h.
    pub values: f64,
    /// ‖c̃_j‖.
    pub incoming: Incoming,
    /// max_i f̃_ji; 1 where it is not known. Only what is by key depends on it.
    pub peak: f64,
}

/// Bounds of one row, in Euclidean norms unless they say otherwise.
impl Row {
    /// ‖Δf_j‖₁.
    pub fn weights(&self) -> f64 {
        self.enclosure.mass()
    }

    /// ‖Δf_j‖₂ (equation 76).
    pub fn weights_norm(&self) -> f64 {
        self.weights().min(self.mean(self.peak.sqrt()))
    }

    /// ‖Δ Σ_i f_ji x_i‖ for vectors x of spread σ̃: κ σ̃ (equation 73).
    pub fn mean(&self, spread: f64) -> f64 {
        outward(self.enclosure.variation() * spread)
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

    /// ‖Δ Σ_i p_ji x_i‖ for vectors x of spread σ̃: w_j for the keys, (A2ᵀ p_j) for the inputs A2 (equation 74).
    pub fn w(&self, spread: f64) -> f64 {
        let enclosure = self.enclosure;
        let change = enclosure.excess() * self.incoming.norm() + enclosure.ratio() * self.residual();
        outward(change * self.values * spread)
    }

    /// ‖Δp_j‖₁ (equation 75).
    pub fn p(&self) -> f64 {
        let c = self.incoming.norm() + self.residual();
        outward((2.0 * self.enclosure.variation() * c + self.residual()) * self.values)
    }

    /// ‖Δp_j‖₂ (equation 76).
    pub fn p_norm(&self) -> f64 {
        self.p().min(self.p_by_peak())
    }

    /// ‖Δp_j‖₂ by the largest weight alone: a line in ‖c̃_j‖, as the other bounds are.
    pub fn p_by_peak(&self) -> f64 {
        let variation = self.enclosure.variation();
        let c = self.incoming.norm() + self.residual();
        let moved = self.enclosure.excess() + (1.0 + variation * variation).sqrt() * variation;
        outward(self.peak.sqrt() * (moved * c + self.residual()) * self.values)
    }

    /// ‖Δ(f_j ⊗ c_j)‖_F, the term of fᵀc (equation 76).
    pub fn value_side(&self) -> f64 {
        let variation = self.enclosure.variation();
        let norm = outward((self.peak * (1.0 + variation * variation)).sqrt()).min(1.0);
        outward(self.weights_norm() * self.incoming.norm() + norm * self.residual())
    }

    /// ‖Δ((f A3)_j ⊗ c_j)‖_F, the term of dL/dY: `mean` is ‖(f̃A3)_j‖, `spread` σ̃ of the inputs A3 (equation 77).
    pub fn mixed(&self, mean: f64, spread: f64) -> f64 {
        let moved = self.mean(spread);
        outward(moved * self.incoming.norm() + (mean + moved) * self.residual())
    }

    /// |Δ ½‖c_j‖²| (equation 77); of a given c there is no loss, hence no error.
    pub fn loss(&self) -> f64 {
        outward(self.residual() * (self.incoming.norm() + 0.5 * self.residual()))
    }

    /// A cap of ‖Δw_j‖ that is finite whatever the enclosure says, if the radii are (equation 87); `w` is ‖w̃_j‖.
    pub fn cap(&self, spread: f64, w: f64, radii: &Radii) -> f64 {
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

/// s Σ_j ‖a_j‖ ‖Δw_j‖ and the like: the Frobenius norm of the error of s Σ_j a_j ⊗ w_j (equation 77).
pub fn aggregated(scale: f64, terms: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    // A row of zeros carries no error, whatever is known of it.
    let product = |(left, right): (f64, f64)| if left == 0.0 { 0.0 } else { outward(left * right) };
    let sum = total(terms.into_iter().map(product));
    if scale == 0.0 { 0.0 } else { outward(scale.abs() * sum) }
}

/// What each step of the paper's chain was charged: the largest over the rows, each bounding the entrywise error too.
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
        let (f, moved, c) = (row.weights(), row.residual(), row.incoming.norm());
        let r = c * row.output() + moved * (output + row.output());
        self.f = self.f.max(f);
        self.c = self.c.max(moved);
        self.q = self.q.max(outward(moved * values));
        self.p1 = self.p1.max(outward((c * f + moved) * values));
        self.p2 = self.p2.max(outward(c * output * f + r));
    }
}
