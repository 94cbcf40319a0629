//! The loss of the polynomial method and its gradient with respect to any of the inputs.

use ndarray::Array2;

use super::fit::Polynomial;
use super::passes::{Besides, Passes};
use crate::certificate::moments::{Bound, Bounds, Counted, Evaluated, Extent};
use crate::certificate::rigorous::Steps;
use crate::error::Error;
use crate::exact::gradient::{Gradients, loss_gradient};
use crate::float::{Float, compiled};
use crate::linalg::layout::in_range;
use crate::linalg::outward::{FOLD_UNIT, gamma};
use crate::options::{Level, Options};
use crate::problem::{Approximation, OutputSet, Problem, RowMajor, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

type Answer<T> = Result<PolynomialGradients<T>, Error>;

/// The loss and its gradients for P in the place of exp.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PolynomialGradients<T> {
    /// L, without the rows that are unsafe; 0 where c is given, as there is no loss then.
    pub loss: f64,
    /// One gradient for each input asked for, in that order, without the rows that are unsafe.
    pub gradients: Vec<(Wrt, Array2<T>)>,
    /// Query rows whose normaliser is below half of what any softmax has with centred keys, or that are not finite.
    /// They count for nothing above (rows of dL/dA1 are zero), so that the caller can add the exact ones.
    pub unsafe_rows: Vec<usize>,
    /// max ‖q‖ of the safe rows, in the coordinates of the method, the scale included.
    pub largest_query: f64,
    /// max ‖k‖ in the coordinates: |logit − logit of the mean key| ≤ this · `largest_query`.
    pub largest_key: f64,
    /// Upper bound of the distance of each gradient from that of the same rows without any error, in that order;
    /// infinite where the problem is causal or some keys are left to exp: of such passes no bound is known.
    pub bounds: Vec<Bound>,
    /// Upper bound of the distance of dL/dX and dL/dW_Q from Σ_j s a_j ⊗ w_j over the same rows, with the w_j of
    /// [`Polynomial::rows`]: the rounding error of the sums. Infinite for others, and for a causal problem.
    pub drifts: Vec<f64>,
    /// Estimate of the error of dL/dX and dL/dW_Q that is due to integer sums over the queries, where it was asked for;
    /// 0 where the sums are of floats.
    pub lost: f64,
    /// ‖c‖ of every row; nothing where the problem is causal, or has no keys.
    pub residuals: Vec<f64>,
    /// The same of the loss.
    pub loss_bound: Bound,
    /// Upper bounds of the errors of the steps, without the rounding of sums; nothing where no bound is known.
    pub steps: Option<Steps>,
    /// The instruction set that computed them.
    pub level: Level,
    /// õ and w̃ of every row, where they were wanted and came with the gradients.
    pub(crate) evaluated: Option<Evaluated<T>>,
}

impl<T: Float> PolynomialGradients<T> {
    /// The gradient with respect to `wrt`, if it was asked for.
    pub fn get(&self, wrt: Wrt) -> Option<&Array2<T>> {
        self.gradients.iter().find(|(of, _)| *of == wrt).map(|(_, value)| value)
    }

    /// Those of the whole problem, from those without the keys that no query sees.
    fn whole(mut self, problem: &Problem<'_, T>) -> Result<Self, Error> {
        for (wrt, value) in &mut self.gradients {
            *value = problem.whole(*wrt, std::mem::take(value))?;
        }
        Ok(self)
    }
}

/// L and dL/d(input) for each input in `wrt`, with the polynomial in the place of exp in the forward and in the
/// backward pass, so that rows of p̃ still sum to zero (docs/math.md, section 8).
///
/// dL/dX and dL/dW_Q may differ in the last bits from those of a call that asks for dL/dA1 too (equation 8.12).
///
/// Time 4 n N (d + 1) for X, W_Q and A1, twice that with any of the others, where N = C(d + g + 1, d) and n = m; of
/// causal problems also 4 n C (d + dv + 1) a side, for chunks of C = [`crate::constants::MOMENT_ROWS`] rows. Memory
/// O((n + m) d) for the inputs and outputs, and O(N d).
///
/// # Errors
/// [`Error::Option`] for an input that the problem does not have and for too many monomials; [`Error::Range`] where a
/// result does not fit the precision; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
pub fn polynomial_gradient<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    approximation: &Approximation,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<PolynomialGradients<T>, Error> {
    compiled!(
        T,
        polynomial_gradient_in::<T>
            as fn(&Problem<'_, T>, &[Wrt], &Approximation, &Options, Option<Watch<'_>>) -> Answer<T>
    )(problem, wrt, approximation, options, watch)
}

fn polynomial_gradient_in<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    approximation: &Approximation,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Answer<T> {
    wrt.iter().try_for_each(|&wrt| problem.check(wrt))?;
    let found = of_seen(&problem.admitted()?, wrt, options, watch, |problem, needs, run| {
        if !problem.is_causal {
            run.phase(if needs.key_side() { 0.3 } else { 0.45 });
        }
        let slopes = needs.query_slopes() || needs.key_slopes();
        let polynomial = Polynomial::prepare(problem, approximation, slopes, options, run)?;
        polynomial.differentiate(problem, wrt, needs, Besides::default(), run)
    });
    found?.whole(problem)
}

