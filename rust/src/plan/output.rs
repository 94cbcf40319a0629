//! One degree: the approximate output of a head, and its certificate from sampled rows or from bounds (docs/math.md,
//! Theorem 9.46, Rule 9.47).
//!
//! The problem has the identity for X and Y and a target of zero, so that c is the output.

use ndarray::Array2;

use super::attempt::Attempt;
use super::by_key::Wanted;
use super::decide::Law;
use super::decision::{Backing, Decision};
use super::passes::{BELIEVABLE, MOST_APART};
use super::prepared::Prepared;
use super::request::{Certificate, Kind, Norm};
use super::rows::{Sample, drawn, put};
use super::setting::Setting;
use super::sizes::Sizes;
use super::solution::ADDITIONS;
use super::stages::Stages;
use super::tries::Tried;
use crate::certificate::moments::Bound;
use crate::certificate::outliers::{budget, outliers};
use crate::certificate::statistical::{Capped, MISS, allowance, stream};
use crate::error::Error;
use crate::exact::attention_stack_measured;
use crate::float::Float;
use crate::linalg::layout::in_range;
use crate::linalg::outward::{outward, root_total};
use crate::linalg::products::mapped;
use crate::linalg::rows::RowValues;
use crate::problem::{Heads, Problem, Stack};
use crate::runtime::buffer;

/// The output of one head with its certificate.
#[derive(Debug)]
pub struct Output<T> {
    /// o, (n, dv).
    pub value: Array2<T>,
    /// Its error.
    pub certificate: Certificate,
    /// The method that was run, and the reason.
    pub decision: Decision,
}

impl<T> Tried for Output<T> {
    fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        std::iter::once(&self.certificate)
    }

    /// Moments of values without slopes are of use to nobody else.
    fn keep(&mut self, _: Option<Prepared>) {}
}

/// The approximate output, rows apart included.
pub struct OutputPasses<T> {
    output: Array2<T>,
    bound: Bound,
    /// Estimate of the rounding error of the rows that were put in, and a bound of it.
    lost: f64,
    apart_rounding: f64,
    /// Rows that are computed exactly, in rising order.
    apart: Vec<usize>,
    /// Approximate sizes of the errors of rows.
    sizes: Sizes,
    /// Bounds of ‖o_j − õ_j‖ of every row that is not apart, where rows are drawn by them.
    caps: Vec<f64>,
    /// Rows drawn uniformly so far, in the order of their indices.
    sample: Option<Sample>,
}

impl<T: Float> OutputPasses<T> {
    /// Puts exact rows in the place of their approximation.
    fn replace(&mut self, setting: &Setting<'_, T>, rows: &Sample, stages: &mut Stages<'_>) -> Result<(), Error> {
        let proved = rows.proved(&setting.problem, stages)?;
        put(&mut self.output, &rows.indices, &rows.residuals[0]);
        let of_rows = root_total((0..rows.indices.len()).map(|row| proved.output(row)[0]));
        self.bound.rounding = outward(self.bound.rounding + of_rows);
        self.apart_rounding = outward(of_rows + T::UNIT_ROUNDOFF * Norm::Frobenius.of(&self.output));
        self.lost += rows.output_rounding(&setting.problem, rows.indices.len())?;
        Ok(())
    }

    /// Computes the first `count` rows of a random order of those that are not apart, but for what was computed before.
    fn enlarge(&mut self, setting: &Setting<'_, T>, count: usize, stages: &mut Stages<'_>) -> Result<(), Error> {
        let known = self.sample.as_ref().map_or(0, |sample| sample.indices.len());
        let mut indices = Vec::new();
        drawn(setting.seed, setting.problem.A1.nrows(), &self.apart, known..count, &mut indices)?;
        if indices.is_empty() {
            return Ok(());
        }
        let rows = sample(setting, indices, stages)?;
        self.sample = Some(match self.sample.take() {
            Some(before) => before.merged(&rows)?,
            None => rows,
        });
        Ok(())
    }

    /// Offers the estimate from rows drawn uniformly in the place of a bound that is larger.
    fn estimate(&self, setting: &Setting<'_, T>, found: &mut Output<T>) -> Result<(), Error> {
        let Setting { problem, request, .. } = setting;
        let population = problem.A1.nrows() - self.apart.len();
        let Some(sample) = self.sample.as_ref().filter(|sample| !sample.indices.is_empty()) else { return Ok(()) };
        let error = sample.output_error(population, &self.sizes.own[0])?.replaced();
        let rounding = self.lost + sample.output_rounding(problem, population)?;
        // NaN is less than nothing.
        if error + rounding < found.certificate.absolute {
            put(&mut found.value, &sample.indices, &sample.residuals[0]);
            let size = request.norm.of(&found.value);
            let terms = [0.0, error, rounding + ADDITIONS * T::UNIT_ROUNDOFF * size];
            found.certificate = Certificate::new(request, Kind::Estimated, terms, size);
        }
        Ok(())
    }
}

