//! Sums of the errors of rows, of which each part lines up in a way of its own.

use super::Parts;
use crate::exact::alike::LinedUp;
use crate::norms::largest;

/// What lines up among the rows added so far.
pub struct Sums {
    logits: LinedUp,
    own: LinedUp,
    /// Of what all rows share: in all of them, and in those of one direction.
    shared: [LinedUp; 2],
    output: LinedUp,
    output_shared: [LinedUp; 2],
    square: f64,
}

impl Sums {
    /// Of nothing yet.
    pub fn new() -> Self {
        let [logits, own, output] = std::array::from_fn(|_| LinedUp::new());
        let [shared, output_shared] = std::array::from_fn(|_| std::array::from_fn(|_| LinedUp::new()));
        Sums { logits, own, shared, output, output_shared, square: 0.0 }
    }

    /// Adds a row: `size` times its parts, in the cells of its weights, its c and its direction; those that hang on c_j go
    /// along `outer`, the others along `alone`.
    #[inline(always)]
    pub fn add(&mut self, size: f64, parts: &Parts, cells: [u64; 3], outer: &[f64], alone: &[f64]) {
        let [weights, c, direction] = cells;
        self.square += parts.square;
        self.logits.add(size * parts.logits, weights, outer);
        self.own.add(size * parts.own, c, outer);
        self.output.add(size * parts.output, weights, alone);
        for (i, cell) in [0, direction].into_iter().enumerate() {
            self.shared[i].add(size * parts.shared, cell, outer);
            self.output_shared[i].add(size * parts.output_shared, cell, alone);
        }
    }

    /// Adds the rows of another one.
    pub fn merge(&mut self, other: &Sums) {
        self.square += other.square;
        let ours = [&mut self.logits, &mut self.own, &mut self.output];
        let pairs = ours.into_iter().zip([&other.logits, &other.own, &other.output]);
        let ours = self.shared.iter_mut().chain(&mut self.output_shared);
        let pairs = pairs.chain(ours.zip(other.shared.iter().chain(&other.output_shared)));
        pairs.for_each(|(sum, other)| sum.merge(other));
    }

    /// All parts together.
    pub fn total(&self) -> f64 {
        let larger = |sums: &[LinedUp; 2]| largest(sums.each_ref().map(LinedUp::total));
        self.square
            + self.logits.total()
            + self.own.total()
            + larger(&self.shared)
            + self.output.total()
            + larger(&self.output_shared)
    }
}
