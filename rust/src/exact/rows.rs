//! The exact o and w = p K of some query rows, with which a sampled correction compares an approximation.

use std::f64::consts::LOG2_E;

use ndarray::{Array2, CowArray, Ix2};

use super::engine::{Engine, FORWARD_SHARE};
use super::residual::{Given, Incoming};
use super::sight::Sight;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::Rows;
use crate::linalg::layout::{in_range, row_major, rows};
use crate::linalg::products::{matrix, product, scaled};
use crate::linalg::rows::{RowValues, ascending, in_order, selected};
use crate::options::Options;
use crate::problem::{Problem, Weights};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// Share of the progress that f A3 is, before o and w.
const MIXED_SHARE: f64 = 0.3;

/// o and w of the query rows `indices`, exact up to rounding.
///
/// Time 10 r m d for r rows, of causal problems 10 d times the keys that they see; memory O((r + m) d).
///
/// # Errors
/// [`Error::Option`] for a row that is not there; those of [`crate::loss_gradient`].
pub fn exact_rows<T: Float>(
    problem: &Problem<'_, T>,
    indices: &[usize],
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<RowValues<T>, Error> {
    Ok(exact_rows_with(problem, indices, RowsWanted { mixed: false, slopes: true }, options, watch)?.0)
}

/// What is wanted of rows beside o.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowsWanted {
    /// f A3.
    pub mixed: bool,
    /// w.
    pub slopes: bool,
}

/// The same, and f A3 of the rows, (r, d3), where it is wanted: time 4 r m d3 more. Without slopes w has no columns,
/// and the time is 4 r m d.
pub(crate) fn exact_rows_with<T: Float>(
    problem: &Problem<'_, T>,
    indices: &[usize],
    wanted: RowsWanted,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<(RowValues<T>, Option<Array2<T>>), Error> {
    compiled!(
        T,
        exact_rows_in::<T>
            as fn(
                &Problem<'_, T>,
                &[usize],
                RowsWanted,
                &Options,
                Option<Watch<'_>>,
            ) -> Result<(RowValues<T>, Option<Array2<T>>), Error>
    )(problem, indices, wanted, options, watch)
}

fn exact_rows_in<T: Float>(
    problem: &Problem<'_, T>,
    indices: &[usize],
    wanted: RowsWanted,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<(RowValues<T>, Option<Array2<T>>), Error> {
    let problem = problem.admitted()?;
    of_seen(&problem, indices, wanted, options, watch).map_err(|error| problem.blame(error))
}

/// The same for a problem without keys that no query sees.
fn of_seen<T: Float>(
    problem: &Problem<'_, T>,
    indices: &[usize],
    wanted: RowsWanted,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<(RowValues<T>, Option<Array2<T>>), Error> {
    let mut run = Run::new(options, watch);
    let run = &mut run;
    // Neighbours see about the same keys.
    let (places, sorted) = ascending(indices)?;
    let (A1, E) = (selected(problem.A1, &sorted)?, selected(problem.E, &sorted)?);
    let (count, m, dv) = (indices.len(), problem.A2.nrows(), problem.Y.ncols());
    let (query_weights, keys): (_, CowArray<'_, T, Ix2>) = match problem.weights {
        Weights::Product(X) => (X, row_major(problem.A2)?),
        Weights::Pair(W_Q, W_K) => (W_Q, matrix(product(problem.A2, W_K, 1.0, run)?, m, W_K.ncols())?.into()),
    };
    let queries = product(A1.view(), query_weights, problem.scale * LOG2_E, run)?;
    let sight = Sight::of_rows(problem.is_causal, &sorted, m)?;
    let mut engine = Engine::new(queries, count, rows(&keys)?, sight, options, run)?;
    let mixed = if wanted.mixed {
        let inputs = row_major(problem.A3)?;
        let values = engine.values(rows(&inputs)?, None, run)?;
        let mut output = buffer::zeros(buffer::size(&[count, inputs.ncols()])?)?;
        engine.forward_of_few(&values, &mut output, MIXED_SHARE, run)?;
        Some(in_order(&matrix(output, count, inputs.ncols())?, &places)?)
    } else {
        None
    };
    let h = product(problem.A3, problem.Y, 1.0, run)?;
    let values = engine.values(Rows { data: &h, count: m, width: dv }, None, run)?;
    let mut output = buffer::zeros(buffer::size(&[count, dv])?)?;
    let forward = engine.forward_of_few(&values, &mut output, FORWARD_SHARE, run)?;
    let mut copy = buffer::with_capacity(output.len())?;
    copy.extend_from_slice(&output);
    let w = if wanted.slopes {
        let given = Given { rows: E.as_slice().unwrap_or_default(), is_target: problem.is_target };
        let incoming = Incoming::new(output, dv, count, given, run)?;
        // The law of the loss gradient.
        let unit = given.unit(dv, &values.seen, run)?;
        let (prepared, _) = incoming.prepare(&forward.total, unit, run)?;
        engine.backward_of_few(&values, &forward, &prepared, run)?;
        matrix(scaled(&engine.queries, unit)?, count, keys.ncols())?
    } else {
        matrix(Vec::new(), count, 0)?
    };
    let output = matrix(copy, count, dv)?;
    in_range("w = p K", T::NAME, w.iter().chain(&output).all(|x| x.is_finite()))?;
    let found = RowValues { w: in_order(&w, &places)?, output: in_order(&output, &places)?, unsafe_rows: Vec::new() };
    Ok((found, mixed))
}