impl<T: Float> OutputPasses<T> {
    /// A certificate from rows drawn in proportion to the squares of their caps (docs/math.md, equation 9.70).
    fn draw(
        &self,
        setting: &Setting<'_, T>,
        decision: &Decision,
        found: &mut Output<T>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Error> {
        let capped = Capped::new(&buffer::collected(self.caps.iter().map(|cap| outward(cap * cap)))?)?;
        let look = stages.look();
        let draws = capped.draw(&mut stream(setting.seed, look), decision.samples)?;
        if draws.is_empty() {
            return Ok(());
        }
        let rows = sample(setting, buffer::collected(draws.iter().map(|draw| draw.row))?, stages)?;
        let proved = rows.proved(&setting.problem, stages)?;
        let (mut squares, mut lost) = (buffer::with_capacity(draws.len())?, buffer::with_capacity(draws.len())?);
        let mut mean = 0.0;
        for (place, draw) in draws.iter().enumerate() {
            // Of the rows as they are returned.
            let returned = self.output.row(draw.row);
            let exact = rows.residuals[0].row(place);
            let square: f64 = exact.iter().zip(returned).map(|(o, own)| (o - own.widen()).powi(2)).sum();
            let rounding = proved.output(place)[0];
            squares.push(square);
            lost.push(outward(rounding * (2.0 * square.sqrt() + rounding)));
            mean += square / (draw.probability * draws.len() as f64);
        }
        let error = outward(capped.bound(&draws, &squares, &lost, mean, allowance(look)).sqrt());
        let (Certificate { absolute, size, .. }, rounding) = (found.certificate, self.apart_rounding);
        if error + rounding < absolute {
            let of = Certificate::new(setting.request, Kind::Statistical, [0.0, error, rounding], size);
            found.certificate = Certificate { confidence: Some(1.0 - MISS), ..of };
        }
        Ok(())
    }
}

/// These rows, exact and approximate.
fn sample<T: Float>(setting: &Setting<'_, T>, rows: Vec<usize>, stages: &mut Stages<'_>) -> Result<Sample, Error> {
    Sample::new(&setting.problem, setting.prepared, rows, Wanted { mixed: false, slopes: false, keys: false }, stages)
}

impl<T: Float> Attempt<T> for OutputPasses<T> {
    type Found = Output<T>;

    fn run(
        setting: &Setting<'_, T>,
        backing: Backing,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Self>, Error> {
        let Setting { problem, prepared, .. } = setting;
        let has_caps = backing == Backing::Statistical;
        let (RowValues { output, unsafe_rows, .. }, bound, mut caps) =
            stages.run(0.6, |options, watch| prepared.moments.fitted_output(problem, has_caps, options, watch))?;
        // Rows of which most of the caps are made are computed, and the others drawn.
        let mut apart = beyond;
        apart.extend(outliers(&caps, budget(caps.len() / MOST_APART))?.exact);
        let mut sizes = Sizes::default();
        if let Some(reach) = setting.reach {
            sizes = Sizes::of_output(prepared.decision.degree, reach)?;
            let Some(standing) = sizes.standing(&[], problem.is_causal)? else { return Ok(None) };
            apart.extend(standing);
        }
        apart.extend(unsafe_rows);
        apart.sort_unstable();
        apart.dedup();
        if MOST_APART * apart.len() > problem.A1.nrows() {
            return Ok(None);
        }
        sizes.without(&apart);
        if problem.is_causal {
            sizes.mask(problem.A2.nrows());
        }
        for &row in &apart {
            if let Some(cap) = caps.get_mut(row) {
                *cap = 0.0;
            }
        }
        let mut passes = OutputPasses {
            output,
            bound,
            lost: 0.0,
            apart_rounding: 0.0,
            apart: Vec::new(),
            sizes,
            caps,
            sample: None,
        };
        if !apart.is_empty() {
            let rows = sample(setting, buffer::copied(&apart)?, stages)?;
            passes.replace(setting, &rows, stages)?;
        }
        passes.apart = apart;
        if backing != Backing::Estimated {
            passes.sizes = Sizes::default();
        }
        Ok(Some(passes))
    }

    fn apart(&self) -> usize {
        self.apart.len()
    }

    fn least_samples(&self) -> usize {
        self.sizes.least_samples(self.apart.len())
    }

    fn certified(
        &mut self,
        setting: &Setting<'_, T>,
        backing: Backing,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Output<T>, Error> {
        let (request, Bound { truncation, rounding }) = (setting.request, self.bound);
        let last = T::UNIT_ROUNDOFF * Norm::Frobenius.of(&self.output);
        let terms = [truncation, 0.0, outward(rounding + last)];
        let mut found = Output {
            certificate: Certificate::new(request, Kind::Rigorous, terms, request.norm.of(&self.output)),
            value: mapped(self.output.view(), |x| x)?,
            decision: decision.clone(),
        };
        if backing == Backing::Estimated {
            let believable = decision.predicted_error <= BELIEVABLE;
            self.enlarge(setting, if believable { decision.samples } else { 0 }, stages)?;
            self.estimate(setting, &mut found)?;
        } else if backing == Backing::Statistical && !self.caps.is_empty() {
            self.draw(setting, decision, &mut found, stages)?;
        }
        in_range("the output", T::NAME, found.value.iter().all(|x| x.is_finite()))?;
        Ok(found)
    }

    fn exact(
        problem: &Problem<'_, T>,
        law: &Law<'_>,
        _: &[bool],
        decision: Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Output<T>, Error> {
        let head = Heads::new(problem.A1, problem.A2, problem.A3)?;
        let stack = Stack::of(vec![head])?.with_scale(problem.scale).with_causal(problem.is_causal);
        let (found, estimates) =
            stages.run(1.0, |options, watch| attention_stack_measured(&stack, (false, false), options, watch))?;
        let rounding = estimates.first().map_or(0.0, |one| one.rounding);
        let certificate = Certificate::exact(law.request, rounding, law.request.norm.of(&found.output));
        Ok(Output { value: found.output, certificate, decision })
    }
}
