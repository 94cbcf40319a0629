//! Lengths of rows, and of their images under a map, for a look at all queries, keys and values.

use std::ops::Range;

use crate::error::Error;
use crate::float::Float;
use crate::kernels::InputMap;
use crate::kernels::tile;
use crate::linalg::norms::largest;
use crate::options::Isa;
use crate::runtime::buffer;
use crate::simd::Vector;

/// Rows a, each of which stands for x = (a − shift) W.
pub struct Measured<'a, T> {
    pub(super) side: InputMap<'a, T>,
    pub(super) isa: Isa,
}

/// Lengths of some of the rows, each where it is wanted.
#[derive(Default)]
pub struct Measures<'a> {
    /// ‖a − shift‖.
    pub own: Option<&'a mut [f64]>,
    /// ‖x‖, or that of the first half of x where `paired` is wanted.
    pub mapped: Option<&'a mut [f64]>,
    /// √⟨x, y⟩ of the two halves x and y of the columns of W, which are a map and its product with a matrix that has no
    /// negative eigenvalue.
    pub paired: Option<&'a mut [f64]>,
}

/// Measures rows with registers of one kind. Time O(rows · width · columns).
#[inline(always)]
pub fn lengths<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    measured: &Measured<'_, T>,
    of: Range<usize>,
    mut to: Measures<'_>,
) -> Result<(), Error> {
    let side = &measured.side;
    let mut input = buffer::aligned::<T>(buffer::size(&[side.rows.width, L])?)?;
    let mut x = buffer::aligned::<T>(buffer::size(&[side.columns(), L])?)?;
    // The halves are one where nothing is paired.
    let half = if to.paired.is_some() { side.columns() / 2 } else { side.columns() };
    for first in of.clone().step_by(L) {
        let rows = (of.end - first).min(L);
        let at = first - of.start;
        side.coordinates::<V, W, L, J>(first, rows, &mut input, &mut x, L);
        let (x, y) = x.as_chunks::<L>().0.split_at(half);
        if let Some(own) = &mut to.own {
            let input = input.as_chunks::<L>().0;
            roots::<T, V, W, L>(input, input, &mut own[at..at + rows]);
        }
        if let Some(mapped) = &mut to.mapped {
            roots::<T, V, W, L>(x, x, &mut mapped[at..at + rows]);
        }
        if let Some(paired) = &mut to.paired {
            roots::<T, V, W, L>(x, y, &mut paired[at..at + rows]);
        }
    }
    Ok(())
}

/// √⟨x, y⟩ in each lane.
#[inline(always)]
fn roots<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(x: &[[T; L]], y: &[[T; L]], to: &mut [f64]) {
    let zero = V::splat(T::zero());
    let mut pairs = [zero; 2];
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (tile::load::<T, V, W, L>(x), tile::load::<T, V, W, L>(y));
        for half in 0..2 {
            pairs[half] = x[half].mul_add(y[half], pairs[half]);
        }
    }
    let mut sums = [T::zero(); L];
    tile::store(pairs, &mut sums);
    // A sum above this has lost no more than a rounding to the end of the range.
    let least = T::narrow(T::MIN_EXP.exp2() / T::UNIT_ROUNDOFF);
    let mut roots = [0.0; L];
    for l in 0..L {
        roots[l] = sums[l].widen().sqrt();
    }
    // Of lanes past the last row nothing is asked. NaN is not plain.
    let plain = sums[..to.len()].iter().fold(true, |plain, &sum| plain & (sum >= least) & (sum < T::infinity()));
    if plain {
        to.copy_from_slice(&roots[..to.len()]);
        return;
    }
    for (l, to) in to.iter_mut().enumerate() {
        *to = careful(x.iter().map(move |x| x[l].widen()), y.iter().map(move |y| y[l].widen()));
    }
}

