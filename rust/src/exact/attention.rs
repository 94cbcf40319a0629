//! Attention itself, and its vector-Jacobian product for any incoming gradient: one head, and in `stack` many.

use std::f64::consts::LN_2;

use ndarray::{Array2, ArrayView2};

use super::engine::{Engine, Forward};
use super::measured::queries;
use super::pull_back::{Estimate, Pulled};
use super::sight::{Sight, blamed, without};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::{in_range, rows};
use crate::linalg::products::matrix;
use crate::options::{Level, Options};
use crate::problem::Heads;
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
    compiled!(T, attention_in::<T> as fn(&Heads<'_, T>, &Options, Option<Watch<'_>>) -> Result<Array2<T>, Error>)(
        heads, options, watch,
    )
}

fn attention_in<T: Float>(
    heads: &Heads<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Array2<T>, Error> {
    let (n, dv) = (heads.query.nrows(), heads.value.ncols());
    let mut output = buffer::zeros(buffer::size(&[n, dv])?)?;
    attend(heads, &mut output, None, options, &mut Run::new(options, watch))?;
    matrix(output, n, dv)
}

/// The same into room for o, zeros, and for the logarithm of the normaliser of each row where it is wanted.
pub(super) fn attend<T: Float>(
    heads: &Heads<'_, T>,
    output: &mut [T],
    lse: Option<&mut [T]>,
    options: &Options,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let heads = heads.admitted()?;
    of_seen(&heads, output, lse, options, run).map_err(|error| blamed(&heads, [&[], &[]], error, run))
}

/// The same for a head without keys that no query sees.
fn of_seen<T: Float>(
    heads: &Heads<'_, T>,
    output: &mut [T],
    lse: Option<&mut [T]>,
    options: &Options,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let (n, m, sight) = (heads.query.nrows(), heads.key.nrows(), Sight::of(heads, run)?);
    let (key, value) = (without(heads.key, sight.unseen(m))?, without(heads.value, sight.unseen(m))?);
    let engine = Engine::new(queries(heads, &sight, options)?, n, rows(&key)?, sight, options, run)?;
    let values = engine.values(rows(&value)?, None, run)?;
    let found = engine.forward_of_few(&values, output, 1.0, run)?;
    in_range("the output", T::NAME, engine.kernels.finite(output))?;
    logarithms(lse, &found);
    Ok(())
}

/// ln Σ exp(logit) of each row, where it is wanted.
pub(super) fn logarithms<T: Float>(lse: Option<&mut [T]>, found: &Forward<T>) {
    for (lse, (shift, total)) in lse.into_iter().flatten().zip(found.shift.iter().zip(&found.total)) {
        // Of a row that sees nothing it is −∞.
        *lse = T::narrow((shift.widen() + total.log2()) * LN_2);
    }
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
    compiled!(
        T,
        attention_vjp_in::<T>
            as fn(
                &Heads<'_, T>,
                ArrayView2<'_, T>,
                &Options,
                Option<Watch<'_>>,
            ) -> Result<AttentionGradients<T>, Error>
    )(heads, dout, options, watch)
}

fn attention_vjp_in<T: Float>(
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
    let pulled = Pulled { heads: heads.reborrow(), dout: dout.reborrow(), saved: None, is_coarse: false };
    pulled_back(&pulled, options, &mut Run::new(options, watch))
}

/// The gradients in room of their own, each with its rounding estimate.
pub(super) fn pulled_back<T: Float>(
    pulled: &Pulled<'_, T>,
    options: &Options,
    run: &mut Run<'_>,
) -> Result<AttentionGradients<T>, Error> {
    let ((n, d), (m, dv)) = (pulled.heads.query.dim(), pulled.heads.value.dim());
    let room = |rows: usize, columns: usize| buffer::zeros(buffer::size(&[rows, columns])?);
    let [mut query, mut key, mut value] = [room(n, d)?, room(m, d)?, room(m, dv)?];
    let estimates = pulled.pull_into([&mut query, &mut key, &mut value], options, run)?;
    let [of_query, of_key, of_value] = estimates.map(|Estimate { rounding, .. }| rounding);
    Ok(AttentionGradients {
        query: (matrix(query, n, d)?, of_query),
        key: (matrix(key, m, d)?, of_key),
        value: (matrix(value, m, dv)?, of_value),
        level: options.isa()?.level(),
    })
}
