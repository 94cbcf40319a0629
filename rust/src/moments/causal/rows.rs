//! o and w of some query rows of a causal problem, as the polynomial has them.

use ndarray::Array2;

use super::queries::CausalQueries;
use super::query_side::{Outputs, query_side};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::products::matrix;
use crate::linalg::rows::{RowValues, ascending, in_order, selected};
use crate::moments::collect::Keys;
use crate::moments::evaluate::Coefficients;
use crate::moments::fit::{Inputs, Polynomial, Sides};
use crate::moments::kernels::Kernels;
use crate::moments::outputs::Product;
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

impl Polynomial {
    /// [`Polynomial::rows`] under the mask: moments of the keys up to the last row are taken anew. Returns o in the unit of
    /// the values.
    pub(crate) fn causal_rows<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        indices: &[usize],
        run: &mut Run<'_>,
    ) -> Result<RowValues<T>, Error> {
        let (places, sorted) = ascending(indices)?;
        let (A1, E) = (selected(problem.A1, &sorted)?, selected(problem.E, &sorted)?);
        let some = problem.with_queries(A1.view(), E.view());
        let inputs = Inputs::new(&some, &[])?;
        let kernels = Kernels::<T>::of(self.isa);
        let (count, d, dv) = (indices.len(), self.coordinates.dimension(), some.Y.ncols());
        let sides = Sides::new(&some, &inputs, &self.coordinates, kernels.keys)?;
        let coefficients = Coefficients::new(&self.tree, &self.coefficients)?;
        let magnitudes = self.magnitudes()?;
        let keys = Keys { tree: &self.tree, keys: &sides.keys, values: &sides.values, left_out: &[] };
        let product = Product::new(self.coordinates.inverse.view(), self.slope_unit(), kernels.keys)?;
        let mut queries = self.queries(&some, &inputs, &sides, None)?;
        queries.product = Some(&product);
        queries.slopes = true;
        let indices = Some(&sorted[..]);
        let operands =
            CausalQueries { queries, keys: &keys, coefficients: &coefficients, magnitudes: &magnitudes, indices };
        let mut w = buffer::zeros::<T>(buffer::size(&[count, d])?)?;
        let mut output = buffer::zeros::<T>(buffer::size(&[count, dv])?)?;
        let outputs = Outputs { output: (Some(&mut w), d), values: Some(&mut output), residuals: None };
        let side = query_side(&operands, kernels, outputs, None, (0.0, 1.0), run)?;
        let array = |data, width| -> Result<Array2<T>, Error> { in_order(&matrix(data, count, width)?, &places) };
        let mut unsafe_rows = buffer::collected(side.found.unsafe_rows.iter().map(|&row| places[row]))?;
        unsafe_rows.sort_unstable();
        Ok(RowValues { w: array(w, d)?, output: array(output, dv)?, unsafe_rows })
    }
}
