//! Evaluation of the moments at one tile of rows: sums over the other side, and their gradient (docs/math.md, equations
//! 8.5 and 8.8).

use crate::error::Error;
use crate::features::Monomials;
use crate::float::Float;
use crate::kernels::Strips;
use crate::kernels::map;
use crate::kernels::tile;
use crate::runtime::buffer::{self, Aligned};
use crate::simd::Vector;

/// Moments of one side as the other side's rows use them.
pub struct Moments<T> {
    /// coef_β M_β for |β| ≤ g, one row a column of the payload.
    pub values: Strips<T>,
    /// D_β M_β for |β| ≤ g + 1, one row a monomial.
    pub slopes: Strips<T>,
    /// Whether every number of both fits the precision.
    pub finite: bool,
}

/// The polynomial, and the coefficients that multiply the moments, one for each monomial.
pub struct Coefficients {
    /// P_0, …, P_g.
    pub powers: Vec<f64>,
    /// coef_β for |β| ≤ g.
    pub values: Vec<f64>,
    /// D_β for |β| ≤ g + 1: D_β = P_(|β|−1) (|β| − 1)!/β!, so that its derivative by x_i is coef at β − e_i.
    slopes: Vec<f64>,
}

impl Coefficients {
    /// Of the polynomial with the coefficients `powers`.
    pub fn new(tree: &Monomials, powers: &[f64]) -> Result<Self, Error> {
        let of = |grade: usize| powers.get(grade).copied().unwrap_or(0.0);
        let mut values = tree.weights(of)?;
        values.truncate(tree.inner());
        let slopes = tree.weights(|grade| if grade == 0 { 0.0 } else { of(grade - 1) / grade as f64 })?;
        Ok(Coefficients { powers: buffer::copied(powers)?, values, slopes })
    }

    /// Times the sums `[count][width]`, whose `columns` first are wanted as values; in one go, as a causal problem does
    /// this for each chunk.
    #[inline(always)]
    pub fn moments<T: Float>(
        &self,
        sums: &[f64],
        width: usize,
        columns: usize,
        keys: usize,
    ) -> Result<Moments<T>, Error> {
        let mut finite = true;
        let mut values = Strips::zeros(columns, self.values.len(), keys)?;
        for (first, strip) in values.all() {
            let last = columns.min(first + keys);
            let rows = self.values.iter().zip(sums.chunks_exact(width)).zip(strip.chunks_exact_mut(keys));
            for ((weight, row), to) in rows {
                for (to, sum) in to.iter_mut().zip(&row[first..last]) {
                    *to = T::narrow(weight * sum);
                    finite &= to.is_finite();
                }
            }
        }
        let mut slopes = Strips::zeros(self.slopes.len(), width, keys)?;
        let mut sums = sums.chunks_exact(width);
        for ((_, strip), weights) in slopes.all().zip(self.slopes.chunks(keys)) {
            // Without slopes there are no sums of the highest grade.
            for (row, (weight, sums)) in weights.iter().zip(sums.by_ref()).enumerate() {
                for (to, sum) in strip[row..].iter_mut().step_by(keys).zip(sums) {
                    *to = T::narrow(weight * sum);
                    finite &= to.is_finite();
                }
            }
        }
        Ok(Moments { values, slopes, finite })
    }
}

/// Scratch for one tile of rows.
pub struct Evaluator<T> {
    features: Aligned<T>,
    adjoints: Aligned<T>,
}

impl<T: Float> Evaluator<T> {
    /// Room for the features of `L` rows.
    pub fn new<const L: usize>(tree: &Monomials) -> Result<Self, Error> {
        let size = buffer::size(&[tree.inner(), L])?;
        Ok(Evaluator { features: buffer::aligned(size)?, adjoints: buffer::aligned(size)? })
    }

    /// x^β for |β| ≤ g, with `x` laid out `[dimension][L]`.
    #[inline(always)]
    pub fn set<V: Vector<T, W>, const W: usize, const L: usize>(&mut self, tree: &Monomials, x: &[T]) {
        let x = x.as_chunks::<L>().0;
        let features = self.features.as_chunks_mut::<L>().0;
        features[0] = [T::one(); L];
        for (index, &(parent, coordinate)) in tree.steps()[..tree.inner()].iter().enumerate().skip(1) {
            let parent = tile::load::<T, V, W, L>(&features[parent as usize]);
            let x = tile::load::<T, V, W, L>(&x[coordinate as usize]);
            tile::store(tile::zip(parent, x, V::mul), &mut features[index]);
        }
    }

