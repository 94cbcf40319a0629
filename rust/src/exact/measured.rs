//! What the rounding estimate of a head is made of before its passes (docs/math.md, Rule 5.3).

use std::f64::consts::{LN_2, LOG2_E};

use super::alike::{longest, norms, traces};
use super::engine::{Engine, Values};
use super::kernels::Kernels;
use super::measures::{Keys, Meets, Side};
use super::rounding::{Before, Inherited};
use super::sight::Sight;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::{Rows, row_major, rows as rows_of};
use crate::options::Options;
use crate::problem::Heads;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// The passes of a head made ready, with all that is known of likeness among rows.
pub(super) struct Measured<'a, T: Float> {
    pub engine: Engine<'a, T>,
    pub values: Values<T>,
    pub before: Before,
}

impl<'a, T: Float> Measured<'a, T> {
    /// Of a head with these keys and values; pass 2 follows unless the output is all that is wanted.
    pub fn new(
        heads: &Heads<'a, T>,
        ([keys, values], sight): ([Rows<'_, T>; 2], Sight<'a, T>),
        is_output: bool,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let ((n, d), (m, dv)) = (heads.query.dim(), heads.value.dim());
        let queries = queries(heads, &sight, options)?;
        let query_traces = traces(Rows { data: &queries, count: n, width: d }, run)?;
        let (key_traces, value_traces) = (traces(keys, run)?, traces(values, run)?);
        let known = [norms(&query_traces)?, norms(&key_traces)?];
        let (is_masked, is_biased) = (sight.intervals.is_some(), sight.adds());
        let engine = Engine::measured(queries, known, keys, sight, options, run)?;
        let packed = engine.values(values, Some(&norms(&value_traces)?), run)?;
        let block = engine.key_block(dv);
        // The products with identities, which are not taken, lose nothing.
        let before = Before {
            bound: buffer::copied(&engine.bound)?,
            keys: Keys::new(
                Side { rows: keys, traces: &key_traces },
                Side { rows: values, traces: &value_traces },
                Meets { query: LN_2 * longest(&query_traces), lost: 0.0, block, has_products: !is_output },
                run,
            )?,
            queries: query_traces,
            inherited: Inherited { logits: buffer::zeros(n)?, keys: 0.0, values: 0.0 },
            widths: [d, dv],
            count: m,
            block,
            strip: engine.keys.strip_rows(),
            // o − 0 is what moves with o.
            is_target: is_output,
            is_biased,
            is_masked,
            mixed: None,
        };
        Ok(Measured { engine, values: packed, before })
    }
}

/// The queries in base-2 units, so that weights are powers of two; zeros for those that see nothing.
pub(super) fn queries<T: Float>(
    heads: &Heads<'_, T>,
    sight: &Sight<'_, T>,
    options: &Options,
) -> Result<Vec<T>, Error> {
    let rows = row_major(heads.query)?;
    let rows = rows_of(&rows)?;
    let mut queries = buffer::zeros(rows.data.len())?;
    Kernels::<T>::of(options.isa()?).scaled(rows.data, [heads.scale, LOG2_E], &mut queries);
    for blind in sight.blind() {
        queries[blind.start * rows.width..blind.end * rows.width].fill(T::zero());
    }
    Ok(queries)
}
