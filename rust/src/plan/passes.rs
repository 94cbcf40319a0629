//! One degree: the approximate gradient, and its certificates from sampled rows or from bounds.

use ndarray::Array2;

use super::apart::exact_share;
use super::by_key::{ByKey, Wanted, by_key, group_factor};
use super::decision::{Backing, Decision};
use super::request::{Asked, Certificate, Kind, Norm, Request};
use super::rows::{Sample, add, drawn, put};
use super::setting::Setting;
use super::sizes::Sizes;
use super::solution::{ADDITIONS, Gradient, Solution};
use super::stages::Stages;
use crate::certificate::estimated::{Correction, Drawing, Factors, total, weighted};
use crate::certificate::moments::Bound;
use crate::certificate::outliers::{budget, outliers};
use crate::certificate::rigorous::Steps;
use crate::certificate::statistical::{Capped, allowance, stream};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::in_range;
use crate::linalg::norms::largest;
use crate::linalg::outward::{FOLD_UNIT, outward, total as sum_of};
use crate::linalg::products::{mapped, matrix};
use crate::linalg::spectral::frobenius;
use crate::moments::{Besides, PolynomialGradients};
use crate::options::{Level, Options};
use crate::problem::Wrt;
use crate::runtime::buffer;
use crate::runtime::pool::Watch;

/// Above this part of the rows apart, all are computed exactly.
pub const MOST_APART: usize = 4;

/// Relative error of the weights above which a polynomial is no approximation, and a few of its rows say nothing of
/// others.
pub const BELIEVABLE: f64 = 0.3;

/// The approximate gradient, rows apart included.
pub struct Passes<T> {
    loss: f64,
    loss_bound: Bound,
    gradients: Vec<(Wrt, Array2<T>)>,
    bounds: Vec<Bound>,
    steps: Option<Steps>,
    /// Estimate of the rounding error of each gradient, with that of adding rows to it, which may cancel.
    lost: Vec<f64>,
    /// How far each is from Σ s a ⊗ w over the rows, with the rows apart exact: a bound of the rounding error.
    drifts: Vec<f64>,
    /// Rows that are computed exactly, in rising order.
    pub apart: Vec<usize>,
    /// Those of them that stand out and are still to be computed, with the first rows of the sample.
    standing: Vec<usize>,
    /// Bounds of s ‖a_j‖ ‖Δw_j‖ for every row that is not apart, where rows are drawn by them.
    caps: Vec<f64>,
    /// Approximations of them, where rows are drawn uniformly.
    sizes: Sizes,
    /// Rows drawn uniformly so far, in the order of their indices.
    sample: Option<Sample>,
    level: Level,
}

impl<T: Float> Passes<T> {
    /// Nothing where too many rows are beyond the polynomial, those that are known to be among them.
    pub fn of(
        setting: &Setting<'_, T>,
        backing: Backing,
        beyond: Vec<usize>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Self>, Error> {
        let Setting { problem, prepared, .. } = setting;
        let asked = setting.asked();
        // A sample of rows sees the errors of sums of integers over the keys, but not those of sums over the queries.
        let seed = (backing == Backing::Estimated).then_some(setting.seed);
        let capped =
            setting.request.asked >= Asked::Statistical && asked.iter().any(|&wrt| by_caps(wrt)) && !problem.is_causal;
        let besides = Besides { seed, rows: capped };
        let result = stages
            .run(0.6, |options, watch| prepared.moments.fitted_gradient(problem, &asked, besides, options, watch))?;
        let n = problem.A1.nrows();
        let PolynomialGradients {
            loss,
            gradients,
            unsafe_rows,
            bounds,
            drifts,
            loss_bound,
            steps,
            level,
            residuals,
            lost,
            evaluated,
            ..
        } = result;
        let caps = if capped {
            let caps = |options: &Options, watch: Option<Watch<'_>>| {
                prepared.moments.fitted_caps(problem, evaluated, options, watch)
            };
            stages.run(0.3, caps)?.weighted
        } else {
            Vec::new()
        };
        let mut sizes = Sizes::default();
        // Rows of which most of the caps are made are computed, and the others drawn.
        let mut standing = outliers(&caps, budget(caps.len() / MOST_APART))?.exact;
        if let Some(reach) = setting.reach {
            sizes = Sizes::new(problem, prepared.decision.degree, reach, &residuals)?;
            let Some(found) = sizes.standing(&asked, problem.is_causal)? else { return Ok(None) };
            standing = found;
            standing.extend(beyond);
            standing.sort_unstable();
            standing.dedup();
        }
        standing.retain(|row| unsafe_rows.binary_search(row).is_err());
        let apart = unsafe_rows.len() + standing.len();
        if MOST_APART * apart > n || problem.is_causal && apart > 0 {
            return Ok(None);
        }
        let gradients = setting.folded(gradients)?;
        let unfolded = setting.unfolded();
        let bounds = if unfolded { vec![Bound::UNKNOWN; gradients.len()] } else { bounds };
        let drifts = if unfolded { vec![f64::INFINITY; gradients.len()] } else { drifts };
        let lost = buffer::collected(gradients.iter().map(|(wrt, _)| setting.folded_error(*wrt, lost)))?;
        let mut passes = Passes {
            loss,
            loss_bound,
            gradients,
            bounds,
            steps,
            lost,
            drifts,
            apart: Vec::new(),
            standing: Vec::new(),
            caps,
            sizes,
            sample: None,
            level,
        };
        if !unsafe_rows.is_empty() {
            passes.add(setting, &unsafe_rows, stages)?;
        }
        let mut apart = unsafe_rows;
        buffer::reserve(&mut apart, standing.len())?;
        apart.extend(&standing);
        apart.sort_unstable();
        for &row in &apart {
            if let Some(cap) = passes.caps.get_mut(row) {
                *cap = 0.0;
            }
        }
        if backing == Backing::Estimated {
            passes.sizes.without(&apart);
            if problem.is_causal {
                passes.sizes.mask(problem.A2.nrows());
            }
        }
        passes.apart = apart;
        passes.standing = standing;
        Ok(Some(passes))
    }

