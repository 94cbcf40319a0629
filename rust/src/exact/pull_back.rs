//! The vector-Jacobian product of one head: all that is done for it, into room that the caller has.

use ndarray::{ArrayView1, ArrayView2};

use super::engine::{Engine, Values};
use super::kernels::Kernels;
use super::measured::{Measured, queries};
use super::residual::{Given, unit};
use super::resumed::Resumed;
use super::rounding::{Coarse, RowErrors, Sizes};
use super::sight::{Sight, blamed, without};
use super::structure::Structure;
use super::turns::KeySide;
use super::waves::Fused;
use crate::constants::LOGARITHM_ROUNDING;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{Rows, in_range, rows as rows_of};
use crate::linalg::norms::{largest, norm, row_norms};
use crate::options::Options;
use crate::problem::{Heads, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// One head with the gradient of its output, and the results of pass 1 where the caller has them.
#[derive(Clone, Copy)]
pub(super) struct Pulled<'a, T> {
    pub heads: Heads<'a, T>,
    pub dout: ArrayView2<'a, T>,
    pub saved: Option<(ArrayView2<'a, T>, Normaliser<'a, T>)>,
    /// Whether the rounding estimate is one from sizes alone.
    pub is_coarse: bool,
}

/// ln Σ_i exp(logit_i) of each row.
#[derive(Clone, Copy)]
pub(super) enum Normaliser<'a, T> {
    /// As the forward pass returned it.
    Returned(ArrayView1<'a, T>),
    /// Over more keys than those of the head, which are a shard of them.
    Whole(&'a [f64]),
}

impl<T: Float> Normaliser<'_, T> {
    /// Row by row, where weights from it are good for some digits.
    fn rows(&self) -> Result<Option<Vec<f64>>, Error> {
        Ok(match self {
            Normaliser::Returned(lse) if !lse.iter().all(|lse| is_precise::<T>(lse.widen())) => None,
            Normaliser::Returned(lse) => Some(buffer::collected(lse.iter().map(|lse| lse.widen()))?),
            Normaliser::Whole(lse) => Some(buffer::copied(lse)?),
        })
    }
}

/// Size of one gradient, and of its rounding error, both in the Frobenius norm.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// ‖gradient‖.
    pub norm: f64,
    /// Estimate of the rounding error (docs/math.md, section 5); 0 where the gradient is zero by structure.
    pub rounding: f64,
}

/// Estimates by the names of the gradients.
type Estimates = [Estimate; 3];

impl<'a, T: Float> Pulled<'a, T> {
    /// dL/dquery, dL/dkey and dL/dvalue into `out`, row-major; rows of keys that no query sees are zero.
    pub fn pull_into(&self, out: [&mut [T]; 3], options: &Options, run: &mut Run<'_>) -> Result<Estimates, Error> {
        let seen = self.heads.admitted()?;
        let [query, key, value] = out;
        let (d, dv) = (seen.key.ncols(), seen.value.ncols());
        let (key, hidden_keys) = key.split_at_mut(seen.key.nrows() * d);
        let (value, hidden_values) = value.split_at_mut(seen.key.nrows() * dv);
        hidden_keys.fill(T::zero());
        hidden_values.fill(T::zero());
        let pulled = Pulled { heads: seen, ..*self };
        let found = pulled.of_seen([query, key, value], options, run);
        found.map_err(|error| blamed(&seen, [&[("dout", self.dout)], &[]], error, run))
    }

