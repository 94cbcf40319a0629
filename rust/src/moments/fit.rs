//! The polynomial and the moments of the keys: prepared once for any number of gradients and rows.

use ndarray::{Array1, Array2};

use super::blocks::Kernels as Blocks;
use super::evaluate::{Coefficients, Moments};
use super::kernels::Kernels;
use super::keys::KeyFound;
use super::near::Limits;
use super::parts::Parts;
use super::queries::Queries;
use super::sides::Sides;
use crate::certificate::moments::{Ball, Fitted};
use crate::error::Error;
use crate::features::{Coordinates, Monomials};
use crate::float::{Float, compiled};
use crate::kernels::InputMap;
use crate::linalg::layout::rows;
use crate::linalg::norms::wider;
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
    /// M_β, `[count][dv + 1]`; nothing where the problem is causal.
    pub(super) sums: Vec<f64>,
    /// max ‖k‖ in the coordinates; infinite where the problem is causal, as it depends on the query.
    pub(super) largest_key: f64,
    /// Whether sums of the highest grade may be of integers.
    pub(super) integers: bool,
    /// Upper bound of the error of the integer sums over the keys.
    pub(super) lost: f64,
    /// Identity of the problem that it was fitted to; nothing where it is used for that problem alone.
    identity: Option<Identity>,
    /// Balls around the rows of A2, the rows of A3 and the values, for the error bounds; nothing where the problem is
    /// causal.
    pub(super) balls: [Ball; 3],
    /// Keys that are in no moment.
    pub(super) exact_keys: Vec<usize>,
    /// A3ᵀ A3 / m as computed, where it costs little beside the moments; not for a causal problem.
    pub(super) gram: Option<Array2<f64>>,
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
        let degree = approximation.degree()?;
        let isa = options.isa()?;
        let exact_keys = approximation.checked_keys(problem)?;
        let coordinates = Coordinates::new(problem, &exact_keys);
        let tree = Monomials::new(coordinates.dimension(), degree + 1)?;
        let is_causal = problem.is_causal;
        let integers = approximation.integers && !is_causal && worth_integers(degree, coordinates.spread);
        let mut polynomial = Polynomial {
            coefficients: Coefficients::new(&tree, &approximation.coefficients)?,
            coordinates,
            tree,
            sums: Vec::new(),
            largest_key: f64::INFINITY,
            integers,
            lost: 0.0,
            identity: None,
            balls: Default::default(),
            exact_keys,
            gram: None,
            is_causal,
            isa,
        };
        if is_causal {
            return Ok(polynomial);
        }
        let (tree, exact) = (&polynomial.tree, polynomial.exact_rows(problem)?);
        let sides = polynomial.sides(problem, &exact)?;
        let count = if slopes { tree.count() } else { tree.inner() };
        let size = buffer::size(&[count, problem.Y.ncols() + 1])?;
        let parts = Parts::new(problem.A2.nrows(), size);
        let sums = Sums::new([Some(size)]);
        let kernels = Kernels::<T>::of(isa);
        let found = sums.each(0, parts.all(), run, |rows, [sums], cancel| {
            kernels.key_moments(&sides, rows, integers, sums.unwrap_or_default(), cancel)
        })?;
        let [sums] = sums.totals()?;
        let mut all = KeyFound::default();
        for found in &found {
            all.widest = wider(all.widest, found.widest);
            all.lost += found.lost;
            all.balls.iter_mut().zip(&found.balls).for_each(|(all, ball)| all.merge(ball));
        }
        let (m, d3) = problem.A3.dim();
        polynomial.gram = if d3 * d3 <= size && m > 0 {
            Some(transposed_product(problem.A3, problem.A3, 1.0 / m as f64, run)?.mapv(T::widen))
        } else {
            None
        };
        polynomial.largest_key = all.widest.sqrt();
        KeyFound { balls: polynomial.balls, lost: polynomial.lost, .. } = all;
        polynomial.sums = sums.unwrap_or_default();
        Ok(polynomial)
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
        let alone = |index: usize| self.sums.get(index * (dv + 1) + dv).copied();
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
            largest_key: self.largest_key,
            lost: self.lost,
            balls: self.balls,
            gram: self.gram.as_ref(),
            values: self.sums.get(..dv).map(<[f64]>::to_vec),
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
        let range = reach(&self.coefficients.powers, NOISE / T::UNIT_ROUNDOFF);
        Ok(Queries {
            sides,
            target: rows(&problem.E)?,
            is_target: problem.is_target,
            target_unit: T::narrow((-self.coordinates.incoming_exponent).exp2()),
            residual_unit: T::narrow((-self.coordinates.residual_exponent).exp2()),
            moments,
            // With centred keys the mean of exp is at least 1, by Jensen's inequality.
            limits: Limits {
                least_normaliser: T::narrow((problem.A2.nrows() - self.exact_keys.len()) as f64 / 2.0),
                largest_square: T::narrow((range / self.largest_key).powi(2)),
            },
            key_square: self.largest_key * self.largest_key,
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
        let moments = of(&self.sums)?;
        if moments.finite { Ok(Some(moments)) } else { of(&buffer::zeros(self.sums.len())?).map(Some) }
    }
}
