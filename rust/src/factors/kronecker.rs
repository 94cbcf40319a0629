//! The row-wise Kronecker product (docs/math.md, equation 10.11).

use std::ops::Range;

use ndarray::{Array2, ArrayView2, s};

use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// U ⊘ W: row j is U_j ⊗ W_j (Khatri and Rao's product by rows), so that (U ⊘ W)(V ⊘ Z)ᵀ = U Vᵀ ∘ W Zᵀ.
/// (n, a), (n, b) → (n, a b), in time and memory n a b.
///
/// # Errors
/// [`Error::Shape`] where the numbers of rows differ; [`Error::OutOfMemory`] before anything is computed;
/// [`Error::Deadline`], [`Error::Cancelled`].
///
/// ```
/// use attngrad::{Options, row_kronecker};
/// use ndarray::array;
///
/// let (U, W) = (array![[1.0, 2.0], [3.0, 4.0]], array![[10.0, 1.0], [10.0, 1.0]]);
/// let product = row_kronecker(U.view(), W.view(), &Options::default(), None)?;
/// assert_eq!(product, array![[10.0, 1.0, 20.0, 2.0], [30.0, 3.0, 40.0, 4.0]]);
/// # Ok::<(), attngrad::Error>(())
/// ```
pub fn row_kronecker<T: Float>(
    U: ArrayView2<'_, T>,
    W: ArrayView2<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Array2<T>, Error> {
    compiled!(
        T,
        row_kronecker_in::<T>
            as fn(ArrayView2<'_, T>, ArrayView2<'_, T>, &Options, Option<Watch<'_>>) -> Result<Array2<T>, Error>
    )(U, W, options, watch)
}

fn row_kronecker_in<T: Float>(
    U: ArrayView2<'_, T>,
    W: ArrayView2<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Array2<T>, Error> {
    options.isa()?;
    let (n, width) = (U.nrows(), buffer::size(&[U.ncols(), W.ncols()])?);
    if W.nrows() != n {
        let wanted = format!("U has that many rows, so W needs {n} rows");
        return Err(Error::Shape { argument: "W", found: W.shape().to_vec(), wanted });
    }
    let mut out = buffer::zeros(buffer::size(&[n, width])?)?;
    if width > 0 {
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        run.for_each(out.chunks_mut(PRODUCT_ROWS * width).enumerate(), |(block, out), cancel| {
            cancel.check()?;
            let first = block * PRODUCT_ROWS;
            kronecker_rows(U, W, first..first + out.len() / width, out);
            Ok(())
        })?;
    }
    matrix(out, n, width)
}

/// Some rows of the product, row-major.
pub(super) fn kronecker_rows<T: Float>(U: ArrayView2<'_, T>, W: ArrayView2<'_, T>, range: Range<usize>, out: &mut [T]) {
    let (a, b) = (U.ncols(), W.ncols());
    let (U, W) = (U.slice(s![range.clone(), ..]), W.slice(s![range, ..]));
    for ((out, u), w) in out.chunks_exact_mut((a * b).max(1)).zip(U.rows()).zip(W.rows()) {
        for (out, &u) in out.chunks_exact_mut(b.max(1)).zip(u) {
            out.iter_mut().zip(w).for_each(|(to, &w)| *to = u * w);
        }
    }
}
