//! Sampled rows, exact and approximate, and the estimates from them for each output (docs/math.md, equations 9.60 to
//! 9.65).

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use super::by_key::{ByKey, Grouped, Parts, Wanted, by_key, errors_by_key, less, mapped_rows};
use super::prepared::Prepared;
use super::stages::Stages;
use crate::certificate::estimated::{Factors, TokenError};
use crate::error::Error;
use crate::exact::proved::ProvedRounding;
use crate::exact::rows::{RowsWanted, exact_rows_with};
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::norms::largest;
use crate::linalg::outward::outward;
use crate::linalg::products::{dot, mapped, matrix};
use crate::linalg::rows::{RowValues, ascending, selected};
use crate::linalg::some_rows::some_rows;
use crate::linalg::spectral::spectral;
use crate::options::Options;
use crate::problem::{Problem, Weights, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Watch;
use crate::runtime::rng::{Rng, without_replacement};

/// Largest rounding error of exact rows, in units of one rounding of a typical term: logits and normalisers carry some
/// of their own, and those of equal keys line up. With one coordinate a third of it has been seen.
const LINED_UP: f64 = 40.0;

/// Some query rows: their inputs, and how far the approximation is off in them.
pub struct Sample {
    /// The rows.
    pub indices: Vec<usize>,
    /// s A1, (rows, d1).
    pub left: Array2<f64>,
    /// w − w̃, (rows, d).
    pub difference: Array2<f64>,
    /// w, (rows, d).
    pub exact: Array2<f64>,
    /// c and c̃, (rows, dv).
    pub residuals: [Array2<f64>; 2],
    /// f A3 and f̃ A3, (rows, d3), where dL/dY is wanted.
    pub mixed: Option<[Array2<f64>; 2]>,
    /// Errors at every key, keys in groups, where dL/dA2 or dL/dA3 is wanted.
    pub grouped: Option<Grouped>,
}

impl Sample {
    /// Computes both for the rows `indices`. Time 10 r m d exactly, 4 r m d without slopes, and 4 r m d more for dL/dY,
    /// for which the moments of A3 are taken too where they are not known yet.
    pub fn new<T: Float>(
        problem: &Problem<'_, T>,
        prepared: &Prepared,
        indices: Vec<usize>,
        wanted: Wanted,
        stages: &mut Stages<'_>,
    ) -> Result<Self, Error> {
        let of_exact = RowsWanted { mixed: wanted.mixed, slopes: wanted.slopes };
        let (exact, mixed) =
            stages.run(0.5, |options, watch| exact_rows_with(problem, &indices, of_exact, options, watch))?;
        let fitted = |options: &Options, watch: Option<Watch<'_>>| {
            prepared.moments.fitted_rows(problem, &indices, wanted.slopes, options, watch)
        };
        let approximate = stages.run(0.5, fitted)?;
        let target = widened(selected(problem.E, &indices)?.view())?;
        let mixed = if let Some(exact) = mixed {
            // With the identity in the place of Y the output is f A3.
            let (n, d3) = (problem.A1.nrows(), problem.A3.ncols());
            let (identity, nothing) = (Array2::eye(d3), Array2::zeros((1, d3)));
            let nothing = nothing.broadcast((n, d3)).ok_or_else(|| Error::Internal("a row of zeros".into()))?;
            let values = Problem { Y: identity.view(), E: nothing, ..problem.reborrow() };
            let fitted = prepared.of_inputs(&values, stages)?;
            let approximate =
                stages.run(0.5, |options, watch| fitted.fitted_rows(&values, &indices, false, options, watch))?;
            Some([widened(exact.view())?, widened(approximate.output.view())?])
        } else {
            None
        };
        let exact_w = widened(exact.w.view())?;
        let residual = |rows: &RowValues<T>| match problem.is_target {
            true => Ok(widened(rows.output.view())? - &target),
            false => copied(&target),
        };
        let left = problem.scale * widened(selected(problem.A1, &indices)?.view())?;
        let mut sample = Sample {
            left,
            difference: less(&exact_w, widened(approximate.w.view())?),
            exact: exact_w,
            residuals: [residual(&exact)?, residual(&approximate)?],
            mixed,
            grouped: None,
            indices,
        };
        if wanted.keys {
            let of =
                |rows: &ByKey<'_, '_, T>, options: &Options, watch: Option<Watch<'_>>| rows.grouped(options, watch);
            sample.grouped = Some(by_key(problem, prepared, sample.parts(), stages, of)?);
        }
        Ok(sample)
    }

    /// The rows as outputs by key are made of them.
    pub fn parts(&self) -> Parts<'_> {
        Parts { indices: &self.indices, left: &self.left, residuals: &self.residuals }
    }

    /// The rows of both in the order of their indices.
    pub fn merged(&self, other: &Sample) -> Result<Self, Error> {
        let (first, second) = (self.indices.len(), other.indices.len());
        let mut indices = buffer::with_capacity(first + second)?;
        indices.extend(self.indices.iter().chain(&other.indices));
        let (places, indices) = ascending(&indices)?;
        let both = |one: &Array2<f64>, other: &Array2<f64>| {
            let mut data = buffer::with_capacity(buffer::size(&[first + second, one.ncols()])?)?;
            for &place in &places {
                data.extend(if place < first { one.row(place) } else { other.row(place - first) });
            }
            matrix(data, first + second, one.ncols())
        };
        let pairs = |[a, b]: &[Array2<f64>; 2], [c, d]: &[Array2<f64>; 2]| Ok([both(a, c)?, both(b, d)?]);
        let groups = self.grouped.as_ref().zip(other.grouped.as_ref());
        Ok(Sample {
            grouped: groups.map(|(one, other)| one.with(other, both)).transpose()?,
            left: both(&self.left, &other.left)?,
            difference: both(&self.difference, &other.difference)?,
            exact: both(&self.exact, &other.exact)?,
            residuals: pairs(&self.residuals, &other.residuals)?,
            mixed: self.mixed.as_ref().zip(other.mixed.as_ref()).map(|(one, other)| pairs(one, other)).transpose()?,
            indices,
        })
    }

    /// Some of its rows.
    pub fn part(&self, range: Range<usize>) -> Result<Self, Error> {
        let of = |all: &Array2<f64>| mapped(all.slice(s![range.clone(), ..]), |x| x);
        let pair = |[one, other]: &[Array2<f64>; 2]| Ok::<_, Error>([of(one)?, of(other)?]);
        Ok(Sample {
            grouped: self.grouped.as_ref().map(|all| all.with(all, |all, _| of(all))).transpose()?,
            indices: buffer::copied(&self.indices[range.clone()])?,
            left: of(&self.left)?,
            difference: of(&self.difference)?,
            exact: of(&self.exact)?,
            residuals: pair(&self.residuals)?,
            mixed: self.mixed.as_ref().map(pair).transpose()?,
        })
    }

    /// Result of `of` for the errors of an output that is a sum over rows, each a sum of products of rows.
    pub fn errors<T: Float, R>(
        &self,
        problem: &Problem<'_, T>,
        pair: Option<(ArrayView2<'_, T>, ArrayView2<'_, T>)>,
        wrt: Wrt,
        of: impl FnOnce(&[Factors<'_>]) -> Result<R, Error>,
    ) -> Result<Option<R>, Error> {
        let product = matches!(problem.weights, Weights::Product(_));
        let of = |factors: &[Factors<'_>]| of(factors).map(Some);
        match (wrt, pair, &self.mixed) {
            (Wrt::X, _, _) => of(&[(self.left.view(), self.difference.view())]),
            // w has the width of the pair already.
            (Wrt::WQ, _, _) if !product => of(&[(self.left.view(), self.difference.view())]),
            (Wrt::WQ, Some((_, W_K)), _) => {
                of(&[(self.left.view(), dot(self.difference.view(), wide(W_K).view())?.view())])
            }
            // Where the pair was multiplied out: w has the width of A2 then.
            (Wrt::WK, Some((W_Q, _)), _) if product => {
                of(&[(self.difference.view(), dot(self.left.view(), wide(W_Q).view())?.view())])
            }
            (Wrt::Y, _, Some([exact, approximate])) => {
                // m ⊗ c − m̃ ⊗ c̃ from small differences: squares of terms that cancel would lose the error in their
                // rounding.
                let [c, c_approximate] = &self.residuals;
                let (off, c_off) = (less(exact, copied(approximate)?), less(c, copied(c_approximate)?));
                of(&[(exact.view(), c_off.view()), (off.view(), c_approximate.view())])
            }
            (Wrt::A2 | Wrt::A3, _, _) => {
                let Some(grouped) = &self.grouped else { return Ok(None) };
                errors_by_key(problem, grouped, self.parts(), wrt, of)
            }
            _ => Ok(None),
        }
    }

    /// The error of the loss in each row, (rows, 1).
    pub fn losses(&self) -> Result<Array2<f64>, Error> {
        let [exact, approximate] = &self.residuals;
        let half_square = |row: ArrayView1<'_, f64>| 0.5 * row.dot(&row);
        let rows = exact.rows().into_iter().zip(approximate.rows());
        let losses = buffer::collected(rows.map(|(exact, approximate)| half_square(exact) - half_square(approximate)))?;
        matrix(losses, exact.nrows(), 1)
    }

    /// The rows of dL/dA1 exactly.
    pub fn rows<T: Float>(&self, problem: &Problem<'_, T>) -> Result<Array2<f64>, Error> {
        dot(self.exact.view(), back(problem).view())
    }

    /// The error of all rows of dL/dA1 once these are in their place; `sizes` in proportion to ‖w_j − w̃_j‖ of all rows
    /// tell how much the others may differ from these.
    pub fn by_token<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        population: usize,
        sizes: &[f64],
    ) -> Result<TokenError, Error> {
        self.by_row(&dot(self.difference.view(), back(problem).view())?, population, sizes)
    }

    /// The same of the rows of the output, of which c is made.
    pub fn output_error(&self, population: usize, sizes: &[f64]) -> Result<TokenError, Error> {
        let [exact, approximate] = &self.residuals;
        self.by_row(&less(exact, copied(approximate)?), population, sizes)
    }

    fn by_row(&self, errors: &Array2<f64>, population: usize, sizes: &[f64]) -> Result<TokenError, Error> {
        let errors = buffer::collected(errors.rows().into_iter().map(|row| row.dot(&row)))?;
        let square = |size: f64| size * size;
        let drawn = buffer::collected(self.indices.iter().map(|&row| square(sizes[row])))?;
        let mut rest = buffer::copied(sizes)?;
        self.indices.iter().for_each(|&row| rest[row] = 0.0);
        let total = sizes.iter().copied().map(square).sum();
        Ok(TokenError::by_caps(&errors, &drawn, total, square(largest(rest)), population))
    }

    /// An estimate of the error of an output from the rounding of exact rows: that of one term of each row's mean over
    /// the keys, over the root of their number where attention is flat. Logits of size b lose b roundings, and e^b
    /// times as few keys share the mass.
    pub fn rounding<T: Float>(&self, problem: &Problem<'_, T>, wrt: Wrt, population: usize) -> Result<f64, Error> {
        let of_rows = |factors: Option<&Array2<f64>>| {
            let rows = self.residuals[0].rows().into_iter().enumerate();
            let square =
                rows.map(|(j, c)| c.dot(&c) * factors.map_or(1.0, |factors| factors.row(j).dot(&factors.row(j))));
            (population as f64 * square.sum::<f64>() / self.indices.len().max(1) as f64).sqrt()
        };
        let (keys, inputs) = (typical(problem.A2), typical(problem.A3));
        let values = typical_value(problem);
        let size = match wrt {
            Wrt::Y => inputs * of_rows(None),
            Wrt::A1 => {
                let weights = query_weights(problem);
                keys * values * problem.scale.abs() * weights.mapv(|x| x * x).sum().sqrt() * of_rows(None)
            }
            // Of a row of p, of ‖f‖ for values of this size, and of f.
            Wrt::A2 => values * of_rows(Some(&mapped_rows(problem, self.parts())?.0)),
            Wrt::A3 => spectral(wide(problem.Y).view()) * of_rows(None),
            _ => keys * values * of_rows(Some(&self.left)),
        };
        self.rounded(problem, size)
    }

    /// The same of the output, in so many of its rows.
    pub fn output_rounding<T: Float>(&self, problem: &Problem<'_, T>, rows: usize) -> Result<f64, Error> {
        self.rounded(problem, typical_value(problem) * (rows as f64).sqrt())
    }

    /// The same of terms of this size.
    fn rounded<T: Float>(&self, problem: &Problem<'_, T>, size: f64) -> Result<f64, Error> {
        let logit = typical_of(&dot(self.left.view(), query_weights(problem).view())?) * typical_key(problem);
        let flat = (logit.exp() / (problem.A2.nrows().max(1) as f64).sqrt()).min(1.0);
        Ok(LINED_UP * T::UNIT_ROUNDOFF * size * (1.0 + logit) * flat)
    }

    /// Bounds of the rounding errors of the exact rows.
    pub fn proved<T: Float>(&self, problem: &Problem<'_, T>, stages: &mut Stages<'_>) -> Result<ProvedRounding, Error> {
        let (A1, E) = (selected(problem.A1, &self.indices)?, selected(problem.E, &self.indices)?);
        stages.run(0.0, |options, _| ProvedRounding::new(&problem.with_queries(A1.view(), E.view()), options))
    }

    /// Upper bound of the rounding error of each s a_j ⊗ (w_j − w̃_j).
    pub fn lost<T: Float>(&self, problem: &Problem<'_, T>, stages: &mut Stages<'_>) -> Result<Vec<f64>, Error> {
        let proved = self.proved(problem, stages)?;
        let lost = |(row, left): (usize, ArrayView1<'_, f64>)| outward(left.dot(&left).sqrt() * proved.w(row));
        buffer::collected(self.left.rows().into_iter().enumerate().map(lost))
    }

    /// Σ ‖x_j‖ over all rows as these have it: terms that cancel in a sum of errors have been rounded before.
    pub fn total(&self, population: usize) -> f64 {
        self.each_norm().sum::<f64>() * population as f64 / self.indices.len().max(1) as f64
    }

    /// s ‖a_j‖ ‖w_j − w̃_j‖ of each row.
    pub fn norms(&self) -> Result<Vec<f64>, Error> {
        buffer::collected(self.each_norm())
    }

    fn each_norm(&self) -> impl ExactSizeIterator<Item = f64> {
        let norm = |row: ArrayView1<'_, f64>| row.dot(&row).sqrt();
        let rows = self.left.rows().into_iter().zip(self.difference.rows());
        rows.map(move |(left, difference)| norm(left) * norm(difference))
    }
}

/// The same over the size of rows of independent terms, where that is not known yet, for logits of about that size.
pub(super) fn row_rounding<T: Float>(logit: f64) -> f64 {
    LINED_UP * T::UNIT_ROUNDOFF * (1.0 + logit) * logit.exp()
}

/// From w to rows of dL/dA1.
fn back<T: Float>(problem: &Problem<'_, T>) -> Array2<f64> {
    problem.scale * query_weights(problem).reversed_axes()
}

/// X, or W_Q.
fn query_weights<T: Float>(problem: &Problem<'_, T>) -> Array2<f64> {
    match problem.weights {
        Weights::Product(X) => wide(X),
        Weights::Pair(W_Q, _) => wide(W_Q),
    }
}

/// Root mean square of the norms of the rows.
pub(super) fn typical_of(rows: &Array2<f64>) -> f64 {
    (rows.iter().map(|x| x * x).sum::<f64>() / rows.nrows().max(1) as f64).sqrt()
}

/// The same of many rows, from some of them.
pub(super) fn typical<T: Float>(rows: ArrayView2<'_, T>) -> f64 {
    typical_of(&some_rows(rows))
}

/// Root mean square of the norms of the values.
fn typical_value<T: Float>(problem: &Problem<'_, T>) -> f64 {
    typical_of(&some_rows(problem.A3).dot(&wide(problem.Y)))
}

/// Root mean square of the length of keys around their mean.
pub(super) fn typical_key<T: Float>(problem: &Problem<'_, T>) -> f64 {
    let some = some_rows(problem.A2);
    let Some(mean) = some.mean_axis(Axis(0)) else { return typical(problem.A2) };
    let centred = &some - &mean;
    typical_of(&match problem.weights {
        Weights::Product(_) => centred,
        Weights::Pair(_, W_K) => centred.dot(&wide(W_K)),
    })
}

/// Rows of the problem in double precision.
fn widened<T: Float>(array: ArrayView2<'_, T>) -> Result<Array2<f64>, Error> {
    mapped(array, T::widen)
}

fn copied(array: &Array2<f64>) -> Result<Array2<f64>, Error> {
    mapped(array.view(), |x| x)
}

/// Adds a share of the errors of rows.
pub(super) fn add<T: Float>(value: &mut Array2<T>, error: &Array2<f64>, share: f64) {
    value.zip_mut_with(error, |to, &term| *to = T::narrow(to.widen() + share * term));
}

/// Puts some rows in their place.
pub(super) fn put<T: Float>(value: &mut Array2<T>, indices: &[usize], rows: &Array2<f64>) {
    for (&index, row) in indices.iter().zip(rows.rows()) {
        value.row_mut(index).zip_mut_with(&row, |to, &from| *to = T::narrow(from));
    }
}

/// Adds rows of a random order of those of `count` that are not in `apart`, from one place in it to another, in rising
/// order.
pub(super) fn drawn(
    seed: u64,
    count: usize,
    apart: &[usize],
    places: Range<usize>,
    to: &mut Vec<usize>,
) -> Result<(), Error> {
    let mut numbers = without_replacement(&mut Rng::new(seed), count - apart.len(), places.end)?;
    numbers.drain(..places.start.min(numbers.len()));
    numbers.sort_unstable();
    buffer::reserve(to, numbers.len())?;
    let mut passed = 0;
    let skip = |number: usize| {
        while passed < apart.len() && apart[passed] <= number + passed {
            passed += 1;
        }
        number + passed
    };
    to.extend(numbers.into_iter().map(skip));
    Ok(())
}
