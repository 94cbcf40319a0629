//! The law from the data, the tolerance and the certificate to a method and its size (docs/math.md, equations 132, 133).

use super::cost::Cost;
use super::decision::{Backing, Decision, Method};
use super::logits::{Drawn, Logits, drawn};
use super::probe;
use super::request::{Request, Wanted};
use super::sizes::LEAST_SEEN;
use crate::error::Error;
use crate::exact::structure::zeros;
use crate::float::Float;
use crate::moments::affordable;
use crate::problem::{Problem, Wrt};

/// Degrees looked at: beyond it features are out of reach in all but the lowest dimensions, where the exact passes are
/// cheap.
const HIGHEST: usize = 8;

/// Fewest sampled rows: the safety factor of fewer is large, and rows that err alone are more easily missed.
pub const LEAST_ROWS: usize = 128;

/// At most so many rows where no tolerance says how many.
pub const USUAL_ROWS: usize = 512;

/// One row in so many is the most that is computed to certify: with more, the exact method would do ...
const MOST_SAMPLES: f64 = 2.0;

/// ... and for a method that was named, whose last try must not take much longer than the exact method.
const MOST_NAMED_SAMPLES: f64 = 4.0;

/// The bound from m sampled rows over √(n/m − 1) times the error that a sample of logits predicts for degree g,
/// a + b c^(g − 1) / d in d dimensions: errors of few dimensions line up, their norm has few degrees of freedom, and the
/// tails that make the error of a high degree are missed ...
const SAMPLED: [f64; 3] = [0.58, 7.2, 1.48];

/// ... and √m times what m rows make of that by chance: their own covariance is more concentrated than that of all rows.
/// With it five in six samples of uniform data do at once; more rows are drawn where they do not.
const CHANCE: f64 = 9.0;

/// A rigorous bound over √(n m) times what it says of the weights of a row: caps add up where errors cancel. The median over
/// uniform data of 4 to 32 dimensions, degrees 1 to 3 and 2048 and 8192 rows; four of five are between 0.3 and 0.9.
const RIGOROUS: f64 = 0.45;

/// A statistical bound at m rows over the rigorous one at 1/m, on the same data: ln(2 / 0.75 %) and what was seen of the
/// errors, with caps that are half of what rows of a bucket are charged.
const STATISTICAL: f64 = 4.0;

/// Room in a sample of a causal problem for rows of different sizes.
const UNEVEN: f64 = 2.0;

/// The part of the exact passes that a glance may cost, which most calls lose.
const GLANCE_SHARE: f64 = 0.03;

/// Of a quarter of the logits the error may be off by half: only what is further from the goal is given up at a glance.
const GLANCE_ROOM: f64 = 3.0;

/// What rounding is allowed for over what it is for rows of independent terms: rows that are alike, or whose residual is
/// small, make it several times as much.
const ROUNDING_ROOM: f64 = 4.0;

/// The exact passes are taken unless the polynomial method costs less than this part of them: a wrong prediction must
/// not make the whole much slower.
pub const WORTHWHILE: f64 = 0.85;

/// What would be run; reads some 3000 rows and computes nothing big.
///
/// # Errors
/// [`Error::Option`] for an output that the problem does not have, for a request that means nothing, and for a degree that
/// has too many features.
pub fn decide<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Decision, Error> {
    check(problem, wrt, request)?;
    let problem = &problem.admitted()?;
    Law::new(problem, wrt, request).decide(problem, &zeros(problem, wrt)?, &Drawn::new())
}

/// An error for what cannot be asked of the problem.
pub(super) fn check<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<(), Error> {
    request.check_in::<T>()?;
    wrt.iter().try_for_each(|&wrt| problem.check(wrt))
}

/// What a decision is made from.
#[derive(Clone, Copy)]
pub(super) struct Law<'a> {
    pub cost: Cost,
    pub backing: Backing,
    pub request: &'a Request,
    pub wrt: &'a [Wrt],
    /// The relative error in the Frobenius norm that is allowed, as far as it is known.
    goal: f64,
}

impl<'a> Law<'a> {
    /// With the relative tolerance for a goal.
    pub fn new<T: Float>(problem: &Problem<'_, T>, wrt: &'a [Wrt], request: &'a Request) -> Self {
        let goal = request.rtol.unwrap_or(0.0);
        Law { cost: Cost::new(problem, wrt), backing: Backing::of(request), request, wrt, goal }
    }

