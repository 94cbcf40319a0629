//! The passes of the moment form over a shard of the tokens: what they leave adds up over shards (docs/math.md,
//! equation 8.21).

use ndarray::Array2;

use super::fit::Polynomial;
use super::key_side::{Answers, KeyOutputs, key_side};
use super::key_sums::KeySums;
use super::keys::KeySide;
use super::query_side::{RowOutputs, query_side};
use crate::certificate::moments::{Bound, Bounds, Buckets, Counted, Extent};
use crate::certificate::rigorous::Steps;
use crate::error::Error;
use crate::features::Coordinates;
use crate::float::Float;
use crate::kernels::outputs::Product;
use crate::linalg::layout::in_range;
use crate::linalg::norms::{norm, wider};
use crate::linalg::products::matrix;
use crate::options::{Level, Options};
use crate::problem::{Approximation, OutputSet, Problem, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Sums over some queries, all in the units of the coordinates.
#[derive(Debug, Clone, Default)]
pub(crate) struct QuerySums {
    /// How many queries.
    pub counted: Counted,
    /// Σ ‖c‖².
    pub squares: f64,
    /// Queries that the polynomial does not serve: they count for nothing in any sum.
    pub unsafe_rows: usize,
    /// The first of them, whatever it is where there is none.
    pub first_unsafe: usize,
    /// max ‖x‖².
    pub widest: f64,
    /// Bound of the error of integer sums.
    pub lost: f64,
    /// Rows by the reach of their logits.
    pub buckets: Buckets,
    /// Σ of the squares of all entries of dL/dA1.
    pub output: f64,
    /// Σ w ⊗ a, `[dimension][d1]`, and N_β, `[count][dv + 1]`, as far as they are wanted.
    pub sums: [Option<Vec<f64>>; 2],
}

/// Sums over some keys, once all queries are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct GradientSums {
    /// How many keys.
    pub counted: Counted,
    /// Σ pᵀ Q ⊗ a2, `[dimension][d2]`, and Σ fᵀ c ⊗ a3, `[dv][d3]`, as far as they are wanted.
    pub sums: [Option<Vec<f64>>; 2],
    /// Σ of the squares of all entries of dL/dA2 and of dL/dA3.
    pub outputs: [f64; 2],
}

/// Sums with rows of gradients by token, as far as they are wanted.
type WithRows<S, R> = Result<(S, R), Error>;

/// The results of all shards together.
pub(crate) struct Gathered<T> {
    /// L.
    pub loss: f64,
    pub loss_bound: Bound,
    /// The gradients with respect to weights; of those by token, which left with their shards, no rows.
    pub gradients: Vec<(Wrt, Array2<T>, Bound)>,
    /// Frobenius norms of the gradients.
    pub sizes: Vec<f64>,
    pub steps: Steps,
    pub level: Level,
}

/// Adds the terms of every sum that there is.
fn add<const N: usize>(sums: &mut [Option<Vec<f64>>; N], terms: &[Option<Vec<f64>>; N]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        sum.iter_mut().flatten().zip(term.iter().flatten()).for_each(|(sum, term)| *sum += term);
    }
}

impl QuerySums {
    /// Counts the queries of another block in. A block without queries changes no bit.
    pub fn merge(&mut self, other: &QuerySums) {
        if other.counted.rows == 0 {
            return;
        }
        if self.counted.rows == 0 {
            self.clone_from(other);
            return;
        }
        self.counted.merge(other.counted);
        self.squares += other.squares;
        self.first_unsafe = match (self.unsafe_rows, other.unsafe_rows) {
            (0, _) => other.first_unsafe,
            (_, 0) => self.first_unsafe,
            _ => self.first_unsafe.min(other.first_unsafe),
        };
        self.unsafe_rows += other.unsafe_rows;
        self.widest = wider(self.widest, other.widest);
        self.lost += other.lost;
        self.buckets.merge(&other.buckets);
        self.output += other.output;
        add(&mut self.sums, &other.sums);
    }
}

impl GradientSums {
    /// Counts the keys of another block in. A block without keys changes no bit.
    pub fn merge(&mut self, other: &GradientSums) {
        if other.counted.rows == 0 {
            return;
        }
        if self.counted.rows == 0 {
            self.clone_from(other);
            return;
        }
        self.counted.merge(other.counted);
        self.outputs.iter_mut().zip(other.outputs).for_each(|(sum, term)| *sum += term);
        add(&mut self.sums, &other.sums);
    }
}

/// The square of the norm of some rows.
fn square<T: Float>(rows: &Option<Vec<T>>) -> f64 {
    rows.as_ref().map_or(0.0, |rows| norm(rows).powi(2))
}

impl Polynomial {
    /// For keys and queries of which `sample` has some; no moments yet.
    pub(crate) fn of_sample<T: Float>(
        sample: &Problem<'_, T>,
        approximation: &Approximation,
        options: &Options,
    ) -> Result<Self, Error> {
        Polynomial::chosen(sample, approximation, options)
    }

