//! Checks before a try: the keys that are left to exp, and the rows in which a polynomial is not believed
//! (docs/math.md, equations 11.10 to 11.13).

use super::decide::{DOUBTFUL, Law, TOO_SHORT, WORTHWHILE, check};
use super::decision::{Backing, Decision, Method};
use super::logits::{Drawn, Logits};
use super::passes::MOST_APART;
use super::pilot;
use super::prepared::Prepared;
use super::probe;
use super::reach::{Reach, believed};
use super::request::{Asked, Request, Wanted};
use super::search::Search;
use super::sizes::Sizes;
use super::stages::Stages;
use super::unfold::{unfolded, with_product};
use crate::error::Error;
use crate::exact::structure::zeros;
use crate::float::{Float, compiled};
use crate::moments::Polynomial;
use crate::problem::Approximation;
use crate::problem::{Problem, Wrt};
use crate::runtime::pool::Watch;

/// Coordinates are balanced to look at the reach of logits where this costs less than this part of the exact passes.
const BALANCE_SHARE: f64 = 0.02;

/// Largest cost before the exact passes, relative to these, where looks say that a try will do. A costlier try is begun
/// only where the error may be larger than they say by this factor.
pub(super) const LOST: f64 = 0.25;
const SURE_ROOM: f64 = 1.5;

/// Errors of the output line up where rows are alike, and those of the weights do not: up to eight times what squares
/// make of them has been seen of rows around few centres, with a residual of a hundredth, and none of most others.
const IN_LINE: f64 = 1.5;

/// A sample is made larger before it is drawn where a pilot makes more of the error than this.
const NEWS: f64 = 1.1;

const FEW_ROWS: &str = "a try that rests on what few rows say of the size of a gradient would cost too much";

/// The part of the exact passes that a pilot may cost, with the fewest rows or more.
const PILOT_SHARE: f64 = 0.02;

/// The decision from all that is known before moments are taken: the law, the logits, and the rows that stand out. Time
/// O((n + m) d²).
///
/// # Errors
/// Those of [`super::decide()`]; [`Error::Range`] or [`Error::NonFinite`], [`Error::OutOfMemory`], [`Error::Deadline`],
/// [`Error::Cancelled`].
pub fn foresee<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Decision, Error> {
    compiled!(T, foresee_in::<T> as fn(&Problem<'_, T>, &[Wrt], &Request, Option<Watch<'_>>) -> Result<Decision, Error>)(
        problem, wrt, request, watch,
    )
}

fn foresee_in<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Decision, Error> {
    check(problem, wrt, request)?;
    let seen = problem.admitted()?;
    let mut stages = Stages::new(&request.options, watch);
    request.admit(&seen, &mut stages)?;
    let (law, zero) = (Law::new(&seen, wrt, request), zeros(&seen, wrt)?);
    let logits = Drawn::new();
    let mut decision = law.decide(&seen, &zero, &logits)?;
    if decision.method == Method::Exact || seen.A1.nrows() == 0 || seen.A2.nrows() == 0 {
        return Ok(decision);
    }
    let product = unfolded(&seen, wrt, law.backing);
    let mut search = Search::new(seen.reborrow(), with_product(&seen, &product), law, zero);
    search.logits = logits;
    let begun = search.begin(&mut decision, &mut None, false, &mut stages);
    Ok(match begun.map_err(|error| seen.blame(error))? {
        Begun::Try(..) => decision,
        Begun::Stop(reason) => search.given_up(reason),
    })
}

