//! Errors of sampled rows of p and f at every key, the terms of outputs by key (docs/math.md, Rule 9.49).
//!
//! Such a term has a row for each key. For the estimate the keys are added up in groups with random signs, which leaves
//! norms as they are in the mean; rows that are put in the place of their approximation count key by key.

use std::f64::consts::LN_2;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Zip, s};

use super::prepared::Prepared;
use super::stages::Stages;
use crate::certificate::estimated::Factors;
use crate::constants::MOMENT_ROWS as CHUNK;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::products::{dot, matrix};
use crate::options::{Isa, Options};
use crate::probe::exponentials;
use crate::problem::{Approximation, Problem, Weights, Wrt};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};
use crate::runtime::rng::Rng;

/// Groups of keys.
pub const GROUPS: usize = 256;

/// Standard deviations of the square of a norm that groups of keys may take from it, each of at most √(2/groups) of the
/// square.
const GROUP_DEVIATION: f64 = 2.58;

/// Seed of the groups.
const SEED: u64 = 0x5EED_10C4;

/// Rows and keys that are met at a time.
const ROWS: usize = 64;
const KEYS: usize = 128;

/// Errors of rows, their keys in groups: (rows, [`GROUPS`]) each.
#[derive(Debug, Clone)]
pub struct Grouped {
    /// p − p̃.
    pub p: Array2<f64>,
    /// f − f̃.
    pub f: Array2<f64>,
    /// f̃, where c moves with o.
    pub approximate: Option<Array2<f64>>,
}

impl Grouped {
    /// What `of` makes of each array with that of the other.
    pub fn with(
        &self,
        other: &Grouped,
        of: impl Fn(&Array2<f64>, &Array2<f64>) -> Result<Array2<f64>, Error>,
    ) -> Result<Self, Error> {
        let approximate = self.approximate.as_ref().zip(other.approximate.as_ref());
        let approximate = approximate.map(|(one, other)| of(one, other)).transpose()?;
        Ok(Grouped { p: of(&self.p, &other.p)?, f: of(&self.f, &other.f)?, approximate })
    }
}

/// By how much an estimate from groups is raised.
pub fn group_factor() -> f64 {
    (1.0 - GROUP_DEVIATION * (2.0 / GROUPS as f64).sqrt()).sqrt().recip()
}

/// What is wanted of sampled rows beside o.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// f A3.
    pub mixed: bool,
    /// w.
    pub slopes: bool,
    /// p and f at every key.
    pub keys: bool,
}

impl Wanted {
    /// For outputs, whose `mixed` rows count where rows are the whole certificate.
    pub fn of(wrt: &[Wrt], is_estimate: bool) -> Self {
        let any = |set: &[Wrt]| is_estimate && wrt.iter().any(|wrt| set.contains(wrt));
        Wanted { mixed: any(&[Wrt::Y]), slopes: true, keys: any(&[Wrt::A2, Wrt::A3]) }
    }
}

/// Some query rows with all that their weights are made of.
pub struct ByKey<'a, 'b, T> {
    problem: &'a Problem<'b, T>,
    approximation: &'a Approximation,
    isa: Isa,
    /// s a_j X, as rows of A2 meet it, and ⟨·, the row that keys are centred at⟩.
    queries: &'a Array2<f64>,
    centres: Vec<f64>,
    /// c Yᵀ and c̃ Yᵀ, as rows of A3 meet them.
    residuals: &'a [Array2<f64>; 2],
    /// Keys that each row sees, and those of them in moments.
    ends: Vec<[usize; 2]>,
}

/// Normalisers of a row, exact and approximate, and its r and r̃.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    z: [f64; 2],
    r: [f64; 2],
}

/// The weights of some rows and keys before they are divided, exact and approximate, and ⟨c, h⟩ and ⟨c̃, h⟩.
struct Block {
    weights: [Array2<f64>; 2],
    products: [Array2<f64>; 2],
}

/// p − p̃, f − f̃ and f̃ of some rows and keys.
struct Differences {
    p: Array2<f64>,
    f: Array2<f64>,
    approximate: Array2<f64>,
}

