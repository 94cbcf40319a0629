//! The polynomial and the moments of the keys: prepared once for any number of gradients and rows.

use ndarray::{Array1, Array2, CowArray, Ix2};

use super::collect::{KeyFound, KeyMoments, Keys};
use super::evaluate::Moments;
use super::kernels::Kernels;
use super::near::{Exact, Limits};
use super::queries::Queries;
use super::sums::{Parts, Sums};
use crate::certificate::moments::{Ball, Fitted};
use crate::error::Error;
use crate::features::{Coordinates, Monomials};
use crate::float::Float;
use crate::kernels::InputMap;
use crate::linalg::layout::Rows;
use crate::linalg::layout::{row_major, rows};
use crate::linalg::norms::wider;
use crate::linalg::products::transposed_product;
use crate::linalg::rows::selected;
use crate::options::{Isa, Options};
use crate::problem::{Approximation, Identity, Problem};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

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
    pub(super) coefficients: Vec<f64>,
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

/// The inputs of a problem, row-major.
pub(super) struct Inputs<'a, T> {
    pub A1: CowArray<'a, T, Ix2>,
    pub A2: CowArray<'a, T, Ix2>,
    pub A3: CowArray<'a, T, Ix2>,
    pub E: CowArray<'a, T, Ix2>,
    /// Rows of A2 and of A3 that are in no moment.
    pub exact: [Array2<T>; 2],
}

impl<'a, T: Float> Inputs<'a, T> {
    pub fn new(problem: &Problem<'a, T>, exact_keys: &[usize]) -> Result<Self, Error> {
        Ok(Inputs {
            A1: row_major(problem.A1)?,
            A2: row_major(problem.A2)?,
            A3: row_major(problem.A3)?,
            E: row_major(problem.E)?,
            exact: [selected(problem.A2, exact_keys)?, selected(problem.A3, exact_keys)?],
        })
    }
}

/// The three inputs in their coordinates.
pub(super) struct Sides<'a, T> {
    pub queries: InputMap<'a, T>,
    pub keys: InputMap<'a, T>,
    pub values: InputMap<'a, T>,
    pub exact: Option<Exact<'a, T>>,
}