    /// Adds the contribution of rows that the polynomial left out.
    fn add(&mut self, setting: &Setting<'_, T>, rows: &[usize], stages: &mut Stages<'_>) -> Result<(), Error> {
        let share = exact_share(&setting.original, setting.wrt, rows, stages)?;
        self.loss += share.loss;
        let rounding = share.proved.loss() + f64::EPSILON * self.loss;
        self.loss_bound.rounding = outward(self.loss_bound.rounding + rounding);
        let known = self.bounds.iter_mut().zip(&mut self.drifts).zip(&mut self.lost);
        for ((wrt, value), ((bound, drift), lost)) in self.gradients.iter_mut().zip(known) {
            let added = share.bound(*wrt, Norm::Frobenius.of(value));
            share.add_to(*wrt, value, rows);
            bound.rounding = outward(bound.rounding + added);
            *drift = outward(*drift + added);
            *lost += share.rounding(*wrt) + ADDITIONS * T::UNIT_ROUNDOFF * share.norm(*wrt);
        }
        Ok(())
    }

    /// Puts rows in the place of their approximation, in the outputs that rows say anything of.
    fn replace(&mut self, setting: &Setting<'_, T>, rows: &Sample, stages: &mut Stages<'_>) -> Result<(), Error> {
        let (problem, count) = (&setting.problem, rows.indices.len());
        let proved = rows.proved(problem, stages)?;
        let by_keys = match rows.grouped {
            Some(_) => {
                let of =
                    |rows: &ByKey<'_, '_, T>, options: &Options, watch: Option<Watch<'_>>| rows.sums(options, watch);
                Some(by_key(problem, setting.prepared, rows.parts(), stages, of)?)
            }
            None => None,
        };
        let change = rows.losses()?.sum();
        // The passes and the rows have each their own rounding of P's row, and the exact row has another.
        self.loss += change;
        let lost = proved.loss() + self.loss_bound.rounding + count as f64 * f64::EPSILON * (self.loss + change.abs());
        self.loss_bound.rounding = outward(self.loss_bound.rounding + lost);
        let known = self.bounds.iter_mut().zip(&mut self.drifts).zip(&mut self.lost);
        for ((wrt, value), ((bound, drift), lost)) in self.gradients.iter_mut().zip(known) {
            // Beside caps, only that of which they are has a bound with these rows.
            if setting.reach.is_none() && !by_caps(*wrt) {
                continue;
            }
            if *wrt == Wrt::A1 {
                put(value, &rows.indices, &rows.rows(problem)?);
            } else if let (Wrt::A2 | Wrt::A3, Some([keys, values])) = (*wrt, &by_keys) {
                add(value, if *wrt == Wrt::A2 { keys } else { values }, 1.0);
            } else if let Some(error) = rows.errors(problem, setting.pair(), *wrt, total)? {
                add(value, &error, 1.0);
                *lost += ADDITIONS * T::UNIT_ROUNDOFF * (Norm::Frobenius.of(&error) + rows.total(count));
            } else {
                continue;
            }
            *lost += rows.rounding(problem, *wrt, count)?;
            // Rows of f A3 come from moments of their own.
            let added = match wrt {
                Wrt::Y | Wrt::A2 | Wrt::A3 => f64::INFINITY,
                _ => bound.rounding + proved.gradient(*wrt) + 2.0 * T::UNIT_ROUNDOFF * Norm::Frobenius.of(value),
            };
            bound.rounding = outward(bound.rounding + added);
            // The rounding error of the rows of P is in the drift already.
            let sums = FOLD_UNIT * (count as f64 + ADDITIONS) * rows.total(count);
            *drift =
                outward(*drift + proved.gradient(*wrt) + 2.0 * T::UNIT_ROUNDOFF * Norm::Frobenius.of(value) + sums);
        }
        Ok(())
    }

