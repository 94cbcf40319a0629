//! o and w of some query rows as the polynomial has them, for a sampled correction and for a probe.

use super::fit::Polynomial;
use super::queries::{Found, Queries};
use super::query_side::{RowOutputs, query_side};
use crate::certificate::moments::{Bound, Bounds, Caps, Counted, Evaluated, Extent, caps, output_caps};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::Product;
use crate::linalg::products::matrix;
use crate::linalg::rows::{RowValues, ascending, in_order, selected};
use crate::options::Options;
use crate::problem::{Problem, RowMajor};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

impl Polynomial {
    /// õ and w̃ of the query rows `indices`, from the moments that the gradient is made of; w̃ up to a multiple of what
    /// rounding leaves of Σ_i p̃_ji = 0 times the mean key.
    ///
    /// Time 2 r (N_(g+1) + N_g)(dv + 1) for r rows; for causal problems also that of the moments of the keys up to the
    /// last row.
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
        self.fitted_rows(problem, indices, true, options, watch)
    }

    /// The same for a problem that is known to be the one that it was fitted to; without `slopes` w has no columns.
    pub(crate) fn fitted_rows<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: &[usize],
        slopes: bool,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<RowValues<T>, Error> {
        let mut run = Run::new(options, watch);
        let (places, sorted) = ascending(indices)?;
        let (A1, E) = (selected(problem.A1, &sorted)?, selected(problem.E, &sorted)?);
        let some = problem.with_queries(A1.view(), E.view());
        let found = self.evaluated(&some, Some(&sorted), slopes, None, &mut run)?.0;
        let Evaluated { w, output, unsafe_rows } = found;
        let (d, dv) = (if slopes { self.coordinates.dimension() } else { 0 }, problem.Y.ncols());
        let output = self.values_of(output, &unsafe_rows, dv);
        let array = |data, width| in_order(&matrix(data, indices.len(), width)?, &places);
        let mut unsafe_rows = buffer::collected(unsafe_rows.iter().map(|&row| places[row]))?;
        unsafe_rows.sort_unstable();
        Ok(RowValues { w: array(w, d)?, output: array(output, dv)?, unsafe_rows })
    }

    /// A cap of every query row. Not for causal problems.
    ///
    /// Time that of [`Polynomial::rows`] for all rows, and O(m d (d2 + d)); memory O(n (d + dv)).
    ///
    /// # Errors
    /// [`Error::Option`] for a causal problem, and for another than it was fitted to; [`Error::OutOfMemory`],
    /// [`Error::Deadline`], [`Error::Cancelled`].
    pub fn caps<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Caps, Error> {
        self.require(&problem.admitted()?, options)?;
        self.fitted_caps(problem, None, options, watch)
    }

    /// The same for a problem that is known to be the one that it was fitted to, from rows that the passes left where
    /// they did.
    pub(crate) fn fitted_caps<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        known: Option<Evaluated<T>>,
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
        let evaluate =
            |run: &mut Run<'_>| known.map_or_else(|| Ok(self.evaluated(problem, None, true, None, run)?.0), Ok);
        caps(&self.fitted(problem.Y.ncols()), problem, evaluate, &mut run)
    }

    /// õ and w̃ of all query rows of `problem`, o in the unit of the values; `indices` are theirs where they are only
    /// some of a causal problem. w̃ has no columns without `slopes`.
    fn evaluated<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: Option<&[usize]>,
        slopes: bool,
        norms: Option<&mut [f64]>,
        run: &mut Run<'_>,
    ) -> Result<(Evaluated<T>, Found), Error> {
        let inputs = RowMajor::of(problem)?;
        let (problem, exact) = (&inputs.problem(), self.exact_rows(problem)?);
        let (count, dv) = (problem.A1.nrows(), problem.Y.ncols());
        let d = if slopes { self.coordinates.dimension() } else { 0 };
        let (sides, moments) = (self.sides(problem, &exact)?, self.moments(dv)?);
        let product = Product::new(self.coordinates.to_w(), self.strip::<T>())?;
        let operands = self.queries(problem, &sides, moments.as_ref())?;
        let operands = Queries { product: Some(&product), slopes, ..operands };
        let mut w = buffer::zeros::<T>(buffer::size(&[count, d])?)?;
        let mut output = buffer::zeros::<T>(buffer::size(&[count, dv])?)?;
        let slopes = (slopes.then_some(&mut w[..]), d);
        let outputs = RowOutputs { slopes, values: Some(&mut output), norms, residuals: None };
        let mut found = query_side(self, operands, outputs, [None; 3], indices, 1.0, run)?.found;
        let unsafe_rows = std::mem::take(&mut found.unsafe_rows);
        Ok((Evaluated { w, output, unsafe_rows }, found))
    }

    /// õ of all query rows, in its unit, zeros where they are unsafe, and a bound of its error in the others; with
    /// `has_caps` one of each row too, where there are any. Of a problem that is known to be the one that it was fitted
    /// to, with a target of zero.
    pub(crate) fn fitted_output<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        has_caps: bool,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<(RowValues<T>, Bound, Vec<f64>), Error> {
        let mut run = Run::new(options, watch);
        let (n, dv) = (problem.A1.nrows(), problem.Y.ncols());
        let is_bounded = !self.is_causal && self.exact_keys.is_empty();
        let mut norms = buffer::zeros(if is_bounded { n } else { 0 })?;
        let (evaluated, found) =
            self.evaluated(problem, None, false, is_bounded.then_some(&mut norms[..]), &mut run)?;
        let caps = match has_caps && is_bounded {
            true => output_caps(&self.fitted(dv), problem, &evaluated, &mut run)?,
            false => Vec::new(),
        };
        let Evaluated { w, output, unsafe_rows } = evaluated;
        let output = matrix(self.values_of(output, &unsafe_rows, dv), n, dv)?;
        let bound = match is_bounded {
            true => {
                let queries = (Counted::whole(n), &found.buckets);
                Bounds::new(&self.fitted(dv), problem, queries, found.widest, 0.0)?.output(Extent::of(output.view()))
            }
            false => Bound::UNKNOWN,
        };
        Ok((RowValues { w: matrix(w, n, 0)?, output, unsafe_rows }, bound, caps))
    }

    /// Rows of o from those in the unit of the values.
    fn values_of<T: Float>(&self, mut output: Vec<T>, unsafe_rows: &[usize], dv: usize) -> Vec<T> {
        for &row in unsafe_rows {
            output[row * dv..][..dv].fill(T::zero());
        }
        let unit = self.coordinates.value_exponent.exp2();
        output.iter_mut().for_each(|value| *value = T::narrow(value.widen() * unit));
        output
    }
}
