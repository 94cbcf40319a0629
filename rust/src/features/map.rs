//! The map φ from rows to features whose inner products are P (docs/math.md, equation 10.5).

use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix1, Ix2};

use super::balance::Balance;
use super::expansion::{Expansion, Kernels, Space};
use super::index_set::IndexSet;
use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::float::Float;
use crate::kernels::InputMap;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{row_major, rows};
use crate::linalg::products::matrix;
use crate::options::{Isa, Options};
use crate::problem::blame;
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// One side of U Vᵀ = P, in some precision: x → factor(x) · weights_β x′^β with the coordinates x′ of x.
pub(crate) struct FeatureMap<'a, T> {
    set: &'a IndexSet,
    isa: Isa,
    mean: CowArray<'a, f64, Ix1>,
    map: CowArray<'a, f64, Ix2>,
    weights: Vec<T>,
    /// The direction and the offset of the logarithm of a factor of the whole row; 1 without them.
    exponent: Option<(Array1<f64>, f64)>,
}

/// Which of the two maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Query,
    Key,
}

impl Side {
    /// Its name in the Python API.
    pub fn argument(self) -> &'static str {
        match self {
            Side::Query => "query",
            Side::Key => "key",
        }
    }
}

impl IndexSet {
    /// x^β for the rows x of `array`, (n, d), and all members, (n, N), in the order of the set. Time n (N + d²), no
    /// memory beside the result.
    ///
    /// # Errors
    /// [`Error::Shape`] unless rows have a number for each coordinate; [`Error::NonFinite`] with the first that is not
    /// finite; [`Error::Range`] where a power leaves the range of the precision; [`Error::OutOfMemory`],
    /// [`Error::Deadline`], [`Error::Cancelled`].
    pub fn monomials<T: Float>(
        &self,
        array: ArrayView2<'_, T>,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Array2<T>, Error> {
        let isa = options.isa()?;
        if array.ncols() != self.dimension {
            let wanted = format!("{} columns, one for each coordinate", self.dimension);
            return Err(Error::Shape { argument: "array", found: array.shape().to_vec(), wanted });
        }
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let given = row_major(array)?;
        let (powers, finite) = FeatureMap::powers(self, isa)?.apply(rows(&given)?, &mut run)?;
        if finite {
            return Ok(powers);
        }
        let remedy = "scale the rows down, or use float64";
        let error = Error::Range { quantity: "a power of a coordinate".into(), precision: T::NAME, remedy };
        Err(blame(error, [("array", &array)]))
    }
}

impl<'a, T: Float> FeatureMap<'a, T> {
    /// The monomials themselves, of the rows themselves.
    fn powers(set: &'a IndexSet, isa: Isa) -> Result<Self, Error> {
        let d = set.dimension();
        let (mean, map) = (Array1::zeros(d).into(), Array2::eye(d).into());
        let weights = buffer::filled(set.count(), T::one())?;
        Ok(FeatureMap { set, isa, mean, map, weights, exponent: None })
    }

    /// For the coefficients P_0, …, P_g of the powers of the logit; `factors` for exp(s q kᵀ), without them for e^t.
    pub fn new(
        balance: &'a Balance,
        set: &'a IndexSet,
        power: &[f64],
        side: Side,
        factors: bool,
        isa: Isa,
    ) -> Result<Self, Error> {
        let (mean, map) = match side {
            Side::Query => (&balance.query_mean, &balance.query_map),
            Side::Key => (&balance.key_mean, &balance.key_map),
        };
        let exponent = match side {
            _ if !factors => None,
            Side::Query => Some(balance.query_exponent()),
            Side::Key => Some(balance.key_exponent()),
        };
        // The query side has the signs of P and of the scale.
        let sign = |grade: usize| match side {
            Side::Query if grade % 2 == 1 => balance.sign(),
            _ => 1.0,
        };
        let root = |grade: usize, multinomial: f64| {
            let coefficient = power.get(grade).copied().unwrap_or(0.0);
            let root = (coefficient.abs() * multinomial).sqrt();
            if side == Side::Query { root * coefficient.signum() * sign(grade) } else { root }
        };
        let mut weights = buffer::with_capacity(set.count())?;
        for grade in 0..=set.degree() {
            weights.extend(set.grade(grade).map(|index| T::narrow(root(grade, set.multinomials()[index]))));
        }
        Ok(FeatureMap { set, isa, mean: mean.into(), map: map.into(), weights, exponent })
    }

    /// N, the number of features.
    pub fn count(&self) -> usize {
        self.set.count()
    }

    /// The features of all rows, (n, N), and whether they are finite, as they are of rows that are. Time n (N + d²).
    pub fn apply(&self, rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<(Array2<T>, bool), Error> {
        let count = self.count();
        let size = buffer::size(&[rows.count, count])?;
        let mut out = buffer::zeros(size)?;
        let mut finite = buffer::filled(rows.count.div_ceil(PRODUCT_ROWS), false)?;
        let kernels = Kernels::<T>::of(self.isa);
        let exponent = self.exponent.as_ref().and_then(|(direction, offset)| Some((direction.as_slice()?, *offset)));
        let input = InputMap::new(rows, self.map.view(), self.mean.as_slice(), kernels.keys)?;
        let expansion = Expansion { input, steps: self.set.steps(), weights: &self.weights, exponent };
        let tasks = out.chunks_mut(PRODUCT_ROWS * count).zip(&mut finite).enumerate();
        run.for_each(tasks, |(block, (out, finite)), cancel| {
            let mut space = Space::new(&expansion, kernels.rows)?;
            *finite = true;
            for (group, out) in out.chunks_mut(kernels.rows * count).enumerate() {
                cancel.check()?;
                let first = block * PRODUCT_ROWS + group * kernels.rows;
                *finite &= kernels.features(&expansion, first, &mut space, out);
            }
            Ok(())
        })?;
        Ok((matrix(out, rows.count, count)?, finite.into_iter().all(|finite| finite)))
    }
}
