//! The loss of the attention problem, and its gradient with respect to any of the inputs.

use std::f64::consts::{LN_2, LOG2_E};

use ndarray::{Array2, ArrayView2, CowArray, Ix2};

pub(crate) use super::layout::{in_range, row_major, rows};

use super::engine::{Engine, Sight, Values};
use super::needs::Needs;
use super::residual::{Given, Incoming, loss};
use super::rounding::{Inherited, RowErrors, frobenius, measured};
use super::structure::Structure;
use super::turns::KeySide;
use super::waves::Fused;
use crate::buffer;
use crate::error::Error;
use crate::float::Float;
use crate::options::{Level, Options};
use crate::pool::{Run, Watch};
use crate::problem::{Problem, Weights, Wrt};
use crate::products::{mapped, matrix, product, transposed_product, view};
use crate::tile::Rows;

/// A loss and its gradients.
#[derive(Debug, Clone)]
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
pub struct Gradient<T> {
    /// The input.
    pub wrt: Wrt,
    /// dL/d(input), of its shape.
    pub value: Array2<T>,
    /// Estimate of the rounding error in the Frobenius norm (docs/math.md, section 5); 0 where the gradient is zero by the
    /// structure of the problem: equal keys or values, zero queries or weights, a zero incoming gradient.
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
/// o = 0 and zero gradients). Keys that a mask hides from all queries do not matter, whatever they hold. `watch` is called on this thread every few milliseconds with the fraction done.
///
/// Time 4 n m d for the loss or dL/dY, 8 n m d for X, W_Q and A1, 12 n m d with any of the others (10 and 14 where keys
/// are too many for what pass 1 keeps; half if causal);
/// memory O((n + m) d).
///
/// # Errors
/// [`Error::Option`] for an input that the problem does not have and for a scale that is no finite number;
/// [`Error::Range`] where a logit or a result does not fit the precision, or [`Error::NonFinite`] where that is because an
/// input holds NaN or an infinity; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
pub fn loss_gradient<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Gradients<T>, Error> {
    wrt.iter().try_for_each(|&wrt| problem.check(wrt))?;
    let seen = problem.admitted()?;
    let mut found = of_seen(&seen, wrt, options, watch).map_err(|error| seen.blame(error))?;
    for Gradient { wrt, value, .. } in &mut found.gradients {
        *value = problem.whole(*wrt, std::mem::take(value))?;
    }
    Ok(found)
}

/// The same for a problem without keys that no query sees.
fn of_seen<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Gradients<T>, Error> {
    let level = options.level()?;
    let mut run = Run::new(options, watch);
    let standard = Standard::new(problem)?;
    let structure = Structure::new(problem)?;
    let (mut zero, mut rest) = (buffer::with_capacity(wrt.len())?, buffer::with_capacity(wrt.len())?);
    for &wrt in wrt {
        zero.push(structure.is_zero(wrt));
        if zero.last() == Some(&false) {
            rest.push(wrt);
        }
    }
    let passes = Passes::run(&standard, &Needs::of(problem.Y.dim(), &rest), options, &mut run)?;
    let loss = if problem.is_target { passes.loss } else { 0.0 };
    in_range("the loss", T::NAME, loss.is_finite())?;
    let mut gradients = buffer::with_capacity(wrt.len())?;
    for (&wrt, zero) in wrt.iter().zip(zero) {
        if zero {
            let (rows, columns) = problem.dim(wrt);
            let value = matrix(buffer::zeros(buffer::size(&[rows, columns])?)?, rows, columns)?;
            gradients.push(Gradient { wrt, value, rounding: 0.0 });
            continue;
        }
        let value = passes.gradient(&standard, wrt, &mut run)?;
        in_range(&format!("dL/d{}", wrt.name()), T::NAME, value.iter().all(|x| x.is_finite()))?;
        let rounding = passes.rounding(&standard, wrt, &value)?;
        gradients.push(Gradient { wrt, value, rounding });
    }
    Ok(Gradients { loss, loss_rounding: passes.errors.loss(loss), gradients, level })
}

/// The problem in row-major order, with the products that the passes work on.
pub(super) struct Standard<'a, T> {
    pub A1: CowArray<'a, T, Ix2>,
    pub A2: CowArray<'a, T, Ix2>,
    pub A3: CowArray<'a, T, Ix2>,
    pub E: CowArray<'a, T, Ix2>,
    pub Y: ArrayView2<'a, T>,
    pub weights: Weights<'a, T>,
    pub scale: f64,
    pub is_causal: bool,
    pub is_target: bool,
}

