//! e^t beside a polynomial of t, number by number: what a look at a few rows with all of their keys is made of.

use crate::float::Float;
use crate::options::Level;
use crate::tile::simd::Vector;
use crate::tile::{ABREAST, exp2};

/// Replaces every t by e^t and writes P(t) − e^t to `off`, in working precision, and returns the sums of both; P has the
/// coefficients P_0, …, P_g. `level` is one that the processor has, and |t| log2 e at most [`Float::UNSHIFTED_MAX`].
pub fn compared<T: Float>(level: Level, numbers: &mut [T], off: &mut [T], coefficients: &[T]) -> [f64; 2] {
    // SAFETY: the caller has the level from Options::level, which admits only levels that this processor has.
    unsafe { (T::moments(level).compare)(numbers, off, coefficients) }
}

/// The same with registers of one kind.
#[inline(always)]
pub fn compare<T: Float, V: Vector<T, W>, const W: usize>(
    numbers: &mut [T],
    off: &mut [T],
    coefficients: &[T],
) -> [f64; 2] {
    let step = ABREAST * W;
    let mut sums = [0.0; 2];
    for (numbers, off) in numbers.chunks_mut(step).zip(off.chunks_mut(step)) {
        // The last ones have zeros beside them.
        let (mut registers, mut differences) = ([[T::zero(); W]; ABREAST], [[T::zero(); W]; ABREAST]);
        let count = numbers.len();
        registers.as_flattened_mut()[..count].copy_from_slice(numbers);
        compare_abreast::<T, V, W>(&mut registers, &mut differences, coefficients);
        for (sum, numbers) in sums.iter_mut().zip([&mut registers, &mut differences]) {
            // e^0 beside them is not among the numbers.
            numbers.as_flattened_mut()[count..].fill(T::zero());
            let mut lanes = [T::zero(); W];
            for register in numbers.iter() {
                for l in 0..W {
                    lanes[l] += register[l];
                }
            }
            *sum += lanes.iter().map(|x| x.widen()).sum::<f64>();
        }
        numbers.copy_from_slice(&registers.as_flattened()[..count]);
        off.copy_from_slice(&differences.as_flattened()[..off.len()]);
    }
    sums
}

/// As many registers as are exponentiated side by side.
#[inline(always)]
fn compare_abreast<T: Float, V: Vector<T, W>, const W: usize>(
    numbers: &mut [[T; W]; ABREAST],
    off: &mut [[T; W]; ABREAST],
    coefficients: &[T],
) {
    let zero = V::splat(T::zero());
    let (mut t, mut x, mut polynomial) = ([zero; ABREAST], [zero; ABREAST], [zero; ABREAST]);
    for i in 0..ABREAST {
        t[i] = V::load(&numbers[i]);
        x[i] = t[i].mul(V::splat(T::narrow(std::f64::consts::LOG2_E)));
    }
    for &coefficient in coefficients.iter().rev() {
        for i in 0..ABREAST {
            polynomial[i] = polynomial[i].mul_add(t[i], V::splat(coefficient));
        }
    }
    let weights = exp2::<T, V, W, false>(x);
    for i in 0..ABREAST {
        weights[i].store(&mut numbers[i]);
        polynomial[i].sub(weights[i]).store(&mut off[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roundings of e^t, of P(t) and of their difference, over the size of either.
    const ROUNDINGS: f64 = 24.0;

    fn holds<T: Float>(level: Level) {
        let coefficients = [1.0, 1.0, 0.5, -0.25].map(T::narrow);
        for count in [0, 1, 3, 31, 64, 65, 200] {
            let t: Vec<T> = (0..count).map(|i| T::narrow(((i * 37) % 101) as f64 / 20.0 - 2.5)).collect();
            let (mut weights, mut off) = (t.clone(), vec![T::nan(); count]);
            let sums = compared(level, &mut weights, &mut off, &coefficients);
            for (sum, numbers) in sums.into_iter().zip([&weights, &off]) {
                let (total, size) =
                    numbers.iter().fold((0.0, 0.0), |(total, size), x| (total + x.widen(), size + x.widen().abs()));
                assert!((sum - total).abs() <= ROUNDINGS * T::UNIT_ROUNDOFF * size, "{level:?}: {sum} is not {total}");
            }
            for ((t, weight), off) in t.iter().zip(&weights).zip(&off) {
                let t = t.widen();
                let (exact, polynomial) = (t.exp(), 1.0 + t + 0.5 * t * t - 0.25 * t * t * t);
                let slack = ROUNDINGS * T::UNIT_ROUNDOFF * (exact + (1.0 + t.abs()).powi(3));
                assert!((weight.widen() - exact).abs() <= slack, "{level:?} e^{t}: {weight}");
                assert!((off.widen() - (polynomial - exact)).abs() <= slack, "{level:?} P({t}): {off}");
            }
        }
    }

    #[test]
    fn exponentials_and_what_a_polynomial_is_off_by() {
        let portable = [Level::PortableAvx2, Level::PortableAvx512];
        for level in Level::available().into_iter().chain(portable) {
            holds::<f32>(level);
            holds::<f64>(level);
        }
    }
}
