//! The passes over the queries and the keys, and the gradients that are made of what they leave.

use ndarray::{Array2, ArrayView2};

use super::collect::Keys;
use super::evaluate::Moments;
use super::fit::{Inputs, Polynomial, Sides};
use super::kernels::Kernels;
use super::keys::{KeySide, KeyTask};
use super::needs::Needs;
use super::parts::{Parts, Pieces, Sums};
use super::queries::{Found, QueryTask};
use crate::certificate::moments::Buckets;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::in_range;
use crate::linalg::norms::wider;
use crate::linalg::products::matrix;
use crate::problem::{Problem, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Rows of outputs and sums that the passes leave behind, all in their units.
pub(super) struct Passes<T> {
    pub found: Found,
    /// ‖c‖ of every row, in its unit; nothing under a mask.
    pub residuals: Vec<f64>,
    /// max ‖k‖ of the keys that are seen.
    pub largest_key: f64,
    /// wᵀ A1, (d, d1).
    pub weights: Option<Vec<f64>>,
    pub A1: Option<Vec<T>>,
    /// (pᵀ Q)ᵀ A2, (d, d2).
    pub W_K: Option<Vec<f64>>,
    pub A2: Option<Vec<T>>,
    /// (fᵀ c)ᵀ A3, (dv, d3).
    pub Y: Option<Vec<f64>>,
    pub A3: Option<Vec<T>>,
}

impl<T: Float> Passes<T> {
    /// Nothing but what the query side found.
    pub(super) fn of(found: Found) -> Self {
        let residuals = Vec::new();
        Passes { found, residuals, largest_key: 0.0, weights: None, A1: None, W_K: None, A2: None, Y: None, A3: None }
    }

    /// Both sides, as far as they are needed.
    pub(super) fn run(
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sides: &Sides<'_, T>,
        needs: &Needs,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        if problem.is_causal {
            return Passes::causal(polynomial, problem, inputs, sides, needs, run);
        }
        let mut passes = Passes::of(Found::default());
        passes.largest_key = polynomial.largest_key;
        run.phase(if needs.key_side() { 0.7 } else { 1.0 });
        // Where a w for each row is wanted for nothing but its sum with the rows, moments of the queries say the same for less.
        let contracts = needs.weights && !needs.A1 && polynomial.contracts();
        let contracted = Needs { contracts, ..*needs };
        let [mut moment_sums, mut exact_sums] =
            passes.query_side(polynomial, problem, inputs, sides, &contracted, run)?;
        if passes.weights.iter().flatten().any(|x| !x.is_finite()) && contracted.contracts {
            // Powers of a query may be beyond the precision where its logits are not.
            passes = Passes { largest_key: polynomial.largest_key, ..Passes::of(Found::default()) };
            [moment_sums, exact_sums] = passes.query_side(polynomial, problem, inputs, sides, needs, run)?;
        }
        if let Some(sums) = moment_sums {
            run.phase(1.0);
            passes.key_side(polynomial, problem, sides, needs, &sums, run)?;
            if let Some(sums) = exact_sums {
                passes.add_exact(polynomial, problem, inputs, &sums)?;
            }
        }
        Ok(passes)
    }

    /// w and what it is wanted for, or its sum from moments; N_β and what exact keys get where the key side is wanted.
    fn query_side(
        &mut self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sides: &Sides<'_, T>,
        needs: &Needs,
        run: &mut Run<'_>,
    ) -> Result<[Option<Vec<f64>>; 2], Error> {
        let Polynomial { coordinates, tree, .. } = polynomial;
        let kernels = Kernels::<T>::of(polynomial.isa);
        let (n, d1) = problem.A1.dim();
        let (d, dv) = (coordinates.dimension(), problem.Y.ncols());
        let product = polynomial.query_product(problem, kernels.keys)?;
        let moments = polynomial.moments(dv, kernels.keys)?;
        let mut operands = polynomial.queries(problem, inputs, sides, Some(&moments))?;
        operands.product = needs.A1.then_some(&product);
        operands.slopes = needs.query_slopes();
        let count = if needs.key_slopes() || needs.contracts { tree.count() } else { tree.inner() };
        let weight_size = if needs.outer() { d * d1 } else { 0 };
        let moment_size = if needs.query_moments() { buffer::size(&[count, dv + 1])? } else { 0 };
        let exact = !polynomial.exact_keys.is_empty() && needs.key_side();
        let exact_size = if exact { buffer::size(&[polynomial.exact_keys.len(), dv + d])? } else { 0 };
        let exact_sums = Sums::new(exact_size, exact);
        let parts = Parts::new(n, weight_size + moment_size + exact_size);
        let (weight_sums, moment_sums) =
            (Sums::new(weight_size, needs.outer()), Sums::new(moment_size, needs.query_moments()));
        let mut output = if needs.A1 { buffer::zeros::<T>(buffer::size(&[n, d1])?)? } else { Vec::new() };
        let mut found = buffer::with_capacity(parts.count())?;
        for part in 0..parts.count() {
            found.push(Found { buckets: Buckets::new()?, ..Found::of(parts.rows(part).len())? });
        }
        let mut outputs = Pieces::new(&mut output, parts.each() * d1, needs.A1);
        let mut residuals = buffer::zeros(n)?;
        let mut residual_parts = Pieces::new(&mut residuals, parts.each(), true);
        let tasks =
            found.iter_mut().enumerate().map(|(part, found)| (part, found, outputs.next(), residual_parts.next()));
        run.for_each(tasks, |(part, found, output, residuals), cancel| {
            let (mut weights, mut moments) = (Sums::lend(&weight_sums)?, Sums::lend(&moment_sums)?);
            let mut exact = Sums::lend(&exact_sums)?;
            let task = QueryTask {
                rows: parts.rows(part),
                output,
                values: None,
                weight_sums: weights.as_deref_mut(),
                moment_sums: moments.as_deref_mut(),
                exact_sums: exact.as_deref_mut(),
                residuals,
                found,
            };
            kernels.queries(&operands, task, cancel)?;
            Sums::add(&weight_sums, part, weights);
            Sums::add(&moment_sums, part, moments);
            Sums::add(&exact_sums, part, exact);
            Ok(())
        })?;
        self.found.unsafe_rows = Found::unsafe_rows(&found)?;
        for found in found {
            self.found.squares += found.squares;
            self.found.widest = wider(self.found.widest, found.widest);
            self.found.lost += found.lost;
            self.found.buckets.merge(&found.buckets);
        }
        self.A1 = needs.A1.then_some(output);
        self.residuals = residuals;
        let moment_sums = Sums::total(moment_sums)?;
        self.weights = match &moment_sums {
            // Where no row is safe, the moments of the keys need not fit the precision.
            Some(_) if needs.contracts && self.found.unsafe_rows.len() == n => Some(buffer::zeros(d * d1)?),
            Some(sums) if needs.contracts => Some(polynomial.contraction(sums, dv, run)?),
            _ => Sums::total(weight_sums)?,
        };
        Ok([moment_sums.filter(|_| needs.key_side()), Sums::total(exact_sums)?])
    }

    /// pᵀ Q and fᵀ c, and what they are wanted for.
    fn key_side(
        &mut self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        sides: &Sides<'_, T>,
        needs: &Needs,
        sums: &[f64],
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let Polynomial { coordinates, tree, .. } = polynomial;
        let kernels = Kernels::<T>::of(polynomial.isa);
        let (m, d2) = problem.A2.dim();
        let (d, d3, dv) = (coordinates.dimension(), problem.A3.ncols(), problem.Y.ncols());
        let key_product = polynomial.key_product(problem, kernels.keys)?;
        let value_product = polynomial.value_product(problem, kernels.keys)?;
        let moments = Moments::new(tree, &polynomial.coefficients, sums, dv + 1, dv, kernels.keys)?;
        in_range("a moment of the queries", T::NAME, moments.finite)?;
        let operands = KeySide {
            keys: &Keys { tree, keys: &sides.keys, values: &sides.values, left_out: &polynomial.exact_keys },
            moments: Some(&moments),
            key_product: needs.A2.then_some(&key_product),
            value_product: needs.A3.then_some(&value_product),
            slopes: needs.key_slopes(),
        };
        let (key_size, value_size) = (d * d2, dv * d3);
        let parts = Parts::new(m, key_size + value_size);
        let (key_sums, value_sums) = (Sums::new(key_size, needs.W_K), Sums::new(value_size, needs.Y));
        let rows_of = |wanted: bool, width: usize| buffer::zeros::<T>(if wanted { m * width } else { 0 });
        let (mut A2, mut A3) = (rows_of(needs.A2, d2)?, rows_of(needs.A3, d3)?);
        let mut key_outputs = Pieces::new(&mut A2, parts.each() * d2, needs.A2);
        let mut value_outputs = Pieces::new(&mut A3, parts.each() * d3, needs.A3);
        // Where no row is safe there is nothing to sum, and what keys are worth may not fit the precision.
        let safe = self.found.unsafe_rows.len() < problem.A1.nrows();
        let tasks =
            (0..if safe { parts.count() } else { 0 }).map(|part| (part, key_outputs.next(), value_outputs.next()));
        run.for_each(tasks, |(part, key_output, value_output), cancel| {
            let (mut own_keys, mut own_values) = (Sums::lend(&key_sums)?, Sums::lend(&value_sums)?);
            let task = KeyTask {
                rows: parts.rows(part),
                key_output,
                value_output,
                key_sums: own_keys.as_deref_mut(),
                value_sums: own_values.as_deref_mut(),
            };
            kernels.key_side(&operands, task, cancel)?;
            Sums::add(&key_sums, part, own_keys);
            Sums::add(&value_sums, part, own_values);
            Ok(())
        })?;
        self.W_K = Sums::total(key_sums)?;
        self.Y = Sums::total(value_sums)?;
        self.A2 = needs.A2.then_some(A2);
        self.A3 = needs.A3.then_some(A3);
        Ok(())
    }

    /// dL/d`wrt` from what the passes left.
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
                rounded(sum.view(), problem.scale * polynomial.slope_unit())
            }
            Wrt::WK => {
                let sum = small(&self.W_K, (d, d2))?.reversed_axes().dot(&coordinates.transposed);
                rounded(sum.view(), polynomial.slope_unit())
            }
            Wrt::Y => rounded(small(&self.Y, (dv, d3))?.t(), polynomial.value_unit()),
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

    /// Puts what the queries are worth to the exact keys, `sums` (keys, dv + d), where the moments left nothing.
    fn add_exact(
        &mut self,
        polynomial: &Polynomial,
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
        sums: &[f64],
    ) -> Result<(), Error> {
        let (count, dv, d) = (polynomial.exact_keys.len(), problem.Y.ncols(), polynomial.coordinates.dimension());
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
        let (key_map, value_map) = (polynomial.key_map(problem), polynomial.value_map(problem));
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