impl Polynomial {
    /// L and dL/d(input) for each input in `wrt`; as [`polynomial_gradient`], with the moments already taken.
    ///
    /// # Errors
    /// As [`polynomial_gradient`]; [`Error::Option`] for other keys, values or weights, or another form, than those
    /// that it was fitted to.
    pub fn gradient<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<PolynomialGradients<T>, Error> {
        compiled!(
            T,
            Polynomial::gradient_in::<T>
                as fn(&Polynomial, &Problem<'_, T>, &[Wrt], &Options, Option<Watch<'_>>) -> Answer<T>
        )(self, problem, wrt, options, watch)
    }

    fn gradient_in<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Answer<T> {
        wrt.iter().try_for_each(|&wrt| problem.check(wrt))?;
        let seen = problem.admitted()?;
        self.require(&seen, options)?;
        self.fitted_gradient(&seen, wrt, Besides::default(), options, watch)?.whole(problem)
    }

    /// The same for a problem that is known to be the one that it was fitted to, without keys that no query sees, and
    /// with what certificates want besides.
    pub(crate) fn fitted_gradient<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        besides: Besides,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Answer<T> {
        of_seen(problem, wrt, options, watch, |problem, needs, run| {
            self.differentiate(problem, wrt, needs, besides, run)
        })
    }

    /// The same for a row-major problem.
    fn differentiate<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        wrt: &[Wrt],
        needs: &OutputSet,
        besides: Besides,
        run: &mut Run<'_>,
    ) -> Answer<T> {
        let exact = self.exact_rows(problem)?;
        let passes = Passes::run(self, problem, &self.sides(problem, &exact)?, needs, besides, run)?;
        let mut gradients = buffer::with_capacity(wrt.len())?;
        for &wrt in wrt {
            let value = passes.gradient(self, problem, wrt)?;
            in_range(&format!("dL/d{}", wrt.name()), T::NAME, value.iter().all(|x| x.is_finite()))?;
            gradients.push((wrt, value));
        }
        let unit = self.coordinates.incoming_exponent.exp2();
        let loss = if problem.is_target { 0.5 * passes.found.squares * unit * unit } else { 0.0 };
        in_range("the loss", T::NAME, loss.is_finite())?;
        let found = passes.found;
        let (fitted, queries) = (self.fitted(problem.Y.ncols()), Counted::whole(problem.A1.nrows()));
        let bounds = || Bounds::new(&fitted, problem, (queries, &found.buckets), found.widest, found.lost.iter().sum());
        let known = (!problem.is_causal && self.exact_keys.is_empty()).then(bounds).transpose()?;
        let known = known.as_ref();
        let sizes = || gradients.iter().map(|(wrt, value)| (*wrt, Extent::of(value.view())));
        Ok(PolynomialGradients {
            loss,
            bounds: sizes().map(|(wrt, g)| known.map_or(Bound::UNKNOWN, |of| of.gradient(wrt, g))).collect(),
            drifts: sizes().map(|(wrt, g)| known.map_or(f64::INFINITY, |of| of.drift(wrt, g))).collect(),
            loss_bound: known.map_or(Bound::UNKNOWN, Bounds::loss),
            steps: known.map(Bounds::steps),
            gradients,
            lost: passes.lost * problem.scale.abs() * self.coordinates.slope_unit(),
            residuals: passes.residuals.into_iter().map(|c| c * unit).collect(),
            unsafe_rows: found.unsafe_rows,
            largest_query: found.widest.sqrt(),
            largest_key: passes.largest_key,
            level: self.isa.level(),
            evaluated: passes.evaluated,
        })
    }
}

/// The result of `differentiate` for a problem without keys that no query sees, which it gets in row-major order.
fn of_seen<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
    differentiate: impl FnOnce(&Problem<'_, T>, &OutputSet, &mut Run<'_>) -> Answer<T>,
) -> Answer<T> {
    if problem.A2.nrows() == 0 {
        return without_keys(problem, wrt, options, watch);
    }
    differentiate(&RowMajor::of(problem)?.problem(), &OutputSet::of(wrt), &mut Run::new(options, watch))
}

/// Without keys there is nothing to approximate: o = 0.
fn without_keys<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Answer<T> {
    let Gradients { loss, gradients, level, .. } = loss_gradient(problem, wrt, options, watch)?;
    let gradients = gradients.into_iter().map(|gradient| (gradient.wrt, gradient.value)).collect();
    Ok(PolynomialGradients {
        loss,
        gradients,
        unsafe_rows: Vec::new(),
        largest_query: 0.0,
        largest_key: 0.0,
        // Gradients are zero, and the loss a sum of squares in double precision.
        bounds: buffer::filled(wrt.len(), Bound::default())?,
        drifts: buffer::zeros(wrt.len())?,
        lost: 0.0,
        residuals: Vec::new(),
        loss_bound: Bound { truncation: 0.0, rounding: gamma(problem.E.len() as f64 + 4.0, FOLD_UNIT) * loss },
        steps: Some(Steps::default()),
        level,
        evaluated: None,
    })
}
