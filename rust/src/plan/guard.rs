//! What stands before a try: the keys that are left to exp, and the rows in which a polynomial is not believed
//! (docs/math.md, equations 161 to 163).

use super::decide::{Backing, Decision};
use super::execute::Search;
use super::logits::Logits;
use super::prepared::Prepared;
use super::reach::{Reach, believed};
use super::request::Asked;
use super::stages::Stages;
use crate::error::Error;
use crate::float::Float;
use crate::moments::{Approximation, Polynomial};

/// Coordinates are balanced to look at the reach of logits where this costs less than this part of the exact passes.
const BALANCE_SHARE: f64 = 0.02;

impl<T: Float> Search<'_, T> {
    /// The polynomial of the decision, and the keys that are left to exp; nothing where logits are too large for any.
    pub(super) fn approximation(
        &self,
        decision: &mut Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Approximation>, Error> {
        // Where some output has no estimate, its bound is what there is, and that knows no keys that are left to exp.
        let estimated = self.wrt.iter().all(|&wrt| self.law.backing.covers(wrt));
        let exact_keys = match self.reach(stages)? {
            Some(reach) if estimated => reach.exact_keys.clone(),
            _ => Vec::new(),
        };
        if !exact_keys.is_empty() && self.other_logits.get().is_none() {
            // What P is fitted to is what it stands for.
            let others = self.other_logits.get_or_init(|| Logits::draw(&self.original, &exact_keys));
            *decision = self.law.sized(decision.degree, decision.samples, others);
        }
        let Some(polynomial) = self.law.polynomial_for(decision.degree, self.logits()) else {
            return Ok(None);
        };
        // Rows of a sample do not see what sums over all rows lose; the bound that comes with the passes is charged for it.
        let integers = self.request.asked == Asked::Any && !self.request.tolerates();
        Ok(Some(Approximation { coefficients: polynomial.power(), integers, exact_keys }))
    }

    /// The moments of the keys.
    pub(super) fn prepare(
        &self,
        decision: &Decision,
        approximation: Approximation,
        stages: &mut Stages<'_>,
    ) -> Result<Prepared, Error> {
        let moments =
            stages.run(0.3, |options, watch| Polynomial::fit(&self.problem, &approximation, options, watch))?;
        Ok(Prepared { approximation, moments, decision: decision.clone() })
    }

    /// Lengths of queries and keys, where certificates are of rows drawn uniformly: measured once.
    fn reach(&self, stages: &mut Stages<'_>) -> Result<Option<&Reach>, Error> {
        if self.law.backing != Backing::Estimated {
            return Ok(None);
        }
        if self.reach.get().is_none() {
            let reach = Reach::new(&self.problem, stages)?;
            return Ok(Some(self.reach.get_or_init(|| reach)));
        }
        Ok(self.reach.get())
    }

    /// Rows of which no sample of others tells anything, as the polynomial is not believed in them; nothing where they are
    /// too many.
    pub(super) fn beyond(
        &self,
        approximation: &Approximation,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let Some(reach) = self.reach(stages)? else { return Ok(Some(Vec::new())) };
        let pairs = self.law.cost.incoherence().powi(2);
        let limit = believed(&approximation.coefficients, decision.predicted_error, pairs);
        let affordable = self.law.cost.balance() <= BALANCE_SHARE * self.law.cost.exact();
        reach.beyond(&self.problem, &approximation.exact_keys, limit, affordable, stages)
    }

    /// The logits that polynomials are fitted to.
    pub(super) fn logits(&self) -> &Logits {
        self.other_logits.get().unwrap_or_else(|| self.logits.get_or_init(|| Logits::draw(&self.original, &[])))
    }
}