    /// What would be run, where it is known which gradients are zero by structure. The logits that it took to know that
    /// are left to whoever goes on.
    pub fn decide<T: Float>(self, problem: &Problem<'_, T>, zero: &[bool], logits: &Drawn) -> Result<Decision, Error> {
        Ok(match self.request.wanted {
            Wanted::Polynomial(Some(degree)) => {
                affordable(self.cost.dimension(), degree + 1)?;
                self.aimed(problem).named(degree, drawn(logits, problem))
            }
            Wanted::Polynomial(None) => self.aimed(problem).best(drawn(logits, problem)),
            Wanted::Auto => self.auto(problem, zero, logits),
        })
    }

    /// With the goal that the other parts of the tolerance come to, by a look at a few rows.
    pub fn aimed<T: Float>(self, problem: &Problem<'_, T>) -> Self {
        Law { goal: probe::goal(problem, self.wrt, self.request), ..self }
    }

    /// The exact passes, because …
    pub fn exact(&self, reason: String) -> Decision {
        Decision {
            method: Method::Exact,
            degree: 0,
            samples: 0,
            apart: 0,
            features: 0,
            predicted_error: 0.0,
            operations: self.cost.exact(),
            spent: 0.0,
            reason,
        }
    }

    fn auto<T: Float>(self, problem: &Problem<'_, T>, zero: &[bool], logits: &Drawn) -> Decision {
        if let Some(reason) = self.settled(problem.is_causal, zero) {
            return self.exact(reason);
        }
        // No entry is larger than the norm: with the tolerance alone the goal is `rtol` at most, whatever the sizes.
        let law = if self.request.atol > 0.0 { self.aimed(problem) } else { self };
        let glance = Logits::glance(problem);
        let (spent, decision) = match law.first_degree(&glance) {
            Err(reason) => (law.cost.glance(), law.exact(reason)),
            Ok(first) => {
                let law = if law.request.atol > 0.0 { law } else { law.aimed(problem) };
                (law.looks(), law.cheapest_of_all(drawn(logits, problem), first))
            }
        };
        let spent = if decision.method == Method::Exact { spent } else { 0.0 };
        Decision { spent, ..decision }
    }

    /// The lowest degree of which even a few logits do not leave any doubt that it will not do, or why there is none.
    fn first_degree(&self, glance: &Logits) -> Result<usize, String> {
        if !glance.finite() {
            return Err("logits are not finite or overflow".into());
        }
        let may_do = |&degree: &usize| self.candidate(degree, glance, GLANCE_ROOM * self.goal).is_some();
        let highest = self.affordable(WORTHWHILE * self.cost.exact()).filter(may_do);
        let Some(highest) = highest else { return Err(self.too_large(glance)) };
        Ok((1..highest).find(may_do).unwrap_or(highest))
    }

    /// The reason where logits are too large for any degree.
    fn too_large(&self, logits: &Logits) -> String {
        format!(
            "logits of spread {:.2} are too large for a polynomial that costs less to reach an error of {:.1e}",
            logits.spread(),
            self.goal
        )
    }

    /// Operations of what a decision looks at.
    pub fn looks(&self) -> f64 {
        self.cost.looks(probe::is_needed(self.request))
    }

    /// Why the exact method, where neither logits nor sizes need to be looked at.
    fn settled(&self, is_causal: bool, zero: &[bool]) -> Option<String> {
        let because = |reason: &str| Some(reason.to_owned());
        if self.request.is_exact() {
            return because("nothing but rounding is allowed");
        }
        if let Some(wrt) = self.wrt.iter().find(|&&wrt| !self.backing.covers(wrt)) {
            return Some(format!("an output by token cannot be certified from sampled rows: {}", wrt.name()));
        }
        if is_causal && self.backing != Backing::Estimated {
            return because("of a causal problem only estimates are known");
        }
        let exact = self.cost.exact();
        if self.cost.glance() > GLANCE_SHARE * exact || self.affordable(WORTHWHILE * exact).is_none() {
            return because("the problem is so short that nothing is cheaper");
        }
        if zero.contains(&true) {
            return because("a gradient is zero by the structure of the problem, which the exact method knows");
        }
        None
    }