/// s a_j X of rows s a_j, and c Yᵀ of rows of c.
pub fn mapped_rows<T: Float>(
    problem: &Problem<'_, T>,
    Parts { left, residuals: [exact, approximate], .. }: Parts<'_>,
) -> Result<(Array2<f64>, [Array2<f64>; 2]), Error> {
    let queries = match problem.weights {
        Weights::Product(X) => dot(left.view(), wide(X).view())?,
        Weights::Pair(W_Q, W_K) => dot(dot(left.view(), wide(W_Q).view())?.view(), wide(W_K).t())?,
    };
    let Y = wide(problem.Y);
    Ok((queries, [dot(exact.view(), Y.t())?, dot(approximate.view(), Y.t())?]))
}

/// Sampled rows as outputs by key are made of them.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Which rows.
    pub indices: &'a [usize],
    /// s A1.
    pub left: &'a Array2<f64>,
    /// c and c̃.
    pub residuals: &'a [Array2<f64>; 2],
}

/// Result of `of` for the errors of some rows at every key.
pub fn by_key<T: Float, R>(
    problem: &Problem<'_, T>,
    prepared: &Prepared,
    rows: Parts<'_>,
    stages: &mut Stages<'_>,
    of: impl FnOnce(&ByKey<'_, '_, T>, &Options, Option<Watch<'_>>) -> Result<R, Error>,
) -> Result<R, Error> {
    let (queries, residuals) = mapped_rows(problem, rows)?;
    stages.run(0.5, |options, watch| {
        let rows = ByKey::new(problem, prepared, rows.indices, (&queries, &residuals), options.isa()?);
        of(&rows, options, watch)
    })
}

/// Result of `of` for the errors of an output by key in groups.
pub fn errors_by_key<T: Float, R>(
    problem: &Problem<'_, T>,
    grouped: &Grouped,
    rows: Parts<'_>,
    wrt: Wrt,
    of: impl FnOnce(&[Factors<'_>]) -> Result<R, Error>,
) -> Result<R, Error> {
    let (queries, [c, c_approximate]) = mapped_rows(problem, rows)?;
    match (wrt, &grouped.approximate) {
        (Wrt::A2, _) => of(&[(grouped.p.view(), queries.view())]),
        (_, None) => of(&[(grouped.f.view(), c.view())]),
        // f ⊗ c − f̃ ⊗ c̃.
        (_, Some(weights)) => {
            let moved = less(&c, c_approximate);
            of(&[(grouped.f.view(), c.view()), (weights.view(), moved.view())])
        }
    }
}

/// a − b in the place of b.
pub fn less(a: &Array2<f64>, mut b: Array2<f64>) -> Array2<f64> {
    b.zip_mut_with(a, |b, a| *b = a - *b);
    b
}

impl<'a, 'b, T: Float> ByKey<'a, 'b, T> {
    /// The rows `indices`, of which the others are [`mapped_rows`].
    pub fn new(
        problem: &'a Problem<'b, T>,
        prepared: &'a Prepared,
        indices: &[usize],
        (queries, residuals): (&'a Array2<f64>, &'a [Array2<f64>; 2]),
        isa: Isa,
    ) -> Self {
        let m = problem.A2.nrows();
        let ends = indices.iter().map(|&row| match problem.is_causal {
            // Under a mask the keys of its own chunk have their weights as they are.
            true => [m.min(row + 1), m.min(row / CHUNK * CHUNK)],
            false => [m, m],
        });
        ByKey {
            problem,
            approximation: &prepared.approximation,
            isa,
            centres: queries.dot(prepared.moments.mean()).to_vec(),
            queries,
            residuals,
            ends: ends.collect(),
        }
    }

    /// Their errors, keys in groups. Time O(r m (d2 + d3)).
    pub fn grouped(&self, options: &Options, watch: Option<Watch<'_>>) -> Result<Grouped, Error> {
        let (rows, m) = (self.ends.len(), self.problem.A2.nrows());
        let mut rng = Rng::new(SEED);
        let groups = buffer::collected((0..m).map(|_| {
            let bits = rng.bits();
            (bits as usize % GROUPS, if bits >> 63 == 0 { 1.0 } else { -1.0 })
        }))?;
        let room = || matrix(buffer::zeros(buffer::size(&[rows, GROUPS])?)?, rows, GROUPS);
        let (mut p, mut f, mut approximate) = (room()?, room()?, room()?);
        let mut run = Run::new(options, watch);
        run.phase(1.0);
        let parts = p.axis_chunks_iter_mut(Axis(0), ROWS).zip(f.axis_chunks_iter_mut(Axis(0), ROWS));
        let parts = parts.zip(approximate.axis_chunks_iter_mut(Axis(0), ROWS));
        run.for_each(parts.enumerate(), |(part, ((mut p, mut f), mut approximate)), cancel| {
            let of = part * ROWS..part * ROWS + p.nrows();
            let totals = self.totals(of.clone(), || cancel.check())?;
            for first in (0..m).step_by(KEYS) {
                cancel.check()?;
                let keys = first..m.min(first + KEYS);
                let found = self.differences(of.clone(), keys.clone(), &totals)?;
                for (to, from) in [(&mut p, &found.p), (&mut f, &found.f), (&mut approximate, &found.approximate)] {
                    add_groups(to, from, &groups[keys.clone()]);
                }
            }
            Ok(())
        })?;
        Ok(Grouped { p, f, approximate: self.problem.is_target.then_some(approximate) })
    }

    /// Σ (p − p̃) ⊗ s a_j X and Σ (f ⊗ c − f̃ ⊗ c̃) Yᵀ over the rows, (m, d2) and (m, d3). Time O(r m (d2 + d3)).
    pub fn sums(&self, options: &Options, watch: Option<Watch<'_>>) -> Result<[Array2<f64>; 2], Error> {
        let (rows, (m, d2), d3) = (self.ends.len(), self.problem.A2.dim(), self.problem.A3.ncols());
        let mut run = Run::new(options, watch);
        run.phase(0.5);
        let mut totals = buffer::filled(rows, Totals::default())?;
        run.for_each(totals.chunks_mut(ROWS).enumerate(), |(part, totals), cancel| {
            let of = part * ROWS..part * ROWS + totals.len();
            totals.copy_from_slice(&self.totals(of, || cancel.check())?);
            Ok(())
        })?;
        let room = |width| matrix(buffer::zeros(buffer::size(&[m, width])?)?, m, width);
        let (mut keys, mut values) = (room(d2)?, room(d3)?);
        run.phase(1.0);
        let parts = keys.axis_chunks_iter_mut(Axis(0), KEYS).zip(values.axis_chunks_iter_mut(Axis(0), KEYS));
        run.for_each(parts.enumerate(), |(part, (mut keys, mut values)), cancel| {
            let of = part * KEYS..part * KEYS + keys.nrows();
            for first in (0..rows).step_by(ROWS) {
                cancel.check()?;
                let some = first..rows.min(first + ROWS);
                let found = self.differences(some.clone(), of.clone(), &totals[some.clone()])?;
                let [c, c_approximate] = self.residuals.each_ref().map(|c| c.slice(s![some.clone(), ..]));
                keys += &dot(found.p.t(), self.queries.slice(s![some.clone(), ..]))?;
                values += &dot(found.f.t(), c)?;
                if self.problem.is_target {
                    values += &dot(found.approximate.t(), (&c - &c_approximate).view())?;
                }
            }
            Ok(())
        })?;
        Ok([keys, values])
    }

    /// Normalisers and r of some rows.
    fn totals(&self, rows: Range<usize>, check: impl Fn() -> Result<(), Error>) -> Result<Vec<Totals>, Error> {
        let m = self.problem.A2.nrows();
        let mut totals = buffer::filled(rows.len(), Totals::default())?;
        for first in (0..m).step_by(KEYS) {
            check()?;
            let Block { weights, products } = self.block(rows.clone(), first..m.min(first + KEYS))?;
            for (kind, (weights, products)) in weights.iter().zip(&products).enumerate() {
                for (totals, (weights, products)) in
                    totals.iter_mut().zip(weights.rows().into_iter().zip(products.rows()))
                {
                    totals.z[kind] += weights.sum();
                    totals.r[kind] += weights.dot(&products);
                }
            }
        }
        for Totals { z, r } in &mut totals {
            // A row that sees nothing has no weights.
            r.iter_mut().zip(z).for_each(|(r, z)| *r = if *z == 0.0 { 0.0 } else { *r / *z });
        }
        Ok(totals)
    }

    fn differences(&self, rows: Range<usize>, keys: Range<usize>, totals: &[Totals]) -> Result<Differences, Error> {
        let Block { weights: [mut f, mut approximate], products: [exact, mut moved] } = self.block(rows, keys)?;
        let mut p = exact;
        let rows = f.rows_mut().into_iter().zip(approximate.rows_mut()).zip(p.rows_mut()).zip(moved.rows_mut());
        for ((((f, approximate), p), moved), totals) in rows.zip(totals) {
            let [inverse, inverse_approximate] = totals.z.map(|z| if z == 0.0 { 0.0 } else { z.recip() });
            let [r, r_approximate] = totals.r;
            Zip::from(f).and(approximate).and(p).and(moved).for_each(|f, approximate, p, moved| {
                *f *= inverse;
                *approximate *= inverse_approximate;
                *p = *f * (*p - r) - *approximate * (*moved - r_approximate);
                *f -= *approximate;
            });
        }
        Ok(Differences { p, f, approximate })
    }

    fn block(&self, rows: Range<usize>, keys: Range<usize>) -> Result<Block, Error> {
        let some = |array| wide(ArrayView2::slice_move(array, s![keys.clone(), ..]));
        let (A2, A3) = (some(self.problem.A2.view()), some(self.problem.A3.view()));
        let mut exact = dot(self.queries.slice(s![rows.clone(), ..]), A2.t())?;
        let mut approximate = matrix(buffer::zeros(exact.len())?, exact.nrows(), exact.ncols())?;
        let coefficients = &self.approximation.coefficients;
        for ((row, mut logits), mut polynomial) in rows.clone().zip(exact.rows_mut()).zip(approximate.rows_mut()) {
            let [end, fitted] = self.ends[row];
            logits -= self.centres[row];
            // Power by power over all keys: one sum alone would wait for each of its products.
            for &coefficient in coefficients.iter().rev() {
                polynomial.zip_mut_with(&logits, |to, &t| *to = *to * t + coefficient);
            }
            // A row of an array of its own is one piece.
            if let Some(logits) = logits.as_slice_mut() {
                self.weigh(logits);
            }
            let place = |key: usize| key.clamp(keys.start, keys.end) - keys.start;
            polynomial.slice_mut(s![place(fitted)..]).assign(&logits.slice(s![place(fitted)..]));
            let from = self.approximation.exact_keys.partition_point(|&key| key < keys.start);
            for &key in self.approximation.exact_keys[from..].iter().take_while(|&&key| key < keys.end) {
                polynomial[key - keys.start] = logits[key - keys.start];
            }
            logits.slice_mut(s![place(end)..]).fill(0.0);
            polynomial.slice_mut(s![place(end)..]).fill(0.0);
        }
        let products = |c: &Array2<f64>| dot(c.slice(s![rows.clone(), ..]), A3.t());
        let [c, c_approximate] = self.residuals;
        let own = products(c)?;
        let moved = if self.problem.is_target { products(c_approximate)? } else { own.clone() };
        Ok(Block { weights: [exact, approximate], products: [own, moved] })
    }

    /// e^t in the place of t.
    fn weigh(&self, logits: &mut [f64]) {
        let limit = f64::UNSHIFTED_MAX * LN_2;
        if logits.iter().all(|t| t.abs() < limit) {
            exponentials(self.isa, logits);
        } else {
            logits.iter_mut().for_each(|t| *t = t.exp());
        }
    }
}

/// Adds the columns of `from` to those of their groups with their signs.
fn add_groups(to: &mut ArrayViewMut2<'_, f64>, from: &Array2<f64>, groups: &[(usize, f64)]) {
    for (mut to, from) in to.rows_mut().into_iter().zip(from.rows()) {
        for (&(group, sign), x) in groups.iter().zip(from) {
            to[group] += sign * x;
        }
    }
}
