//! Numbers of half precision: read as single precision, and results rounded to them with the error that this makes.

use ::half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ::half::{bf16, f16};
use ndarray::{ArrayViewD, Axis};

use super::outward::{outward, root_total};
use crate::error::Error;
use crate::float::Float;
use crate::names::named;
use crate::options::Options;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Numbers of a task: they stay in the cache of the thread that converts them and looks at the error.
const PART: usize = 1 << 14;

/// Numbers that one thread converts in a nanosecond, at least.
const NUMBERS_PER_NANOSECOND: usize = 1;

/// Numbers that are converted at a time on the way to another precision.
const ABREAST: usize = 64;

/// A format of 16 bits. Nothing is computed in it: arrays are read from it, and results are rounded to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// IEEE binary16: 11 bits of precision, up to 65504.
    Float16,
    /// The upper half of single precision: 8 bits of precision, the same range.
    Bfloat16,
}

named!(Half, "dtype": Float16 = "float16", Bfloat16 = "bfloat16");

/// Numbers that were rounded to half precision.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Halved {
    /// The bits of each.
    pub bits: Vec<u16>,
    /// Their Euclidean norm, and that of the error of rounding, which is never below the truth.
    pub norm: [f64; 2],
    /// The largest of them in size, and the largest error.
    pub largest: [f64; 2],
}

/// Sums over some numbers and over their errors.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    squares: [f64; 2],
    largest: [f64; 2],
    overflows: bool,
}

impl Half {
    /// Largest finite value.
    pub fn largest(self) -> f64 {
        match self {
            Half::Float16 => f16::MAX.to_f64(),
            Half::Bfloat16 => bf16::MAX.to_f64(),
        }
    }

    /// Some numbers in single precision, which holds each of them.
    fn widen(self, bits: &[u16], to: &mut [f32]) {
        match self {
            Half::Float16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(to),
            Half::Bfloat16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(to),
        }
    }

    /// Some numbers rounded to the nearest, and to even bits where two are as near.
    fn narrow(self, numbers: &[f32], to: &mut [u16]) {
        match self {
            Half::Float16 => to.reinterpret_cast_mut::<f16>().convert_from_f32_slice(numbers),
            Half::Bfloat16 => to.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(numbers),
        }
    }

    /// Some numbers in another precision, each of them changed.
    pub(crate) fn each<T: Float>(self, bits: impl ExactSizeIterator<Item = u16>, to: &mut [T], one: impl Fn(T) -> T) {
        let (mut bits, mut some, mut wide) = (bits, [0; ABREAST], [0.0; ABREAST]);
        for to in to.chunks_mut(ABREAST) {
            let (some, wide) = (&mut some[..to.len()], &mut wide[..to.len()]);
            some.iter_mut().zip(&mut bits).for_each(|(some, bits)| *some = bits);
            self.widen(some, wide);
            to.iter_mut().zip(wide).for_each(|(to, wide)| *to = one(T::narrow(wide.widen())));
        }
    }

