//! Query rows by the reach of their logits, b = ‖q‖ max ‖k‖: the terms of the bounds of a sum over rows (docs/math.md,
//! equation 9.37).

use crate::error::Error;
use crate::runtime::buffer;

/// Bits of a double-precision number below those that make the index of its bucket: 4 buckets for every doubling of b²,
/// whose edges are at most 12 % apart in b.
const SHIFT: u32 = 50;

/// log2 of b² below which rows share one bucket, b = 2^−16: P is exp there to rounding.
const LOWEST: u64 = 1023 - 32;

/// log2 of b² from which on nothing is known, b = 2^8: the range of the enclosures.
const HIGHEST: u64 = 1023 + 16;

/// Numbers of a bucket.
const NUMBERS: usize = 9;

/// Buckets, the last of which holds what is beyond the range and what is not a number.
const COUNT: usize = ((HIGHEST - LOWEST) << (52 - SHIFT)) as usize + 1;

/// The numbers of one row that the pass has.
pub struct RowNumbers {
    /// b².
    pub reach: f64,
    /// ‖c‖ in the unit of the values.
    pub c: f64,
    /// ‖a‖, of the row of A1.
    pub a: f64,
    /// ‖o‖² in the unit of the values.
    pub o: f64,
    /// The normaliser itself.
    pub z: f64,
}

/// Sums and extrema over the rows of one bucket.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// How many rows.
    pub count: f64,
    /// Σ ‖c‖.
    pub c: f64,
    /// Σ ‖c‖².
    pub c_squared: f64,
    /// Σ ‖a‖.
    pub a: f64,
    /// Σ ‖a‖ ‖c‖.
    pub a_c: f64,
    /// max ‖c‖.
    pub largest_c: f64,
    /// max ‖a‖.
    pub largest_a: f64,
    /// max ‖o‖².
    pub largest_o: f64,
    /// min z.
    pub least_z: f64,
}

/// All buckets, or none where bounds are not wanted.
#[derive(Debug, Clone, Default)]
pub struct Buckets(Vec<Bucket>);

impl Bucket {
    fn numbers(&self) -> [f64; NUMBERS] {
        let Bucket { count, c, c_squared, a, a_c, largest_c, largest_a, largest_o, least_z } = *self;
        [count, c, c_squared, a, a_c, largest_c, largest_a, largest_o, least_z]
    }

    fn of([count, c, c_squared, a, a_c, largest_c, largest_a, largest_o, least_z]: [f64; NUMBERS]) -> Self {
        Bucket { count, c, c_squared, a, a_c, largest_c, largest_a, largest_o, least_z }
    }
}

impl Buckets {
    /// Numbers of all of them together.
    pub const SIZE: usize = COUNT * NUMBERS;

    /// All of their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = f64> {
        self.0.iter().flat_map(Bucket::numbers)
    }

    /// From [`Buckets::SIZE`] numbers.
    pub fn of(numbers: &[f64]) -> Result<Self, Error> {
        Ok(Buckets(buffer::collected(numbers.as_chunks().0.iter().map(|&numbers| Bucket::of(numbers)))?))
    }

    /// Empty ones.
    pub fn new() -> Result<Self, Error> {
        Ok(Buckets(buffer::filled(COUNT, Bucket::default())?))
    }

    /// Counts a row in.
    #[inline(always)]
    pub fn add(&mut self, row: &RowNumbers) {
        let index = (row.reach.to_bits() >> SHIFT).saturating_sub(LOWEST << (52 - SHIFT)) as usize;
        if let Some(bucket) = self.0.get_mut(index.min(COUNT - 1)) {
            let (c, a) = (row.c, row.a);
            bucket.least_z = if bucket.count == 0.0 { row.z } else { bucket.least_z.min(row.z) };
            bucket.count += 1.0;
            bucket.c += c;
            bucket.c_squared += c * c;
            bucket.a += a;
            bucket.a_c += a * c;
            bucket.largest_c = bucket.largest_c.max(c);
            bucket.largest_a = bucket.largest_a.max(a);
            bucket.largest_o = bucket.largest_o.max(row.o);
        }
    }

    /// Counts the rows of a later part in.
    pub fn merge(&mut self, other: &Buckets) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (bucket, other) in self.0.iter_mut().zip(&other.0).filter(|(_, other)| other.count > 0.0) {
            bucket.least_z = if bucket.count == 0.0 { other.least_z } else { bucket.least_z.min(other.least_z) };
            bucket.count += other.count;
            bucket.c += other.c;
            bucket.c_squared += other.c_squared;
            bucket.a += other.a;
            bucket.a_c += other.a_c;
            bucket.largest_c = bucket.largest_c.max(other.largest_c);
            bucket.largest_a = bucket.largest_a.max(other.largest_a);
            bucket.largest_o = bucket.largest_o.max(other.largest_o);
        }
    }

    /// Those that hold a row, with a b that none of it exceeds as it was computed: infinite for the last one.
    pub fn filled(&self) -> impl Iterator<Item = (f64, &Bucket)> {
        let last = COUNT - 1;
        let edge = move |index: usize| {
            let next = ((LOWEST << (52 - SHIFT)) + index as u64 + 1) << SHIFT;
            if index == last { f64::INFINITY } else { f64::from_bits(next).sqrt().next_up() }
        };
        let buckets = self.0.iter().enumerate().filter(|(_, bucket)| bucket.count > 0.0);
        buckets.map(move |(index, bucket)| (edge(index), bucket))
    }
}
