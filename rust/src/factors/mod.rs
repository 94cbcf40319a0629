//! The paper's low-rank factors: U1 V1ᵀ ≈ f, U2 V2ᵀ ≈ q, U3 V3ᵀ ≈ p1, U4 V4ᵀ ≈ p2, and the gradients from them
//! (docs/math.md, Theorem 10.6, equations 10.8 to 10.13).

mod gradient;
mod kronecker;

use ndarray::{Array1, Array2, ArrayView2, s};

pub use kronecker::row_kronecker;

use crate::constants::PRODUCT_ROWS;
use crate::error::Error;
use crate::features::{Balance, FeatureMap, FeatureOptions, Side, approximate_count, mean_row, select};
use crate::float::{Float, compiled};
use crate::linalg::layout::{in_range, row_major, rows};
use crate::linalg::norms::inner;
use crate::linalg::products::{mapped, matrix, product, transposed_product};
use crate::options::{Isa, Options};
use crate::polynomial::Polynomial;
use crate::problem::{Problem, Shape, Weights, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The weights of the logits, and what only a pair needs.
#[derive(Debug, Clone)]
enum Owned<T> {
    /// X.
    Product(Array2<T>),
    /// W_Q, W_K and the rows of A2, centred.
    Pair(Array2<T>, Array2<T>, Array2<T>),
}

/// The paper's factors of one problem, with copies of its inputs.
///
/// | pair | shapes | product | rank |
/// |---|---|---|---|
/// | U1, V1 | (n, k1), (m, k1) | f̃ ≈ f; its rows sum to one, eq. (10.9) | k1, the number of features |
/// | U2, V2 | (n, dv), (m, dv) | c̃ hᵀ ≈ q, eq. (10.10) | dv |
/// | U3, V3 | (n, k1 dv), (m, k1 dv) | f̃ ∘ c̃ hᵀ ≈ p1, row-wise Kronecker products, eq. (10.11) | k1 dv |
/// | U4, V4 | (n, k1), (m, k1) | diag(r̃) f̃ ≈ p2, eq. (10.12) | k1 |
///
/// U3, V3 and U4 are made when they are asked for: a gradient needs none of them as a matrix.
#[derive(Debug, Clone)]
pub struct Factors<T> {
    U1: Array2<T>,
    V1: Array2<T>,
    /// [c̃, −r̃], (n, dv + 1).
    left: Array2<T>,
    /// [h, 1], (m, dv + 1).
    right: Array2<T>,
    /// A1 X or A1 W_Q, (n, d), and the centred A2 or A2 W_K, (m, d).
    query: Array2<T>,
    key: Array2<T>,
    A1: Array2<T>,
    A3: Array2<T>,
    Y: Array2<T>,
    weights: Owned<T>,
    scale: f64,
    is_target: bool,
    mean: Array1<f64>,
    polynomial: Polynomial,
    error: f64,
}

/// The low-rank factors of the paper for a polynomial of a degree, or of the least one that meets a tolerance.
///
/// Queries are not centred: f̃ is P of the logits of centred keys, normalised, and nothing else. Time and memory
/// O((n + m)(k1 + d + dv)) beside the fit of [`crate::ExpFeatures::fit`].
///
/// # Errors
/// [`Error::Option`] for a causal problem, whose f is not of low rank; for options as of [`crate::ExpFeatures::fit`], a
/// scale that is not the problem's, and where P gives a row of f̃ a normaliser that is not positive.
/// [`Error::NonFinite`], [`Error::Range`], [`Error::Unreached`]; [`Error::OutOfMemory`], [`Error::Deadline`],
/// [`Error::Cancelled`].
///
/// ```
/// use attngrad::features::FeatureOptions;
/// use attngrad::{Options, Problem, Request, Weights, Wrt, factors, loss_gradient};
/// use ndarray::Array2;
///
/// let A = Array2::from_shape_fn((50, 4), |(j, i)| (0.7 * (4 * j + i + 1).pow(2) as f64).sin());
/// let one = Array2::eye(4);
/// let problem = Problem::new(A.view(), A.view(), A.view(), Weights::Product(one.view()), one.view(), A.view())?;
/// let wanted = FeatureOptions { degree: Some(3), ..FeatureOptions::default() };
/// let parts = factors(&problem, &wanted, &Options::default(), None)?;
/// assert_eq!(parts.ranks(), [35, 4, 140, 35]);
/// assert_eq!(parts.U3(&Options::default(), None)?.dim(), (50, 140));
///
/// let near = parts.gradient(Wrt::X, &Options::default(), None)?;
/// let exact = loss_gradient(&problem, &[Wrt::X], &Request::default())?;
/// let exact = &exact.gradients[0].value;
/// let norm = |array: &Array2<f64>| array.iter().map(|x| x * x).sum::<f64>().sqrt();
/// assert!(norm(&(&near - exact)) < 1e-3 * norm(exact));
/// # Ok::<(), attngrad::Error>(())
/// ```
pub fn factors<T: Float>(
    problem: &Problem<'_, T>,
    features: &FeatureOptions,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Factors<T>, Error> {
    compiled!(
        T,
        factors_in::<T>
            as fn(&Problem<'_, T>, &FeatureOptions, &Options, Option<Watch<'_>>) -> Result<Factors<T>, Error>
    )(problem, features, options, watch)
}

fn factors_in<T: Float>(
    problem: &Problem<'_, T>,
    features: &FeatureOptions,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Factors<T>, Error> {
    let isa = options.isa()?;
    let problem = &problem.admitted()?;
    if problem.is_causal {
        let wanted = "false: a causal f is not of low rank, and the gradient functions take the mask as it is";
        return Err(Error::Option { option: "is_causal", found: "true".into(), wanted: wanted.into() });
    }
    if let Some(scale) = features.scale.filter(|&scale| scale != problem.scale) {
        let found = format!("{scale} beside the problem's own, {}", problem.scale);
        return Err(Error::Option { option: "scale", found, wanted: "none, or the same".into() });
    }
    let mut run = Run::new(options, watch);
    run.phase(1.0);
    made(problem, features, isa, &mut run).map_err(|error| problem.blame(error))
}

/// Bytes that [`factors()`] takes for features of a degree, in numbers of the precision: the inputs' copies and all
/// that stays in [`Factors`], but not U3, V3 and U4, which are made when they are asked for.
pub fn factors_bytes<T: Float>(problem: &Problem<'_, T>, degree: usize) -> u128 {
    let shape = Shape::of(problem);
    let (n, m, dv, width) = (shape.n as u128, shape.m as u128, shape.dv as u128, shape.d as u128);
    let weights = match problem.weights {
        Weights::Product(X) => X.len(),
        Weights::Pair(W_Q, W_K) => W_Q.len() + W_K.len(),
    };
    let features = approximate_count(shape.d, degree) as u128;
    let inputs = [problem.A1.len(), problem.A2.len(), problem.A3.len(), problem.Y.len(), problem.E.len(), weights];
    let inputs: u128 = inputs.iter().map(|&count| count as u128).sum();
    let rows = (n + m) * (features + width + dv + 1) + (n + m) * dv;
    (inputs + rows) * size_of::<T>() as u128
}

fn made<T: Float>(
    problem: &Problem<'_, T>,
    features: &FeatureOptions,
    isa: Isa,
    run: &mut Run<'_>,
) -> Result<Factors<T>, Error> {
    let (A1, A2, A3) = (owned(problem.A1)?, owned(problem.A2)?, owned(problem.A3)?);
    let (query, mut key) = match problem.weights {
        Weights::Product(X) => (times(&A1, X, run)?, owned(problem.A2)?),
        Weights::Pair(W_Q, W_K) => (times(&A1, W_Q, run)?, times(&A2, W_K, run)?),
    };
    let finite = query.iter().chain(&key).all(|x| x.is_finite());
    in_range("A1 or A2 times the weights", T::NAME, finite)?;
    let (queries, keys) = (row_major(query.view())?, row_major(key.view())?);
    let (queries, keys) = (rows(&queries)?, rows(&keys)?);
    let balance = Balance::of(queries, keys, problem.scale, false, run)?;
    let choice = select(features, &balance, [queries, keys], isa, run)?;
    let power = choice.polynomial.power();
    let (mut U1, query_finite) =
        FeatureMap::new(&balance, &choice.set, &power, Side::Query, false, isa)?.apply(queries, run)?;
    let (V1, key_finite) = FeatureMap::new(&balance, &choice.set, &power, Side::Key, false, isa)?.apply(keys, run)?;
    in_range("a feature of A1 or A2", T::NAME, query_finite && key_finite)?;
    normalise(&mut U1, &V1, run)?;
    let h = times(&A3, problem.Y, run)?;
    let o = product(U1.view(), transposed_product(V1.view(), h.view(), 1.0, run)?.view(), 1.0, run)?;
    let left = residual(problem, &o)?;
    in_range("the output or the residual", T::NAME, left.iter().chain(&h).all(|x| x.is_finite()))?;
    let right = extended(&h, |_| T::one())?;
    // Rows of p̃ sum to zero: the mean of the keys would add nothing but rounding.
    subtract(&mut key, &balance.key_mean);
    let weights = match problem.weights {
        Weights::Product(X) => Owned::Product(owned(X)?),
        Weights::Pair(W_Q, W_K) => {
            let mean = mean_row(rows(&row_major(A2.view())?)?, run)?;
            let mut centred = A2;
            subtract(&mut centred, &mean);
            Owned::Pair(owned(W_Q)?, owned(W_K)?, centred)
        }
    };
    Ok(Factors {
        U1,
        V1,
        left,
        right,
        query,
        key,
        A1,
        A3,
        Y: owned(problem.Y)?,
        weights,
        scale: problem.scale,
        is_target: problem.is_target,
        mean: balance.key_mean,
        polynomial: choice.polynomial,
        error: choice.error,
    })
}

/// Divides the rows of U by the row sums of U Vᵀ, eq. (10.8).
fn normalise<T: Float>(U: &mut Array2<T>, V: &Array2<T>, run: &mut Run<'_>) -> Result<(), Error> {
    let (n, k1) = U.dim();
    if V.nrows() == 0 {
        return Ok(());
    }
    let ones = matrix(buffer::filled(V.nrows(), T::one())?, V.nrows(), 1)?;
    let all = transposed_product(V.view(), ones.view(), 1.0, run)?;
    let all = all.column(0);
    let mut sums = buffer::zeros::<f64>(n)?;
    let data = U.as_slice_mut().ok_or_else(|| Error::Internal("features that are not row-major".into()))?;
    let tasks = data.chunks_mut(PRODUCT_ROWS * k1).zip(sums.chunks_mut(PRODUCT_ROWS));
    run.for_each(tasks, |(rows, sums), cancel| {
        cancel.check()?;
        for (row, sum) in rows.chunks_exact_mut(k1).zip(sums) {
            *sum = inner((&*row).into(), all);
            row.iter_mut().for_each(|x| *x = T::narrow(x.widen() / *sum));
        }
        Ok(())
    })?;
    let worst = |(a, b): (usize, &f64)| (a, if b.is_nan() { f64::NEG_INFINITY } else { *b });
    let least = sums.iter().enumerate().map(worst).min_by(|a, b| a.1.total_cmp(&b.1));
    match least {
        Some((row, least)) if least <= 0.0 => Err(Error::Option {
            option: "degree",
            found: format!("a polynomial for which the attention weights of query {row} sum to {least:.3e}"),
            wanted: "a positive sum: a higher degree, or relative minimax; the logits are too large for this one"
                .into(),
        }),
        _ => Ok(()),
    }
}

/// [c̃, −r̃] from the output.
fn residual<T: Float>(problem: &Problem<'_, T>, output: &[T]) -> Result<Array2<T>, Error> {
    let dv = problem.Y.ncols();
    let mut c = owned(problem.E)?;
    if problem.is_target {
        c.iter_mut().zip(output).for_each(|(c, o)| *c = *o - *c);
    }
    let r = |row: usize| {
        let o = &output[row * dv..(row + 1) * dv];
        -T::narrow(inner(c.row(row), o.into()))
    };
    extended(&c, r)
}

/// Rows with one more number.
fn extended<T: Float>(rows: &Array2<T>, last: impl Fn(usize) -> T) -> Result<Array2<T>, Error> {
    let (n, width) = rows.dim();
    let mut out = buffer::with_capacity(buffer::size(&[n, width + 1])?)?;
    for (index, row) in rows.rows().into_iter().enumerate() {
        out.extend(row.iter().copied());
        out.push(last(index));
    }
    matrix(out, n, width + 1)
}

/// A row-major copy.
fn owned<T: Float>(array: ArrayView2<'_, T>) -> Result<Array2<T>, Error> {
    mapped(array, |x| x)
}

fn times<T: Float>(a: &Array2<T>, b: ArrayView2<'_, T>, run: &mut Run<'_>) -> Result<Array2<T>, Error> {
    matrix(product(a.view(), b, 1.0, run)?, a.nrows(), b.ncols())
}

fn subtract<T: Float>(rows: &mut Array2<T>, mean: &Array1<f64>) {
    for mut row in rows.rows_mut() {
        row.iter_mut().zip(mean).for_each(|(x, &mean)| *x -= T::narrow(mean));
    }
}

impl<T: Float> Factors<T> {
    /// U1, (n, k1): the queries' features over the normaliser.
    pub fn U1(&self) -> ArrayView2<'_, T> {
        self.U1.view()
    }

    /// V1, (m, k1): the keys' features.
    pub fn V1(&self) -> ArrayView2<'_, T> {
        self.V1.view()
    }

    /// U2 = c̃, (n, dv).
    pub fn U2(&self) -> ArrayView2<'_, T> {
        self.left.slice(s![.., ..self.Y.ncols()])
    }

    /// V2 = h, (m, dv).
    pub fn V2(&self) -> ArrayView2<'_, T> {
        self.right.slice(s![.., ..self.Y.ncols()])
    }

    /// U3 = U1 ⊘ U2, (n, k1 dv). Time and memory n k1 dv.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] before anything is computed; [`Error::Deadline`], [`Error::Cancelled`].
    pub fn U3(&self, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
        row_kronecker(self.U1(), self.U2(), options, watch)
    }

    /// V3 = V1 ⊘ V2, (m, k1 dv). Time and memory m k1 dv.
    ///
    /// # Errors
    /// As [`Factors::U3`].
    pub fn V3(&self, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
        row_kronecker(self.V1(), self.V2(), options, watch)
    }

    /// U4 = diag(r̃) U1, (n, k1). Time and memory n k1.
    ///
    /// # Errors
    /// As [`Factors::U3`].
    pub fn U4(&self, options: &Options, watch: Option<Watch<'_>>) -> Result<Array2<T>, Error> {
        let mut U4 = row_kronecker(self.U1(), self.left.slice(s![.., self.Y.ncols()..]), options, watch)?;
        U4.mapv_inplace(|x| -x);
        Ok(U4)
    }

    /// V4 = V1, (m, k1).
    pub fn V4(&self) -> ArrayView2<'_, T> {
        self.V1.view()
    }

    /// Columns of each pair, which bound the rank of its product: k1, dv, k1 dv, k1.
    pub fn ranks(&self) -> [usize; 4] {
        let (k1, dv) = (self.U1.ncols(), self.Y.ncols());
        [k1, dv, k1 * dv, k1]
    }

    /// L = ½ ‖c̃‖², eq. (1.7); 0 where c was given.
    pub fn loss(&self) -> f64 {
        if self.is_target { 0.5 * self.U2().iter().map(|x| x.widen() * x.widen()).sum::<f64>() } else { 0.0 }
    }

    /// The row that the keys are centred at, those of A2 or of A2 W_K, (d): their mean as far as single precision tells
    /// it.
    pub fn mean(&self) -> &Array1<f64> {
        &self.mean
    }

    /// P, which stands for the exponential of the logits of centred keys.
    pub fn polynomial(&self) -> &Polynomial {
        &self.polynomial
    }

    /// s, the factor of the logits.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The root mean square of the relative error of a weight, as [`crate::ExpFeatures::error`].
    pub fn error(&self) -> f64 {
        self.error
    }

    /// Whether the problem has such an input, as [`crate::loss_gradient`] says it.
    fn check(&self, wrt: Wrt) -> Result<(), Error> {
        let weights = match &self.weights {
            Owned::Product(X) => Weights::Product(X.view()),
            Owned::Pair(W_Q, W_K, _) => Weights::Pair(W_Q.view(), W_K.view()),
        };
        // The same inputs, but for the mean of A2.
        let A2 = match &self.weights {
            Owned::Product(_) => self.key.view(),
            Owned::Pair(.., A2) => A2.view(),
        };
        Problem::new(self.A1.view(), A2, self.A3.view(), weights, self.Y.view(), self.U2())?.check(wrt)
    }
}
