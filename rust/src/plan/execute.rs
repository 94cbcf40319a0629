//! A decision carried out: the passes, rows apart, the sample and the certificate; another try, or the exact gradient.

use std::cell::OnceCell;

use super::attempt::Attempt;
use super::decide::{DOUBTFUL, Law};
use super::decision::{Backing, Decision, Method};
use super::forecast::{check_memory, forecast};
use super::guard::{Begun, LOST};
use super::logits::drawn;
use super::needed::enough;
use super::passes::Passes;
use super::prepared::Prepared;
use super::request::{Certificate, Kind, Request, Wanted, check_degree};
use super::search::Search;
use super::seed::seed;
use super::setting::Setting;
use super::solution::{Gradient, Solution};
use super::stages::Stages;
use super::tries::{Tried, better, missed, reached};
use super::unfold::{unfolded, with_product};
use crate::error::Error;
use crate::exact::gradient::{Gradients, of_seen as exactly};
use crate::exact::structure::zeros;
use crate::features::affordable;
use crate::float::Float;
use crate::options::Options;
use crate::problem::{Problem, Shape, Wrt};

/// All tries of a call together, over the exact passes, where what was measured says that the next one does it.
const SURE: f64 = 0.95;

/// Room for the next sample to be less lucky than the last.
const RETRY_ROOM: f64 = 1.3;

/// Where a computation begins.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Start<'a> {
    /// With a decision of its own.
    Fresh,
    /// With a degree and a number of sampled rows that were decided before.
    Sized {
        /// Degree.
        degree: usize,
        /// Sampled rows.
        samples: usize,
    },
    /// With what an earlier call with the same keys, values and weights left.
    Prepared(&'a Prepared),
}

/// L and dL/d(input) for each input in `wrt`, of a problem without keys that no query sees.
pub(super) fn of_seen<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    start: Start<'_>,
    options: &Options,
    stages: &mut Stages<'_>,
) -> Result<Solution<T>, Error> {
    found::<T, Passes<T>>(problem, Law::new(problem, wrt, request), start, options, stages)
}

/// Results of the method that the law leads to, for a problem without keys that no query sees.
pub(super) fn found<T: Float, A: Attempt<T>>(
    problem: &Problem<'_, T>,
    law: Law<'_>,
    start: Start<'_>,
    options: &Options,
    stages: &mut Stages<'_>,
) -> Result<A::Found, Error> {
    let (wrt, zero) = (law.wrt, zeros(problem, law.wrt)?);
    let logits = OnceCell::new();
    let (decision, prepared) = match start {
        Start::Fresh => (law.decide(problem, &zero, &logits)?, None),
        Start::Sized { degree, samples } => {
            check_degree(degree)?;
            affordable(law.cost.dimension(), degree + 1)?;
            // More rows than there are: all of them.
            let samples = samples.min(problem.A1.nrows());
            (law.sized(degree, samples, drawn(&logits, problem)), None)
        }
        Start::Prepared(prepared) => (prepared.decision.clone(), Some(prepared)),
    };
    check_memory(options, || forecast::<T>(&Shape::of(problem), wrt, problem.is_causal, &decision, options))?;
    if decision.method == Method::Exact || problem.A1.nrows() == 0 || problem.A2.nrows() == 0 {
        return A::exact(problem, &law, &zero, decision, stages);
    }
    let product = unfolded(problem, wrt, law.backing);
    let unfolded = with_product(problem, &product);
    if let Some(prepared) = prepared {
        prepared.moments.require(&unfolded, options)?;
    }
    let mut search = Search { logits, ..Search::new(problem.reborrow(), unfolded, law, zero) };
    search.run::<A>(decision, prepared, stages)
}

