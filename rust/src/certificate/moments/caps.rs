//! A cap of the error of every query row: rows are drawn in proportion to it, and outliers stand out by it
//! (docs/math.md, equations 9.59 and 9.48).

use std::sync::OnceLock;

use ndarray::{Array2, ArrayView2, s};

use super::charges::{Charges, Known, LAWS, Sizes};
use super::enclosures::{MAX_RANGE, Steps, enclosures};
use super::setting::Setting;
use super::shells::{self, Shells};
use super::{Counted, Fitted};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::norm;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward};
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Rows of a task.
const ROWS: usize = 2048;

/// Edges of the reach b = ‖q‖ max ‖k‖ for each doubling of it, from `LOWEST` on: 4 % apart.
const EDGES: i32 = 16;

/// log2 of the first edge: P is exp there to rounding.
const LOWEST: i32 = -16;

/// Edges from one shell of keys to the next.
const SHELL: usize = (EDGES / shells::EACH) as usize;

/// Steps of the error of P over which the mean of a shell is taken: smaller errors count with the lowest step, five
/// doublings down.
const STEPS: usize = 5 * EDGES as usize;

/// Caps of all query rows.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Caps {
    /// M_j ≥ ‖w_j − w̃_j‖, (n), with w̃ as [`crate::Polynomial::rows`] has it; an unsafe row has w̃ = 0. Finite also
    /// where P says nothing of the row.
    pub w: Vec<f64>,
    /// |s| ‖a_j‖ M_j ≥ ‖s a_j ⊗ (w_j − w̃_j)‖, (n): of the terms of dL/dX and dL/dW_Q.
    pub weighted: Vec<f64>,
}

/// Query rows as evaluated from the moments.
#[derive(Debug, Clone)]
pub struct Evaluated<T> {
    /// w̃, or nothing, row-major.
    pub w: Vec<T>,
    /// õ in the unit of the values, row-major; of no meaning where a row is unsafe.
    pub output: Vec<T>,
    /// Rows that are unsafe, whose w̃ is zero, in order.
    pub unsafe_rows: Vec<usize>,
}

