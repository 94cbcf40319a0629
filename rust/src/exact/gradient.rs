//! The loss of the attention problem, and its gradient with respect to any of the inputs.

use std::f64::consts::{LN_2, LOG2_E};

use ndarray::{Array2, CowArray};

use crate::linalg::layout::{in_range, rows};

use super::alike::{longest, norms, traces};
use super::engine::{Engine, FORWARD_SHARE};
use super::measures::{Keys, Meets, Side};
use super::residual::{Given, Incoming, loss};
use super::rounding::{Before, Mixed, RowErrors};
use super::sight::Sight;
use super::structure::zeros;
use super::turns::KeySide;
use super::waves::Fused;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::Rows;
use crate::linalg::norms::row_norms;
use crate::linalg::products::{mapped, matrix, product, transposed_product, view};
use crate::options::{Level, Options};
use crate::problem::{ExactPasses, OutputSet, Problem, RowMajor, Weights, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

mod errors;

/// A loss and its gradients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradients<T> {
    /// L; 0 where c is given, as there is no loss then.
    pub loss: f64,
    /// Estimate of the rounding error of the loss.
    pub loss_rounding: f64,
    /// One gradient for each input asked for, in that order.
    pub gradients: Vec<Gradient<T>>,
    /// The instruction set that computed them.
    pub level: Level,
}

/// The gradient with respect to one input.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Gradient<T> {
    /// The input.
    pub wrt: Wrt,
    /// dL/d(input), of its shape.
    pub value: Array2<T>,
    /// Estimate of the rounding error in the Frobenius norm (docs/math.md, section 5); 0 where the gradient is zero by
    /// the structure of the problem: equal keys or values, zero queries or weights, a zero incoming gradient.
    pub rounding: f64,
}

impl<T> Gradients<T> {
    /// The gradient with respect to `wrt`, if it was asked for.
    pub fn get(&self, wrt: Wrt) -> Option<&Array2<T>> {
        self.gradients.iter().find(|gradient| gradient.wrt == wrt).map(|gradient| &gradient.value)
    }
}

/// L and dL/d(input) for each input in `wrt`; the passes are shared (docs/math.md, equations of sections 2 and 3).
///
/// Shapes as in [`Problem`]. Exact up to rounding, for logits of any size; n, m, d of any size, zero included (no keys:
/// o = 0 and zero gradients). Keys that a mask hides from all queries do not matter, whatever they hold. `watch` is
/// called on this thread every few milliseconds with the fraction done.
///
/// Time 4 n m d for the loss or dL/dY, 8 n m d for X, W_Q and A1, 12 n m d with any of the others (10 and 14 where keys
/// are too many for the score cache of pass 1; half if causal); memory O((n + m) d).
///
/// # Errors
/// [`Error::Option`] for an input that the problem does not have and for a scale that is no finite number;
/// [`Error::Range`] where a logit or a result does not fit the precision, or [`Error::NonFinite`] where that is because
/// an input holds NaN or an infinity; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
pub fn loss_gradient<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Gradients<T>, Error> {
    compiled!(
        T,
        loss_gradient_in::<T>
            as fn(&Problem<'_, T>, &[Wrt], &Options, Option<Watch<'_>>) -> Result<Gradients<T>, Error>
    )(problem, wrt, options, watch)
}

fn loss_gradient_in<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Gradients<T>, Error> {
    wrt.iter().try_for_each(|&wrt| problem.check(wrt))?;
    let seen = problem.admitted()?;
    let zero = zeros(&seen, wrt)?;
    let mut found = of_seen(&seen, wrt, &zero, options, watch).map_err(|error| seen.blame(error))?;
    for Gradient { wrt, value, .. } in &mut found.gradients {
        *value = problem.whole(*wrt, std::mem::take(value))?;
    }
    Ok(found)
}

/// The same for a problem without keys that no query sees; `zero` says which gradients are zero by its structure.
pub(crate) fn of_seen<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    zero: &[bool],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Gradients<T>, Error> {
    let isa = options.isa()?;
    let mut run = Run::new(options, watch);
    let row_major = RowMajor::of(problem)?;
    let problem = &row_major.problem();
    let mut rest = buffer::with_capacity(wrt.len())?;
    rest.extend(wrt.iter().zip(zero).filter(|(_, zero)| !**zero).map(|(&wrt, _)| wrt));
    let passes = Passes::run(problem, &OutputSet::of(&rest).exact_passes(problem.Y.dim()), options, &mut run)?;
    let loss = if problem.is_target { passes.loss } else { 0.0 };
    in_range("the loss", T::NAME, loss.is_finite())?;
    let mut gradients = buffer::with_capacity(wrt.len())?;
    for (&wrt, &zero) in wrt.iter().zip(zero) {
        if zero {
            let (rows, columns) = problem.dim(wrt);
            let value = matrix(buffer::zeros(buffer::size(&[rows, columns])?)?, rows, columns)?;
            gradients.push(Gradient { wrt, value, rounding: 0.0 });
            continue;
        }
        let value = passes.gradient(problem, wrt, &mut run)?;
        in_range(&format!("dL/d{}", wrt.name()), T::NAME, value.iter().all(|x| x.is_finite()))?;
        let rounding = passes.rounding(problem, wrt, &value, &mut run)?;
        gradients.push(Gradient { wrt, value, rounding });
    }
    let loss_rounding = if problem.is_target { passes.errors.loss(loss, &mut run)? } else { 0.0 };
    Ok(Gradients { loss, loss_rounding, gradients, level: isa.level() })
}

