//! The passes over the queries and the keys, and the gradients that are made of their results.

use ndarray::{Array2, ArrayView2, Axis};

use super::fit::Polynomial;
use super::key_side::{Answers, KeyOutputs, key_side};
use super::keys::KeySide;
use super::queries::Found;
use super::query_side::{QuerySide, RowOutputs, query_side};
use super::sides::Sides;
use crate::certificate::moments::Evaluated;
use crate::error::Error;
use crate::features::Coordinates;
use crate::float::Float;
use crate::kernels::outputs::Product;
use crate::linalg::layout::{Rows, wide};
use crate::linalg::products::{matrix, view};
use crate::problem::{OutputSet, Problem, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Share of the query side in the time of both, with and without a mask.
const QUERY_SHARE: [f64; 2] = [0.5, 0.7];

/// Results for one input by token, in their units, as far as they are wanted.
struct Output<T> {
    /// Its sum with the rows of the input, row-major: a coordinate or a value by the width of the input.
    sum: Option<Vec<f64>>,
    /// Its rows of the gradient.
    rows: Option<Vec<T>>,
}

/// Certificates' needs beside the gradients.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Besides {
    /// The error of integer sums over the queries, estimated from blocks that this seed draws.
    pub seed: Option<u64>,
    /// õ and w̃ of every row, where they cost less with the passes than by themselves.
    pub rows: bool,
}

/// Results of the passes, all in their units.
pub(super) struct Passes<T> {
    pub found: Found,
    /// ‖c‖ of every row, in its unit; nothing under a mask.
    pub residuals: Vec<f64>,
    /// max ‖k‖ of the keys that are seen.
    pub largest_key: f64,
    /// Estimate of the error of Σ a ⊗ w that is due to integer sums, in the coordinates of the keys, in its unit; 0
    /// without a seed.
    pub lost: f64,
    /// Every row, where it was wanted and no other output took its place.
    pub evaluated: Option<Evaluated<T>>,
    /// w with A1, pᵀ Q with A2, and fᵀ c with A3.
    outputs: [Output<T>; 3],
}