    /// The same in coordinates that were chosen before.
    pub(crate) fn of_parts(
        coordinates: Coordinates,
        coefficients: &[f64],
        integers: bool,
        options: &Options,
    ) -> Result<Self, Error> {
        let degree = coefficients.len().saturating_sub(1);
        Ok(Polynomial { integers, ..Polynomial::of_coordinates(coordinates, coefficients, degree, options)? })
    }

    /// The coordinates, the coefficients of P, and whether sums may be of integers: all that the above needs.
    pub(crate) fn parts(&self) -> (&Coordinates, &[f64], bool) {
        (&self.coordinates, &self.coefficients.powers, self.integers)
    }

    /// Monomials up to the degree.
    pub(crate) fn features(&self) -> usize {
        self.tree.inner()
    }

    /// Numbers of the moments of the keys, for values of this width.
    pub(crate) fn key_size(&self, dv: usize) -> Result<usize, Error> {
        buffer::size(&[self.tree.count(), dv + 1])
    }

    /// Numbers of the sums over queries, as far as they are wanted.
    pub(crate) fn query_sizes(&self, needs: &OutputSet, d1: usize, dv: usize) -> Result<[Option<usize>; 2], Error> {
        let contracts = self.contracts(needs);
        let count = if needs.key_slopes() || contracts { self.tree.count() } else { self.tree.inner() };
        let weights = (needs.weights && !contracts).then(|| buffer::size(&[self.coordinates.dimension(), d1]));
        let moments = (needs.key_side() || contracts).then(|| buffer::size(&[count, dv + 1]));
        Ok([weights.transpose()?, moments.transpose()?])
    }

    /// Whether dL/dX is made of the moments of both sides.
    fn contracts(&self, needs: &OutputSet) -> bool {
        needs.weights && !needs.A1 && self.coordinates.row.is_some()
    }

    /// The sums over the keys of one shard, which is row-major.
    pub(crate) fn shard_keys<T: Float>(&self, shard: &Problem<'_, T>, run: &mut Run<'_>) -> Result<KeySums, Error> {
        run.phase(1.0);
        self.key_sums(shard, true, run)
    }

    /// The same polynomial with the moments of all keys.
    pub(crate) fn with_keys(&self, keys: &KeySums) -> Result<Self, Error> {
        let (coordinates, coefficients, integers) = self.parts();
        let options = Options { level: Some(self.isa.level()), ..Options::default() };
        let polynomial = Polynomial::of_parts(coordinates.clone(), coefficients, integers, &options)?;
        let keys =
            KeySums { sums: buffer::copied(&keys.sums)?, gram: keys.gram.clone(), found: keys.found.clone(), ..*keys };
        Ok(Polynomial { keys, ..polynomial })
    }

    /// The sums over the queries of one shard, which is row-major and whose first query has this index, and the rows of
    /// dL/dA1 where they are wanted. The moments are those of all keys.
    pub(crate) fn shard_queries<T: Float>(
        &self,
        shard: &Problem<'_, T>,
        first: usize,
        needs: &OutputSet,
        run: &mut Run<'_>,
    ) -> WithRows<QuerySums, Option<Vec<T>>> {
        let ((n, d1), dv) = (shard.A1.dim(), shard.Y.ncols());
        let none = [Array2::zeros((0, shard.A2.ncols())), Array2::zeros((0, shard.A3.ncols()))];
        let sides = self.sides(shard, &none)?;
        let product = Product::new(self.coordinates.to_A1(shard), self.strip::<T>())?;
        let moments = self.moments(dv)?;
        let mut operands = self.queries(shard, &sides, moments.as_ref())?;
        operands.product = needs.A1.then_some(&product);
        operands.slopes = needs.query_slopes() && !self.contracts(needs);
        let [weights, moments] = self.query_sizes(needs, d1, dv)?;
        let mut rows = needs.A1.then(|| buffer::zeros::<T>(buffer::size(&[n, d1])?)).transpose()?;
        let mut norms = buffer::zeros(n)?;
        let outputs =
            RowOutputs { slopes: (rows.as_deref_mut(), d1), norms: Some(&mut norms), ..RowOutputs::default() };
        let side = query_side(self, operands, outputs, [weights, moments, None], None, 1.0, run)?;
        let [weights, moments, _] = side.sums;
        let found = side.found;
        let sums = QuerySums {
            counted: Counted::whole(n),
            squares: found.squares,
            unsafe_rows: found.unsafe_rows.len(),
            first_unsafe: found.unsafe_rows.first().map_or(0, |row| first + row),
            widest: found.widest,
            lost: found.lost.iter().sum(),
            buckets: found.buckets,
            output: square(&rows),
            sums: [weights, moments],
        };
        Ok((sums, rows))
    }

