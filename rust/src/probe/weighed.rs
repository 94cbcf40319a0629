//! Values weighted by e^t and by P(t) − e^t, for a few queries with all of their keys, as a look before a try needs
//! them.

use crate::error::Error;
use crate::float::Float;
use crate::kernels::Strips;
use crate::kernels::tile::{self, Tile};
use crate::linalg::layout::Rows;
use crate::options::Isa;
use crate::runtime::buffer;
use crate::simd::Vector;

/// A few queries, and a polynomial P that stands for the exponential of their logits.
pub struct Looks<T> {
    /// (queries, d), row-major, with the scale in them.
    pub queries: Vec<T>,
    /// Subtracted from the logits of each query.
    pub centres: Vec<T>,
    /// P_0, …, P_g.
    pub coefficients: Vec<T>,
    /// How many keys each query sees, from the first on, and for how many of them P may stand.
    pub ends: Vec<[usize; 2]>,
    /// Keys for which it never does, in rising order.
    pub exact_keys: Vec<usize>,
}

/// The same as the kernels want it.
pub struct Weighed<T> {
    pub(super) looks: Looks<T>,
    pub(super) queries: Strips<T>,
    pub(super) isa: Isa,
}

/// Sums over keys of the weights e^t of each query, and of the error of P.
pub struct Sums {
    /// Times the values, (queries, width), row-major.
    pub values: [Vec<f64>; 2],
    /// Alone, one a query.
    pub totals: [Vec<f64>; 2],
}

impl Sums {
    /// Of no keys yet.
    pub fn new(queries: usize, width: usize) -> Result<Self, Error> {
        let (size, zeros) = (buffer::size(&[queries, width])?, buffer::zeros::<f64>);
        Ok(Sums { values: [zeros(size)?, zeros(size)?], totals: [zeros(queries)?, zeros(queries)?] })
    }

    /// Adds those over other keys.
    pub fn add(&mut self, other: &Sums) {
        let all = self.values.iter_mut().chain(&mut self.totals);
        for (sums, others) in all.zip(other.values.iter().chain(&other.totals)) {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        }
    }
}