    /// The numbers of an array in single precision, row-major. Time O(n), by all threads where the array is row-major.
    ///
    /// ```
    /// use attngrad::{Half, Options, ndarray::array};
    ///
    /// let bits = array![[0x3c00, 0xc000], [0x7bff, 0x0001]].into_dyn();
    /// let numbers = Half::Float16.widened(&bits.view(), &Options::default())?;
    /// assert_eq!(numbers, [1.0, -2.0, 65504.0, 2.0_f32.powi(-24)]);
    /// # Ok::<(), attngrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn widened(self, bits: &ArrayViewD<'_, u16>, options: &Options) -> Result<Vec<f32>, Error> {
        let mut numbers = buffer::zeros::<f32>(bits.len())?;
        if let Some(bits) = bits.as_slice() {
            let parts = numbers.chunks_mut(PART).zip(bits.chunks(PART));
            let time = bits.len() / NUMBERS_PER_NANOSECOND;
            Run::new(options, None).short(time, parts, |(numbers, bits), _| {
                self.widen(bits, numbers);
                Ok(())
            })?;
            return Ok(numbers);
        }
        let width = bits.shape().last().copied().unwrap_or(1).max(1);
        let rows = bits.lanes(Axis(bits.ndim().saturating_sub(1)));
        for (row, numbers) in rows.into_iter().zip(numbers.chunks_mut(width)) {
            match row.as_slice() {
                Some(row) => self.widen(row, numbers),
                None => self.each(row.iter().copied(), numbers, |x| x),
            }
        }
        Ok(numbers)
    }

    /// Numbers rounded to half precision. Time O(n), by all threads.
    ///
    /// ```
    /// use attngrad::{Error, Half, Options};
    ///
    /// let options = Options::default();
    /// let found = Half::Bfloat16.halved(&[1.0, 1.001], "the output", &options)?;
    /// assert_eq!(found.bits, [0x3f80, 0x3f80]);
    /// assert!((found.largest[1] - 1e-3).abs() < 1e-7);
    /// let refused = Half::Float16.halved(&[1e5], "the output", &options);
    /// assert!(matches!(refused, Err(Error::Range { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Range`] where a finite number is too large, which names the quantity; [`Error::OutOfMemory`].
    pub fn halved(self, numbers: &[f32], quantity: &str, options: &Options) -> Result<Halved, Error> {
        let mut bits = buffer::zeros::<u16>(numbers.len())?;
        let mut sums = buffer::filled(numbers.len().div_ceil(PART), Sums::default())?;
        let parts = bits.chunks_mut(PART).zip(numbers.chunks(PART)).zip(&mut sums);
        Run::new(options, None).short(
            numbers.len() / NUMBERS_PER_NANOSECOND,
            parts,
            |((bits, numbers), sums), _| {
                self.narrow(numbers, bits);
                *sums = self.sums(numbers, bits);
                Ok(())
            },
        )?;
        if sums.iter().any(|part| part.overflows) {
            let remedy = "scale the inputs down, or use float32";
            return Err(Error::Range { quantity: quantity.to_owned(), precision: self.name(), remedy });
        }
        let roundings = 1.0 + PART as f64 * f64::EPSILON;
        let size = sums.iter().map(|part| part.squares[0]).sum::<f64>().sqrt();
        // What nothing was added to is zero; what is not a number stays none.
        let errors = sums.iter().map(|part| part.squares[1]).filter(|&squares| squares != 0.0);
        let error = root_total(errors.map(|squares| outward((squares * roundings).sqrt())));
        let largest = sums.iter().fold([0.0; 2], |most, part| most_of(most, part.largest));
        Ok(Halved { bits, norm: [size, error], largest })
    }

    /// Sums over numbers that were rounded to these bits.
    fn sums(self, numbers: &[f32], bits: &[u16]) -> Sums {
        let (mut sums, mut wide) = (Sums::default(), [0.0; ABREAST]);
        for (numbers, bits) in numbers.chunks(ABREAST).zip(bits.chunks(ABREAST)) {
            let wide = &mut wide[..bits.len()];
            self.widen(bits, wide);
            for (&x, &rounded) in numbers.iter().zip(&*wide) {
                sums.overflows |= x.is_finite() && !rounded.is_finite();
                // Neither difference nor square is rounded by more than the sum of squares is.
                let pair = [rounded.widen().abs(), (x.widen() - rounded.widen()).abs()];
                sums.squares = [0, 1].map(|of| sums.squares[of] + pair[of] * pair[of]);
                sums.largest = most_of(sums.largest, pair);
            }
        }
        sums
    }
}

/// The larger of each; NaN comes through.
fn most_of(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [0, 1].map(|of| if a[of] >= b[of] || a[of].is_nan() { a[of] } else { b[of] })
}