    fn of_seen(
        &self,
        [query, key, value]: [&mut [T]; 3],
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Estimates, Error> {
        let heads = &self.heads;
        let (m, sight) = (heads.key.nrows(), Sight::of(heads, run)?);
        let (keys, values) = (without(heads.key, sight.unseen(m))?, without(heads.value, sight.unseen(m))?);
        let dout = without(self.dout, sight.blind())?;
        // Without pass 1 the spread of the weights is not known, which the fine estimate is made of.
        let saved = self.saved.filter(|_| self.is_coarse);
        let lse = saved.map(|(_, lse)| lse.rows()).transpose()?.flatten();
        let saved = saved.filter(|_| lse.is_some());
        let output = saved.map(|(output, _)| without(output, sight.blind())).transpose()?;
        let (keys, values) = (rows_of(&keys)?, rows_of(&values)?);
        let given = Given { rows: rows_of(&dout)?.data, is_target: false };
        let resumed = match (&output, &lse) {
            (Some(output), Some(lse)) => Some(Resumed { output: rows_of(output)?.data, lse }),
            _ => None,
        };
        let side = KeySide { keys: &mut *key, values: &mut *value };
        let done = if self.is_coarse {
            self.coarse(([keys, values], sight), (given, resumed), side, options, run)?
        } else {
            self.fine(([keys, values], sight), given, side, options, run)?
        };
        let Done { queries, unit, sight, errors } = done;
        let kernels = Kernels::<T>::of(options.isa()?);
        kernels.scaled(&queries, [heads.scale * unit, 1.0], query);
        let structure = Structure::of_heads(heads, sight.intervals.as_deref(), dout.view());
        let mut estimates = [Estimate::default(); 3];
        let names = [("dL/dquery", Wrt::A1), ("dL/dkey", Wrt::A2), ("dL/dvalue", Wrt::A3)];
        for (place, (array, (name, wrt))) in [query, key, value].into_iter().zip(names).enumerate() {
            let size = kernels.size(array);
            in_range(name, T::NAME, size.is_finite() || kernels.finite(array))?;
            // In a shard of the keys, equal ones say nothing of the others.
            if structure.is_zero(wrt) && !matches!(self.saved, Some((_, Normaliser::Whole(_)))) {
                array.fill(T::zero());
                continue;
            }
            estimates[place] = Estimate { norm: size, rounding: errors.of(place, size, array.len(), self, run)? };
        }
        Ok(estimates)
    }

    /// Both passes, with all that is known of likeness among rows for the estimate.
    fn fine(
        &self,
        ([keys, values], sight): ([Rows<'_, T>; 2], Sight<'a, T>),
        given: Given<'_, T>,
        side: KeySide<'_, T>,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Done<'a, T>, Error> {
        let ((n, d), dv) = (self.heads.query.dim(), self.heads.value.ncols());
        let Measured { mut engine, values: packed, before } =
            Measured::new(&self.heads, ([keys, values], sight), false, options, run)?;
        let unit = given.unit(dv, &packed.seen, run)?;
        let found = engine.both_sides(&packed, (given, None), unit, side, run)?;
        let mut errors = RowErrors::new::<T>(before, found.rows, found.forward.spread);
        errors.add_second_pass(found.p_squares, unit);
        let mut w_norms = row_norms(Rows { data: &engine.queries, count: n, width: d }, run)?;
        w_norms.iter_mut().for_each(|norm| *norm *= unit);
        Ok(Done { queries: engine.queries, unit, sight: engine.sight, errors: Errors::Fine(Box::new(errors), w_norms) })
    }

    /// Both passes, or the second alone, with the sizes of rows alone for the estimate.
    fn coarse(
        &self,
        ([keys, values], sight): ([Rows<'_, T>; 2], Sight<'a, T>),
        (given, resumed): (Given<'_, T>, Option<Resumed<'_, T>>),
        side: KeySide<'_, T>,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Done<'a, T>, Error> {
        let heads = &self.heads;
        let (n, dv) = (heads.query.nrows(), heads.value.ncols());
        let mut engine = Engine::new(queries(heads, &sight, options)?, n, keys, sight, options, run)?;
        let packed = engine.values(values, None, run)?;
        let c = engine.kernels.row_norms(Rows { data: given.rows, count: n, width: dv }, run)?;
        let unit = unit(&c, &packed.seen);
        let found = engine.both_sides(&packed, (given, resumed), unit, side, run)?;
        let sizes = sizes(&engine, &packed, &found, (norm(&c), unit));
        Ok(Done {
            queries: engine.queries,
            unit,
            sight: engine.sight,
            errors: Errors::Coarse(Box::new(Coarse::new::<T>(&sizes))),
        })
    }
}

/// Whether weights from a logarithm of the normaliser, which is rounded, are good for some digits: those of a row whose
/// entries of a mask are all far below zero are not, and the forward pass is done again.
pub(super) fn is_precise<T: Float>(lse: f64) -> bool {
    lse == f64::NEG_INFINITY || lse.abs() * T::UNIT_ROUNDOFF <= LOGARITHM_ROUNDING
}

/// Both passes done.
struct Done<'a, T> {
    /// w = p K.
    queries: Vec<T>,
    unit: f64,
    sight: Sight<'a, T>,
    errors: Errors,
}

/// Rounding errors of the rows.
enum Errors {
    /// With the norms of w.
    Fine(Box<RowErrors>, Vec<f64>),
    Coarse(Box<Coarse>),
}

impl Errors {
    /// Of the gradient in a place, of norm `size`.
    fn of<T: Float>(
        &self,
        place: usize,
        size: f64,
        entries: usize,
        pulled: &Pulled<'_, T>,
        run: &mut Run<'_>,
    ) -> Result<f64, Error> {
        let scale = pulled.heads.scale.abs();
        match self {
            Errors::Fine(errors, w_norms) => {
                let sums = match place {
                    0 => scale * errors.query_rows(w_norms, run)?,
                    1 => errors.key_side(run)?,
                    _ => errors.value_side(run)?,
                };
                Ok(errors.finish::<T>(sums, 1.0, size, entries))
            }
            Errors::Coarse(coarse) => {
                let sums = match place {
                    0 => scale * coarse.query_rows(),
                    1 => coarse.key_side(),
                    _ => coarse.value_side(),
                };
                Ok(coarse.finish::<T>(sums, size, entries))
            }
        }
    }
}

/// The sizes of a head after both passes; `c` is the Frobenius norm of c.
fn sizes<T: Float>(engine: &Engine<'_, T>, values: &Values<T>, found: &Fused<T>, (c, unit): (f64, f64)) -> Sizes {
    let (n, d) = (engine.count, engine.keys.width);
    let mean = |squares: f64| (squares / n.max(1) as f64).sqrt();
    Sizes {
        counts: [n, engine.keys.count],
        widths: [d, values.rows.width],
        block: engine.key_block(values.rows.width),
        strip: engine.keys.strip_rows(),
        query: engine.largest_query,
        key: engine.largest_key,
        value: values.largest,
        bound: largest(&engine.bound),
        is_biased: engine.sight.adds(),
        c: mean(c * c),
        r: mean(found.rows.iter().map(|row| row.r * row.r).sum()),
        p: unit * mean(found.p_squares.iter().sum()),
        w: unit * mean(engine.kernels.size(&engine.queries).powi(2)),
        small: largest(found.forward.spread.iter().map(|spread| spread.small)),
    }
}