/// Results of the passes that the gradients are computed from.
struct Passes<T> {
    loss: f64,
    /// w = p K, (n, d), in `unit`.
    w: Option<Array2<T>>,
    unit: f64,
    /// s pᵀ Q, (m, d).
    keys: Option<Array2<T>>,
    /// fᵀ c, (m, dv).
    values: Option<Array2<T>>,
    /// (f A3)ᵀ c, (d3, dv).
    mixed: Option<Array2<T>>,
    errors: RowErrors,
    /// ‖w_j‖ in natural units.
    w_norms: Vec<f64>,
}

impl<T: Float> Passes<T> {
    fn run(problem: &Problem<'_, T>, needs: &ExactPasses, options: &Options, run: &mut Run<'_>) -> Result<Self, Error> {
        let (n, m, dv) = (problem.A1.nrows(), problem.A2.nrows(), problem.Y.ncols());
        let (query_weights, keys) = match problem.weights {
            Weights::Product(X) => (X, problem.A2.view().into()),
            Weights::Pair(W_Q, W_K) => {
                let keys = product(problem.A2.view(), W_K, 1.0, run)?;
                (W_Q, CowArray::from(matrix(keys, m, W_K.ncols())?))
            }
        };
        let queries = product(problem.A1.view(), query_weights, problem.scale * LOG2_E, run)?;
        let query_traces = traces(Rows { data: &queries, count: n, width: keys.ncols() }, run)?;
        let key_traces = traces(rows(&keys)?, run)?;
        let known = [norms(&query_traces)?, norms(&key_traces)?];
        let sight = Sight::causal(problem.is_causal, n, m)?;
        let mut engine = Engine::measured(queries, known, rows(&keys)?, sight, options, run)?;
        let h = product(problem.A3.view(), problem.Y, 1.0, run)?;
        let h = Rows { data: &h, count: m, width: dv };
        let value_traces = traces(h, run)?;
        let value_norms = norms(&value_traces)?;
        let block = engine.key_block(if needs.mixed_inputs { problem.A3.ncols() } else { dv });
        let second = needs.query_side || needs.key_side;
        let inherited = problem.inherited(engine.largest_key, run)?;
        let query = LN_2 * longest(&query_traces);
        let key_side = Side { rows: rows(&keys)?, traces: &key_traces };
        let value_side = Side { rows: h, traces: &value_traces };
        let sizes =
            Keys::new(key_side, value_side, Meets { query, lost: inherited.values, block, has_products: second }, run)?;
        in_range("A3 Y", T::NAME, sizes.value.largest.is_finite())?;
        let mut before = Before {
            bound: buffer::copied(&engine.bound)?,
            inherited,
            queries: query_traces,
            keys: sizes,
            widths: [engine.keys.width, dv],
            count: m,
            block,
            strip: engine.keys.strip_rows(),
            is_target: problem.is_target,
            is_biased: false,
            is_masked: problem.is_causal,
            mixed: None,
        };
        let given = Given { rows: rows(&problem.E)?.data, is_target: problem.is_target };
        let unit = given.unit(dv, &engine.seen(&value_norms)?, run)?;
        if needs.key_side {
            let h = engine.values(h, Some(&value_norms), run)?;
            let (mut keys, mut values) =
                (buffer::zeros(buffer::size(&[m, engine.keys.width])?)?, buffer::zeros(buffer::size(&[m, dv])?)?);
            let side = KeySide { keys: &mut keys, values: &mut values };
            let found = engine.both_sides(&h, (given, None), unit, side, run)?;
            let (keys, values) = (matrix(keys, m, engine.keys.width)?, matrix(values, m, dv)?);
            let passes = Passes::fused(engine, found, before, unit, run)?;
            return Ok(Passes { keys: Some(keys), values: Some(values), ..passes });
        }
        // Where only dL/dY is asked for, pass 1 runs on A3 itself.
        let h = if second || !needs.mixed_inputs { Some(engine.values(h, Some(&value_norms), run)?) } else { None };
        if second
            && !needs.mixed_inputs
            && let Some(found) = engine.fused(made(&h, "A3 Y")?, given, unit, run)?
        {
            return Passes::fused(engine, found, before, unit, run);
        }
        let input_traces = if needs.mixed_inputs { traces(rows(&problem.A3)?, run)? } else { Vec::new() };
        let end = if second { FORWARD_SHARE } else { 1.0 };
        let mut forward = if needs.mixed_inputs {
            engine.forward(&engine.values(rows(&problem.A3)?, Some(&norms(&input_traces)?), run)?, end, run)?
        } else {
            engine.forward(made(&h, "A3 Y")?, end, run)?
        };
        let mut output = std::mem::take(&mut forward.output);
        let mut mixed = None;
        if needs.mixed_inputs {
            let outputs = traces(Rows { data: &output, count: n, width: problem.A3.ncols() }, run)?;
            let A3 = Side { rows: rows(&problem.A3)?, traces: &input_traces };
            let sizes = Keys::new(key_side, A3, Meets { query, lost: 0.0, block, has_products: false }, run)?;
            before.mixed = Some(Mixed::new(sizes, outputs, problem.Y));
            let inputs = matrix(output, n, problem.A3.ncols())?;
            output = product(inputs.view(), problem.Y, 1.0, run)?;
            mixed = Some(inputs);
        }
        let incoming = Incoming::new(output, dv, n, given, run)?;
        let mixed = match mixed {
            Some(inputs) => Some(transposed_product(inputs.view(), view(&incoming.c, n, dv)?, 1.0, run)?),
            None => None,
        };
        let mut p_squares = Vec::new();
        let known = if second {
            let (prepared, known) = incoming.prepare(&forward.total, unit, run)?;
            p_squares = engine.backward(made(&h, "A3 Y")?, &forward, &prepared, run)?;
            known
        } else {
            incoming.rows
        };
        let errors = RowErrors::new::<T>(before, known, forward.spread);
        let passes = Passes { mixed, ..Passes::first(errors, unit) };
        if second { passes.query_side(engine, p_squares, run) } else { Ok(passes) }
    }

