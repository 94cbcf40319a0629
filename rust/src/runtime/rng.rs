//! Random numbers for drawing rows: integers only up to the last step, hence the same on every platform.

use crate::error::Error;
use crate::runtime::buffer;

/// SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014): 64 bits of state are
/// ample for drawing some thousand rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform on the multiples of 2^−53 in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (0.5 * f64::EPSILON)
    }

    /// Uniform in 0, …, `count` − 1, without bias (Lemire, 2019); 0 for no count.
    pub fn below(&mut self, count: u64) -> u64 {
        let rejected = if count == 0 { 0 } else { count.wrapping_neg() % count };
        loop {
            let product = u128::from(self.bits()) * u128::from(count);
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }
}

/// `wanted` of the numbers 0, …, `population` − 1, all sets equally likely, in the order in which they are drawn; all
/// of them where more are wanted. Fewer numbers are the first of more (Fisher and Yates' shuffle, as far as it is
/// wanted). O(population) time and memory.
pub fn without_replacement(rng: &mut Rng, population: usize, wanted: usize) -> Result<Vec<usize>, Error> {
    let wanted = wanted.min(population);
    let mut order = buffer::with_capacity(population)?;
    order.extend(0..population);
    for place in 0..wanted {
        order.swap(place, place + rng.below((population - place) as u64) as usize);
    }
    order.truncate(wanted);
    Ok(order)
}

/// Seed of [`scattered`]: rows that are only looked at do not depend on the caller's seed, so that moments serve for
/// every seed.
const LOOK_SEED: u64 = 0x10_0CED;

/// About `wanted` of the numbers 0, …, `count` − 1 in rising order, one at random from each of as many stretches of
/// equal length; all of them where there are no more. A fixed stride instead may always hit the first of every window
/// of a context.
pub fn scattered(count: usize, wanted: usize) -> Vec<usize> {
    if count <= wanted {
        return (0..count).collect();
    }
    let mut rng = Rng::new(LOOK_SEED);
    let edge = |stretch: usize| (stretch as u128 * count as u128 / wanted as u128) as usize;
    let mut first = 0;
    let one = |stretch: usize| {
        let (start, end) = (first, edge(stretch + 1));
        first = end;
        start + rng.below((end - start) as u64) as usize
    };
    (0..wanted).map(one).collect()
}