    /// The sums over the keys of one shard, which is row-major, and the rows of dL/dA2 and dL/dA3 where they are wanted,
    /// from the sums over all queries.
    pub(crate) fn shard_gradients<T: Float>(
        &self,
        shard: &Problem<'_, T>,
        queries: &QuerySums,
        needs: &OutputSet,
        run: &mut Run<'_>,
    ) -> WithRows<GradientSums, [Option<Vec<T>>; 2]> {
        let ((m, d2), d3) = (shard.A2.dim(), shard.A3.ncols());
        let none = [Array2::zeros((0, d2)), Array2::zeros((0, d3))];
        let sides = self.sides(shard, &none)?;
        let strip = self.strip::<T>();
        let keys = Product::new(self.coordinates.to_A2(shard), strip)?;
        let values = Product::new(self.coordinates.to_A3(shard), strip)?;
        let operands = KeySide {
            sides: &sides,
            moments: None,
            products: [needs.A2.then_some(&keys), needs.A3.then_some(&values)],
            slopes: needs.key_slopes(),
        };
        let room = |is_wanted: bool, width: usize| {
            is_wanted.then(|| buffer::zeros::<T>(buffer::size(&[m, width])?)).transpose()
        };
        let mut rows = [room(needs.A2, d2)?, room(needs.A3, d3)?];
        let [of_keys, of_values] = &mut rows;
        let outputs = KeyOutputs {
            rows: [(of_keys.as_deref_mut(), d2), (of_values.as_deref_mut(), d3)],
            sums: [needs.W_K, needs.Y],
        };
        let moments = queries.sums[1].as_deref().unwrap_or_default();
        let sums = key_side(self, operands, Answers::Moments(moments), outputs, 0.0, run)?;
        for (rows, name) in rows.iter().zip(["dL/dA2", "dL/dA3"]) {
            in_range(name, T::NAME, rows.iter().flatten().all(|x| x.is_finite()))?;
        }
        let outputs = [square(&rows[0]), square(&rows[1])];
        Ok((GradientSums { counted: Counted::whole(m), sums, outputs }, rows))
    }

    /// The loss and the gradients with their bounds. `problem` has the widths and weights of the shards; the moments are
    /// those of all keys.
    pub(crate) fn gathered<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        queries: &QuerySums,
        gradients: &GradientSums,
        wrt: &[Wrt],
        run: &mut Run<'_>,
    ) -> Result<Gathered<T>, Error> {
        let (d, d1, dv) = (self.coordinates.dimension(), problem.A1.ncols(), problem.Y.ncols());
        let needs = OutputSet::of(wrt);
        let contracted = if self.contracts(&needs) { self.contraction(dv)? } else { None };
        let weights = match (&contracted, &queries.sums) {
            (Some(contraction), [_, Some(sums)]) => Some(contraction.of(sums, run)?),
            (_, [weights, _]) => weights.as_deref().map(buffer::copied).transpose()?,
        };
        let [keys, values] = &gradients.sums;
        let made = |sum: Option<&[f64]>, rows: usize, columns: usize| {
            let sum = sum.ok_or_else(|| Error::Internal("a sum of the shards is missing".into()))?;
            matrix(buffer::copied(sum)?, rows, columns)
        };
        let fitted = self.fitted(dv);
        let bounds = Bounds::new(&fitted, problem, (queries.counted, &queries.buckets), queries.widest, queries.lost)?;
        let mut found = buffer::with_capacity(wrt.len())?;
        let mut sizes = buffer::with_capacity(wrt.len())?;
        for &wrt in wrt {
            let (sum, rows, squares) = match wrt {
                Wrt::X | Wrt::WQ => (Some((weights.as_deref(), d, d1)), 0, 0.0),
                Wrt::WK => (Some((keys.as_deref(), d, problem.A2.ncols())), 0, 0.0),
                Wrt::Y => (Some((values.as_deref(), dv, problem.A3.ncols())), 0, 0.0),
                Wrt::A1 | Wrt::A => (None, queries.counted.rows, queries.output),
                Wrt::A2 => (None, self.keys.counted.rows, gradients.outputs[0]),
                Wrt::A3 => (None, self.keys.counted.rows, gradients.outputs[1]),
            };
            let columns = problem.dim(wrt).1;
            let (value, extent) = match sum {
                Some((sum, height, width)) => {
                    let value = self.coordinates.gradient(wrt, made(sum, height, width)?, problem);
                    in_range(&format!("dL/d{}", wrt.name()), T::NAME, value.iter().all(|x| x.is_finite()))?;
                    let extent = Extent::of(value.view());
                    (value, extent)
                }
                None => {
                    let count = rows as f64 * columns as f64;
                    (Array2::zeros((0, columns)), Extent { size: squares.sqrt(), count })
                }
            };
            sizes.push(extent.size);
            found.push((wrt, value, bounds.gradient(wrt, extent)));
        }
        let unit = self.coordinates.incoming_exponent.exp2();
        let loss = if problem.is_target { 0.5 * queries.squares * unit * unit } else { 0.0 };
        in_range("the loss", T::NAME, loss.is_finite())?;
        let (loss_bound, steps, level) = (bounds.loss(), bounds.steps(), self.isa.level());
        Ok(Gathered { loss, loss_bound, gradients: found, sizes, steps, level })
    }
}
