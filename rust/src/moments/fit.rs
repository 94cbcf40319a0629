//! The polynomial and the moments of the keys: prepared once for any number of gradients and rows.

use ndarray::{Array1, Array2};

use super::blocks::Kernels as Blocks;
use super::evaluate::{Coefficients, Moments};
use super::kernels::Kernels;
use super::key_sums::KeySums;
use super::keys::KeyFound;
use super::near::Limits;
use super::parts::Parts;
use super::queries::Queries;
use super::sides::Sides;
use crate::certificate::moments::{Counted, Fitted};
use crate::error::Error;
use crate::features::{Coordinates, Monomials};
use crate::float::{Float, compiled};
use crate::kernels::InputMap;
use crate::linalg::layout::rows;
use crate::linalg::products::transposed_product;
use crate::linalg::rows::selected;
use crate::options::{Isa, Options};
use crate::polynomial::reach;
use crate::problem::{Approximation, Identity, Problem, RowMajor};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};
use crate::runtime::sums::Sums;

/// The part of a normaliser that the rounding of its terms may reach in a row that is called safe.
const NOISE: f64 = 1.0 / 64.0;

/// Least ratio of consecutive terms of P at a logit of usual size for sums of integers: the last term is off by some
/// thousandths of itself at most, a fraction of the next one, which P misses.
const WORTH_INTEGERS: f64 = 1.0 / 64.0;

/// Of the grade below, the mean and the covariance of the keys are taken.
const LEAST_DEGREE: usize = 2;

fn worth_integers(degree: usize, spread: f64) -> bool {
    degree >= LEAST_DEGREE && spread / (degree + 1) as f64 >= WORTH_INTEGERS
}

/// The polynomial method made ready for the keys of one problem.
pub struct Polynomial {
    pub(super) coefficients: Coefficients,
    pub(super) coordinates: Coordinates,
    pub(super) tree: Monomials,
    /// The sums over the keys.
    pub(super) keys: KeySums,
    /// Whether sums of the highest grade may be of integers.
    pub(super) integers: bool,
    /// Identity of the problem that it was fitted to; nothing where it is used for that problem alone.
    pub(super) identity: Option<Identity>,
    /// Keys that are in no moment.
    pub(super) exact_keys: Vec<usize>,
    pub(super) is_causal: bool,
    pub(super) isa: Isa,
}

impl Polynomial {
    /// Chooses coordinates and takes the moments of the keys. Those of a causal problem are prefix sums, which every
    /// pass takes anew; then there is no more to do than to choose.
    ///
    /// Time 2 m N (dv + 1) with N = C(d + g + 1, d), memory O(N dv).
    ///
    /// # Errors
    /// [`Error::Option`] where there are too many monomials, with their number; [`Error::OutOfMemory`],
    /// [`Error::Deadline`], [`Error::Cancelled`].
    pub fn fit<T: Float>(
        problem: &Problem<'_, T>,
        approximation: &Approximation,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        compiled!(
            T,
            Polynomial::fit_to::<T>
                as fn(&Problem<'_, T>, &Approximation, bool, &Options, Option<Watch<'_>>) -> Result<Polynomial, Error>
        )(problem, approximation, true, options, watch)
    }

    /// The same; without `slopes` only what o and fᵀ c need.
    pub(crate) fn fit_to<T: Float>(
        problem: &Problem<'_, T>,
        approximation: &Approximation,
        slopes: bool,
        options: &Options,
        watch: Option<Watch<'_>>,
    ) -> Result<Self, Error> {
        let problem = &problem.admitted()?;
        let mut run = Run::new(options, watch);
        let identity = Identity::of(problem, &mut run)?;
        run.phase(1.0);
        let inputs = RowMajor::of(problem)?;
        let polynomial = Polynomial::prepare(&inputs.problem(), approximation, slopes, options, &mut run)?;
        Ok(Polynomial { identity: Some(identity), ..polynomial })
    }

    /// The same for a row-major problem.
    pub(super) fn prepare<T: Float>(
        problem: &Problem<'_, T>,
        approximation: &Approximation,
        slopes: bool,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let mut polynomial = Polynomial::chosen(problem, approximation, options)?;
        if !polynomial.is_causal {
            polynomial.keys = polynomial.key_sums(problem, slopes, run)?;
        }
        Ok(polynomial)
    }

