//! Which rows or keys stand out by their cap (docs/math.md, equations 9.67 and 9.68).

use crate::error::Error;
use crate::linalg::norms::{largest_of, norm};
use crate::runtime::buffer;

/// A cap stands out above this multiple of the upper quartile. Caps of rows are products of a few norms: uniform and
/// normal data stay below it in all but the lowest dimensions, a spike and the tail of a Student t go above.
pub const OUTLIER_RATIO: f64 = 4.0;

/// At most one in so many is computed exactly, so that this costs no more than a sample does ...
pub const OUTLIER_SHARE: usize = 64;

/// ... but at least so many may be: enough for a handful of spikes in a short input.
pub const OUTLIER_LEAST: usize = 16;

/// Rows that stand out are computed apart where they hold this part of the sum of squared caps: with less they move a
/// standard error by a hundredth.
pub const WEIGHTY: f64 = 0.02;

/// The outliers, which are computed exactly, and the caps of the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Outliers {
    /// The indices that stand out, in rising order.
    pub exact: Vec<usize>,
    /// Σ of the caps of the others, rounded up: an upper bound of their contribution. Infinite if one of them is.
    pub remaining: f64,
    /// The largest cap of the others.
    pub largest: f64,
    /// Whether more stood out than may be computed exactly: rows drawn uniformly are then no guard.
    pub overflow: bool,
}

/// How many of `count` may be computed exactly.
pub fn budget(count: usize) -> usize {
    (count / OUTLIER_SHARE).max(OUTLIER_LEAST).min(count)
}

/// Whether none of the caps can stand out, the largest of them given: so many are near it that the upper quartile is.
fn are_even(caps: &[f64], largest: f64) -> bool {
    let near = caps.iter().filter(|cap| OUTLIER_RATIO * **cap >= largest).count();
    near > upper(caps.len()) && largest < f64::INFINITY
}

/// The place of the upper quartile, of two or three that of the smaller: the largest is not the measure of itself.
fn upper(count: usize) -> usize {
    (count / 4).max(1)
}

/// The cap, infinite where it is NaN.
fn size(cap: f64) -> f64 {
    if cap.is_nan() { f64::INFINITY } else { cap }
}

/// The indices whose cap exceeds [`OUTLIER_RATIO`] times the upper quartile, in rising order, the largest `most` of
/// them, and how many there are in all.
fn standing(caps: &[f64], most: usize) -> Result<(Vec<usize>, usize), Error> {
    let place = upper(caps.len());
    let quartile = match place < caps.len() {
        true => {
            // No cap is negative: its bits are in its order, and whole numbers are compared faster.
            let mut bits = buffer::collected(caps.iter().map(|&cap| size(cap).abs().to_bits()))?;
            let from_below = bits.len() - 1 - place;
            f64::from_bits(*bits.select_nth_unstable(from_below).1)
        }
        false => 0.0,
    };
    // A quartile that is itself infinite must not hide the infinite caps.
    let stands_out = |&index: &usize| {
        let size = size(caps[index]);
        size > OUTLIER_RATIO * quartile || size == f64::INFINITY
    };
    let count = (0..caps.len()).filter(stands_out).count();
    let mut exact = buffer::with_capacity(count)?;
    exact.extend((0..caps.len()).filter(stands_out));
    if count > most {
        exact.sort_unstable_by(|&a: &usize, &b| size(caps[b]).total_cmp(&size(caps[a])).then(a.cmp(&b)));
        exact.truncate(most);
        exact.sort_unstable();
    }
    Ok((exact, count))
}

/// The outliers, at most the `most` largest of them, and the caps of the others.
///
/// A cap that is NaN or infinite stands out always. Equal caps are taken in the order of their index.
pub fn outliers(caps: &[f64], most: usize) -> Result<Outliers, Error> {
    let (exact, standing) = standing(caps, most)?;
    let others = || {
        let mut next = exact.iter().peekable();
        let is_other = move |index: &usize| next.next_if(|exact| *exact == index).is_none();
        (0..caps.len()).filter(is_other).map(|index| size(caps[index]))
    };
    let (remaining, largest) = (super::total(others()), others().fold(0.0, f64::max));
    Ok(Outliers { exact, remaining, largest, overflow: standing > most })
}

/// At most `most` that stand out by their cap, where they hold enough of the sum of the squares to be worth another
/// pass.
pub fn weighty(caps: &[f64], most: usize) -> Result<Vec<usize>, Error> {
    let largest = largest_of(caps);
    if are_even(caps, largest) {
        return Ok(Vec::new());
    }
    let (exact, _) = standing(caps, most)?;
    let held: f64 = exact.iter().map(|&row| (caps[row] / largest).powi(2)).sum();
    let all = (norm(caps) / largest).powi(2);
    // NaN, of caps that are infinite, takes them all.
    Ok(if held < WEIGHTY * all { Vec::new() } else { exact })
}