impl<'a, T: Float> Standard<'a, T> {
    fn new(problem: &Problem<'a, T>) -> Result<Self, Error> {
        Ok(Standard {
            A1: row_major(problem.A1)?,
            A2: row_major(problem.A2)?,
            A3: row_major(problem.A3)?,
            E: row_major(problem.E)?,
            Y: problem.Y,
            weights: problem.weights,
            scale: problem.scale,
            is_causal: problem.is_causal,
            is_target: problem.is_target,
        })
    }
}

/// What the passes leave behind for the gradients.
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
    /// max ‖key‖.
    largest_key: f64,
    /// s ‖q_j‖.
    query_norms: Vec<f64>,
}

impl<T: Float> Passes<T> {
    fn run(problem: &Standard<'_, T>, needs: &Needs, options: &Options, run: &mut Run<'_>) -> Result<Self, Error> {
        let (n, m) = (problem.A1.nrows(), problem.A2.nrows());
        let (query_weights, keys) = match problem.weights {
            Weights::Product(X) => (X, problem.A2.view().into()),
            Weights::Pair(W_Q, W_K) => {
                let keys = product(problem.A2.view(), W_K, 1.0, run)?;
                (W_Q, CowArray::from(matrix(keys, m, W_K.ncols())?))
            }
        };
        let queries = product(problem.A1.view(), query_weights, problem.scale * LOG2_E, run)?;
        let (mut query_norms, _) = measured(Rows { data: &queries, count: n, width: keys.ncols() })?;
        for norm in &mut query_norms {
            *norm *= LN_2;
        }
        let (_, largest_key) = measured(rows(&keys)?)?;
        let mut engine = Engine::new(queries, n, rows(&keys)?, Sight::of(problem.is_causal), options, run)?;
        let dv = problem.Y.ncols();
        let second = needs.query_side || needs.key_side;
        let h = {
            let direct = second || !needs.mixed_inputs;
            let rows = if direct { product(problem.A3.view(), problem.Y, 1.0, run)? } else { Vec::new() };
            engine.values(Rows { data: &rows, count: m, width: dv }, run)?
        };
        in_range("A3 Y", T::NAME, h.largest.is_finite())?;
        let inherited = problem.inherited(largest_key, &query_norms)?;
        let given = Given { rows: rows(&problem.E)?.data, is_target: problem.is_target };
        let unit = given.unit(dv, &h.seen)?;
        let mut passes = Passes {
            loss: 0.0,
            w: None,
            unit,
            keys: None,
            values: None,
            mixed: None,
            errors: RowErrors::default(),
            w_norms: Vec::new(),
            largest_key,
            query_norms,
        };
        if needs.key_side {
            let (found, KeySide { keys, values }) = engine.both_sides(&h, given, unit, run)?;
            passes.keys = Some(matrix(keys, m, engine.keys.width)?);
            passes.values = Some(matrix(values, m, dv)?);
            passes.fused(engine, &h, &found, &inherited)?;
            return Ok(passes);
        }
        if second
            && !needs.mixed_inputs
            && let Some(found) = engine.fused(&h, given, unit, run)?
        {
            passes.fused(engine, &h, &found, &inherited)?;
            return Ok(passes);
        }
        let mut forward = if needs.mixed_inputs {
            engine.forward(&engine.values(rows(&problem.A3)?, run)?, run)?
        } else {
            engine.forward(&h, run)?
        };
        let mut output = std::mem::take(&mut forward.output);
        let mut mixed = None;
        if needs.mixed_inputs {
            let inputs = matrix(output, n, problem.A3.ncols())?;
            output = product(inputs.view(), problem.Y, 1.0, run)?;
            mixed = Some(inputs);
        }
        let incoming = Incoming::new(output, dv, n, |i, output| given.c(i, output))?;
        passes.loss = loss(&incoming.rows);
        if let Some(inputs) = mixed {
            passes.mixed = Some(transposed_product(inputs.view(), view(&incoming.c, n, dv)?, 1.0, run)?);
        }
        passes.errors = RowErrors::new(&engine, &h, &forward, &incoming.rows, &inherited)?;
        if second {
            let prepared = incoming.prepare(&forward, unit)?;
            let squares = engine.backward(&h, &forward, &prepared, run)?;
            passes.query_side(engine, &squares)?;
        }
        Ok(passes)
    }
}