    /// Chooses coordinates from some of the rows; no moments yet.
    pub(super) fn chosen<T: Float>(
        problem: &Problem<'_, T>,
        approximation: &Approximation,
        options: &Options,
    ) -> Result<Self, Error> {
        let exact_keys = approximation.checked_keys(problem)?;
        let coordinates = Coordinates::new(problem, &exact_keys);
        let integers = approximation.integers && !problem.is_causal;
        let polynomial =
            Polynomial::of_coordinates(coordinates, &approximation.coefficients, approximation.degree()?, options)?;
        let integers = integers && worth_integers(polynomial.degree(), polynomial.coordinates.spread);
        Ok(Polynomial { integers, exact_keys, is_causal: problem.is_causal, ..polynomial })
    }

    /// The same in given coordinates; all keys are in the moments, the sums are of floats, and there is no mask.
    pub(super) fn of_coordinates(
        coordinates: Coordinates,
        coefficients: &[f64],
        degree: usize,
        options: &Options,
    ) -> Result<Self, Error> {
        let tree = Monomials::new(coordinates.dimension(), degree + 1)?;
        Ok(Polynomial {
            coefficients: Coefficients::new(&tree, coefficients)?,
            coordinates,
            tree,
            keys: KeySums::unknown(),
            integers: false,
            identity: None,
            exact_keys: Vec::new(),
            is_causal: false,
            isa: options.isa()?,
        })
    }

    /// g.
    pub(super) fn degree(&self) -> usize {
        self.tree.grades() - 1
    }

