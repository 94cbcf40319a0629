//! What moments say of one tile of rows: sums over the other side, and their gradient (docs/math.md, equations 57 and 60).

use super::monomials::Monomials;
use super::side::map;
use crate::buffer::{self, Aligned};
use crate::error::Error;
use crate::float::Float;
use crate::tile::simd::Vector;
use crate::tile::{self, Strips};

/// Moments of one side as the other side's rows use them.
pub struct Moments<T> {
    /// coef_β M_β for |β| ≤ g, one row a column of the payload.
    pub values: Strips<T>,
    /// D_β M_β for |β| ≤ g + 1, one row a monomial.
    pub slopes: Strips<T>,
    /// Whether every number of both fits the precision.
    pub finite: bool,
}

impl<T: Float> Moments<T> {
    /// From the sums `[count][width]`, whose `columns` first are wanted as values.
    pub fn new(
        tree: &Monomials,
        coefficients: &[f64],
        sums: &[f64],
        width: usize,
        columns: usize,
        keys: usize,
    ) -> Result<Self, Error> {
        Coefficients::new(tree, coefficients)?.moments(sums, width, columns, keys)
    }
}

/// What moments are multiplied by.
pub struct Coefficients {
    /// coef_β for |β| ≤ g.
    values: Vec<f64>,
    /// D_β for |β| ≤ g + 1: D_β = P_(|β|−1) (|β| − 1)!/β!, so that its derivative by x_i is coef at β − e_i.
    slopes: Vec<f64>,
}

impl Coefficients {
    /// Of the polynomial with the coefficients P_0, …, P_g.
    pub fn new(tree: &Monomials, coefficients: &[f64]) -> Result<Self, Error> {
        let of = |grade: usize| coefficients.get(grade).copied().unwrap_or(0.0);
        let mut values = tree.weights(of)?;
        values.truncate(tree.inner());
        let slopes = tree.weights(|grade| if grade == 0 { 0.0 } else { of(grade - 1) / grade as f64 })?;
        Ok(Coefficients { values, slopes })
    }

    /// Times the sums `[count][width]`, whose `columns` first are wanted as values; in one go, as a causal problem does this
    /// for each chunk.
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

    /// out[c] = Σ_β coef_β x^β M_β[c], `[columns][L]`.
    #[inline(always)]
    pub fn values<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &self,
        moments: &Moments<T>,
        out: &mut [T],
    ) {
        map::<T, V, W, L, J>(&self.features, &moments.values, out, L);
    }

    /// out[i] = Σ_{|β| ≤ g} coef_β x^β ⟨M_{β + e_i}, payload⟩, `[dimension][L]`: the gradient of
    /// F(x) = Σ_β x^β ⟨D_β M_β, payload⟩ (59), by going through the tree from the leaves to the root.
    #[inline(always)]
    pub fn slopes<V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
        &mut self,
        tree: &Monomials,
        moments: &Moments<T>,
        payload: &[T],
        x: &[T],
        out: &mut [T],
    ) {
        self.adjoints.fill(T::zero());
        out.fill(T::zero());
        let (steps, inner) = (tree.steps(), tree.inner());
        let features = self.features.as_chunks::<L>().0;
        let mut sums = Sums::<'_, T, V, L> {
            features,
            adjoints: self.adjoints.as_chunks_mut().0,
            x: x.as_chunks().0,
            out: out.as_chunks_mut().0,
            parent: 0,
            feature: tile::load(&features[0]),
            adjoint: [V::splat(T::zero()); 2],
        };
        for first in (0..steps.len()).step_by(J).rev() {
            let tile: tile::Tile<V, J> = tile::products::<T, V, W, L, J>(payload, moments.slopes.strip::<J>(first));
            for j in (0..J).rev() {
                let index = first + j;
                // Past the last one there is nothing, and of the constant no slope.
                if let Some(&(parent, coordinate)) = steps.get(index).filter(|_| index > 0) {
                    sums.turn_to::<W>(parent as usize);
                    let adjoint = if index < inner {
                        tile::zip(tile[j], tile::load(&sums.adjoints[index]), V::add)
                    } else {
                        tile[j]
                    };
                    sums.pass_on::<W>(coordinate as usize, adjoint);
                }
            }
        }
    }
}

/// The reverse pass over the tree for one tile of rows. Children of one parent are neighbours, so that what they have in
/// common is at hand while they last.
struct Sums<'a, T, V, const L: usize> {
    features: &'a [[T; L]],
    adjoints: &'a mut [[T; L]],
    x: &'a [[T; L]],
    out: &'a mut [[T; L]],
    parent: usize,
    feature: tile::Pair<V>,
    /// That of the parent.
    adjoint: tile::Pair<V>,
}

impl<T: Float, V, const L: usize> Sums<'_, T, V, L> {
    /// The children of `parent` come next.
    #[inline(always)]
    fn turn_to<const W: usize>(&mut self, parent: usize)
    where
        V: Vector<T, W>,
    {
        if parent != self.parent {
            tile::store(self.adjoint, &mut self.adjoints[self.parent]);
            self.adjoint = tile::load(&self.adjoints[parent]);
            self.feature = tile::load(&self.features[parent]);
            self.parent = parent;
        }
    }

    /// A child is parent · x_c, so its adjoint goes to the parent times x_c, and to the slope along c times the parent.
    #[inline(always)]
    fn pass_on<const W: usize>(&mut self, coordinate: usize, adjoint: tile::Pair<V>)
    where
        V: Vector<T, W>,
    {
        let x: tile::Pair<V> = tile::load(&self.x[coordinate]);
        let out = &mut self.out[coordinate];
        let sum: tile::Pair<V> = tile::load(out);
        let add = |factor: tile::Pair<V>, sum: tile::Pair<V>| {
            [adjoint[0].mul_add(factor[0], sum[0]), adjoint[1].mul_add(factor[1], sum[1])]
        };
        tile::store(add(self.feature, sum), out);
        self.adjoint = add(x, self.adjoint);
    }
}