/// The exact gradient as a planned one.
pub(super) fn exact<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    request: &Request,
    zero: &[bool],
    decision: Decision,
    stages: &mut Stages<'_>,
) -> Result<Solution<T>, Error> {
    let Gradients { loss, loss_rounding, gradients, level } =
        stages.run(1.0, |options, watch| exactly(problem, wrt, zero, options, watch))?;
    let gradients = gradients.into_iter().map(|gradient| {
        let certificate = Certificate::exact(request, gradient.rounding, request.norm.of(&gradient.value));
        Gradient { wrt: gradient.wrt, value: gradient.value, certificate }
    });
    Ok(Solution {
        loss,
        loss_certificate: Certificate::exact(&request.without_tolerance(), loss_rounding, loss),
        gradients: gradients.collect(),
        steps: None,
        decision,
        prepared: None,
        entries: None,
        level,
    })
}

impl<T: Float> Search<'_, T> {
    /// Tries until one reaches the tolerance, or until no other is worth it.
    pub(super) fn run<A: Attempt<T>>(
        &mut self,
        first: Decision,
        given: Option<&Prepared>,
        stages: &mut Stages<'_>,
    ) -> Result<A::Found, Error> {
        let (mut decision, mut given) = (first, given);
        let mut best: Option<A::Found> = None;
        loop {
            let (approximation, beyond) = match self.begin(&mut decision, &mut given, best.is_some(), stages)? {
                Begun::Try(approximation, beyond) => (approximation, beyond),
                Begun::Stop(_) if best.is_some() => break,
                Begun::Stop(reason) => return self.give_up::<A>(reason, stages),
            };
            let own = match given {
                Some(_) => None,
                None => match self.prepare(&decision, approximation, stages) {
                    Err(error) if self.is_no_try(&error, best.is_some()) => break,
                    own => Some(own?),
                },
            };
            let Some(prepared) = own.as_ref().or(given.take()) else {
                return Err(Error::Internal("no moments were prepared".into()));
            };
            let tried = match self.attempt::<A>(&mut decision, prepared, beyond, stages) {
                Err(error) if self.is_no_try(&error, best.is_some()) => break,
                tried => tried?,
            };
            let Some(mut tried) = tried else {
                return self.give_up::<A>("too many rows are beyond the polynomial, or few make up its error", stages);
            };
            tried.keep(own);
            let next = if reached(&tried) { None } else { self.next_try(&decision, &tried) };
            best = Some(better(best.take(), tried));
            match next {
                Some(next) => decision = next,
                None => break,
            }
        }
        match best {
            Some(planned) if reached(&planned) || self.request.wanted != Wanted::Auto => Ok(planned),
            _ => self.give_up::<A>(
                &format!(
                    "degree {} with {} exact rows did not certify the tolerance",
                    decision.degree, decision.samples
                ),
                stages,
            ),
        }
    }

    /// Whether an error ends the try and not the call: a try that does not fit in memory where another one did, or one
    /// whose numbers do not fit the precision where the exact gradient may do.
    fn is_no_try(&self, error: &Error, has_tried: bool) -> bool {
        matches!(error, Error::OutOfMemory { .. }) && has_tried
            || matches!(error, Error::Range { .. }) && self.request.wanted == Wanted::Auto
    }

    /// The exact results after all.
    fn give_up<A: Attempt<T>>(&self, reason: &str, stages: &mut Stages<'_>) -> Result<A::Found, Error> {
        A::exact(&self.original, &self.law, &self.zero, self.given_up(reason), stages)
    }

    /// One degree, with as many rows as it takes within reason; nothing where too many rows are beyond the polynomial,
    /// or so few make up its error that a sample would have to hold most.
    fn attempt<A: Attempt<T>>(
        &mut self,
        decision: &mut Decision,
        prepared: &Prepared,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<A::Found>, Error> {
        self.spent += self.law.cost.lost(self.law.operations(prepared.decision.degree, 0));
        let Some(mut passes) = A::run(&self.setting(prepared), self.law.backing, beyond, stages)? else {
            return Ok(None);
        };
        decision.apart = passes.apart();
        if decision.samples > 0 && !self.enlarge(decision, passes.least_samples()) {
            return Ok(None);
        }
        let mut best: Option<A::Found> = None;
        let mut computed = 0;
        loop {
            let tried = passes.certified(&self.setting(prepared), self.law.backing, decision, stages)?;
            self.spent += self.rows(decision, computed);
            computed = decision.samples;
            let more = if reached(&tried) { None } else { self.more_rows(decision, &tried) };
            best = Some(better(best.take(), tried));
            match more {
                Some(samples) => self.resize(decision, samples),
                None => return Ok(best),
            }
        }
    }

    /// Operations of the rows beyond the first `computed`.
    fn rows(&self, decision: &Decision, computed: usize) -> f64 {
        let more = decision.samples.saturating_sub(computed);
        if more > 0 { self.law.cost.rows(more, decision.degree) } else { 0.0 }
    }

    /// As many rows as a sample must hold; false where `auto` would rather compute all.
    fn enlarge(&self, decision: &mut Decision, least: usize) -> bool {
        if least > decision.samples {
            self.resize(decision, least);
        }
        self.request.wanted != Wanted::Auto || self.affords(self.rows(decision, 0), SURE)
    }

    fn setting<'b>(&'b self, prepared: &'b Prepared) -> Setting<'b, T> {
        Setting {
            original: self.original.reborrow(),
            problem: self.problem.reborrow(),
            wrt: self.wrt,
            zero: &self.zero,
            request: self.request,
            seed: *self.seed.get_or_init(|| seed(&self.original, self.request)),
            reach: self.reach.get(),
            prepared,
        }
    }

    /// A larger sample, where one can be expected to do.
    fn more_rows(&self, decision: &Decision, tried: &impl Tried) -> Option<usize> {
        let n = self.problem.A1.nrows() - decision.apart;
        if decision.samples == 0 || decision.samples >= n {
            return None;
        }
        if self.request.wanted != Wanted::Auto {
            let most = (self.law.most_samples() as usize).min(n);
            return (decision.samples < most).then_some(most);
        }
        let missed = missed(self.request, tried);
        let left = n as f64 / decision.samples as f64 - 1.0;
        let needed = RETRY_ROOM * enough(n as f64, left / (missed * missed));
        let enough = (needed.ceil() as usize).max(decision.samples + 1);
        let more = self.law.cost.rows(enough - decision.samples, decision.degree);
        (needed <= n as f64 && self.affords(more, SURE)).then_some(enough)
    }

    /// The next degree after a try, where what was missed is what it has less.
    fn next_try(&self, decision: &Decision, tried: &impl Tried) -> Option<Decision> {
        let part = if self.law.backing == Backing::Estimated { LOST } else { DOUBTFUL };
        let missed = missed(self.request, tried);
        let enough = |next: &Decision| next.predicted_error * missed <= decision.predicted_error;
        self.next_degree(decision, part).filter(|next| self.request.wanted != Wanted::Auto || enough(next))
    }
}

impl<T: Float> Attempt<T> for Passes<T> {
    type Found = Solution<T>;

    fn run(
        setting: &Setting<'_, T>,
        backing: Backing,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Self>, Error> {
        Passes::of(setting, backing, beyond, stages)
    }

    fn apart(&self) -> usize {
        self.apart.len()
    }

    fn least_samples(&self) -> usize {
        self.least_rows()
    }

    fn certified(
        &mut self,
        setting: &Setting<'_, T>,
        backing: Backing,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Solution<T>, Error> {
        let mut tried = self.solution(setting, backing, decision, stages)?;
        for (one, _) in tried.gradients.iter_mut().zip(setting.zero).filter(|(_, zero)| **zero) {
            one.value.fill(T::narrow(0.0));
            one.certificate = Certificate::new(setting.request, Kind::Rigorous, [0.0; 3], 0.0);
        }
        Ok(tried)
    }

    fn exact(
        problem: &Problem<'_, T>,
        law: &Law<'_>,
        zero: &[bool],
        decision: Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Solution<T>, Error> {
        exact(problem, law.wrt, law.request, zero, decision, stages)
    }
}
