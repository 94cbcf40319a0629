//! e^t, number by number.

use crate::float::Float;
use crate::kernels::tile::{ABREAST, exp2};
use crate::simd::Vector;

/// Replaces every t by e^t, in working precision. |t| log2 e is at most [`Float::UNSHIFTED_MAX`].
#[inline(always)]
pub fn exponentiate<T: Float, V: Vector<T, W>, const W: usize>(numbers: &mut [T]) {
    for numbers in numbers.chunks_mut(ABREAST * W) {
        // The last ones have zeros beside them.
        let mut registers = [[T::zero(); W]; ABREAST];
        let count = numbers.len();
        registers.as_flattened_mut()[..count].copy_from_slice(numbers);
        let mut x = [V::splat(T::zero()); ABREAST];
        for i in 0..ABREAST {
            x[i] = V::load(&registers[i]).mul(V::splat(T::narrow(std::f64::consts::LOG2_E)));
        }
        let weights = exp2::<T, V, W, false>(x);
        for i in 0..ABREAST {
            weights[i].store(&mut registers[i]);
        }
        numbers.copy_from_slice(&registers.as_flattened()[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Isa;
    use crate::probe::exponentials;

    /// Roundings of e^t, over its size and that of t.
    const ROUNDINGS: f64 = 24.0;

    fn holds<T: Float>(isa: Isa) {
        for count in [0, 1, 3, 31, 64, 65, 200] {
            let t: Vec<T> = (0..count).map(|i| T::narrow(((i * 37) % 101) as f64 / 20.0 - 2.5)).collect();
            let mut weights = t.clone();
            exponentials(isa, &mut weights);
            for (t, weight) in t.iter().zip(&weights) {
                let t = t.widen();
                let slack = ROUNDINGS * T::UNIT_ROUNDOFF * (t.exp() + (1.0 + t.abs()).powi(3));
                assert!((weight.widen() - t.exp()).abs() <= slack, "{isa:?} e^{t}: {weight}");
            }
        }
    }

    #[test]
    fn exponentials_in_every_shape() {
        for isa in Isa::shapes() {
            holds::<f32>(isa);
            holds::<f64>(isa);
        }
    }
}