    /// The sums over the keys of a row-major problem; without `slopes` only what o and fᵀ c need.
    pub(super) fn key_sums<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        slopes: bool,
        run: &mut Run<'_>,
    ) -> Result<KeySums, Error> {
        let (tree, exact) = (&self.tree, self.exact_rows(problem)?);
        let sides = self.sides(problem, &exact)?;
        let count = if slopes { tree.count() } else { tree.inner() };
        let size = buffer::size(&[count, problem.Y.ncols() + 1])?;
        let parts = Parts::new(problem.A2.nrows(), size);
        let sums = Sums::new([Some(size)]);
        let kernels = Kernels::<T>::of(self.isa);
        let found = sums.each(0, parts.all(), run, |rows, [sums], cancel| {
            kernels.key_moments(&sides, rows, self.integers, sums.unwrap_or_default(), cancel)
        })?;
        let [sums] = sums.totals()?;
        let mut all = KeyFound::default();
        found.iter().for_each(|found| all.merge(found));
        let (m, d3) = problem.A3.dim();
        let gram = if d3 * d3 <= size && m > 0 {
            Some(transposed_product(problem.A3, problem.A3, 1.0 / m as f64, run)?.mapv(T::widen))
        } else {
            None
        };
        Ok(KeySums { counted: Counted::whole(m), sums: sums.unwrap_or_default(), found: all, gram })
    }

    /// An error that names the difference, unless keys, values, weights and form are those that it was fitted to. The
    /// queries and E may be any.
    pub(crate) fn require<T: Float>(&self, problem: &Problem<'_, T>, options: &Options) -> Result<(), Error> {
        let Some(identity) = &self.identity else {
            return Err(Error::Internal("a polynomial for one call was kept".into()));
        };
        identity.require(&Identity::of(problem, &mut Run::new(options, None))?)
    }

    /// Data that the error bounds are computed from, for values of this width.
    pub(super) fn fitted(&self, dv: usize) -> Fitted<'_> {
        // Column dv of the moments has those of the keys alone.
        let KeySums { counted, ref sums, ref found, ref gram } = self.keys;
        let alone = |index: usize| sums.get(index * (dv + 1) + dv).copied();
        let (d, second) = (self.coordinates.dimension(), self.tree.grade(2));
        let squares = second.clone().map(|index| Some((self.tree.steps()[index], alone(index)?)));
        let squares: Option<Vec<_>> = squares.collect();
        let squares = squares.filter(|all| !all.is_empty()).map(|all| {
            let mut matrix = Array2::zeros((d, d));
            for ((parent, coordinate), sum) in all {
                let (i, j) = (parent as usize - 1, coordinate as usize);
                (matrix[(i, j)], matrix[(j, i)]) = (sum, sum);
            }
            matrix
        });
        Fitted {
            coefficients: &self.coefficients.powers,
            coordinates: &self.coordinates,
            features: self.tree.inner(),
            counted,
            largest_key: self.keys.largest_key(),
            lost: found.lost,
            balls: found.balls,
            gram: gram.as_ref(),
            values: sums.get(..dv).map(<[f64]>::to_vec),
            keys: self.tree.grade(1).map(alone).collect(),
            squares,
        }
    }

    /// The row of A2 that keys are centred at, (d2).
    pub fn mean(&self) -> &Array1<f64> {
        &self.coordinates.mean
    }

    /// The rows of A2 and of A3 of the exact keys.
    pub(super) fn exact_rows<T: Float>(&self, problem: &Problem<'_, T>) -> Result<[Array2<T>; 2], Error> {
        Ok([selected(problem.A2, &self.exact_keys)?, selected(problem.A3, &self.exact_keys)?])
    }

    /// The inputs of a row-major problem, of which `exact` are the [`Polynomial::exact_rows`], in their coordinates.
    pub(super) fn sides<'b, T: Float>(
        &'b self,
        problem: &'b Problem<'_, T>,
        exact: &'b [Array2<T>; 2],
    ) -> Result<Sides<'b, T>, Error> {
        let Polynomial { coordinates, tree, exact_keys, .. } = self;
        let (strip, mean) = (self.strip::<T>(), coordinates.mean.as_slice());
        let unit = (-coordinates.value_exponent).exp2();
        let Y = problem.Y.mapv(|x| x.widen() * unit);
        let keys = |rows| InputMap::new(rows, coordinates.key.view(), mean, strip);
        let values = |rows| InputMap::new(rows, Y.view(), None, strip);
        let [exact_A2, exact_A3] = exact;
        Ok(Sides {
            tree,
            queries: InputMap::new(rows(&problem.A1)?, coordinates.query.view(), None, strip)?,
            keys: keys(rows(&problem.A2)?)?,
            values: values(rows(&problem.A3)?)?.with_centre(coordinates.input_centre.view(), Y.view()),
            left_out: exact_keys,
            blocks: Blocks::of(self.isa),
            exact: if exact_keys.is_empty() { None } else { Some([keys(rows(exact_A2)?)?, values(rows(exact_A3)?)?]) },
        })
    }

    /// Rows of a strip of the kernels.
    pub(super) fn strip<T: Float>(&self) -> usize {
        Blocks::<T>::of(self.isa).keys
    }

    /// Inputs of the query side, no output requested yet.
    pub(super) fn queries<'b, T: Float>(
        &'b self,
        problem: &'b Problem<'_, T>,
        sides: &'b Sides<'_, T>,
        moments: Option<&'b Moments<T>>,
    ) -> Result<Queries<'b, T>, Error> {
        let largest_key = self.keys.largest_key();
        let range = reach(&self.coefficients.powers, NOISE / T::UNIT_ROUNDOFF);
        let keys = if self.is_causal { problem.A2.nrows() } else { self.keys.counted.rows };
        Ok(Queries {
            sides,
            target: rows(&problem.E)?,
            is_target: problem.is_target,
            target_unit: T::narrow((-self.coordinates.incoming_exponent).exp2()),
            residual_unit: T::narrow((-self.coordinates.residual_exponent).exp2()),
            moments,
            // With centred keys the mean of exp is at least 1, by Jensen's inequality.
            limits: Limits {
                least_normaliser: T::narrow((keys - self.exact_keys.len()) as f64 / 2.0),
                largest_square: T::narrow((range / largest_key).powi(2)),
            },
            key_square: largest_key * largest_key,
            product: None,
            slopes: false,
            integers: self.integers,
        })
    }

    /// The moments of the keys for the kernels; zeros where they do not fit the precision, so that no row is safe.
    /// Nothing under a mask.
    pub(super) fn moments<T: Float>(&self, dv: usize) -> Result<Option<Moments<T>>, Error> {
        if self.is_causal {
            return Ok(None);
        }
        let of = |sums: &[f64]| self.coefficients.moments(sums, dv + 1, dv + 1, self.strip::<T>());
        let sums = &self.keys.sums;
        let moments = of(sums)?;
        if moments.finite { Ok(Some(moments)) } else { of(&buffer::zeros(sums.len())?).map(Some) }
    }
}
