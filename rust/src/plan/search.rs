//! The tries of one call: their shared inputs, the cost so far, and the cost that the next one may have.

use std::cell::OnceCell;

use super::decide::Law;
use super::decision::Decision;
use super::logits::{Logits, drawn};
use super::reach::Reach;
use super::request::{Request, Wanted};
use crate::float::Float;
use crate::problem::{Problem, Wrt};

/// The tries of one call.
pub(super) struct Search<'a, T> {
    pub(super) original: Problem<'a, T>,
    /// The same with W_Q W_Kᵀ multiplied out, where dL/dW_K is certified from rows.
    pub(super) problem: Problem<'a, T>,
    pub(super) wrt: &'a [Wrt],
    pub(super) request: &'a Request,
    /// Hashed when first asked for.
    pub(super) seed: OnceCell<u64>,
    pub(super) law: Law<'a>,
    /// The same with the goal that all parts of the tolerance come to, known when first asked for.
    pub(super) aimed: OnceCell<Law<'a>>,
    /// Drawn when first asked for: what was prepared before needs none.
    pub(super) logits: OnceCell<Logits>,
    /// The same without the keys that are left to exp, where there are any.
    pub(super) other_logits: OnceCell<Logits>,
    /// Measured when first asked for.
    pub(super) reach: OnceCell<Reach>,
    /// Which outputs are zero by the structure of the problem.
    pub(super) zero: Vec<bool>,
    /// Operations of all looks and tries so far.
    pub(super) spent: f64,
}

impl<'a, T: Float> Search<'a, T> {
    /// Nothing tried yet; `problem` is the original with the pair multiplied out where that is asked for.
    pub(super) fn new(original: Problem<'a, T>, problem: Problem<'a, T>, law: Law<'a>, zero: Vec<bool>) -> Self {
        Search {
            seed: OnceCell::new(),
            original,
            problem,
            wrt: law.wrt,
            request: law.request,
            spent: law.looks(),
            law,
            aimed: OnceCell::new(),
            logits: OnceCell::new(),
            other_logits: OnceCell::new(),
            reach: OnceCell::new(),
            zero,
        }
    }

    /// The exact passes, because of what was found at a price.
    pub(super) fn given_up(&self, reason: &str) -> Decision {
        let (spent, all) = (self.spent, self.law.cost.exact());
        let reason = format!("{reason}; to find that took {:.1} % of its operations", 100.0 * spent / all);
        Decision { spent, ..self.law.exact(reason) }
    }

    /// Another number of rows, at its price.
    pub(super) fn resize(&self, decision: &mut Decision, samples: usize) {
        decision.samples = samples;
        decision.operations = self.law.operations(decision.degree, samples);
    }

    /// Whether all tries, one of this price included, cost no more than a part of the exact passes.
    pub(super) fn affords(&self, price: f64, part: f64) -> bool {
        self.spent + price <= part * self.law.cost.exact()
    }

    /// The law with its goal.
    pub(super) fn aimed(&self) -> &Law<'a> {
        self.aimed.get_or_init(|| self.law.aimed(&self.original))
    }

    /// The next degree, where `auto` can afford it at a part of the exact passes.
    pub(super) fn next_degree(&self, decision: &Decision, part: f64) -> Option<Decision> {
        let degree = decision.degree + 1;
        let next = || self.aimed().named(degree, self.logits());
        let affords = |operations: f64| self.affords(self.law.cost.lost(operations), part);
        match self.request.wanted {
            Wanted::Polynomial(Some(_)) | Wanted::Exact => None,
            Wanted::Polynomial(None) => (degree <= self.law.highest()).then(next),
            Wanted::Auto if degree > self.law.highest() => None,
            // Before sizes are looked at: no rows, no more than that.
            Wanted::Auto if !affords(self.law.operations(degree, 0)) => None,
            Wanted::Auto => Some(next()).filter(|next| affords(next.operations)),
        }
    }

    /// The logits that polynomials are fitted to.
    pub(super) fn logits(&self) -> &Logits {
        self.other_logits.get().unwrap_or_else(|| drawn(&self.logits, &self.original))
    }
}