    fn cheapest_of_all(&self, logits: &Logits, first: usize) -> Decision {
        if !logits.finite() {
            return self.exact("logits are not finite or overflow".into());
        }
        let (exact, goal, spread) = (self.cost.exact(), self.goal, logits.spread());
        match self.cheapest(logits, first, WORTHWHILE * exact) {
            Some(best) if best.operations <= WORTHWHILE * exact => best,
            Some(best) => self.exact(format!(
                "degree {} would cost {:.2} times as much for an error of {goal:.1e} (logits of spread {spread:.2})",
                best.degree,
                best.operations / exact,
            )),
            None => self.exact(self.too_large(logits)),
        }
    }

    /// The cheapest degree that is expected to reach the tolerance, or the last one if none is.
    fn best(&self, logits: &Logits) -> Decision {
        self.cheapest(logits, 1, f64::INFINITY).unwrap_or_else(|| self.named(self.highest(), logits))
    }

    /// Of the degrees from `first` on that cost at most `most` with the fewest rows, the cheapest that is expected to reach
    /// the goal.
    fn cheapest(&self, logits: &Logits, first: usize, most: f64) -> Option<Decision> {
        let (least, highest) = (self.fewest(), self.affordable(most)?);
        let mut best: Option<Decision> = None;
        for degree in first..=highest {
            let candidate = self.candidate(degree, logits, self.goal);
            // With no more rows than any certificate takes, higher degrees only cost more.
            let enough = candidate.as_ref().is_some_and(|candidate| candidate.samples <= least);
            let cheapest = [best, candidate].into_iter().flatten();
            best = cheapest.min_by(|a, b| a.operations.total_cmp(&b.operations));
            // Errors fall with the degree: where the highest does not do, none between does.
            let hopeless = || self.candidate(highest, logits, self.goal).is_none();
            if enough || degree == first && highest > first && best.is_none() && hopeless() {
                break;
            }
        }
        best
    }

    /// The highest degree that costs at most `most` with the fewest rows.
    fn affordable(&self, most: f64) -> Option<usize> {
        let affordable = |&degree: &usize| self.operations(degree, self.fewest()) <= most;
        (1..=self.highest()).take_while(affordable).last()
    }

    /// Rows that any certificate takes.
    fn fewest(&self) -> usize {
        if self.backing == Backing::Rigorous { 0 } else { self.least_rows() }
    }

    /// The highest degree that costs no more than the exact passes, for a method that was named that has not too many
    /// features; and at least 1.
    pub fn highest(&self) -> usize {
        let worth = |&degree: &usize| match self.request.wanted {
            Wanted::Auto => self.cost.moments(degree) <= self.cost.exact(),
            Wanted::Polynomial(_) => affordable(self.cost.dimension(), degree + 1).is_ok(),
        };
        (1..=HIGHEST).rev().find(worth).unwrap_or(1)
    }

    /// A degree, if it is expected to reach `rtol`, with the rows that certify it.
    fn candidate(&self, degree: usize, logits: &Logits, rtol: f64) -> Option<Decision> {
        let error = logits.error(degree);
        self.samples(degree, logits, error, rtol).map(|samples| self.polynomial(degree, samples, error, logits))
    }

    /// A degree, with the rows that are expected to certify the tolerance, or the usual number.
    pub fn named(&self, degree: usize, logits: &Logits) -> Decision {
        let error = logits.error(degree);
        let goal = Some(self.goal).filter(|&goal| goal > 0.0);
        let usual = if self.backing == Backing::Rigorous { 0 } else { self.usual() };
        let samples = goal.and_then(|goal| self.samples(degree, logits, error, goal)).unwrap_or(usual);
        self.polynomial(degree, samples, error, logits)
    }

    /// A degree with a number of rows that is given.
    pub fn sized(&self, degree: usize, samples: usize, logits: &Logits) -> Decision {
        self.polynomial(degree, samples, logits.error(degree), logits)
    }

    fn polynomial(&self, degree: usize, samples: usize, error: f64, logits: &Logits) -> Decision {
        let share = self.cost.moments(degree) / self.cost.exact();
        Decision {
            method: Method::Polynomial,
            degree,
            samples,
            apart: 0,
            features: self.cost.features(degree) as usize,
            predicted_error: error,
            operations: self.operations(degree, samples),
            spent: 0.0,
            reason: format!(
                "logits of spread {:.2} let degree {degree} reach about {error:.1e}, its moments at {share:.1e} of the \
                 exact cost",
                logits.spread()
            ),
        }
    }

