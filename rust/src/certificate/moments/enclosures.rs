//! Bounds of P relative to exp over the logits of a row, |t| ≤ b (docs/math.md, equations 9.32 and 9.14).

use super::charges::Known;
use crate::error::Error;
use crate::linalg::outward::outward;
use crate::polynomial::remez::Measure;
use crate::polynomial::{Polynomial as Exponential, Widening};
use crate::runtime::buffer;

/// Largest b = ‖q‖ max ‖k‖ that enclosures of P(t) e^−t are made for.
pub const MAX_RANGE: f64 = 256.0;

/// Largest ratio of neighbouring steps of [`Steps`]: a step counts with its whole width, and the mean of a cube moves
/// by a quarter over this one.
const APART: f64 = 1.09;

/// Lowest step below the first b, as a part of it: keys are at most √d times as long as they are wide, and the error of
/// P is smaller there than elsewhere.
const LOWEST: f64 = 1.0 / 32.0;

/// Room for the rounding of a chord.
const CHORD: f64 = 1.0 + 1.0 / (1u64 << 40) as f64;

/// Bounds for each b of a rising list; nothing is known beyond the range. The root mean square of the logits of a row
/// is at most `direction` times b.
pub fn enclosures(powers: &[f64], reaches: &[f64], direction: f64) -> Result<Vec<Known>, Error> {
    let mut all = buffer::filled(reaches.len(), Known::NOTHING)?;
    let range = reaches.iter().copied().filter(|b| *b <= MAX_RANGE).fold(0.0, f64::max);
    let Ok((polynomial, slack)) = Exponential::from_power(powers, range) else { return Ok(all) };
    let [mut ratio, mut difference] =
        [Measure::Relative, Measure::Absolute].map(|measure| Widening::new(&polynomial, measure, range));
    let mut off = |b: f64| outward(difference.reach(b).size() + slack);
    let mut steps = Steps::default();
    let mut before = reaches.first().map_or(0.0, |b| b * LOWEST);
    for (known, &b) in all.iter_mut().zip(reaches).filter(|(_, b)| **b <= MAX_RANGE) {
        while before > 0.0 && before * APART < b {
            steps.add(before, off(before));
            before *= APART;
        }
        before = b;
        let (lo, hi) = ratio.reach(b).ratio();
        let relative = outward(slack * b.exp());
        let (lo, hi) = ((lo - relative).next_down(), (hi + relative).next_up());
        known.difference = off(b);
        steps.add(b, known.difference);
        known.usual = steps.root_mean_square(outward(direction * b)).min(known.difference);
        if lo > 0.0 {
            known.ratio = (lo, hi);
        } else if known.difference.is_nan() || known.difference >= f64::MAX {
            break;
        }
    }
    Ok(all)
}

/// The least concave function that is not below |P(t) − e^t|², as a function of t²: its value at the mean of t² is not
/// below the mean of |P(t) − e^t|² (Jensen).
#[derive(Default)]
pub struct Steps {
    /// (t², |P − e^t|²) at the corners of the function, from left to right.
    corners: Vec<[f64; 2]>,
    /// How far steps go.
    end: f64,
}

impl Steps {
    /// Beyond the last step, or from 0 on, up to this `end`, |P(t) − e^t| ≤ `off`, which is no less than before.
    pub fn add(&mut self, end: f64, off: f64) {
        let corner = [self.end * self.end, outward(off * off)];
        self.end = end.max(self.end);
        // Corners that are below the line from those before to this one are none.
        while let [.., [x, y], [u, v]] = self.corners[..]
            && (v - y) * (corner[0] - x) <= (corner[1] - y) * (u - x)
        {
            self.corners.pop();
        }
        // Two of one place: the higher one.
        if self.corners.last().is_some_and(|last| last[0] >= corner[0]) {
            self.corners.pop();
        }
        self.corners.push(corner);
    }

    /// Where that of t is at most `root`.
    pub fn root_mean_square(&self, root: f64) -> f64 {
        let mean = outward(root * root);
        let next = self.corners.partition_point(|corner| corner[0] < mean);
        let square = match (next.checked_sub(1).map(|before| self.corners[before]), self.corners.get(next)) {
            (Some([x, y]), Some([u, v])) => y + (v - y) * ((mean - x) / (u - x)),
            (Some([_, y]), None) => y,
            (None, Some([_, v])) => *v,
            (None, None) => f64::INFINITY,
        };
        outward(square * CHORD).sqrt().next_up()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// |t| ≤ b with a mean square of (b/4)²: at b with probability 1/16, at 0 otherwise, or anything between.
    #[test]
    fn a_mean_square_is_bounded_by_that_of_the_logits() {
        let powers = [1.0, 1.0, 0.5];
        let off = |t: f64| (1.0 + t + 0.5 * t * t - t.exp()).abs();
        let reaches = [0.01, 0.3, 1.0, 3.0];
        let known = enclosures(&powers, &reaches, 0.25).expect("memory");
        for (known, b) in known.iter().zip(reaches) {
            let ends = off(b) * 0.25;
            let usual = off(0.25 * b);
            assert!(known.usual >= ends.max(usual), "{b}: {} for {ends} and {usual}", known.usual);
            assert!(known.usual <= 1.25 * ends, "{b}: {} for {ends}", known.usual);
            assert!(known.difference >= off(b) && known.difference <= 1.01 * off(b));
        }
        // Where logits are all as large as they may be, it is the largest difference.
        let all = enclosures(&powers, &reaches, 1.0).expect("memory");
        assert!(all.iter().all(|known| known.usual <= known.difference && known.usual >= 0.95 * known.difference));
        // NaN carries no information.
        let none = enclosures(&powers, &reaches, f64::NAN).expect("memory");
        assert!(none.iter().all(|known| known.usual == known.difference));
    }
}