/// Adds the contribution of a few hundred keys with registers of one kind: keys are in the lanes of the tile, and
/// queries beside them. The sums over the keys are in working precision.
#[inline(always)]
pub fn weigh<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    weighed: &Weighed<T>,
    at: usize,
    keys: Rows<'_, T>,
    values: Rows<'_, T>,
    sums: &mut Sums,
) -> Result<bool, Error> {
    let Weighed { queries, looks, .. } = weighed;
    let Looks { centres, coefficients, ends, exact_keys, .. } = looks;
    let Some(last) = centres.len().checked_sub(1) else { return Ok(true) };
    if ends.iter().all(|[seen, _]| *seen <= at) {
        return Ok(true);
    }
    let (d, groups) = (queries.width, values.width.div_ceil(W));
    let strips = queries.count.div_ceil(J);
    let mut x = buffer::aligned::<T>(buffer::size(&[d, L])?)?;
    let mut rows = buffer::filled(groups, [[[T::zero(); W]; 1]; L])?;
    let mut weighted = buffer::filled(buffer::size(&[strips, groups])?, [[[T::zero(); W]; J]; 2])?;
    let mut totals = buffer::filled(strips, [[[T::zero(); L]; J]; 2])?;
    let zero = V::splat(T::zero());
    let mut largest = [zero; 2];
    for first in (0..keys.count).step_by(L) {
        let count = (keys.count - first).min(L);
        tile::transpose::<T, L>(&keys.data[first * d..][..count * d], d, &mut x);
        // Lanes past the last key are that key once more, with a weight of zero in the end.
        for lanes in x.as_chunks_mut::<L>().0 {
            let last = lanes[count - 1];
            lanes[count..].fill(last);
        }
        let start = at + first;
        let exact =
            exact_keys.partition_point(|key| *key < start)..exact_keys.partition_point(|key| *key < start + count);
        pad(&values.data[first * values.width..][..count * values.width], values.width, &mut rows);
        for (strip, totals) in totals.iter_mut().enumerate() {
            let mut t: Tile<V, J> = tile::products::<T, V, W, L, J>(&x, queries.strip::<J>(strip * J));
            let mut parts = [[[T::zero(); L]; J]; 2];
            for j in 0..J {
                // The strip repeats its last query.
                let centre = V::splat(centres[(strip * J + j).min(last)]);
                t[j] = tile::zip(t[j], [centre; 2], V::sub);
                largest = tile::zip(largest, t[j], |most, t| most.max(t).max(zero.sub(t)));
                let mut polynomial = [zero; 2];
                for &coefficient in coefficients.iter().rev() {
                    let coefficient = V::splat(coefficient);
                    polynomial = tile::zip(polynomial, t[j], |sum, t| sum.mul_add(t, coefficient));
                }
                tile::store(polynomial, &mut parts[1][j]);
                t[j] = tile::zip(t[j], [V::splat(T::narrow(std::f64::consts::LOG2_E)); 2], V::mul);
            }
            tile::exponentiate::<T, V, W, false, false, J>(&mut t, [zero; 2]);
            for j in 0..J {
                let off = tile::zip(tile::load::<T, V, W, L>(&parts[1][j]), t[j], V::sub);
                for (part, (weights, total)) in [t[j], off].into_iter().zip(totals.iter_mut()).enumerate() {
                    let to = &mut parts[part][j];
                    tile::store(weights, to);
                    let end = ends[(strip * J + j).min(last)][part].clamp(start, start + count) - start;
                    to[end..].fill(T::zero());
                    if part == 1 {
                        exact_keys[exact.clone()].iter().for_each(|key| to[key - start] = T::zero());
                    }
                    let sum = tile::zip(tile::load::<T, V, W, L>(to), tile::load::<T, V, W, L>(&total[j]), V::add);
                    tile::store(sum, &mut total[j]);
                }
            }
            for (weighted, rows) in weighted[strip * groups..][..groups].iter_mut().zip(&rows) {
                for (weighted, part) in weighted.iter_mut().zip(&parts) {
                    let mut tile = [[zero; 1]; J];
                    for j in 0..J {
                        tile[j] = [V::load(&weighted[j])];
                    }
                    tile::outer_onto::<T, V, W, 1, J, L>(part.each_ref(), rows, &mut tile);
                    for j in 0..J {
                        tile[j][0].store(&mut weighted[j]);
                    }
                }
            }
        }
    }
    let mut lanes = [T::zero(); L];
    tile::store(largest, &mut lanes);
    let bound = T::narrow(T::UNSHIFTED_MAX * std::f64::consts::LN_2);
    if lanes.iter().any(|t| *t > bound) {
        return Ok(false);
    }
    for query in 0..queries.count {
        let (strip, j) = (query / J, query % J);
        for part in 0..2 {
            sums.totals[part][query] += totals[strip][part][j].iter().map(|x| x.widen()).sum::<f64>();
            let to = &mut sums.values[part][query * values.width..][..values.width];
            let from = weighted[strip * groups..][..groups].iter().flat_map(|group| group[part][j]);
            to.iter_mut().zip(from).for_each(|(to, x)| *to += x.widen());
        }
    }
    Ok(true)
}