impl<T: Float> Passes<T> {
    /// Takes what both passes together found.
    fn fused(
        &mut self,
        engine: Engine<T>,
        h: &Values<T>,
        found: &Fused<T>,
        inherited: &Inherited,
    ) -> Result<(), Error> {
        self.loss = loss(&found.rows);
        self.errors = RowErrors::new(&engine, h, &found.forward, &found.rows, inherited)?;
        self.query_side(engine, &found.p_squares)
    }

    /// Takes w, which pass 2 left in the place of the queries, and Σ_i p_i² of each row.
    fn query_side(&mut self, engine: Engine<T>, squares: &[f64]) -> Result<(), Error> {
        let (n, d) = (engine.count, engine.keys.width);
        self.errors.add_second_pass(squares, self.unit);
        (self.w_norms, _) = measured(Rows { data: &engine.queries, count: n, width: d })?;
        for norm in &mut self.w_norms {
            *norm *= self.unit;
        }
        self.w = Some(matrix(engine.queries, n, d)?);
        Ok(())
    }

    /// dL/d`wrt` from the sums of the passes.
    fn gradient(&self, problem: &Standard<'_, T>, wrt: Wrt, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
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

impl<T: Float> Passes<T> {
    /// The rounding estimate of one gradient (docs/math.md, section 5).
    fn rounding(&self, problem: &Standard<'_, T>, wrt: Wrt, value: &Array2<T>) -> Result<f64, Error> {
        let (query_weights, key_weights) = match problem.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let scale = problem.scale.abs();
        let ones = || buffer::filled(problem.A1.nrows(), 1.0);
        let query_side = |left: &[f64]| scale * self.errors.query_side(left, self.largest_key, &self.w_norms);
        let (sums, factor) = match wrt {
            Wrt::X | Wrt::WQ => (query_side(&measured(rows(&problem.A1)?)?.0), 1.0),
            Wrt::A1 => (query_side(&ones()?), self.errors.stretch(query_weights)),
            Wrt::WK => {
                let (_, largest) = measured(rows(&problem.A2)?)?;
                (self.errors.key_side(&self.query_norms), self.errors.stretch_rows(largest, problem.A2.view()))
            }
            Wrt::A2 => {
                (self.errors.key_side(&self.query_norms), key_weights.map_or(1.0, |W_K| self.errors.stretch(W_K)))
            }
            Wrt::A3 => (self.errors.value_side(), self.errors.stretch(problem.Y)),
            Wrt::Y => (self.errors.mixed(measured(rows(&problem.A3)?)?.1), 1.0),
            Wrt::A => {
                let parts = [Wrt::A1, Wrt::A2, Wrt::A3].map(|part| self.rounding(problem, part, value));
                (parts.into_iter().sum::<Result<f64, Error>>()?, 1.0)
            }
        };
        Ok(self.errors.finish::<T>(sums, factor, frobenius(value.view()), value.len()))
    }
}

impl<T: Float> Standard<'_, T> {
    /// What the products before the passes lost.
    fn inherited(&self, largest_key: f64, query_norms: &[f64]) -> Result<Inherited, Error> {
        let (query_weights, key_weights) = match self.weights {
            Weights::Product(X) => (X, None),
            Weights::Pair(W_Q, W_K) => (W_Q, Some(W_K)),
        };
        let (mut logits, _) = measured(rows(&self.A1)?)?;
        let per_row = self.scale.abs() * frobenius(query_weights) * largest_key;
        let keys = match key_weights {
            None => 0.0,
            Some(W_K) => measured(rows(&self.A2)?)?.1 * frobenius(W_K),
        };
        for (logit, query) in logits.iter_mut().zip(query_norms) {
            *logit = *logit * per_row + query * keys;
        }
        Ok(Inherited { logits, values: measured(rows(&self.A3)?)?.1 * frobenius(self.Y) })
    }
}

fn made<'b, T>(sums: &'b Option<Array2<T>>, name: &str) -> Result<&'b Array2<T>, Error> {
    sums.as_ref().ok_or_else(|| Error::Internal(format!("{name} was not computed")))
}
