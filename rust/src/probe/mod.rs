//! A look at data before anything is decided: lengths of rows, values weighed by e^t and by a polynomial, e^t.

mod exponential;
mod kernels;
pub mod lengths;
pub mod weighed;

use std::ops::Range;

use ndarray::ArrayView2;

use self::kernels::Kernels;
use self::lengths::{Measured, Measures};
use self::weighed::{Looks, Sums, Weighed};
use crate::error::Error;
use crate::float::Float;
use crate::kernels::{InputMap, Strips};
use crate::linalg::layout::Rows;
use crate::options::Isa;

/// Replaces every t by e^t, in working precision, where |t| log2 e is at most [`Float::UNSHIFTED_MAX`].
pub fn exponentials<T: Float>(isa: Isa, numbers: &mut [T]) {
    Kernels::of(isa).exponentials(numbers)
}

impl<'a, T: Float> Measured<'a, T> {
    /// `rows` with the map W, (width of the rows, columns), which may have none.
    pub fn new(rows: Rows<'a, T>, map: ArrayView2<'_, f64>, shift: Option<&[f64]>, isa: Isa) -> Result<Self, Error> {
        Ok(Measured { side: InputMap::new(rows, map, shift, Kernels::<T>::of(isa).keys)?, isa })
    }

    /// Measures the rows `of`.
    pub fn measure(&self, of: Range<usize>, to: Measures<'_>) -> Result<(), Error> {
        Kernels::of(self.isa).lengths(self, of, to)
    }
}

impl<T: Float> Weighed<T> {
    /// Nothing weighed yet.
    pub fn new(looks: Looks<T>, isa: Isa) -> Result<Self, Error> {
        let count = looks.centres.len();
        let rows = Rows { data: &looks.queries, count, width: looks.queries.len() / count.max(1) };
        Ok(Weighed { queries: Strips::new(rows, Kernels::<T>::of(isa).keys)?, looks, isa })
    }

    /// How many keys a query sees, and for how many of them P may stand.
    pub fn ends(&self, query: usize) -> [usize; 2] {
        self.looks.ends[query]
    }

    /// Adds the contribution of a few hundred keys, of which the first has the index `first`; false, and nothing added,
    /// where a logit is too large for an exponential alone. NaN comes through.
    pub fn add(&self, first: usize, keys: Rows<'_, T>, values: Rows<'_, T>, sums: &mut Sums) -> Result<bool, Error> {
        Kernels::of(self.isa).weigh(self, first, keys, values, sums)
    }
}