/// Rows in groups of `W` columns, with zeros beside the last column and below the last row.
#[inline(always)]
fn pad<T: Float, const W: usize, const L: usize>(values: &[T], width: usize, groups: &mut [[[[T; W]; 1]; L]]) {
    for (group, padded) in groups.iter_mut().enumerate() {
        let columns = group * W..width.min((group + 1) * W);
        let mut rows = values.chunks_exact(width.max(1));
        for padded in padded.iter_mut() {
            match rows.next() {
                Some(row) => padded[0][..columns.len()].copy_from_slice(&row[columns.clone()]),
                None => padded[0].fill(T::zero()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roundings of a sum over the keys of weights that are themselves rounded, over the sum of their sizes.
    const ROUNDINGS: f64 = 64.0;

    fn entries<T: Float>(count: usize, step: f64) -> Vec<T> {
        (0..count).map(|i| T::narrow((step * ((i + 1) as f64).powi(2)).sin())).collect()
    }

    fn holds<T: Float>(isa: Isa, [count, m, d, width]: [usize; 4], is_causal: bool) {
        let coefficients = [1.0, 1.0, 0.5, -0.25];
        let (queries, keys) = (entries::<T>(count * d, 0.7), entries::<T>(m * d, 0.3));
        let (values, centres) = (entries::<T>(m * width, 0.9), entries::<T>(count, 0.2));
        let of = |data, count, width| Rows { data, count, width };
        let coefficients = coefficients.map(T::narrow).to_vec();
        let ends: Vec<_> = (0..count).map(|j| if is_causal { [5 * j + 1, 5 * j] } else { [m, m] }).collect();
        let exact_keys: Vec<_> = if is_causal { vec![] } else { (0..m).step_by(7).collect() };
        let looks = Looks { queries: queries.clone(), centres: centres.clone(), coefficients, ends, exact_keys };
        let weighed = Weighed::new(looks, isa).expect("room");
        let mut sums = Sums::new(count, width).expect("room");
        let half = m / 2;
        for range in [0..half, half..m] {
            let keys = of(&keys[range.start * d..range.end * d], range.len(), d);
            let values = of(&values[range.start * width..range.end * width], range.len(), width);
            assert!(weighed.add(range.start, keys, values, &mut sums).expect("room"));
        }
        let wide = |numbers: &[T]| numbers.iter().map(|x| x.widen()).collect::<Vec<_>>();
        let (queries, keys, values, centres) = (wide(&queries), wide(&keys), wide(&values), wide(&centres));
        for j in 0..count {
            let mut expected = [vec![0.0; width + 1], vec![0.0; width + 1]];
            let mut sizes = vec![0.0; width + 1];
            for i in 0..m {
                let product: f64 = (0..d).map(|c| queries[j * d + c] * keys[i * d + c]).sum();
                let t = product - centres[j];
                let [is_seen, is_fitted] = if is_causal { [i <= 5 * j, i < 5 * j] } else { [true, i % 7 > 0] };
                let weight = if is_seen { t.exp() } else { 0.0 };
                let off = if is_fitted { 1.0 + t + 0.5 * t * t - 0.25 * t * t * t - t.exp() } else { 0.0 };
                for (c, size) in sizes.iter_mut().enumerate() {
                    let value = if c < width { values[i * width + c] } else { 1.0 };
                    for (expected, weight) in expected.iter_mut().zip([weight, off]) {
                        expected[c] += weight * value;
                    }
                    *size += value.abs() * (1.0 + t.abs()).powi(3) * t.exp().max(1.0);
                }
            }
            for part in 0..2 {
                let found = sums.values[part][j * width..(j + 1) * width].iter().chain([&sums.totals[part][j]]);
                for ((found, expected), size) in found.zip(&expected[part]).zip(&sizes) {
                    let slack = ROUNDINGS * T::UNIT_ROUNDOFF * (1 + d) as f64 * size;
                    assert!((found - expected).abs() <= slack, "{isa:?}: {found} is not {expected}");
                }
            }
        }
    }

    #[test]
    fn values_are_weighed_in_every_shape() {
        for isa in Isa::shapes() {
            for shape in [[1, 1, 1, 1], [16, 256, 8, 8], [5, 33, 3, 17], [13, 70, 16, 24], [12, 64, 0, 1], [3, 9, 2, 0]]
            {
                for is_causal in [false, true] {
                    holds::<f32>(isa, shape, is_causal);
                    holds::<f64>(isa, shape, is_causal);
                }
            }
        }
    }

    #[test]
    fn a_logit_that_is_too_large_leaves_the_sums_as_they_are() {
        for isa in Isa::shapes() {
            let weighed = |query: &f32| {
                let (queries, centres, coefficients) = (vec![*query], vec![0.0], vec![1.0, 1.0]);
                let looks = Looks { queries, centres, coefficients, ends: vec![[2, 2]], exact_keys: vec![] };
                Weighed::new(looks, isa).expect("room")
            };
            let (keys, values) = ([0.1f32, 1.0], [1.0f32, 2.0]);
            let rows = |data| Rows { data, count: 2, width: 1 };
            for query in [100.0, -100.0] {
                let mut sums = Sums::new(1, 1).expect("room");
                assert!(!weighed(&query).add(0, rows(&keys), rows(&values), &mut sums).expect("room"));
                assert_eq!((&sums.values[0], &sums.totals[0]), (&vec![0.0], &vec![0.0]));
            }
            let mut sums = Sums::new(1, 1).expect("room");
            assert!(weighed(&f32::NAN).add(0, rows(&keys), rows(&values), &mut sums).expect("room"));
            assert!(sums.values[0][0].is_nan() && sums.totals[1][0].is_nan());
        }
    }
}