/// A cap of every query row of a problem without a mask, from w̃ and õ as `evaluate` has them.
///
/// Time that of `evaluate`, and O(m d (d2 + d)); memory O(n (d + dv)).
pub fn caps<T: Float>(
    fitted: &Fitted<'_>,
    problem: &Problem<'_, T>,
    evaluate: impl FnOnce(&mut Run<'_>) -> Result<Evaluated<T>, Error>,
    run: &mut Run<'_>,
) -> Result<Caps, Error> {
    let n = problem.A1.nrows();
    let mut caps = Caps { w: buffer::zeros(n)?, weighted: buffer::zeros(n)? };
    if problem.A2.nrows() == 0 {
        return Ok(caps);
    }
    run.phase(0.2);
    let setting = Setting::new(fitted, problem, Counted::whole(n), 0.0, 0.0);
    let shells = Shells::new(fitted, problem, &setting, run)?;
    run.phase(0.5);
    let evaluated = evaluate(run)?;
    let rows = Rows::new(fitted, problem, &evaluated, setting, shells)?;
    run.phase(0.9);
    let tasks = caps.w.chunks_mut(ROWS).zip(caps.weighted.chunks_mut(ROWS)).enumerate();
    run.for_each(tasks, |(task, (w, inputs)), cancel| {
        cancel.check()?;
        rows.fill(task * ROWS, w, inputs);
        Ok(())
    })?;
    for (weighted, w) in caps.weighted.iter_mut().zip(&caps.w) {
        // A row of zeros has no error, whatever is known of it.
        *weighted = if *weighted == 0.0 { 0.0 } else { outward(problem.scale.abs() * *weighted * w) };
    }
    Ok(caps)
}

/// A cap of ‖o_j − õ_j‖ of every query row of a problem without a mask whose target is zero; zero where a row is unsafe.
///
/// Time O(m d (d2 + d) + n (d1 d + dv)).
pub fn output_caps<T: Float>(
    fitted: &Fitted<'_>,
    problem: &Problem<'_, T>,
    evaluated: &Evaluated<T>,
    run: &mut Run<'_>,
) -> Result<Vec<f64>, Error> {
    let n = problem.A1.nrows();
    let mut caps = buffer::zeros(n)?;
    if problem.A2.nrows() == 0 {
        return Ok(caps);
    }
    let setting = Setting::new(fitted, problem, Counted::whole(n), 0.0, 0.0);
    let shells = Shells::new(fitted, problem, &setting, run)?;
    let rows = Rows::new(fitted, problem, evaluated, setting, shells)?;
    run.phase(1.0);
    run.for_each(caps.chunks_mut(ROWS).enumerate(), |(task, caps), cancel| {
        cancel.check()?;
        rows.fill_outputs(task * ROWS, caps);
        Ok(())
    })?;
    Ok(caps)
}

/// Shared inputs of the caps of all rows.
struct Rows<'a, 'b, T> {
    problem: &'a Problem<'b, T>,
    /// õ in the unit of the values, and w̃.
    evaluated: &'a Evaluated<T>,
    setting: Setting,
    query_map: Array2<f64>,
    /// Centre of the ball of the values.
    centre: Vec<f64>,
    edges: Vec<f64>,
    known: Vec<Known>,
    shells: Shells,
    /// The same as `known` with the shells taken into account, made when a row first asks for it.
    by_shells: Vec<OnceLock<Known>>,
    /// log2 of the units of the values and of c.
    exponent: f64,
    incoming_exponent: f64,
}

impl<'a, 'b, T: Float> Rows<'a, 'b, T> {
    fn new(
        fitted: &Fitted<'_>,
        problem: &'a Problem<'b, T>,
        evaluated: &'a Evaluated<T>,
        setting: Setting,
        shells: Shells,
    ) -> Result<Self, Error> {
        let count = (MAX_RANGE.log2() as i32 - LOWEST) * EDGES;
        let edges: Vec<f64> =
            (0..=count).map(|i| (f64::from(LOWEST) + f64::from(i) / f64::from(EDGES)).exp2()).collect();
        let coordinates = fitted.coordinates;
        let unit = (-coordinates.value_exponent).exp2();
        let mut by_shells = buffer::with_capacity(edges.len())?;
        by_shells.resize_with(edges.len(), OnceLock::new);
        Ok(Rows {
            problem,
            evaluated,
            query_map: coordinates.query.mapv(|x| T::narrow(x).widen()),
            centre: coordinates.input_centre.dot(&problem.Y.mapv(|x| x.widen() * unit)).to_vec(),
            known: enclosures(fitted.coefficients, &edges, setting.direction())?,
            setting,
            shells,
            by_shells,
            edges,
            exponent: coordinates.value_exponent,
            incoming_exponent: coordinates.incoming_exponent,
        })
    }

    /// Bounds of P for |t| up to the edge with this number, keys of every length apart (equation 9.49).
    fn known(&self, edge: usize) -> Known {
        let (Some(known), Some(made)) = (self.known.get(edge), self.by_shells.get(edge)) else { return Known::NOTHING };
        *made.get_or_init(|| {
            let (query, [lost, lost_own]) = (outward(self.edges[edge] / self.setting.key), self.shells.lost);
            let (mut usual, mut joint) = (0.0, 0.0);
            for (number, shell) in self.shells.shells.iter().enumerate().filter(|(_, shell)| shell.share > 0.0) {
                let last = edge.saturating_sub(number * SHELL);
                let off = self.known[last].difference;
                let mut steps = Steps::default();
                for at in last.saturating_sub(STEPS)..=last {
                    steps.add(self.edges[at], self.known[at].difference);
                }
                let [squares, own] = shell.squares;
                let root = steps.root_mean_square(outward(query * ((squares / shell.share).sqrt() + lost))).min(off);
                usual = outward(usual + shell.share * outward(root * root));
                joint = outward(joint + own * outward(off * off));
            }
            if self.shells.shells.is_empty() {
                return *known;
            }
            let joint = outward(outward(joint.sqrt()) + known.difference * lost_own);
            Known { usual: known.usual.min(outward(usual.sqrt())), joint, ..*known }
        })
    }

    /// From row `first` on: caps of the output.
    fn fill_outputs(&self, first: usize, caps: &mut [f64]) {
        let A1 = self.problem.A1.slice(s![first..first + caps.len(), ..]).mapv(T::widen);
        let (queries, dv, setting) = (A1.dot(&self.query_map), self.problem.E.ncols(), &self.setting);
        let double = outward(1.0 + gamma((A1.ncols() + dv + 8) as f64, FOLD_UNIT));
        let size = |numbers: &[f64]| norm(numbers) * double;
        let values = setting.values.radius + setting.lost[0];
        for (j, cap) in caps.iter_mut().enumerate() {
            if self.evaluated.unsafe_rows.binary_search(&(first + j)).is_ok() {
                continue;
            }
            let output = &self.evaluated.output[(first + j) * dv..][..dv];
            let output: Vec<f64> = output.iter().map(|x| x.widen()).collect();
            let a = size(&A1.row(j).to_vec());
            let query = outward((size(&queries.row(j).to_vec()) + setting.query_lost * a) * double);
            let sizes = Sizes { query, input: a, output: size(&output), normaliser: f64::NAN };
            let known = self.known(self.edges.partition_point(|edge| *edge < query * setting.key));
            let by = LAWS.map(|law| Charges::least(setting, law, known, sizes).output());
            // Both o and the centre are in the ball of the values.
            let apart: Vec<f64> = output.iter().zip(&self.centre).map(|(o, centre)| o - centre).collect();
            let itself = outward(values + size(&apart) + 2.0 * gamma(4.0, FOLD_UNIT) * size(&self.centre));
            let least = by.into_iter().filter(|cap| !cap.is_nan()).fold(itself, f64::min);
            *cap = outward(self.exponent.exp2() * least);
        }
    }

    /// From row `first` on: caps, and ‖a_j‖.
    fn fill(&self, first: usize, caps: &mut [f64], inputs: &mut [f64]) {
        let wide = |array: ArrayView2<'_, T>| array.slice(s![first..first + caps.len(), ..]).mapv(T::widen);
        let A1 = wide(self.problem.A1);
        let E = wide(self.problem.E) * (-self.incoming_exponent).exp2();
        let queries = A1.dot(&self.query_map);
        let dv = E.ncols();
        let setting = &self.setting;
        let double = outward(1.0 + gamma((A1.ncols() + dv + 8) as f64, FOLD_UNIT));
        let square = (self.exponent + self.incoming_exponent).exp2();
        let size = |numbers: &[f64]| norm(numbers) * double;
        let [_, last] = setting.lost;
        let keys =
            setting.keys[1].radius + setting.maps[0].spectral * last + setting.key_error * setting.rows[0].radius;
        let values = setting.values.radius + setting.lost[0];
        let moved = if self.problem.is_target { values } else { 0.0 };
        let Evaluated { w, output, unsafe_rows } = self.evaluated;
        let d = setting.widths[0] as usize;
        for j in 0..caps.len() {
            let a = size(&A1.row(j).to_vec());
            let row = |rows: &[T], width: usize| -> Vec<f64> {
                rows[(first + j) * width..][..width].iter().map(|x| x.widen()).collect()
            };
            let (output, w) = (row(output, dv), outward(size(&row(w, d))));
            let difference = |centre: &[f64]| {
                if !self.problem.is_target {
                    return size(&E.row(j).to_vec());
                }
                let c: Vec<f64> = E.row(j).iter().zip(centre).map(|(target, o)| o - target).collect();
                size(&c) + 2.0 * gamma(4.0, setting.unit.max(FOLD_UNIT)) * size(centre)
            };
            let query = outward((size(&queries.row(j).to_vec()) + setting.query_lost * a) * double);
            let sizes = Sizes { query, input: a, output: size(&output), normaliser: f64::NAN };
            let edge = self.edges.partition_point(|edge| *edge < query * setting.key);
            let known = self.known(edge);
            inputs[j] = a;
            let c = difference(&output);
            let by = LAWS.map(|law| Charges::least(setting, law, known, sizes).slopes(c, outward(w / square)));
            let by_polynomial =
                outward(square * by.into_iter().filter(|cap| !cap.is_nan()).fold(f64::INFINITY, f64::min));
            let itself = outward(square * keys * values * (difference(&self.centre) + moved));
            // The w̃ of an unsafe row is zero, and so the error is w itself.
            let is_unsafe = unsafe_rows.binary_search(&(first + j)).is_ok();
            caps[j] = if is_unsafe { itself } else { by_polynomial.min(outward(itself + w)) };
        }
    }
}