    /// Of a degree with that many exact rows, and of the estimate whose gradient a stronger kind has.
    pub fn operations(&self, degree: usize, samples: usize) -> f64 {
        let rows = |samples| if samples > 0 { self.cost.rows(samples, degree) } else { 0.0 };
        let lent = if self.request.borrows() {
            self.cost.moments(degree) + rows(if samples > 0 { samples } else { self.usual() })
        } else {
            0.0
        };
        self.cost.moments(degree) + rows(samples) + lent
    }

    /// Rows where no tolerance says how many.
    fn usual(&self) -> usize {
        self.bounded(self.most_samples().min(USUAL_ROWS as f64))
    }

    /// Rows that are expected to certify `rtol`; nothing where no number does.
    fn samples(&self, degree: usize, logits: &Logits, error: f64, rtol: f64) -> Option<usize> {
        let n = self.cost.queries();
        // Of the gradient itself, which may be smaller than what is returned by all of its error.
        let allowed = rtol / (1.0 + rtol);
        let allowed =
            if self.backing == Backing::Estimated { allowed - ROUNDING_ROOM * self.rounding(logits) } else { allowed };
        if allowed <= 0.0 {
            return None;
        }
        let needed = match self.backing {
            Backing::Rigorous => {
                let bound = RIGOROUS * self.cost.incoherence() * logits.excess(degree);
                return (bound <= allowed).then_some(0);
            }
            Backing::Statistical => STATISTICAL * RIGOROUS * self.cost.incoherence() * logits.excess(degree) / allowed,
            Backing::Estimated if self.wrt.iter().all(|&wrt| wrt == Wrt::A1) => {
                if self.sampled(degree) * error > allowed { f64::INFINITY } else { 0.0 }
            }
            Backing::Estimated => {
                let rows = |bound: f64| enough(n, (allowed / (bound * error)).powi(2));
                let bound = self.sampled(degree);
                // √m of m rows by chance with the m₀ of none: x = √m₀ (1 + CHANCE / x).
                let certain = rows(bound).sqrt();
                let root = 0.5 * (certain + (certain * (certain + 4.0 * CHANCE)).sqrt());
                rows(bound * (1.0 + CHANCE / root.max((LEAST_ROWS as f64).sqrt())))
            }
        };
        (needed <= self.most_samples()).then(|| self.bounded(needed))
    }

    /// What exact rows are taken to lose to rounding, over the gradient: rows of dL/dA1 are bounded by the norm of X.
    fn rounding(&self, logits: &Logits) -> f64 {
        let by_token = self.wrt.contains(&Wrt::A1);
        logits.rounding * if by_token { (self.cost.dimension() as f64).sqrt() } else { 1.0 }
    }

    /// Rows that are expected to certify the goal for weights that are off by `error`; nothing where no number does.
    pub fn needed(&self, degree: usize, logits: &Logits, error: f64) -> Option<usize> {
        self.samples(degree, logits, error, self.goal)
    }

    fn sampled(&self, degree: usize) -> f64 {
        let [always, narrow, tail] = SAMPLED;
        always + narrow * tail.powi(degree as i32 - 1) / self.cost.dimension().max(1) as f64
    }

    /// The most rows that a decision takes, and those of the last try of a named method: every tolerance ends with the same.
    pub fn most_samples(&self) -> f64 {
        self.cost.queries() / if self.request.wanted == Wanted::Auto { MOST_SAMPLES } else { MOST_NAMED_SAMPLES }
    }

    fn bounded(&self, rows: f64) -> usize {
        (rows.ceil() as usize).max(self.least_rows()).min(self.cost.queries() as usize)
    }

    /// With fewer a sample says nothing: under a mask it must see enough of the first rows.
    fn least_rows(&self) -> usize {
        let seen = self.cost.masked().map_or(0.0, |rows| UNEVEN * LEAST_SEEN * self.cost.queries() / rows);
        LEAST_ROWS.max(seen.ceil() as usize)
    }
}

/// Rows m of n with n/m − 1 = `ratio`.
pub(super) fn enough(n: f64, ratio: f64) -> f64 {
    n / (1.0 + ratio)
}
