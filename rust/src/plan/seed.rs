//! The seed of a call that was given none: a hash of its inputs, so that the same call draws the same rows, and the
//! next step of a training, whose weights are others, draws others.

use ndarray::ArrayView2;

use super::request::Request;
use crate::float::Float;
use crate::problem::{Problem, Weights};
use crate::runtime::rng::{Rng, scattered};

/// Rows of each array that are hashed: data of which all of these are the same are the same data, or made to be. Four
/// times as many would cost a tenth of a call of ten milliseconds.
const HASHED_ROWS: usize = 256;

/// The one that a request names, or else that of the problem.
pub fn seed<T: Float>(problem: &Problem<'_, T>, request: &Request) -> u64 {
    request.seed.unwrap_or_else(|| seed_of(problem))
}

/// Hash of all numbers of the weights, which every step of a training changes, and of the sizes and some rows of the
/// other arrays, which may be larger than what a low degree reads in all of its passes. Bits do not depend on the
/// threads.
fn seed_of<T: Float>(problem: &Problem<'_, T>) -> u64 {
    let mut hash = Hash(0);
    hash.add(problem.scale.to_bits());
    hash.add(u64::from(problem.is_causal) + 2 * u64::from(problem.is_target));
    match problem.weights {
        Weights::Product(X) => hash.array(X),
        Weights::Pair(W_Q, W_K) => [W_Q, W_K].into_iter().for_each(|array| hash.array(array)),
    }
    hash.array(problem.Y);
    for array in [problem.A1, problem.A2, problem.A3, problem.E] {
        hash.add(array.nrows() as u64);
        scattered(array.nrows(), HASHED_ROWS).into_iter().for_each(|row| hash.numbers(array.row(row)));
    }
    hash.0
}

/// Hash of the numbers added so far: each number moves the state of a generator, whose next bits are the state then.
struct Hash(u64);

impl Hash {
    fn add(&mut self, bits: u64) {
        self.0 = Rng::new(self.0 ^ bits).bits();
    }

    fn numbers<'a, T: Float>(&mut self, numbers: impl IntoIterator<Item = &'a T>) {
        numbers.into_iter().for_each(|x| self.add(x.widen().to_bits()));
    }

    fn array<T: Float>(&mut self, array: ArrayView2<'_, T>) {
        self.add(array.ncols() as u64);
        self.numbers(array);
    }
}
