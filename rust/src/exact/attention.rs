//! Attention itself, and its vector-Jacobian product for any incoming gradient.

use std::f64::consts::{LN_2, LOG2_E};

use ndarray::{Array2, ArrayView2};

use super::alike::{longest, norms, traces};
use super::engine::{Engine, Sight};
use super::measures::{Keys, Meets, Side};
use super::residual::Given;
use super::rounding::{Before, Inherited, RowErrors};
use super::structure::Structure;
use super::turns::KeySide;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{in_range, row_major, rows};
use crate::linalg::norms::{frobenius, row_norms};
use crate::linalg::products::{matrix, scaled};
use crate::options::{Level, Options};
use crate::problem::Heads;
use crate::problem::{Wrt, extended};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The gradients of ⟨dout, o⟩, each with its rounding estimate in the Frobenius norm.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttentionGradients<T> {
    /// With respect to the query, (n, d).
    pub query: (Array2<T>, f64),
    /// With respect to the key, (m, d).
    pub key: (Array2<T>, f64),
    /// With respect to the value, (m, dv).
    pub value: (Array2<T>, f64),
    /// The instruction set that computed them.
    pub level: Level,
}

/// o = f value, (n, dv); zero where there are no keys.
///
/// Time 2 n m (d + dv), half if causal; memory O((n + m)(d + dv)).
///
/// # Errors
/// [`Error::Option`] for a scale that is no finite number; [`Error::Range`] where a logit or a result does not fit the
/// precision, or [`Error::NonFinite`] where that is because an input holds NaN or an infinity; [`Error::OutOfMemory`],
/// [`Error::Deadline`], [`Error::Cancelled`].
pub fn attention<T: Float>(
    heads: &Heads<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Array2<T>, Error> {
    let heads = heads.admitted()?;
    of_seen(&heads, options, watch).map_err(|error| heads.blame(None, error))
}

/// The same for a head without keys that no query sees.
fn of_seen<T: Float>(heads: &Heads<'_, T>, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
    let mut run = Run::new(options, watch);
    let (key, value) = (row_major(heads.key)?, row_major(heads.value)?);
    let n = heads.query.nrows();
    let engine = Engine::new(queries(heads)?, n, rows(&key)?, Sight::of(heads.is_causal), options, &mut run)?;
    let values = engine.values(rows(&value)?, None, &mut run)?;
    let output = matrix(engine.forward(&values, &mut run)?.output, n, heads.value.ncols())?;
    in_range("the output", T::NAME, output.iter().all(|x| x.is_finite()))?;
    Ok(output)
}

/// dL/dquery, dL/dkey and dL/dvalue for the incoming gradient `dout` = dL/do: the loss gradient with c replaced by it.
///
/// Linear in `dout`. Time 12 n m d (14 where keys are too many for the score cache of pass 1), half if causal; memory
/// O((n + m)(d + dv)).
///
/// # Errors
/// [`Error::Shape`] where `dout` is not (n, dv), and those of [`attention`].
pub fn attention_vjp<T: Float>(
    heads: &Heads<'_, T>,
    dout: ArrayView2<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<AttentionGradients<T>, Error> {
    let (n, dv) = (heads.query.nrows(), heads.value.ncols());
    if dout.dim() != (n, dv) {
        let wanted = format!("the output has shape [{n}, {dv}], so dout needs it too");
        return Err(Error::Shape { argument: "dout", found: dout.shape().to_vec(), wanted });
    }
    let seen = heads.admitted()?;
    let mut found = pulled_back(&seen, dout, options, watch).map_err(|error| seen.blame(Some(dout), error))?;
    for (value, _) in [&mut found.key, &mut found.value] {
        *value = extended(std::mem::take(value), heads.key.nrows())?;
    }
    Ok(found)
}

/// The same for a head without keys that no query sees.
fn pulled_back<T: Float>(
    heads: &Heads<'_, T>,
    dout: ArrayView2<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<AttentionGradients<T>, Error> {
    let (n, d) = heads.query.dim();
    let (m, dv) = heads.value.dim();
    let mut run = Run::new(options, watch);
    let (key, value, dout) = (row_major(heads.key)?, row_major(heads.value)?, row_major(dout)?);
    let queries = queries(heads)?;
    let query_traces = traces(Rows { data: &queries, count: n, width: d }, &mut run)?;
    let (key_traces, value_traces) = (traces(rows(&key)?, &mut run)?, traces(rows(&value)?, &mut run)?);
    let known = [norms(&query_traces)?, norms(&key_traces)?];
    let mut engine = Engine::measured(queries, known, rows(&key)?, Sight::of(heads.is_causal), options, &mut run)?;
    let values = engine.values(rows(&value)?, Some(&norms(&value_traces)?), &mut run)?;
    let block = engine.key_block(dv);
    // The products with identities, which are not taken, lose nothing.
    let before = Before {
        bound: buffer::copied(&engine.bound)?,
        keys: Keys::new(
            Side { rows: rows(&key)?, traces: &key_traces },
            Side { rows: rows(&value)?, traces: &value_traces },
            Meets { query: LN_2 * longest(&query_traces), lost: 0.0, block, has_products: true },
            &mut run,
        )?,
        queries: query_traces,
        inherited: Inherited { logits: buffer::zeros(n)?, keys: 0.0, values: 0.0 },
        widths: [d, dv],
        count: m,
        block,
        strip: engine.keys.strip_rows(),
        is_target: false,
        is_causal: heads.is_causal,
        mixed: None,
    };
    let given = Given { rows: rows(&dout)?.data, is_target: false };
    let unit = given.unit(dv, &values.seen, &mut run)?;
    let (found, KeySide { keys, values: sums }) = engine.both_sides(&values, given, unit, &mut run)?;
    let mut errors = RowErrors::new::<T>(before, found.rows, found.forward.spread);
    errors.add_second_pass(found.p_squares, unit);
    let factor = heads.scale * unit;
    let query = matrix(scaled(&engine.queries, factor)?, n, d)?;
    let key = matrix(keys, m, d)?;
    let value = matrix(sums, m, dv)?;
    let mut w_norms = row_norms(Rows { data: &engine.queries, count: n, width: d }, &mut run)?;
    w_norms.iter_mut().for_each(|norm| *norm *= unit);
    let structure = Structure::of_heads(heads, dout.view());
    let finish = |name: &str, wrt: Wrt, sums: f64, mut array: Array2<T>| {
        in_range(name, T::NAME, array.iter().all(|x| x.is_finite()))?;
        if structure.is_zero(wrt) {
            array.fill(T::zero());
            return Ok((array, 0.0));
        }
        let rounding = errors.finish::<T>(sums, 1.0, frobenius(array.view()), array.len());
        Ok((array, rounding))
    };
    Ok(AttentionGradients {
        query: finish("dL/dquery", Wrt::A1, heads.scale.abs() * errors.query_rows(&w_norms, &mut run)?, query)?,
        key: finish("dL/dkey", Wrt::A2, errors.key_side(&mut run)?, key)?,
        value: finish("dL/dvalue", Wrt::A3, errors.value_side(&mut run)?, value)?,
        level: options.isa()?.level(),
    })
}

/// The queries in base-2 units, so that weights are powers of two.
fn queries<T: Float>(heads: &Heads<'_, T>) -> Result<Vec<T>, Error> {
    let mut queries = buffer::with_capacity(heads.query.len())?;
    queries.extend(heads.query.iter().map(|x| T::narrow(x.widen() * heads.scale * LOG2_E)));
    Ok(queries)
}
