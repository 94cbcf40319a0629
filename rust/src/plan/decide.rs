//! The law from the data, the tolerance and the certificate to a method and its size (docs/math.md,
//! equations 11.3, 11.4).

use super::cost::Cost;
use super::decision::{Backing, Decision, Method};
use super::logits::{Drawn, Logits, drawn};
use super::probe;
use super::request::{Request, Wanted};
use crate::error::Error;
use crate::exact::structure::zeros;
use crate::features::affordable;
use crate::float::{Float, compiled};
use crate::problem::{Problem, Shape, Wrt};

/// Degrees looked at: beyond it features are out of reach in all but the lowest dimensions, where the exact passes are
/// cheap.
const HIGHEST: usize = 8;

/// The part of the exact passes that a glance may cost, which most calls lose.
const GLANCE_SHARE: f64 = 0.03;

/// Of a quarter of the logits the error may be off by half: only what is further from the goal is given up at a glance.
const GLANCE_ROOM: f64 = 3.0;

/// The exact passes are taken unless the polynomial method costs less than this part of them: a wrong prediction must
/// not make the whole much slower.
pub const WORTHWHILE: f64 = 0.85;

/// The decision for a problem; reads some 3000 rows and computes nothing big.
///
/// # Errors
/// [`Error::Option`] for an output that the problem does not have, for an invalid request, and for a degree that has
/// too many features.
pub fn decide<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Decision, Error> {
    compiled!(T, decide_in::<T> as fn(&Problem<'_, T>, &[Wrt], &Request) -> Result<Decision, Error>)(
        problem, wrt, request,
    )
}

fn decide_in<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<Decision, Error> {
    check(problem, wrt, request)?;
    let problem = &problem.admitted()?;
    Law::new(problem, wrt, request).decide(problem, &zeros(problem, wrt)?, &Drawn::new())
}

/// An error for a request that the problem does not allow.
pub(super) fn check<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt], request: &Request) -> Result<(), Error> {
    request.check_in::<T>()?;
    wrt.iter().try_for_each(|&wrt| problem.check(wrt))
}

/// All that is spent before the exact passes, over these, where it may as well lead to nothing ...
pub(super) const DOUBTFUL: f64 = 0.05;

/// ... or over what is saved where it does not: most tries that are begun succeed.
const STAKE: f64 = 0.2;

pub(super) const TOO_SHORT: &str =
    "the problem is so short that to find out whether something is cheaper costs too much";

/// The inputs of a decision.
#[derive(Clone, Copy)]
pub(super) struct Law<'a> {
    pub cost: Cost,
    pub backing: Backing,
    pub request: &'a Request,
    pub wrt: &'a [Wrt],
    /// Whether it is for the output itself, and no gradient.
    pub is_output: bool,
    /// The relative error in the Frobenius norm that is allowed, as far as it is known.
    pub goal: f64,
}

impl<'a> Law<'a> {
    /// With the relative tolerance for a goal.
    pub fn new<T: Float>(problem: &Problem<'_, T>, wrt: &'a [Wrt], request: &'a Request) -> Self {
        Law::of_shape::<T>(Shape::of(problem), problem.is_causal, wrt, request)
    }

    /// The same for a shape alone.
    pub fn of_shape<T: Float>(shape: Shape, is_causal: bool, wrt: &'a [Wrt], request: &'a Request) -> Self {
        let cost = Cost::of_shape::<T>(shape, wrt, is_causal, request.options.runs_on());
        let goal = request.rtol.unwrap_or(0.0);
        Law { cost, backing: Backing::of(request), request, wrt, is_output: false, goal }
    }

    /// The same for the output of a problem whose target is zero.
    pub fn of_output<T: Float>(problem: &Problem<'_, T>, request: &'a Request) -> Self {
        let law = Law::new(problem, &[], request);
        Law { cost: law.cost.of_output(), is_output: true, ..law }
    }

    /// The decision where it is known which gradients are zero by structure. The logits drawn for it are left for later
    /// steps.
    pub fn decide<T: Float>(self, problem: &Problem<'_, T>, zero: &[bool], logits: &Drawn) -> Result<Decision, Error> {
        Ok(match self.request.wanted {
            Wanted::Polynomial(Some(degree)) => {
                affordable(self.cost.dimension(), degree + 1)?;
                self.aimed(problem).named(degree, drawn(logits, problem))
            }
            Wanted::Polynomial(None) => self.aimed(problem).best(drawn(logits, problem)),
            Wanted::Auto => self.auto(problem, zero, logits),
            Wanted::Exact => self.exact(self.request.exact_because().unwrap_or_default().into()),
        })
    }

    /// With the goal that the other parts of the tolerance come to, by a look at a few rows.
    pub fn aimed<T: Float>(self, problem: &Problem<'_, T>) -> Self {
        let goal = match self.is_output {
            true => probe::goal_of_output(problem, self.request),
            false => probe::goal(problem, self.wrt, self.request),
        };
        Law { goal, ..self }
    }

    /// The exact passes, because …
    pub fn exact(&self, reason: String) -> Decision {
        Decision { operations: self.cost.exact(), ..Decision::exact(reason) }
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

    /// Operations of the looks of a decision.
    pub fn looks(&self) -> f64 {
        self.cost.looks(probe::is_needed(self.request))
    }

    /// Whether so many operations may come to nothing where the exact passes are expected to be saved for `operations`.
    pub fn may_lose(&self, spent: f64, operations: f64) -> bool {
        let exact = self.cost.exact();
        spent <= (DOUBTFUL * exact).max(STAKE * (exact - operations))
    }

    /// Operations of the lengths that rows drawn uniformly need.
    pub fn guard(&self) -> f64 {
        if self.backing == Backing::Estimated { self.cost.guard() } else { 0.0 }
    }

    /// Why the exact method, where neither logits nor sizes need to be looked at.
    pub(super) fn settled(&self, is_causal: bool, zero: &[bool]) -> Option<String> {
        let because = |reason: &str| Some(reason.to_owned());
        if let Some(reason) = self.request.exact_because() {
            return because(reason);
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
        if !self.may_lose(self.looks() + self.guard(), self.operations(1, self.fewest())) {
            return because(TOO_SHORT);
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

    /// Of the degrees from `first` on that cost at most `most` with the fewest rows, the cheapest that is expected to
    /// reach the goal.
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
            Wanted::Auto | Wanted::Exact => self.cost.moments(degree) <= self.cost.exact(),
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
        let lent = if self.request.borrows() && !self.is_output {
            self.cost.moments(degree) + rows(if samples > 0 { samples } else { self.usual() })
        } else {
            0.0
        };
        let bounds = match self.backing {
            Backing::Estimated => 0.0,
            backing => self.cost.bounds(backing == Backing::Statistical),
        };
        self.cost.moments(degree) + bounds + rows(samples) + lent
    }
}
