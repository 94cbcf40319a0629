//! Σ_j a_j ⊗ w_j from the moments of both sides: no w of its own for any row (docs/math.md, equation 8.12).

use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis};

use super::fit::Polynomial;
use super::kernels::Kernels;
use super::parts::Parts;
use super::queries::{Queries, QueryTask};
use crate::certificate::estimated::{Correction, Drawing};
use crate::certificate::statistical::Capped;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::rhs::C;
use crate::linalg::products::{matrix, view_mut};
use crate::runtime::buffer;
use crate::runtime::pool::{Cancel, Run};
use crate::runtime::rng::Rng;
use crate::runtime::sums::Sums;

/// Blocks that are summed both ways to estimate the error of integer sums: a thirtieth of the time of the query side
/// where there are 512.
pub const COMPARED: usize = 8;

/// A contraction with the moments of the keys.
pub struct Contraction<'a> {
    polynomial: &'a Polynomial,
    /// From coordinates to rows of A1, (d, d1).
    row: &'a Array2<f64>,
    /// β + e_i of every |β| ≤ g, `[count][d]`.
    raised: Vec<u32>,
    dv: usize,
}

impl Polynomial {
    /// Contraction that gives dL/dX from moments, where rows of A1 follow from their coordinates and all keys are in
    /// the moments.
    pub(super) fn contraction(&self, dv: usize) -> Result<Option<Contraction<'_>>, Error> {
        let Some(row) = self.coordinates.row.as_ref().filter(|_| self.exact_keys.is_empty() && !self.is_causal) else {
            return Ok(None);
        };
        let raised = self.tree.raised()?;
        Ok(Some(Contraction { polynomial: self, row, raised, dv }))
    }
}

impl Contraction<'_> {
    /// Σ_j w_j ⊗ a_j, `[dimension][d1]`, from N_β, the sums of the queries over all |β| ≤ g + 1.
    ///
    /// Time 2 N_g d² (dv + 1), memory O(d² + d dv) a part.
    pub fn of(&self, queries: &[f64], run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
        let d = self.polynomial.coordinates.dimension();
        let parts = Parts::new(self.polynomial.tree.inner(), d * d);
        let sums = Sums::new([Some(d * d)]);
        sums.each(0, parts.all(), run, |monomials, [sum], cancel| {
            self.part(queries, monomials, sum.unwrap_or_default(), cancel)
        })?;
        let [sum] = sums.totals()?;
        Ok(matrix(sum.unwrap_or_default(), d, d)?.dot(self.row).iter().copied().collect())
    }

    /// `sum` += Σ_j q_j ⊗ w_j over some β, `[d][d]`.
    fn part(&self, queries: &[f64], monomials: Range<usize>, sum: &mut [f64], cancel: &Cancel) -> Result<(), Error> {
        let (d, width) = (self.polynomial.coordinates.dimension(), self.dv + 1);
        let mut sum = view_mut(sum, d, d)?;
        let mut sides = [Array2::zeros((d, width)), Array2::zeros((d, width))];
        for beta in monomials {
            if beta % C == 0 {
                cancel.check()?;
            }
            for (side, moments) in sides.iter_mut().zip([queries, &self.polynomial.keys.sums]) {
                for (to, &index) in side.axis_iter_mut(Axis(0)).zip(&self.raised[beta * d..]) {
                    let from = &moments[index as usize * width..][..width];
                    to.into_iter().zip(from).for_each(|(to, from)| *to = *from);
                }
            }
            let [query, key] = &sides;
            general_mat_mul(self.polynomial.coefficients.values[beta], key, &query.t(), 1.0, &mut sum);
        }
        Ok(())
    }

    /// Estimate of the error of Σ_j a_j ⊗ w_j that is due to integer sums over the queries: blocks are drawn in
    /// proportion to `lost`, the most that integers may lose in each, and summed both ways (docs/math.md, equation
    /// 9.66). Infinite where the blocks do not tell.
    ///
    /// Time that of the query side for 2 [`COMPARED`] blocks, and as many contractions.
    pub fn lost<T: Float>(
        &self,
        operands: &Queries<'_, T>,
        lost: &[f64],
        seed: u64,
        run: &mut Run<'_>,
    ) -> Result<f64, Error> {
        let Polynomial { tree, coordinates, isa, .. } = self.polynomial;
        let draws = Capped::new(lost)?.draw(&mut Rng::new(seed), COMPARED)?;
        if draws.is_empty() {
            return Ok(0.0);
        }
        let kernels = Kernels::<T>::of(*isa);
        let (n, size) = (operands.target.count, buffer::size(&[tree.count(), self.dv + 1])?);
        let terms = buffer::size(&[self.row.ncols(), coordinates.dimension()])?;
        let mut all = buffer::zeros::<f64>(buffer::size(&[draws.len(), terms])?)?;
        let tasks = draws.iter().zip(all.chunks_exact_mut(terms.max(1)));
        run.for_each(tasks, |(draw, to), cancel| {
            let rows = draw.row * C..n.min((draw.row + 1) * C);
            let mut both = [(true, buffer::zeros::<f64>(size)?), (false, buffer::zeros(size)?)];
            for (integers, sums) in &mut both {
                let task = QueryTask { rows: rows.clone(), sums: [None, Some(sums), None], ..QueryTask::default() };
                kernels.queries(&Queries { integers: *integers, ..*operands }, task, cancel)?;
            }
            let [(_, mut difference), (_, floats)] = both;
            difference.iter_mut().zip(&floats).for_each(|(difference, float)| *difference -= float);
            let (d, mut sum) = (coordinates.dimension(), buffer::zeros(coordinates.dimension().pow(2))?);
            self.part(&difference, 0..tree.inner(), &mut sum, cancel)?;
            let sum = matrix(sum, d, d)?.dot(self.row);
            to.iter_mut().zip(&sum.reversed_axes().dot(&coordinates.inverse)).for_each(|(to, from)| *to = *from);
            Ok(())
        })?;
        let weights = buffer::collected(draws.iter().map(|draw| 1.0 / (draws.len() as f64 * draw.probability)))?;
        let ones = matrix(buffer::filled(draws.len(), 1.0)?, draws.len(), 1)?;
        let terms = matrix(all, draws.len(), terms)?;
        Ok(Correction::new(&[(ones.view(), terms.view())], Drawing::Weighted(&weights))?.uncorrected())
    }
}

#[cfg(test)]
mod tests;
