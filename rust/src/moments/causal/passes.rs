//! Both sides of a causal problem for the gradient.

use super::key_side::{KeyOutputs, key_side};
use super::keys::{Answered, CausalKeys};
use super::queries::CausalQueries;
use super::query_side::{Outputs, query_side};
use crate::error::Error;
use crate::float::Float;
use crate::moments::collect::Keys;
use crate::moments::evaluate::Coefficients;
use crate::moments::fit::{Inputs, Polynomial, Sides};
use crate::moments::kernels::Kernels;
use crate::moments::keys::KeySide;
use crate::moments::needs::Needs;
use crate::moments::passes::Passes;
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;
use crate::tile::Rows;

/// Share of the query side in the time of both.
const QUERY_SHARE: f64 = 0.5;

impl Polynomial {
    /// |P_0|, …, |P_g|.
    pub(super) fn magnitudes(&self) -> Result<Vec<f64>, Error> {
        let mut magnitudes = buffer::with_capacity(self.coefficients.len())?;
        magnitudes.extend(self.coefficients.iter().map(|p| p.abs()));
        Ok(magnitudes)
    }
}

impl<T: Float> Passes<T> {
    /// The passes under the mask.
    pub(crate) fn causal(
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sides: &Sides<'_, T>,
        needs: &Needs,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let Polynomial { coordinates, tree, .. } = polynomial;
        let kernels = Kernels::<T>::of(polynomial.isa);
        let ((n, d1), (m, d2)) = (problem.A1.dim(), problem.A2.dim());
        let (d, d3, dv) = (coordinates.dimension(), problem.A3.ncols(), problem.Y.ncols());
        let coefficients = Coefficients::new(tree, &polynomial.coefficients)?;
        let magnitudes = polynomial.magnitudes()?;
        let keys = Keys { tree, keys: &sides.keys, values: &sides.values, left_out: &[] };
        let product = polynomial.query_product(problem, kernels.keys)?;
        let mut queries = polynomial.queries(problem, inputs, sides, None)?;
        queries.product = needs.A1.then_some(&product);
        queries.slopes = needs.query_slopes();
        let operands =
            CausalQueries { queries, keys: &keys, coefficients: &coefficients, magnitudes: &magnitudes, indices: None };
        let rows_of = |wanted: bool, count: usize, width: usize| {
            buffer::zeros::<T>(if wanted { buffer::size(&[count, width])? } else { 0 })
        };
        let mut A1 = rows_of(needs.A1, n, d1)?;
        let mut residuals = rows_of(needs.key_side(), n, dv + 1)?;
        let outputs = Outputs {
            output: (needs.A1.then_some(&mut A1[..]), d1),
            values: None,
            residuals: needs.key_side().then_some(&mut residuals[..]),
        };
        let middle = if needs.key_side() { QUERY_SHARE } else { 1.0 };
        let side = query_side(&operands, kernels, outputs, needs.weights.then_some(d * d1), (0.0, middle), run)?;
        let mut passes = Passes::of(side.found);
        passes.largest_key = side.widest_key.sqrt();
        passes.weights = side.weights;
        passes.A1 = needs.A1.then_some(A1);
        if !needs.key_side() {
            return Ok(passes);
        }
        let (key_product, value_product) =
            (polynomial.key_product(problem, kernels.keys)?, polynomial.value_product(problem, kernels.keys)?);
        let operands = CausalKeys {
            keys: KeySide {
                keys: &keys,
                moments: None,
                key_product: needs.A2.then_some(&key_product),
                value_product: needs.A3.then_some(&value_product),
                slopes: needs.key_slopes(),
            },
            queries: &Answered {
                tree,
                queries: &sides.queries,
                residuals: Rows { data: &residuals, count: n, width: dv + 1 },
            },
            coefficients: &coefficients,
        };
        let (mut A2, mut A3) = (rows_of(needs.A2, m, d2)?, rows_of(needs.A3, m, d3)?);
        let outputs = KeyOutputs {
            keys: (needs.A2.then_some(&mut A2[..]), d2),
            values: (needs.A3.then_some(&mut A3[..]), d3),
            key_sums: needs.W_K.then_some(d * d2),
            value_sums: needs.Y.then_some(dv * d3),
        };
        // What keys are worth that no safe row sees may not fit the precision.
        let end = passes.found.unsafe_rows.iter().rev().fold(n, |end, &row| if row + 1 == end { row } else { end });
        let [W_K, Y] = key_side(&operands, kernels, outputs, end, middle, run)?;
        passes.W_K = W_K;
        passes.Y = Y;
        passes.A2 = needs.A2.then_some(A2);
        passes.A3 = needs.A3.then_some(A3);
        Ok(passes)
    }
}