/// The same where a plain sum in working precision does not serve: numbers that are huge, tiny, or none.
#[cold]
fn careful(x: impl Iterator<Item = f64> + Clone, y: impl Iterator<Item = f64> + Clone) -> f64 {
    let [x_unit, y_unit] = [largest(x.clone().map(f64::abs)), largest(y.clone().map(f64::abs))];
    if x_unit == 0.0 || y_unit == 0.0 {
        return 0.0;
    }
    if x_unit.is_infinite() || y_unit.is_infinite() {
        return f64::INFINITY;
    }
    let sum: f64 = x.zip(y).map(|(x, y)| (x / x_unit) * (y / y_unit)).sum();
    // A negative sum is rounding. NaN stays.
    if sum < 0.0 { 0.0 } else { x_unit.sqrt() * y_unit.sqrt() * sum.sqrt() }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, s};

    use super::*;
    use crate::linalg::layout::Rows;

    /// Roundings of coordinates and of a sum of their squares.
    const ROUNDINGS: f64 = 64.0;

    fn holds<T: Float>(isa: Isa, (count, width, columns): (usize, usize, usize), size: f64) {
        let entry = |i: usize, step: f64| (step * ((i + 1) as f64).powi(2)).sin();
        let rows = Array2::from_shape_fn((count, width), |(j, i)| T::narrow(size * entry(j * width + i, 0.7)));
        let shift: Vec<f64> = (0..width).map(|i| T::narrow(size * entry(i, 0.3)).widen()).collect();
        let map = Array2::from_shape_fn((width, columns), |(i, c)| T::narrow(entry(i * columns + c, 0.9)).widen());
        let moment = map.t().dot(&map);
        let mut both = Array2::zeros((width, 2 * columns));
        both.slice_mut(s![.., ..columns]).assign(&map);
        both.slice_mut(s![.., columns..]).assign(&map.dot(&moment));
        let data = rows.as_slice().expect("row-major");
        let of = Rows { data, count, width };
        let measured = Measured::new(of, both.view(), Some(&shift), isa).expect("room");
        let [mut own, mut mapped, mut paired] = [(); 3].map(|()| vec![f64::NAN; count]);
        let (first, rest) = (count / 3, count - count / 3);
        for (range, from, len) in [(0..first, 0, first), (first..count, first, rest)] {
            let to = Measures {
                own: Some(&mut own[from..][..len]),
                mapped: Some(&mut mapped[from..][..len]),
                paired: Some(&mut paired[from..][..len]),
            };
            measured.measure(range, to).expect("room");
        }
        for (j, row) in rows.rows().into_iter().enumerate() {
            // In units of the size, so that squares are in range.
            let row: Array1<f64> = row.iter().zip(&shift).map(|(a, shift)| (a.widen() - shift) / size).collect();
            let x = row.dot(&map);
            let expected = [row.dot(&row).sqrt(), x.dot(&x).sqrt(), x.dot(&moment.dot(&x)).sqrt()];
            let slack = ROUNDINGS * T::UNIT_ROUNDOFF * (1 + width * columns) as f64;
            for (found, expected) in [own[j], mapped[j], paired[j]].into_iter().zip(expected) {
                let off = (found / size - expected).abs();
                assert!(off <= slack * (1.0 + expected), "{isa:?}, row {j} of size {size}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn lengths_of_rows_and_of_what_maps_make_of_them() {
        for isa in Isa::shapes() {
            for shape in [(0, 2, 2), (1, 1, 1), (3, 0, 0), (31, 3, 5), (33, 7, 3), (100, 16, 16), (65, 24, 13)] {
                for size in [1.0, 1e-25, 1e25] {
                    holds::<f32>(isa, shape, size);
                    holds::<f64>(isa, shape, size.powi(10));
                }
            }
        }
    }

    #[test]
    fn numbers_that_are_none_come_through() {
        let data = [1.0f32, f32::NAN, f32::INFINITY, 1.0, 0.0, 0.0];
        for isa in Isa::shapes() {
            let rows = Rows { data: &data, count: 3, width: 2 };
            let measured = Measured::new(rows, Array2::zeros((2, 0)).view(), None, isa).expect("room");
            let mut own = [0.0; 3];
            measured.measure(0..3, Measures { own: Some(&mut own), ..Measures::default() }).expect("room");
            assert!(own[0].is_nan() && own[1] == f64::INFINITY && own[2] == 0.0, "{own:?}");
        }
    }
}
