//! Sums of the errors of rows, of which each part lines up in a way of its own.

use super::parts::Parts;
use crate::exact::alike::LinedUp;
use crate::linalg::norms::largest;

/// Sums of the parts that line up among the rows added so far.
pub struct Sums {
    logits: LinedUp,
    own: LinedUp,
    /// Of what all rows share: in all of them, and in those of one direction.
    shared: [LinedUp; 2],
    mixed: LinedUp,
    output: LinedUp,
    output_shared: [LinedUp; 2],
    output_mixed: LinedUp,
    square: f64,
}

/// Cells of the rows with which a row lines up: those of its weights, of its c, of its direction and of its row of f
/// A3.
#[derive(Clone, Copy)]
pub struct Cells {
    pub weights: u64,
    pub c: u64,
    pub direction: u64,
    pub mixed: u64,
}

impl Sums {
    /// Of nothing yet.
    pub fn new() -> Self {
        let [logits, own, mixed, output, output_mixed] = std::array::from_fn(|_| LinedUp::new());
        let [shared, output_shared] = std::array::from_fn(|_| std::array::from_fn(|_| LinedUp::new()));
        Sums { logits, own, shared, mixed, output, output_shared, output_mixed, square: 0.0 }
    }

    /// Adds a row: `size` times its parts, each in its cell; those that hang on c_j go along `outer`, the others along
    /// `alone`.
    #[inline(always)]
    pub fn add(&mut self, size: f64, parts: &Parts, cells: Cells, outer: &[f64], alone: &[f64]) {
        self.square += parts.square;
        self.logits.add(size * parts.logits, cells.weights, outer);
        self.own.add(size * parts.own, cells.c, outer);
        self.mixed.add(size * parts.mixed, cells.mixed, outer);
        self.output.add(size * parts.output, cells.weights, alone);
        self.output_mixed.add(size * parts.output_mixed, cells.mixed, alone);
        for (i, cell) in [0, cells.direction].into_iter().enumerate() {
            self.shared[i].add(size * parts.shared, cell, outer);
            self.output_shared[i].add(size * parts.output_shared, cell, alone);
        }
    }

    /// Adds the rows of another one.
    pub fn merge(&mut self, other: &Sums) {
        self.square += other.square;
        let ours = [&mut self.logits, &mut self.own, &mut self.mixed, &mut self.output, &mut self.output_mixed];
        let theirs = [&other.logits, &other.own, &other.mixed, &other.output, &other.output_mixed];
        let pairs = ours.into_iter().zip(theirs);
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
            + self.mixed.total()
            + self.output.total()
            + larger(&self.output_shared)
            + self.output_mixed.total()
    }
}