impl<T: Float> Passes<T> {
    /// Both sides, as far as they are needed.
    pub(super) fn run(
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        sides: &Sides<'_, T>,
        needs: &OutputSet,
        Besides { seed, rows }: Besides,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let Polynomial { coordinates, tree, exact_keys, .. } = polynomial;
        let strip = polynomial.strip::<T>();
        let ((n, d1), (m, d2)) = (problem.A1.dim(), problem.A2.dim());
        let (d, d3, dv) = (coordinates.dimension(), problem.A3.ncols(), problem.Y.ncols());
        let rows_of = |is_wanted: bool, count: usize, width: usize| {
            is_wanted.then(|| buffer::zeros::<T>(buffer::size(&[count, width])?)).transpose()
        };
        let sums_of = |is_wanted: bool, size: usize| is_wanted.then(|| buffer::zeros::<f64>(size)).transpose();
        // Rows of w go through the one product that there is, which dL/dA1 needs for its own.
        let rows = rows && needs.weights && !needs.A1 && !problem.is_causal && exact_keys.is_empty();
        let product = if rows { coordinates.to_w() } else { coordinates.to_A1(problem) };
        let product = Product::new(product, strip)?;
        let moments = polynomial.moments(dv)?;
        let mut operands = polynomial.queries(problem, sides, moments.as_ref())?;
        operands.product = (needs.A1 || rows).then_some(&product);
        let has_keys = needs.key_side();
        let share = QUERY_SHARE[usize::from(!problem.is_causal)];
        let end = if has_keys { share } else { 1.0 };
        // Where a w for each row is wanted for nothing but its sum with the rows, moments of the queries say the same
        // for less.
        let mut contraction = if needs.weights && !needs.A1 && !rows { polynomial.contraction(dv)? } else { None };
        let mut lost = 0.0;
        let (side, A1, norms, residuals, evaluated) = loop {
            operands.slopes = needs.query_slopes() && contraction.is_none();
            let count = if needs.key_slopes() || contraction.is_some() { tree.count() } else { tree.inner() };
            let has_moments = (has_keys || contraction.is_some()) && !problem.is_causal;
            let sizes = [
                (needs.weights && contraction.is_none()).then_some(d * d1),
                if has_moments { Some(buffer::size(&[count, dv + 1])?) } else { None },
                (has_keys && !exact_keys.is_empty()).then_some(exact_keys.len() * (dv + d)),
            ];
            let mut A1 = rows_of(needs.A1, n, d1)?;
            let mut w = rows_of(rows, n, d)?;
            let mut o = rows_of(rows, n, dv)?;
            let mut norms = buffer::zeros(if problem.is_causal { 0 } else { n })?;
            let mut residuals = rows_of(has_keys && problem.is_causal, n, dv + 1)?;
            let outputs = RowOutputs {
                slopes: if rows { (w.as_deref_mut(), d) } else { (A1.as_deref_mut(), d1) },
                values: o.as_deref_mut(),
                norms: (!problem.is_causal).then_some(&mut norms),
                residuals: residuals.as_deref_mut(),
            };
            let mut side = query_side(polynomial, operands, outputs, sizes, None, end, run)?;
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
            break (side, A1, norms, residuals, w.zip(o));
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
                sides,
                moments: None,
                products: [needs.A2.then_some(&keys), needs.A3.then_some(&values)],
                slopes: needs.key_slopes(),
            };
            let rows = [(A2.as_deref_mut(), d2), (A3.as_deref_mut(), d3)];
            key_side(polynomial, operands, answers, KeyOutputs { rows, sums: [needs.W_K, needs.Y] }, end, run)?
        } else {
            [sums_of(needs.W_K, d * d2)?, sums_of(needs.Y, dv * d3)?]
        };
        let outputs = [(weights, A1), (W_K, A2), (Y, A3)].map(|(sum, rows)| Output { sum, rows });
        let evaluated = match evaluated {
            Some((w, output)) => Some(Evaluated { w, output, unsafe_rows: buffer::copied(&found.unsafe_rows)? }),
            None => None,
        };
        let mut passes = Passes { found, residuals: norms, largest_key, lost, evaluated, outputs };
        if let Some(sums) = exact {
            passes.add_exact(polynomial, problem, sides, &sums)?;
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
        let [queries, keys, values] = &self.outputs;
        let small = |of: &Output<T>, height: usize, input: ArrayView2<'_, T>| -> Result<Array2<f64>, Error> {
            matrix(made(&of.sum, wrt)?.clone(), height, input.ncols())
        };
        let (rows, columns) = problem.dim(wrt);
        let array = |of: &Output<T>| matrix(buffer::copied(made(&of.rows, wrt)?)?, rows, columns);
        let d = coordinates.dimension();
        Ok(match wrt {
            Wrt::X | Wrt::WQ => coordinates.gradient(wrt, small(queries, d, problem.A1)?, problem),
            Wrt::WK => coordinates.gradient(wrt, small(keys, d, problem.A2)?, problem),
            Wrt::Y => coordinates.gradient(wrt, small(values, problem.Y.ncols(), problem.A3)?, problem),
            Wrt::A1 => array(queries)?,
            Wrt::A2 => array(keys)?,
            Wrt::A3 => array(values)?,
            Wrt::A => {
                let mut sum = array(queries)?;
                for part in [keys, values] {
                    sum.iter_mut().zip(made(&part.rows, wrt)?).for_each(|(sum, &term)| *sum += term);
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
        sides: &Sides<'_, T>,
        sums: &[f64],
    ) -> Result<(), Error> {
        let Some([keys, values]) = &sides.exact else { return Ok(()) };
        let dv = problem.Y.ncols();
        let sums = view(sums, polynomial.exact_keys.len(), dv + polynomial.coordinates.dimension())?;
        let (of_values, of_keys) = sums.split_at(Axis(1), dv);
        let (key_map, value_map) = (polynomial.coordinates.to_A2(problem), polynomial.coordinates.to_A3(problem));
        let [_, to_keys, to_values] = &mut self.outputs;
        for (output, sums, rows, (map, unit)) in
            [(to_keys, of_keys, keys.rows, key_map), (to_values, of_values, values.rows, value_map)]
        {
            // (pᵀ Q)ᵀ A2 or (fᵀ c)ᵀ A3.
            let more = sums.t().dot(&wide(view(rows.data, rows.count, rows.width)?));
            output.sum.iter_mut().flatten().zip(&more).for_each(|(sum, more)| *sum += more);
            let Some(output) = &mut output.rows else { continue };
            let width = map.ncols();
            for (&key, row) in polynomial.exact_keys.iter().zip(sums.dot(&map).rows()) {
                let to = &mut output[key * width..][..width];
                to.iter_mut().zip(row).for_each(|(to, x)| *to = T::narrow(unit * x));
            }
        }
        Ok(())
    }
}

impl Coordinates {
    /// The gradient with respect to a weight from its sum over tokens in the coordinates: of w ⊗ a1 for X and W_Q, of
    /// pᵀ Q ⊗ a2 for W_K and of fᵀ c ⊗ a3 for Y; rounded once.
    pub(super) fn gradient<T: Float>(&self, wrt: Wrt, sum: Array2<f64>, problem: &Problem<'_, T>) -> Array2<T> {
        let (map, unit) = match wrt {
            Wrt::WK => (&self.transposed, self.slope_unit()),
            Wrt::Y => return rounded(sum.t(), self.value_unit()),
            _ => (&self.inverse, problem.scale * self.slope_unit()),
        };
        rounded(sum.reversed_axes().dot(map).view(), unit)
    }
}

/// factor · array, rounded once.
fn rounded<T: Float>(array: ArrayView2<'_, f64>, factor: f64) -> Array2<T> {
    array.mapv(|x| T::narrow(x * factor)).as_standard_layout().into_owned()
}

fn made<V>(value: &Option<V>, wrt: Wrt) -> Result<&V, Error> {
    value.as_ref().ok_or_else(|| Error::Internal(format!("what dL/d{} is made of was not computed", wrt.name())))
}