    /// out[c] = Σ_β coef_β x^β M_β[c], `[columns][L]`; zeros where there are no moments.
    #[inline(always)]
    pub fn values<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        tree: &Monomials,
        moments: Option<&Moments<T>>,
        x: &[T],
        out: &mut [T],
    ) {
        let Some(moments) = moments else { return out.fill(T::zero()) };
        self.set::<V, W, L>(tree, x);
        map::<T, V, W, L, J>(&self.features, &moments.values, out, L);
    }

    /// out[i] = Σ_{|β| ≤ g} coef_β x^β ⟨M_{β + e_i}, payload⟩, `[dimension][L]`: the gradient of
    /// F(x) = Σ_β x^β ⟨D_β M_β, payload⟩ (8.7), by going through the tree from the leaves to the root. Of the x
    /// that was [`Evaluator::set`]; zeros where there are no moments.
    #[inline(always)]
    pub fn slopes<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        tree: &Monomials,
        moments: Option<&Moments<T>>,
        payload: &[T],
        x: &[T],
        out: &mut [T],
    ) {
        out.fill(T::zero());
        let Some(moments) = moments else { return };
        self.adjoints.fill(T::zero());
        let inner = tree.inner();
        let (features, adjoints) = (self.features.as_chunks::<L>().0, self.adjoints.as_chunks_mut::<L>().0);
        let (x, out) = (x.as_chunks::<L>().0, out.as_chunks_mut::<L>().0);
        for first in (0..tree.count()).step_by(J).rev() {
            let mut tile: tile::Tile<V, J> = tile::products::<T, V, W, L, J>(payload, moments.slopes.strip::<J>(first));
            // A run is of one grade: all of it is inner, or nothing.
            if let Some((parent, coordinate)) = tree.run::<J>(first) {
                if let Some(own) = adjoints.get(first..).and_then(|own| own.first_chunk::<J>()) {
                    for j in 0..J {
                        tile[j] = tile::zip(tile[j], tile::load(&own[j]), V::add);
                    }
                }
                if let (Some(parents), Some(adjoints)) =
                    (features[parent..].first_chunk::<J>(), adjoints[parent..].first_chunk_mut::<J>())
                {
                    let (x, mut slope) = (tile::load(&x[coordinate]), tile::load(&out[coordinate]));
                    for j in 0..J {
                        pass_on::<T, V, W, L>(tile[j], &parents[j], x, &mut adjoints[j], &mut slope);
                    }
                    tile::store(slope, &mut out[coordinate]);
                }
                continue;
            }
            // In memory, so that the loop over the others keeps no tile from staying in registers.
            let mut children = [[T::zero(); L]; J];
            for j in 0..J {
                tile::store(tile[j], &mut children[j]);
            }
            let mut end = tree.count().min(first + J);
            while let Some((begin, parent, coordinate)) = tree.run_before(first, end) {
                let (lower, upper) = adjoints.split_at_mut(begin.min(inner));
                let run = &mut children[begin - first..end - first];
                for (child, own) in run.iter_mut().zip(upper) {
                    let own = tile::load::<T, V, W, L>(own);
                    tile::store(tile::zip(tile::load(child), own, V::add), child);
                }
                let (x, mut slope) = (tile::load(&x[coordinate]), tile::load(&out[coordinate]));
                for (child, (parent, adjoint)) in run.iter().zip(features[parent..].iter().zip(&mut lower[parent..])) {
                    pass_on::<T, V, W, L>(tile::load(child), parent, x, adjoint, &mut slope);
                }
                tile::store(slope, &mut out[coordinate]);
                end = begin;
            }
        }
    }
}

/// A child parent · x_c in the reverse pass: its adjoint goes to that of the parent times x_c, and to the slope along c
/// times the parent.
#[inline(always)]
fn pass_on<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(
    child: tile::Pair<V>,
    parent: &[T; L],
    x: tile::Pair<V>,
    adjoint: &mut [T; L],
    slope: &mut tile::Pair<V>,
) {
    let (parent, to) = (tile::load::<T, V, W, L>(parent), tile::load::<T, V, W, L>(adjoint));
    for half in 0..2 {
        slope[half] = child[half].mul_add(parent[half], slope[half]);
    }
    tile::store([child[0].mul_add(x[0], to[0]), child[1].mul_add(x[1], to[1])], adjoint);
}
