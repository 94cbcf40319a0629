//! Keys by their length: the error of P at a key depends on how large its logit can be, and few keys are as long as the
//! longest (docs/math.md, equation 9.49).

use ndarray::{Array2, s};

use super::Fitted;
use super::setting::Setting;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::norm;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward};
use crate::linalg::spectral::{frobenius, largest_eigenvalue};
use crate::problem::Problem;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Shells for each halving of the length, and how many in all; the last one goes down to the centre.
pub const EACH: i32 = 4;
const COUNT: usize = 20;

/// Up to this dimension they are looked at: d² sums for each, and only low degrees have features for more.
const WIDEST: usize = 64;

/// Parts of the keys, each with sums of its own: by the shape alone.
const PARTS: usize = 16;

/// Rows that are mapped at once.
const BLOCK: usize = 256;

/// Keys of about one length, as part of all.
#[derive(Debug, Clone, Copy)]
pub struct Shell {
    /// Their share.
    pub share: f64,
    /// λ₁ of Σ k kᵀ / m over them, in the coordinates, and the same in the keys' own.
    pub squares: [f64; 2],
}

/// From the longest on.
#[derive(Debug, Clone)]
pub struct Shells {
    /// The first has lengths up to the longest, each further one up to 2^(−1 / [`EACH`]) of those of the one before.
    pub shells: Vec<Shell>,
    /// How far a key as computed may be from these, in the coordinates and in its own.
    pub lost: [f64; 2],
}

impl Shells {
    /// Of all keys; none beyond [`WIDEST`] coordinates. Time O(m d (d2 + d)).
    pub fn new<T: Float>(
        fitted: &Fitted<'_>,
        problem: &Problem<'_, T>,
        setting: &Setting,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let coordinates = fitted.coordinates;
        let (m, d) = (problem.A2.nrows(), coordinates.dimension());
        let Some(size) = (1..=WIDEST).contains(&d).then_some(d * d + 1) else {
            return Ok(Shells { shells: Vec::new(), lost: [0.0; 2] });
        };
        let map = coordinates.key.mapv(|x| T::narrow(x).widen());
        let mean = coordinates.mean.mapv(|x| T::narrow(x).widen());
        // From these keys to those as computed.
        let small = gamma(problem.A2.ncols() as f64 + 8.0, FOLD_UNIT) * setting.rows[0].radius * frobenius(map.view());
        let lost = outward(setting.lost[1] + small);
        let part = m.div_ceil(PARTS).max(BLOCK);
        let mut sums = buffer::zeros::<f64>(buffer::size(&[m.div_ceil(part), COUNT, size])?)?;
        run.for_each(sums.chunks_mut(COUNT * size).enumerate(), |(index, sums), cancel| {
            let end = m.min((index + 1) * part);
            for first in (index * part..end).step_by(BLOCK) {
                cancel.check()?;
                let rows = problem.A2.slice(s![first..end.min(first + BLOCK), ..]).mapv(T::widen) - &mean;
                let keys = rows.dot(&map);
                let all = keys.as_slice().ok_or_else(|| Error::Internal("keys are not in rows".into()))?;
                for key in all.chunks_exact(d) {
                    let length = outward(norm(key) * (1.0 + gamma(d as f64 + 4.0, FOLD_UNIT)) + lost);
                    let sums = &mut sums[shell(length / setting.key) * size..][..size];
                    sums[d * d] += 1.0;
                    for (sums, x) in sums.chunks_exact_mut(d).zip(key) {
                        sums.iter_mut().zip(key).for_each(|(sum, y)| *sum += x * y);
                    }
                }
            }
            Ok(())
        })?;
        let (mut total, parts) = (buffer::zeros::<f64>(COUNT * size)?, sums.chunks_exact(COUNT * size));
        parts.for_each(|part| total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x));
        let [to_own, ..] = setting.maps;
        let shells = total.chunks_exact(size).map(|sums| {
            let matrix = Array2::from_shape_fn((d, d), |(a, b)| sums[a * d + b] / m as f64);
            let error = gamma(m as f64 + 16.0, FOLD_UNIT) * matrix.diag().sum();
            let own = coordinates.inverse.t().dot(&matrix).dot(&coordinates.inverse);
            let mapped = gamma(4.0 * d as f64 + 8.0, FOLD_UNIT) * frobenius(matrix.view()) * to_own.frobenius.powi(2);
            let squares = [(matrix, error), (own, error * to_own.spectral.powi(2) + mapped)];
            let squares = squares.map(|(matrix, error)| largest_eigenvalue(&matrix, outward(error)));
            Shell { share: outward(sums[d * d] / m as f64), squares }
        });
        Ok(Shells { shells: buffer::collected(shells)?, lost: [lost, outward(lost * to_own.spectral)] })
    }
}

/// The shell of a key of this part of the largest length; NaN and longer keys are in the first.
fn shell(part: f64) -> usize {
    let halvings = -part.log2() * f64::from(EACH) * (1.0 - 4.0 * f64::EPSILON);
    // Rounded towards the longer keys.
    ((halvings - 1e-9).max(0.0).floor() as usize).min(COUNT - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_holds_what_is_no_longer() {
        for part in [1.0, 0.9999, 0.5, 0.3, 1e-3, 0.0] {
            let most = (-(shell(part) as f64) / f64::from(EACH)).exp2();
            assert!(part <= most && (part * 1.2 > most || shell(part) == COUNT - 1), "{part}: {most}");
        }
        assert_eq!([shell(f64::NAN), shell(2.0)], [0, 0]);
    }
}
