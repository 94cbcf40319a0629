//! A cap of the error of every query row: what rows are drawn in proportion to, and what outliers stand out by
//! (docs/math.md, equations 87 and 125).

use ndarray::{Array2, ArrayView2, s};

use super::bounds::{MAX_RANGE, enclosures};
use super::charges::{Charges, Known, LAWS, Sizes};
use super::fit::Polynomial;
use super::setting::Setting;
use crate::buffer;
use crate::certificate::outward;
use crate::certificate::rounding::{FOLD_UNIT, gamma};
use crate::error::Error;
use crate::exact::rows::selected;
use crate::float::Float;
use crate::norms::norm;
use crate::options::Options;
use crate::pool::{Run, Watch};
use crate::problem::Problem;

/// Rows of a task.
const ROWS: usize = 2048;

/// Edges of the reach b = ‖q‖ max ‖k‖ for each doubling of it, from `LOWEST` on: 4 % apart.
const EDGES: i32 = 16;

/// log2 of the first edge: P is exp there to rounding.
const LOWEST: i32 = -16;

/// Caps of all query rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Caps {
    /// M_j ≥ ‖w_j − w̃_j‖, (n), with w̃ as [`Polynomial::rows`] has it; an unsafe row has w̃ = 0. Finite also where P says
    /// nothing of the row.
    pub w: Vec<f64>,
    /// |s| ‖a_j‖ M_j ≥ ‖s a_j ⊗ (w_j − w̃_j)‖, (n): of the terms of dL/dX and dL/dW_Q.
    pub weighted: Vec<f64>,
}

impl Polynomial {
    /// A cap of every query row. Not for causal problems.
    ///
    /// Time 2 n N_g (dv + 1) for g the degree, and that of [`Polynomial::rows`] for those rows whose logits are too large
    /// for P; memory O(n dv).
    ///
    /// # Errors
    /// [`Error::Option`] for a causal problem, and for another than it was fitted to; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn caps<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Caps, Error> {
        self.require(&problem.admitted()?, options)?;
        self.fitted_caps(problem, options, watch)
    }

    /// The same for a problem that is known to be the one that it was fitted to.
    pub(crate) fn fitted_caps<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Caps, Error> {
        refuse_causal(problem)?;
        if !self.exact_keys.is_empty() {
            let (found, wanted) =
                (format!("{} keys", self.exact_keys.len()), "none: caps are of the moments alone".into());
            return Err(Error::Option { option: "exact_keys", found, wanted });
        }
        let n = problem.A1.nrows();
        let mut caps = Caps { w: buffer::zeros(n)?, weighted: buffer::zeros(n)? };
        if problem.A2.nrows() == 0 {
            return Ok(caps);
        }
        let mut run = Run::new(options, watch);
        run.phase(0.5);
        let evaluated = self.evaluated(problem, false, &mut run)?;
        let rows = Rows::new(self, problem, &evaluated.output)?;
        run.phase(0.6);
        let mut crude = buffer::zeros(n)?;
        let tasks = caps.w.chunks_mut(ROWS).zip(caps.weighted.chunks_mut(ROWS)).zip(crude.chunks_mut(ROWS)).enumerate();
        run.for_each(tasks, |(task, ((w, inputs), crude)), cancel| {
            cancel.check()?;
            rows.fill(task * ROWS, w, inputs, crude);
            Ok(())
        })?;
        // The w̃ of an unsafe row is zero, and so the error is w itself.
        for &row in &evaluated.unsafe_rows {
            caps.w[row] = crude[row];
        }
        let mut wide = buffer::with_capacity(n)?;
        wide.extend((0..n).filter(|&j| caps.w[j] > crude[j]));
        let (A1, E) = (selected(problem.A1, &wide)?, selected(problem.E, &wide)?);
        run.phase(1.0);
        let known = self.evaluated(&problem.with_queries(A1.view(), E.view()), true, &mut run)?;
        for (&j, w) in wide.iter().zip(known.w.chunks_exact(self.coordinates.dimension().max(1))) {
            let size = norm(w) * (1.0 + gamma(w.len() as f64 + 4.0, FOLD_UNIT));
            caps.w[j] = caps.w[j].min(outward(crude[j] + size));
        }
        for (weighted, w) in caps.weighted.iter_mut().zip(&caps.w) {
            // A row of zeros has no error, whatever is known of it.
            *weighted = if *weighted == 0.0 { 0.0 } else { outward(problem.scale.abs() * *weighted * w) };
        }
        Ok(caps)
    }
}

/// Charges know of no mask.
fn refuse_causal<T>(problem: &Problem<'_, T>) -> Result<(), Error> {
    if !problem.is_causal {
        return Ok(());
    }
    let wanted = "false: there are no caps under a mask".into();
    Err(Error::Option { option: "is_causal", found: "true".into(), wanted })
}

/// What the caps of all rows have in common.
struct Rows<'a, 'b, T> {
    problem: &'a Problem<'b, T>,
    /// õ in the unit of the values, row-major.
    output: &'a [T],
    setting: Setting,
    query_map: Array2<f64>,
    /// Centre of the ball of the values.
    centre: Vec<f64>,
    edges: Vec<f64>,
    known: Vec<Known>,
    /// log2 of the units of the values and of c.
    exponent: f64,
    incoming_exponent: f64,
}

impl<'a, 'b, T: Float> Rows<'a, 'b, T> {
    fn new(polynomial: &Polynomial, problem: &'a Problem<'b, T>, output: &'a [T]) -> Result<Self, Error> {
        let count = (MAX_RANGE.log2() as i32 - LOWEST) * EDGES;
        let edges: Vec<f64> =
            (0..=count).map(|i| (f64::from(LOWEST) + f64::from(i) / f64::from(EDGES)).exp2()).collect();
        let coordinates = &polynomial.coordinates;
        let unit = (-coordinates.value_exponent).exp2();
        Ok(Rows {
            problem,
            output,
            setting: Setting::new(polynomial, problem, 0.0, 0.0),
            query_map: coordinates.query.mapv(|x| T::narrow(x).widen()),
            centre: coordinates.input_centre.dot(&problem.Y.mapv(|x| x.widen() * unit)).to_vec(),
            known: enclosures(&polynomial.coefficients, &edges)?,
            edges,
            exponent: coordinates.value_exponent,
            incoming_exponent: coordinates.incoming_exponent,
        })
    }

    /// From row `first` on: caps by P, ‖a_j‖, and what ‖w_j‖ itself may be.
    fn fill(&self, first: usize, w: &mut [f64], inputs: &mut [f64], crude: &mut [f64]) {
        let wide = |array: ArrayView2<'_, T>| array.slice(s![first..first + w.len(), ..]).mapv(T::widen);
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
        for j in 0..w.len() {
            let a = size(&A1.row(j).to_vec());
            let output: Vec<f64> = self.output[(first + j) * dv..][..dv].iter().map(|o| o.widen()).collect();
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
            let known = self.known.get(edge).copied().unwrap_or(Known::NOTHING);
            inputs[j] = a;
            let c = difference(&output);
            let by = LAWS.map(|law| Charges::least(setting, law, known, sizes).slopes(c));
            w[j] = outward(square * by.into_iter().filter(|cap| !cap.is_nan()).fold(f64::INFINITY, f64::min));
            crude[j] = outward(square * keys * values * (difference(&self.centre) + moved));
        }
    }
}