    /// Results that are known after pass 1.
    fn first(errors: RowErrors, unit: f64) -> Self {
        Passes {
            loss: loss(errors.rows()),
            w: None,
            unit,
            keys: None,
            values: None,
            mixed: None,
            errors,
            w_norms: Vec::new(),
        }
    }

    /// Takes the results of both passes together.
    fn fused(
        engine: Engine<'_, T>,
        found: Fused<T>,
        before: Before,
        unit: f64,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let errors = RowErrors::new::<T>(before, found.rows, found.forward.spread);
        Passes::first(errors, unit).query_side(engine, found.p_squares, run)
    }

    /// Takes w, which pass 2 left in the place of the queries, and Σ_i p_i² of each row.
    fn query_side(mut self, engine: Engine<'_, T>, squares: Vec<f64>, run: &mut Run<'_>) -> Result<Self, Error> {
        let (n, d) = (engine.count, engine.keys.width);
        self.errors.add_second_pass(squares, self.unit);
        self.w_norms = row_norms(Rows { data: &engine.queries, count: n, width: d }, run)?;
        for norm in &mut self.w_norms {
            *norm *= self.unit;
        }
        self.w = Some(matrix(engine.queries, n, d)?);
        Ok(self)
    }
}

impl<T: Float> Passes<T> {
    /// dL/d`wrt` from the sums of the passes.
    fn gradient(&self, problem: &Problem<'_, T>, wrt: Wrt, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
        let (query_weights, key_weights) = match problem.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let w = || made(&self.w, "p K");
        let keys = || made(&self.keys, "pᵀ Q");
        let values = || made(&self.values, "fᵀ c");
        let factor = problem.scale * self.unit;
        match wrt {
            Wrt::X | Wrt::WQ => transposed_product(problem.A1.view(), w()?.view(), factor, run),
            Wrt::WK => transposed_product(problem.A2.view(), keys()?.view(), 1.0, run),
            Wrt::Y => match &self.mixed {
                Some(mixed) => Ok(mixed.clone()),
                None => transposed_product(problem.A3.view(), values()?.view(), 1.0, run),
            },
            // For a product X the keys are A2 itself, so w and pᵀ Q already have the width of A2.
            Wrt::A1 => {
                let (n, d1) = problem.A1.dim();
                matrix(product(w()?.view(), query_weights.reversed_axes(), factor, run)?, n, d1)
            }
            Wrt::A2 => match key_weights {
                None => mapped(keys()?.view(), |x| x),
                Some(W_K) => {
                    let (m, d2) = problem.A2.dim();
                    matrix(product(keys()?.view(), W_K.reversed_axes(), 1.0, run)?, m, d2)
                }
            },
            Wrt::A3 => {
                let (m, d3) = problem.A3.dim();
                matrix(product(values()?.view(), problem.Y.reversed_axes(), 1.0, run)?, m, d3)
            }
            Wrt::A => {
                let mut sum = self.gradient(problem, Wrt::A1, run)?;
                sum += &self.gradient(problem, Wrt::A2, run)?;
                sum += &self.gradient(problem, Wrt::A3, run)?;
                Ok(sum)
            }
        }
    }
}

fn made<'b, S>(sums: &'b Option<S>, name: &str) -> Result<&'b S, Error> {
    sums.as_ref().ok_or_else(|| Error::Internal(format!("{name} was not computed")))
}