/// Where a try stands before anything was spent on moments.
pub(super) enum Begun {
    /// The polynomial, and the rows in which it is not believed.
    Try(Approximation, Vec<usize>),
    /// Why there is none.
    Stop(&'static str),
}

impl<T: Float> Search<'_, T> {
    /// The steps before moments: the polynomial, and whether rows of a sample can speak of it. Where they cannot, the
    /// next degree is looked at.
    pub(super) fn begin(
        &mut self,
        decision: &mut Decision,
        given: &mut Option<&Prepared>,
        has_tried: bool,
        stages: &mut Stages<'_>,
    ) -> Result<Begun, Error> {
        if self.wants_lengths() && given.is_none() && self.request.wanted == Wanted::Auto {
            if !self.law.may_lose(self.spent + self.law.guard(), decision.operations) {
                return Ok(Begun::Stop(TOO_SHORT));
            }
            if self.rests_on_few(self.law.cost.lost(decision.operations)) {
                return Ok(Begun::Stop(FEW_ROWS));
            }
        }
        self.measure(stages)?;
        loop {
            let approximation = match given {
                Some(prepared) => Some(prepared.approximation.clone()),
                None => self.approximation(decision),
            };
            let Some(mut approximation) = approximation else {
                return Ok(Begun::Stop("logits are too large for any polynomial"));
            };
            let is_auto = self.request.wanted == Wanted::Auto;
            let Some(beyond) = self.beyond(&approximation, decision, stages)? else {
                match self.next_degree(decision, if has_tried { LOST } else { WORTHWHILE }) {
                    Some(next) => {
                        (*decision, *given) = (next, None);
                        continue;
                    }
                    None if has_tried || is_auto => {
                        return Ok(Begun::Stop("no sample sees what the largest logits may do"));
                    }
                    // A method that was named has its bounds: they know no keys that are left to exp.
                    None => {
                        decision.samples = 0;
                        approximation.exact_keys.clear();
                        return Ok(Begun::Try(approximation, Vec::new()));
                    }
                }
            };
            if is_auto
                && given.is_none()
                && let Some(doubt) = self.doubt(decision, &approximation, &beyond, stages)?
            {
                return Ok(Begun::Stop(doubt));
            }
            return Ok(Begun::Try(approximation, beyond));
        }
    }

    /// The polynomial of the decision, and the keys that are left to exp; nothing where logits are too large for any.
    fn approximation(&self, decision: &mut Decision) -> Option<Approximation> {
        // Where some output has no estimate, its bound is what there is, and that knows no keys that are left to exp.
        let estimated = self.wrt.iter().all(|&wrt| self.law.backing.covers(wrt));
        let exact_keys = match self.reach.get() {
            Some(reach) if estimated => reach.exact_keys.clone(),
            _ => Vec::new(),
        };
        if !exact_keys.is_empty() && self.other_logits.get().is_none() {
            // P is fitted to the logits that it stands for.
            let others = self.other_logits.get_or_init(|| Logits::draw(&self.original, &exact_keys));
            *decision = self.law.sized(decision.degree, decision.samples, others);
        }
        let polynomial = self.logits().least_squares(decision.degree)?;
        // Guaranteed bounds include the largest error that integers may have, which is far above the actual one; a
        // sample sees the actual one.
        let integers = match self.law.backing {
            // Those over the queries, of the slopes at the keys, no sampled row sees.
            Backing::Estimated => estimated && !self.wrt.contains(&Wrt::A2),
            Backing::Rigorous => self.request.asked == Asked::Any,
            Backing::Statistical => false,
        };
        Some(Approximation { coefficients: polynomial.power(), integers, exact_keys })
    }

    /// The moments of the keys.
    pub(super) fn prepare(
        &self,
        decision: &Decision,
        approximation: Approximation,
        stages: &mut Stages<'_>,
    ) -> Result<Prepared, Error> {
        let moments = stages.run(0.3, |options, watch| {
            // The output alone has no slopes.
            Polynomial::fit_to(&self.problem, &approximation, !self.law.is_output, options, watch)
        })?;
        Ok(Prepared::new(approximation, moments, decision.clone()))
    }

    /// Whether certificates are of rows drawn uniformly, and lengths are not measured yet.
    fn wants_lengths(&self) -> bool {
        self.law.backing == Backing::Estimated && self.reach.get().is_none()
    }

    /// Measures lengths of queries and keys, where certificates are of rows drawn uniformly: once.
    fn measure(&mut self, stages: &mut Stages<'_>) -> Result<(), Error> {
        if self.wants_lengths() {
            self.spent += self.law.guard();
            let reach = Reach::new(&self.problem, stages)?;
            self.reach.get_or_init(|| reach);
        }
        Ok(())
    }

