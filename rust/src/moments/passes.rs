//! The passes over the queries and the keys, and the gradients that are made of their results.

use ndarray::{Array2, ArrayView2};

use super::fit::{Inputs, Polynomial, Sides};
use super::kernels::Kernels;
use super::key_side::{Answers, KeyOutputs, key_side};
use super::keys::KeySide;
use super::queries::Found;
use super::query_side::{QuerySide, RowOutputs, SumSizes, query_side};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::outputs::Product;
use crate::linalg::layout::Rows;
use crate::linalg::products::matrix;
use crate::problem::{OutputSet, Problem, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Share of the query side in the time of both, with and without a mask.
const QUERY_SHARE: [f64; 2] = [0.5, 0.7];

/// Rows of outputs and sums that the passes leave behind, all in their units.
pub(super) struct Passes<T> {
    pub found: Found,
    /// ‖c‖ of every row, in its unit; nothing under a mask.
    pub residuals: Vec<f64>,
    /// max ‖k‖ of the keys that are seen.
    pub largest_key: f64,
    /// Estimate of the error of Σ a ⊗ w that is due to integer sums, in the coordinates of the keys, in its unit; 0
    /// without a seed.
    pub lost: f64,
    /// wᵀ A1, (d, d1).
    weights: Option<Vec<f64>>,
    A1: Option<Vec<T>>,
    /// (pᵀ Q)ᵀ A2, (d, d2).
    W_K: Option<Vec<f64>>,
    A2: Option<Vec<T>>,
    /// (fᵀ c)ᵀ A3, (dv, d3).
    Y: Option<Vec<f64>>,
    A3: Option<Vec<T>>,
}

impl<T: Float> Passes<T> {
    /// Both sides, as far as they are needed; with a seed, the error of integer sums is estimated.
    pub(super) fn run(
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sides: &Sides<'_, T>,
        needs: &OutputSet,
        seed: Option<u64>,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let Polynomial { coordinates, tree, exact_keys, .. } = polynomial;
        let strip = Kernels::<T>::of(polynomial.isa).keys;
        let ((n, d1), (m, d2)) = (problem.A1.dim(), problem.A2.dim());
        let (d, d3, dv) = (coordinates.dimension(), problem.A3.ncols(), problem.Y.ncols());
        let rows_of = |is_wanted: bool, count: usize, width: usize| {
            is_wanted.then(|| buffer::zeros::<T>(buffer::size(&[count, width])?)).transpose()
        };
        let sums_of = |is_wanted: bool, size: usize| is_wanted.then(|| buffer::zeros::<f64>(size)).transpose();
        let product = Product::new(coordinates.to_A1(problem), strip)?;
        let moments = polynomial.moments(dv, strip)?;
        let mut operands = polynomial.queries(problem, inputs, sides, moments.as_ref())?;
        operands.product = needs.A1.then_some(&product);
        let has_keys = needs.key_side();
        let share = QUERY_SHARE[usize::from(!problem.is_causal)];
        let end = if has_keys { share } else { 1.0 };
        // Where a w for each row is wanted for nothing but its sum with the rows, moments of the queries say the same
        // for less.
        let mut contraction = if needs.weights && !needs.A1 { polynomial.contraction(dv)? } else { None };
        let mut lost = 0.0;
        let (side, A1, norms, residuals) = loop {
            operands.slopes = needs.query_slopes() && contraction.is_none();
            let count = if needs.key_slopes() || contraction.is_some() { tree.count() } else { tree.inner() };
            let has_moments = (has_keys || contraction.is_some()) && !problem.is_causal;
            let sizes = SumSizes {
                weights: (needs.weights && contraction.is_none()).then_some(d * d1),
                moments: if has_moments { Some(buffer::size(&[count, dv + 1])?) } else { None },
                exact: (has_keys && !exact_keys.is_empty()).then_some(exact_keys.len() * (dv + d)),
            };
            let mut A1 = rows_of(needs.A1, n, d1)?;
            let mut norms = buffer::zeros(if problem.is_causal { 0 } else { n })?;
            let mut residuals = rows_of(has_keys && problem.is_causal, n, dv + 1)?;
            let outputs = RowOutputs {
                slopes: (A1.as_deref_mut(), d1),
                values: None,
                norms: (!problem.is_causal).then_some(&mut norms),
                residuals: residuals.as_deref_mut(),
            };
            let mut side =
                query_side(polynomial, operands, sides, outputs, sizes, (None, !problem.is_causal, end), run)?;
            if let ([_, Some(sums), _], Some(contracted)) = (&side.sums, &contraction) {
                // Where no row is safe, the moments of the keys need not fit the precision.
                let is_safe = side.found.unsafe_rows.len() < n;
                let sum = if is_safe { contracted.of(sums, run)? } else { buffer::zeros(d * d1)? };
                if sum.iter().any(|x| !x.is_finite()) {
                    // Powers of a query may be beyond the precision where its logits are not.
                    contraction = None;
                    continue;
                }
                if let Some(seed) = seed.filter(|_| operands.integers && is_safe) {
                    lost = contracted.lost(&operands, &side.found.lost, seed, run)?;
                    if lost == f64::INFINITY {
                        (operands.integers, lost) = (false, 0.0);
                        continue;
                    }
                }
                side.sums[0] = Some(sum);
            }
            break (side, A1, norms, residuals);
        };
        let QuerySide { found, sums: [weights, moments, exact], largest_key } = side;
        // The sums of keys that no safe row sees may not fit the precision: unsafe rows at the end are left out.
        let seen = found.unsafe_rows.iter().rev().fold(n, |end, &row| if row + 1 == end { row } else { end });
        let (mut A2, mut A3) = (rows_of(needs.A2, m, d2)?, rows_of(needs.A3, m, d3)?);
        let answers = match (&moments, &residuals) {
            _ if !has_keys || found.unsafe_rows.len() == n => None,
            (Some(moments), _) => Some(Answers::Moments(moments)),
            (None, Some(rows)) => Some(Answers::Residuals(Rows { data: rows, count: seen, width: dv + 1 })),
            (None, None) => None,
        };
        let [W_K, Y] = if let Some(answers) = answers {
            let keys = Product::new(coordinates.to_A2(problem), strip)?;
            let values = Product::new(coordinates.to_A3(problem), strip)?;
            let operands = KeySide {
                keys: &sides.keys_of(polynomial),
                moments: None,
                key_product: needs.A2.then_some(&keys),
                value_product: needs.A3.then_some(&values),
                slopes: needs.key_slopes(),
            };
            let outputs = KeyOutputs {
                keys: (A2.as_deref_mut(), d2),
                values: (A3.as_deref_mut(), d3),
                sums: [needs.W_K, needs.Y],
            };
            key_side(polynomial, operands, sides, answers, outputs, end, run)?
        } else {
            [sums_of(needs.W_K, d * d2)?, sums_of(needs.Y, dv * d3)?]
        };
        let mut passes = Passes { found, residuals: norms, largest_key, lost, weights, A1, W_K, A2, Y, A3 };
        if let Some(sums) = exact {
            passes.add_exact(polynomial, problem, inputs, &sums)?;
        }
        Ok(passes)
    }

    /// dL/d`wrt` from the results of the passes.
    pub(super) fn gradient(
        &self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        wrt: Wrt,
    ) -> Result<Array2<T>, Error> {
        let Polynomial { coordinates, .. } = polynomial;
        let (d1, d2, d3) = (problem.A1.ncols(), problem.A2.ncols(), problem.A3.ncols());
        let (d, dv) = (coordinates.dimension(), problem.Y.ncols());
        let small = |sums: &Option<Vec<f64>>, shape: (usize, usize)| -> Result<Array2<f64>, Error> {
            matrix(made(sums, wrt)?.clone(), shape.0, shape.1)
        };
        let array =
            |rows: &Option<Vec<T>>, shape: (usize, usize)| matrix(buffer::copied(made(rows, wrt)?)?, shape.0, shape.1);
        Ok(match wrt {
            Wrt::X | Wrt::WQ => {
                let sum = small(&self.weights, (d, d1))?.reversed_axes().dot(&coordinates.inverse);
                rounded(sum.view(), problem.scale * coordinates.slope_unit())
            }
            Wrt::WK => {
                let sum = small(&self.W_K, (d, d2))?.reversed_axes().dot(&coordinates.transposed);
                rounded(sum.view(), coordinates.slope_unit())
            }
            Wrt::Y => rounded(small(&self.Y, (dv, d3))?.t(), coordinates.value_unit()),
            Wrt::A1 => array(&self.A1, problem.A1.dim())?,
            Wrt::A2 => array(&self.A2, problem.A2.dim())?,
            Wrt::A3 => array(&self.A3, problem.A3.dim())?,
            Wrt::A => {
                let mut sum = array(&self.A1, problem.A1.dim())?;
                for part in [&self.A2, &self.A3] {
                    sum.iter_mut().zip(made(part, wrt)?).for_each(|(sum, &term)| *sum += term);
                }
                sum
            }
        })
    }

    /// Adds the contributions of the queries to the exact keys, `sums` (keys, dv + d), which the moments left out.
    fn add_exact(
        &mut self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sums: &[f64],
    ) -> Result<(), Error> {
        let Polynomial { coordinates, .. } = polynomial;
        let (count, dv, d) = (polynomial.exact_keys.len(), problem.Y.ncols(), coordinates.dimension());
        let sums = ArrayView2::from_shape((count, dv + d), sums).map_err(|error| Error::Internal(error.to_string()))?;
        let (of_values, of_keys) = sums.split_at(ndarray::Axis(1), dv);
        let wide = |rows: &Array2<T>| rows.mapv(T::widen);
        let [keys, values] = &inputs.exact;
        // (pᵀ Q)ᵀ A2 and (fᵀ c)ᵀ A3.
        let sides = [(&mut self.W_K, of_keys, keys), (&mut self.Y, of_values, values)];
        for (sum, left, right) in sides {
            let more = left.t().dot(&wide(right));
            sum.iter_mut().flatten().zip(&more).for_each(|(sum, more)| *sum += more);
        }
        let (key_map, value_map) = (coordinates.to_A2(problem), coordinates.to_A3(problem));
        for (output, left, (map, unit)) in [(&mut self.A2, of_keys, key_map), (&mut self.A3, of_values, value_map)] {
            let Some(output) = output else { continue };
            let width = map.ncols();
            for (&key, row) in polynomial.exact_keys.iter().zip(left.dot(&map).rows()) {
                let to = &mut output[key * width..][..width];
                to.iter_mut().zip(row).for_each(|(to, x)| *to = T::narrow(unit * x));
            }
        }
        Ok(())
    }
}

/// factor · array, rounded once.
fn rounded<T: Float>(array: ArrayView2<'_, f64>, factor: f64) -> Array2<T> {
    array.mapv(|x| T::narrow(x * factor)).as_standard_layout().into_owned()
}

fn made<V>(value: &Option<V>, wrt: Wrt) -> Result<&V, Error> {
    value.as_ref().ok_or_else(|| Error::Internal(format!("what dL/d{} is made of was not computed", wrt.name())))
}