    /// Rows that a uniform sample must hold to see enough of those that the error is made of.
    pub fn least_rows(&self) -> usize {
        self.sizes.least_samples(self.apart.len())
    }

    /// The gradients with their certificates, from `decision.samples` rows where the backing wants rows.
    pub fn solution(
        &mut self,
        setting: &Setting<'_, T>,
        backing: Backing,
        decision: &Decision,
        stages: &mut Stages<'_>,
    ) -> Result<Solution<T>, Error> {
        if backing == Backing::Estimated {
            let believable = decision.predicted_error <= BELIEVABLE;
            self.enlarge(setting, if believable { decision.samples } else { 0 }, stages)?;
        } else if !self.standing.is_empty() {
            let standing = std::mem::take(&mut self.standing);
            let rows = self.sample(setting, standing, stages)?;
            self.replace(setting, &rows, stages)?;
        }
        let untold = setting.request.without_tolerance();
        let rigorous = |request: &Request, bound: &Bound, size: f64| {
            Certificate::new(request, Kind::Rigorous, [bound.truncation, 0.0, bound.rounding], size)
        };
        let norm = setting.request.norm;
        let mut bounded = buffer::with_capacity(self.gradients.len())?;
        for ((wrt, value), bound) in self.gradients.iter().zip(&self.bounds) {
            let certificate = rigorous(setting.request, bound, norm.of(value));
            bounded.push(Gradient { wrt: *wrt, value: mapped(value.view(), |x| x)?, certificate });
        }
        let mut planned = Solution {
            loss: self.loss,
            loss_certificate: rigorous(&untold, &self.loss_bound, self.loss),
            gradients: bounded,
            steps: self.steps,
            decision: decision.clone(),
            prepared: None,
            entries: None,
            level: self.level,
        };
        match backing {
            Backing::Rigorous => self.cap(setting, &mut planned),
            Backing::Estimated => self.estimate(setting, &mut planned)?,
            Backing::Statistical => self.draw(setting, decision, &mut planned, stages)?,
        }
        for Gradient { wrt, value, .. } in &planned.gradients {
            in_range(&format!("dL/d{}", wrt.name()), T::NAME, value.iter().all(|x| x.is_finite()))?;
        }
        Ok(planned)
    }

    /// Computes the first `count` rows of a random order of those that are not apart, but for what was computed before.
    fn enlarge(&mut self, setting: &Setting<'_, T>, count: usize, stages: &mut Stages<'_>) -> Result<(), Error> {
        let Setting { problem, seed, .. } = setting;
        let known = self.sample.as_ref().map_or(0, |sample| sample.indices.len());
        let mut indices = std::mem::take(&mut self.standing);
        let certain = indices.len();
        drawn(*seed, problem.A1.nrows(), &self.apart, known..count, &mut indices)?;
        if indices.is_empty() {
            return Ok(());
        }
        let mut rows = self.sample(setting, indices, stages)?;
        if certain > 0 {
            self.replace(setting, &rows.part(0..certain)?, stages)?;
            rows = rows.part(certain..rows.indices.len())?;
        }
        self.sample = Some(match self.sample.take() {
            Some(before) => before.merged(&rows)?,
            None => rows,
        });
        Ok(())
    }

    /// These rows, exact and approximate.
    fn sample(&self, setting: &Setting<'_, T>, rows: Vec<usize>, stages: &mut Stages<'_>) -> Result<Sample, Error> {
        let Setting { problem, prepared, .. } = setting;
        Sample::new(problem, prepared, rows, Wanted::of(setting.wrt, setting.reach.is_some()), stages)
    }

