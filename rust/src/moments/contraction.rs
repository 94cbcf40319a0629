//! Σ_j a_j ⊗ w_j from the moments of both sides: no w of its own for any row (docs/math.md, equation 137).

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, Axis};

use super::fit::Polynomial;
use super::sums::{Parts, Sums};
use crate::error::Error;
use crate::kernels::rhs::C;
use crate::linalg::products::matrix;
use crate::runtime::pool::Run;

impl Polynomial {
    /// Whether dL/dX can be had from moments: where rows of A1 can be had from their coordinates, and all keys are in them.
    pub(super) fn contracts(&self) -> bool {
        self.coordinates.row.is_some() && self.exact_keys.is_empty() && !self.is_causal
    }

    /// Σ_j w_j ⊗ a_j, `[dimension][d1]`, from N_β, the sums of the queries over all |β| ≤ g + 1.
    ///
    /// Time 2 N_g d² (dv + 1), memory O(d² + d dv) a part.
    pub(super) fn contraction(&self, queries: &[f64], dv: usize, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
        let Polynomial { tree, coordinates, sums: keys, .. } = self;
        let Some(row) = &coordinates.row else {
            return Err(Error::Internal("rows of A1 are not to be had from their coordinates".into()));
        };
        let (d, width) = (coordinates.dimension(), dv + 1);
        let raised = tree.raised()?;
        let weights = tree.weights(|grade| self.coefficients.get(grade).copied().unwrap_or(0.0))?;
        let parts = Parts::new(tree.inner(), d * d);
        let all_sums = [Sums::new(Some(d * d))];
        run.for_each(0..parts.count(), |part, cancel| {
            let mut sum = Array2::zeros((d, d));
            let mut sides = [Array2::zeros((d, width)), Array2::zeros((d, width))];
            for beta in parts.rows(part) {
                if beta % C == 0 {
                    cancel.check()?;
                }
                for (side, moments) in sides.iter_mut().zip([queries, keys]) {
                    for (to, &index) in side.axis_iter_mut(Axis(0)).zip(&raised[beta * d..]) {
                        let from = &moments[index as usize * width..][..width];
                        to.into_iter().zip(from).for_each(|(to, from)| *to = *from);
                    }
                }
                let [query, key] = &sides;
                general_mat_mul(weights[beta], key, &query.t(), 1.0, &mut sum);
            }
            Sums::with(&all_sums, part, |[sums]| {
                sums.into_iter().flatten().zip(&sum).for_each(|(to, from)| *to = *from);
                Ok(())
            })
        })?;
        let [sums] = all_sums.map(Sums::total);
        let sum = matrix(sums?.unwrap_or_default(), d, d)?;
        Ok(sum.dot(row).iter().copied().collect())
    }
}
