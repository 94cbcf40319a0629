//! Gradients from the factors (docs/math.md, equation 10.13), without those of rank k1 dv as matrices.
//!
//! p̃ M = U3 (V3ᵀ M) − U4 (V4ᵀ M) is, by the definition of the row-wise Kronecker product,
//!
//! ```text
//! V1ᵀ ([h, 1] ⊘ M) = G, of (k1, (dv + 1) d),     (p̃ M)_j = Σ_l [c̃_j, −r̃_j]_l (U1 G)_(j, l)
//! ```
//!
//! and p̃ᵀ M the same with both sides exchanged: as many products of numbers, in blocks of rows that stay in a cache.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, s};

use super::kronecker::kronecker_rows;
use super::{Factors, Owned};
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::in_range;
use crate::linalg::products::{matrix, product, transposed_product, transposed_sum, view, view_mut};
use crate::options::Options;
use crate::problem::Wrt;
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

impl<T: Float> Factors<T> {
    /// dL/d`wrt` by eqs. (2.5) to (2.12) with the factors for f and p, eq. (10.13), in the shape of the input.
    ///
    /// Time O((n + m) k1 dv d), no matrix of n × m nor of n × k1 dv; memory O(k1 dv d) and the result.
    ///
    /// # Errors
    /// [`Error::Option`] where the problem has no such input; [`Error::Range`] where the gradient leaves the range of
    /// the precision; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub fn gradient(&self, wrt: Wrt, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
        compiled!(
            T,
            Factors::<T>::gradient_in as fn(&Factors<T>, Wrt, &Options, Option<Watch<'_>>) -> Result<Array2<T>, Error>
        )(self, wrt, options, watch)
    }

    fn gradient_in(&self, wrt: Wrt, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
        options.isa()?;
        self.check(wrt)?;
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let gradient = match wrt {
            Wrt::A => {
                let mut sum = self.part(Wrt::A1, &mut run)?;
                for wrt in [Wrt::A2, Wrt::A3] {
                    sum += &self.part(wrt, &mut run)?;
                }
                sum
            }
            wrt => self.part(wrt, &mut run)?,
        };
        in_range(
            &format!("the gradient with respect to {}", wrt.name()),
            T::NAME,
            gradient.iter().all(|x| x.is_finite()),
        )?;
        Ok(gradient)
    }

    fn part(&self, wrt: Wrt, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
        let s = self.scale;
        let times = |rows: Array2<T>, weights: &Array2<T>, run: &mut Run<'_>| {
            matrix(product(rows.view(), weights.t(), s, run)?, rows.nrows(), weights.nrows())
        };
        Ok(match (wrt, &self.weights) {
            (Wrt::X | Wrt::WQ, _) => transposed_product(self.A1.view(), self.p_times_keys(run)?.view(), s, run)?,
            (Wrt::WK, Owned::Pair(.., A2)) => transposed_product(A2.view(), self.p_times_queries(run)?.view(), s, run)?,
            (Wrt::A1, Owned::Product(X)) => times(self.p_times_keys(run)?, X, run)?,
            (Wrt::A1, Owned::Pair(W_Q, ..)) => times(self.p_times_keys(run)?, W_Q, run)?,
            (Wrt::A2, Owned::Pair(_, W_K, _)) => times(self.p_times_queries(run)?, W_K, run)?,
            (Wrt::A2, Owned::Product(_)) => {
                let mut rows = self.p_times_queries(run)?;
                rows.mapv_inplace(|x| T::narrow(s * x.widen()));
                rows
            }
            (Wrt::Y, _) => transposed_product(self.A3.view(), self.f_times_residual(run)?.view(), 1.0, run)?,
            (Wrt::A3, _) => {
                let rows = self.f_times_residual(run)?;
                matrix(product(rows.view(), self.Y.t(), 1.0, run)?, rows.nrows(), self.Y.nrows())?
            }
            _ => return Err(Error::Internal("an input that the problem does not have".into())),
        })
    }

    /// p̃ K, (n, d), for the centred keys.
    fn p_times_keys(&self, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
        let Factors { U1, V1, left, right, key, .. } = self;
        spread(U1, left, &gathered(V1, right, key, run)?, run)
    }

    /// p̃ᵀ Q, (m, d).
    fn p_times_queries(&self, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
        let Factors { U1, V1, left, right, query, .. } = self;
        spread(V1, right, &gathered(U1, left, query, run)?, run)
    }

    /// f̃ᵀ c̃, (m, dv).
    fn f_times_residual(&self, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
        let sums = transposed_product(self.U1.view(), self.U2(), 1.0, run)?;
        matrix(product(self.V1.view(), sums.view(), 1.0, run)?, self.V1.nrows(), sums.ncols())
    }
}

/// featuresᵀ (columns ⊘ M), (k1, e d): sums over all rows.
fn gathered<T: Float>(
    features: &Array2<T>,
    columns: &Array2<T>,
    M: &Array2<T>,
    run: &mut Run<'_>,
) -> Result<Array2<T>, Error> {
    let width = buffer::size(&[columns.ncols(), M.ncols()])?;
    transposed_sum((features.ncols(), width), features.nrows(), 1.0, run, |range, out| {
        let mut block = buffer::zeros::<T>(buffer::size(&[range.len(), width])?)?;
        kronecker_rows(columns.view(), M.view(), range.clone(), &mut block);
        let block = view(&block, range.len(), width)?;
        general_mat_mul(T::one(), &features.slice(s![range, ..]).reversed_axes(), &block, T::zero(), out);
        Ok(())
    })
}

/// Row j is Σ_l columns_jl (features_j sums)_l, (n, d), for sums of (k1, e d).
fn spread<T: Float>(
    features: &Array2<T>,
    columns: &Array2<T>,
    sums: &Array2<T>,
    run: &mut Run<'_>,
) -> Result<Array2<T>, Error> {
    let (n, e, width) = (features.nrows(), columns.ncols(), sums.ncols());
    let d = width / e.max(1);
    let mut out = buffer::zeros(buffer::size(&[n, d])?)?;
    if d > 0 {
        run.for_each(out.chunks_mut(PRODUCT_ROWS * d).enumerate(), |(block, out), cancel| {
            cancel.check()?;
            let (first, count) = (block * PRODUCT_ROWS, out.len() / d);
            let range = s![first..first + count, ..];
            let mut products = buffer::zeros::<T>(buffer::size(&[count, width])?)?;
            let mut to = view_mut(&mut products, count, width)?;
            general_mat_mul(T::one(), &features.slice(range), sums, T::zero(), &mut to);
            let rows = out.chunks_exact_mut(d).zip(products.chunks_exact(width));
            for ((out, products), columns) in rows.zip(columns.slice(range).rows()) {
                for (products, &weight) in products.chunks_exact(d).zip(columns) {
                    out.iter_mut().zip(products).for_each(|(to, &x)| *to += weight * x);
                }
            }
            Ok(())
        })?;
    }
    matrix(out, n, d)
}