    /// Certificates from rows drawn uniformly from those that are not apart.
    fn estimate(&self, setting: &Setting<'_, T>, planned: &mut Solution<T>) -> Result<(), Error> {
        let Setting { problem, request, .. } = setting;
        let population = problem.A1.nrows() - self.apart.len();
        let Some(sample) = self.sample.as_ref().filter(|sample| !sample.indices.is_empty()) else { return Ok(()) };
        let correction = |factors: &[Factors<'_>]| Correction::new(factors, Drawing::Uniform { population });
        for (one, lost) in planned.gradients.iter_mut().zip(&self.lost) {
            let rounding = sample.rounding(problem, one.wrt, population)? + lost;
            if one.wrt == Wrt::A1 {
                let mut error = 0.0;
                for sizes in self.sizes.own.iter().filter(|sizes| !sizes.is_empty()) {
                    error = largest([error, sample.by_token(problem, population, sizes)?.replaced()]);
                }
                let rows = sample.rows(problem)?;
                one.offer(request, Kind::Estimated, error, rounding, |value| put(value, &sample.indices, &rows));
            } else if let Some(correction) = sample.errors(problem, setting.pair(), one.wrt, correction)? {
                let as_it_is = correction.uncorrected();
                if matches!(one.wrt, Wrt::A2 | Wrt::A3) {
                    // A sum over groups of keys is none that could be added.
                    one.offer(request, Kind::Estimated, group_factor() * as_it_is, rounding, |_| ());
                    continue;
                }
                let rounding = rounding + ADDITIONS * T::UNIT_ROUNDOFF * (correction.norm + sample.total(population));
                let shrunk = correction.shrunk();
                if shrunk < as_it_is {
                    one.offer(request, Kind::Estimated, shrunk, rounding, |value| {
                        add(value, &correction.value, correction.shrinkage);
                    });
                } else {
                    one.offer(request, Kind::Estimated, as_it_is, rounding, |_| ());
                }
            }
        }
        let losses = sample.losses()?;
        let ones = matrix(buffer::filled(losses.len(), 1.0)?, losses.len(), 1)?;
        let error = correction(&[(losses.view(), ones.view())])?.uncorrected();
        if error < planned.loss_certificate.absolute {
            let terms = [0.0, error, ADDITIONS * T::UNIT_ROUNDOFF * self.loss];
            planned.loss_certificate =
                Certificate::new(&request.without_tolerance(), Kind::Estimated, terms, self.loss);
        }
        Ok(())
    }

    /// A bound from the caps of all rows, where there are any.
    fn cap(&self, setting: &Setting<'_, T>, planned: &mut Solution<T>) {
        for (one, drift) in planned.gradients.iter_mut().zip(&self.drifts) {
            if by_caps(one.wrt) && !self.caps.is_empty() {
                let all = sum_of(self.caps.iter().copied());
                one.offer(setting.request, Kind::Rigorous, all, *drift, |_| ());
            }
        }
    }

    /// A certificate from rows drawn in proportion to their caps.
    fn draw(
        &self,
        setting: &Setting<'_, T>,
        decision: &Decision,
        planned: &mut Solution<T>,
        stages: &mut Stages<'_>,
    ) -> Result<(), Error> {
        let Setting { problem, prepared, request, .. } = setting;
        let capped = Capped::new(&self.caps)?;
        let look = stages.look();
        let draws = capped.draw(&mut stream(setting.seed, look), decision.samples)?;
        if draws.is_empty() {
            return Ok(());
        }
        let indices = buffer::collected(draws.iter().map(|draw| draw.row))?;
        let sample = Sample::new(problem, prepared, indices, Wanted::of(&[], false), stages)?;
        let weights = buffer::collected(draws.iter().map(|draw| 1.0 / (draws.len() as f64 * draw.probability)))?;
        let (norms, lost) = (sample.norms()?, sample.lost(problem, stages)?);
        for (one, drift) in planned.gradients.iter_mut().zip(&self.drifts) {
            if !by_caps(one.wrt) {
                continue;
            }
            let sum = |factors: &[Factors<'_>]| weighted(factors, &weights);
            let Some(sum) = sample.errors(problem, setting.pair(), one.wrt, sum)? else { continue };
            let bound = capped.bound(&draws, &norms, &lost, frobenius(sum.view()), allowance(look));
            one.offer(request, Kind::Statistical, bound, *drift, |_| ());
        }
        Ok(())
    }
}

/// Whether an output is a sum over rows of what caps are of.
fn by_caps(wrt: Wrt) -> bool {
    Backing::Statistical.covers(wrt)
}

#[cfg(test)]
mod tests;