impl<'b, T: Float> Sides<'b, T> {
    pub fn new(
        problem: &Problem<'_, T>,
        inputs: &'b Inputs<'_, T>,
        coordinates: &Coordinates,
        strip: usize,
    ) -> Result<Self, Error> {
        let mean = coordinates.mean.as_slice();
        let unit = (-coordinates.value_exponent).exp2();
        let values = problem.Y.mapv(|x| x.widen() * unit);
        let [exact_keys, exact_values] = &inputs.exact;
        let some = |array: &'b Array2<T>| -> Result<Rows<'b, T>, Error> {
            let data = array.as_slice().ok_or_else(|| Error::Internal("rows that are not row-major".into()))?;
            Ok(Rows { data, count: array.nrows(), width: array.ncols() })
        };
        let exact = Exact {
            keys: InputMap::new(some(exact_keys)?, coordinates.key.view(), mean, strip)?,
            values: InputMap::new(some(exact_values)?, values.view(), None, strip)?,
        };
        Ok(Sides {
            exact: (exact_keys.nrows() > 0).then_some(exact),
            queries: InputMap::new(rows(&inputs.A1)?, coordinates.query.view(), None, strip)?,
            keys: InputMap::new(rows(&inputs.A2)?, coordinates.key.view(), mean, strip)?,
            values: InputMap::new(rows(&inputs.A3)?, values.view(), None, strip)?
                .with_centre(coordinates.input_centre.view(), values.view()),
        })
    }
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
        let problem = &problem.admitted()?;
        let mut run = Run::new(options, watch);
        let identity = Identity::of(problem, &mut run)?;
        run.phase(1.0);
        let inputs = Inputs::new(problem, &approximation.checked_keys(problem)?)?;
        let polynomial = Polynomial::prepare(problem, &inputs, approximation, true, options, &mut run)?;
        Ok(Polynomial { identity: Some(identity), ..polynomial })
    }

    /// As [`Polynomial::fit`]; without `slopes` only what o and fᵀ c need.
    pub(super) fn prepare<T: Float>(
        problem: &Problem<'_, T>,
        inputs: &Inputs<'_, T>,
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
        let coefficients = approximation.coefficients.clone();
        let is_causal = problem.is_causal;
        let integers = approximation.integers && !is_causal && worth_integers(degree, coordinates.spread);
        let mut polynomial = Polynomial {
            coefficients,
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
        let Polynomial { tree, coordinates, exact_keys, .. } = &polynomial;
        let kernels = Kernels::<T>::of(isa);
        let sides = Sides::new(problem, inputs, coordinates, kernels.keys)?;
        let keys = Keys { tree, keys: &sides.keys, values: &sides.values, left_out: exact_keys };
        let count = if slopes { tree.count() } else { tree.inner() };
        let size = buffer::size(&[count, problem.Y.ncols() + 1])?;
        let parts = Parts::new(problem.A2.nrows(), size);
        let all_sums = [Sums::new(Some(size))];
        let mut found = buffer::filled(parts.count(), KeyFound::default())?;
        run.for_each(found.iter_mut().enumerate(), |(part, found), cancel| {
            Sums::with(&all_sums, part, |[sums]| {
                let sums = sums.unwrap_or_default();
                kernels.key_moments(&keys, KeyMoments { rows: parts.rows(part), integers, sums, found }, cancel)
            })
        })?;
        let [sums] = all_sums.map(Sums::total);
        let sums = sums?.unwrap_or_default();
        let mut all = KeyFound::default();
        for found in &found {
            all.widest = wider(all.widest, found.widest);
            all.lost += found.lost;
            all.balls.iter_mut().zip(&found.balls).for_each(|(all, ball)| all.merge(ball));
        }
        let (m, d3) = problem.A3.dim();
        polynomial.gram = if d3 * d3 <= size && m > 0 {
            let A3 = inputs.A3.view();
            Some(transposed_product(A3, A3, 1.0 / m as f64, run)?.mapv(T::widen))
        } else {
            None
        };
        polynomial.largest_key = all.widest.sqrt();
        KeyFound { balls: polynomial.balls, lost: polynomial.lost, .. } = all;
        polynomial.sums = sums;
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
            coefficients: &self.coefficients,
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

    /// Inputs of the query side, no output requested yet.
    pub(super) fn queries<'b, T: Float>(
        &'b self,
        problem: &Problem<'_, T>,
        inputs: &'b Inputs<'_, T>,
        sides: &'b Sides<'_, T>,
        moments: Option<&'b Moments<T>>,
    ) -> Result<Queries<'b, T>, Error> {
        Ok(Queries {
            tree: &self.tree,
            queries: &sides.queries,
            target: rows(&inputs.E)?,
            is_target: problem.is_target,
            target_unit: T::narrow((-self.coordinates.incoming_exponent).exp2()),
            residual_unit: T::narrow((-self.coordinates.residual_exponent).exp2()),
            moments,
            // With centred keys the mean of exp is at least 1, by Jensen's inequality.
            limits: Limits {
                least_normaliser: T::narrow((problem.A2.nrows() - self.exact_keys.len()) as f64 / 2.0),
                largest_square: T::narrow((self.range::<T>() / self.largest_key).powi(2)),
            },
            key_square: self.largest_key * self.largest_key,
            product: None,
            slopes: false,
            integers: self.integers,
            exact: sides.exact.as_ref(),
        })
    }

    /// The largest b such that the terms of P at |t| = b do not drown it in their rounding: Σ_a |P_a| b^a ≤ 1 / (64 u).
    fn range<T: Float>(&self) -> f64 {
        let most = NOISE / T::UNIT_ROUNDOFF;
        let terms = |b: f64| self.coefficients.iter().rev().fold(0.0, |sum, p| sum * b + p.abs());
        // Bisection over the exponents of double precision, then within one.
        let (mut low, mut high) = (-1000.0f64, 1000.0f64);
        for _ in 0..64 {
            let middle = 0.5 * (low + high);
            if terms(middle.exp2()) <= most { low = middle } else { high = middle }
        }
        low.exp2()
    }

    /// The moments of the keys for the kernels; zeros where they do not fit the precision, so that no row is safe.
    /// Nothing under a mask.
    pub(super) fn moments<T: Float>(&self, dv: usize, strip: usize) -> Result<Option<Moments<T>>, Error> {
        if self.is_causal {
            return Ok(None);
        }
        let of = |sums: &[f64]| Moments::new(&self.tree, &self.coefficients, sums, dv + 1, dv + 1, strip);
        let moments = of(&self.sums)?;
        if moments.finite { Ok(Some(moments)) } else { of(&buffer::zeros(self.sums.len())?).map(Some) }
    }
}
