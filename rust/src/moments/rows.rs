//! o and w of some query rows as the polynomial has them: what a sampled correction and a probe look at.

use super::fit::{Inputs, Polynomial, Sides};
use super::kernels::Kernels;
use super::outputs::Product;
use super::parts::{Parts, Pieces};
use super::queries::{Found, QueryTask};
use crate::certificate::moments::{Caps, Evaluated, caps};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::linalg::rows::{RowValues, selected};
use crate::options::Options;
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

impl Polynomial {
    /// õ and w̃ of the query rows `indices`, from the moments that the gradient is made of; w̃ up to a multiple of what
    /// rounding leaves of Σ_i p̃_ji = 0 times the mean key.
    ///
    /// Time 2 r (N_(g+1) + N_g)(dv + 1) for r rows; for causal problems also that of the moments of the keys up to the last
    /// row.
    ///
    /// # Errors
    /// [`Error::Option`] for a row that is not there, and for another problem than it was fitted to;
    /// [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn rows<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: &[usize],
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<RowValues<T>, Error> {
        let problem = &problem.admitted()?;
        self.require(problem, options)?;
        self.fitted_rows(problem, indices, options, watch)
    }

    /// The same for a problem that is known to be the one that it was fitted to.
    pub(crate) fn fitted_rows<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: &[usize],
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<RowValues<T>, Error> {
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let mut rows = match problem.is_causal {
            true => self.causal_rows(problem, indices, &mut run)?,
            false => self.rows_of_all(problem, indices, &mut run)?,
        };
        let unit = self.coordinates.value_exponent.exp2();
        rows.output.mapv_inplace(|value| T::narrow(value.widen() * unit));
        for &row in &rows.unsafe_rows {
            rows.output.row_mut(row).fill(T::zero());
        }
        Ok(rows)
    }

    /// A cap of every query row. Not for causal problems.
    ///
    /// Time that of [`Polynomial::rows`] for all rows, and O(m d (d2 + d)); memory O(n (d + dv)).
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
        let refused = |option, found, wanted: &str| Err(Error::Option { option, found, wanted: wanted.into() });
        if problem.is_causal {
            return refused("is_causal", "true".into(), "false: there are no caps under a mask");
        }
        if !self.exact_keys.is_empty() {
            let found = format!("{} keys", self.exact_keys.len());
            return refused("exact_keys", found, "none: caps are of the moments alone");
        }
        let mut run = Run::new(options, watch);
        caps(&self.fitted(problem.Y.ncols()), problem, |run| self.evaluated(problem, true, run), &mut run)
    }

    /// The same without a mask, o in the unit of the values.
    fn rows_of_all<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: &[usize],
        run: &mut Run<'_>,
    ) -> Result<RowValues<T>, Error> {
        let (A1, E) = (selected(problem.A1, indices)?, selected(problem.E, indices)?);
        let found = self.evaluated(&problem.with_queries(A1.view(), E.view()), true, run)?;
        let (count, d, dv) = (indices.len(), self.coordinates.dimension(), problem.Y.ncols());
        let Evaluated { w, output, unsafe_rows } = found;
        Ok(RowValues { w: matrix(w, count, d)?, output: matrix(output, count, dv)?, unsafe_rows })
    }

    /// õ of all query rows of `problem`, which has no mask, and with `slopes` w̃ as well.
    pub(super) fn evaluated<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        slopes: bool,
        run: &mut Run<'_>,
    ) -> Result<Evaluated<T>, Error> {
        let inputs = Inputs::new(problem, &self.exact_keys)?;
        let kernels = Kernels::<T>::of(self.isa);
        let (count, d, dv) = (problem.A1.nrows(), self.coordinates.dimension(), problem.Y.ncols());
        let sides = Sides::new(problem, &inputs, &self.coordinates, kernels.keys)?;
        let moments = self.moments(dv, kernels.keys)?;
        let product = Product::new(self.coordinates.inverse.view(), self.slope_unit(), kernels.keys)?;
        let mut operands = self.queries(problem, &inputs, &sides, Some(&moments))?;
        operands.product = slopes.then_some(&product);
        operands.slopes = slopes;
        let parts = Parts::new(count, 1);
        let mut w = buffer::zeros::<T>(if slopes { buffer::size(&[count, d])? } else { 0 })?;
        let mut output = buffer::zeros::<T>(buffer::size(&[count, dv])?)?;
        let mut found = buffer::with_capacity(parts.count())?;
        for part in 0..parts.count() {
            found.push(Found::of(parts.rows(part).len())?);
        }
        let mut w_parts = Pieces::new(&mut w, parts.each() * d, slopes);
        let mut output_parts = Pieces::new(&mut output, parts.each() * dv, true);
        let tasks = found.iter_mut().enumerate().map(|(part, found)| QueryTask {
            rows: parts.rows(part),
            output: w_parts.next(),
            values: output_parts.next(),
            weight_sums: None,
            moment_sums: None,
            exact_sums: None,
            residuals: None,
            found,
        });
        run.for_each(tasks, |task, cancel| kernels.queries(&operands, task, cancel))?;
        Ok(Evaluated { w, output, unsafe_rows: Found::unsafe_rows(&found)? })
    }
}