    /// Rows of which no sample of others tells anything, as the polynomial is not believed in them; nothing where they
    /// are too many.
    fn beyond(
        &self,
        approximation: &Approximation,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Vec<usize>>, Error> {
        let Some(reach) = self.reach.get() else { return Ok(Some(Vec::new())) };
        let pairs = self.law.cost.incoherence().powi(2);
        let limit = believed(&approximation.coefficients, decision.predicted_error, pairs);
        let affordable = self.law.cost.balance() <= BALANCE_SHARE * self.law.cost.exact();
        reach.beyond(&self.problem, &approximation.exact_keys, limit, affordable, stages)
    }

    /// Why `auto` does not begin a try, as far as looks can tell; nothing where it does.
    fn doubt(
        &mut self,
        decision: &mut Decision,
        approximation: &Approximation,
        beyond: &[usize],
        stages: &mut Stages<'_>,
    ) -> Result<Option<&'static str>, Error> {
        let Some(apart) = self.standing(decision, beyond)? else {
            return Ok(Some("few rows make up the error, or too many are beyond the polynomial"));
        };
        let price = |search: &Self, decision: &Decision| {
            search.law.cost.lost(search.law.operations(decision.degree, decision.samples + apart))
        };
        if self.affords(price(self, decision), DOUBTFUL) {
            return Ok(None);
        }
        // No look tells whether a bound will do.
        if self.law.backing != Backing::Estimated {
            let all = self.spent + price(self, decision);
            let is_fair = self.law.may_lose(all, decision.operations);
            return Ok((!is_fair).then_some("a try that may as well lead to nothing would cost too much"));
        }
        let is_cheap = self.affords(price(self, decision), LOST);
        if self.rests_on_few(price(self, decision)) {
            return Ok(Some(FEW_ROWS));
        }
        let rows = (PILOT_SHARE * self.law.cost.exact() / self.law.cost.pilot(1)) as usize;
        let rows = rows.clamp(pilot::FEWEST, pilot::ROWS);
        self.spent += self.law.cost.pilot(rows);
        let moved = pilot::moved(&self.problem, approximation, rows, stages)?;
        let room = if is_cheap { 1.0 } else { SURE_ROOM };
        let predicted = decision.predicted_error;
        // Of the output it is the error itself.
        let (error, whole) = match self.law.is_output {
            true => (moved, moved),
            false => (predicted.hypot(IN_LINE * moved), predicted.hypot(moved)),
        };
        let needed = |room: f64| self.aimed().needed(decision.degree, self.logits(), room * error);
        let Some(most) = needed(room) else {
            return Ok(Some("the residual or the rows that a sample sees leave too much room for errors"));
        };
        // More rows are drawn where they turn out to be wanted, unless they are known to be now.
        let samples = if error > NEWS * predicted { needed(1.0).unwrap_or(most) } else { 0 };
        decision.predicted_error = whole;
        self.resize(decision, samples.max(decision.samples));
        let is_dear = decision.operations > WORTHWHILE * self.law.cost.exact();
        Ok(is_dear.then_some("so many rows would have to be computed that nothing is cheaper"))
    }

    /// Whether a dear try would rest on what sixteen rows say of the goal, which may be off by more than any room.
    fn rests_on_few(&self, price: f64) -> bool {
        probe::is_needed(self.request) && !self.affords(price, LOST)
    }

    /// Number of rows that are computed by themselves, as far as norms tell, once the sample holds enough of the others
    /// to see what the error is made of; nothing where they are too many. The passes ask the same when they know the
    /// residuals; here nothing has been spent on moments yet.
    fn standing(&self, decision: &mut Decision, beyond: &[usize]) -> Result<Option<usize>, Error> {
        let Some(reach) = self.reach.get() else { return Ok(Some(0)) };
        let mut sizes = match self.law.is_output {
            true => Sizes::of_output(decision.degree, reach)?,
            false => Sizes::new(&self.problem, decision.degree, reach, &[])?,
        };
        let Some(mut apart) = sizes.standing(self.wrt, self.problem.is_causal)? else { return Ok(None) };
        apart.extend(beyond);
        apart.sort_unstable();
        apart.dedup();
        sizes.without(&apart);
        if self.problem.is_causal {
            sizes.mask(self.problem.A2.nrows());
        }
        self.resize(decision, decision.samples.max(sizes.least_samples(apart.len())));
        let too_many = MOST_APART * apart.len() > self.problem.A1.nrows();
        let operations = self.law.operations(decision.degree, decision.samples + apart.len());
        let affordable = operations <= WORTHWHILE * self.law.cost.exact();
        Ok((affordable && !too_many).then_some(apart.len()))
    }
}
