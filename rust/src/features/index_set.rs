//! Downward-closed sets of multi-indices: which monomials are features (docs/math.md, equations 10.4 to 10.6).

use std::ops::Range;

use ndarray::Array2;

use crate::error::Error;
use crate::linalg::products::matrix;
use crate::runtime::buffer;

/// Multi-indices β of some coordinates that hold with β everything below it, as a tree: x^β = x^parent · x_c.
///
/// A multi-index is the nondecreasing sequence of its coordinates, and its parent the sequence without the last one.
/// Sequences are ordered by length, then by their last coordinate, then by their parent: parents come before children,
/// and neighbours mostly have the same last coordinate and parents that are neighbours. The order depends on nothing
/// but the set.
///
/// ```
/// use attngrad::features::IndexSet;
/// use ndarray::array;
///
/// let set = IndexSet::total_degree(2, 2)?;
/// assert_eq!(set.exponents()?, array![[0, 0], [1, 0], [0, 1], [2, 0], [1, 1], [0, 2]]);
/// assert_eq!(set.multinomials(), [1.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
///
/// // Nearly all of the variance is in one direction, and so are the features.
/// let set = IndexSet::anisotropic(&[0.5, 1e-3], 3, 5)?;
/// assert_eq!(set.exponents()?, array![[0, 0], [1, 0], [0, 1], [2, 0], [3, 0]]);
/// # Ok::<(), attngrad::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct IndexSet {
    pub(super) dimension: usize,
    /// Index of the first member of each grade, and the count of all.
    pub(super) offsets: Vec<usize>,
    /// Parent and last coordinate of each member; of no meaning for β = 0.
    pub(super) steps: Vec<(u32, u32)>,
    /// |β|! / β! of each member.
    pub(super) multinomials: Vec<f64>,
}

/// C(dimension + degree, degree), the size of the set of total degree; None where it is beyond the numbers of this
/// machine.
///
/// ```
/// assert_eq!(attngrad::features::feature_count(16, 2), Some(153));
/// ```
pub fn feature_count(dimension: usize, degree: usize) -> Option<usize> {
    let (fewer, more) = (dimension.min(degree), dimension.max(degree));
    (1..=fewer).try_fold(1usize, |count, k| Some(count.checked_mul(more.checked_add(k)?)? / k))
}

/// The same as a number that may be of any size, for messages.
pub(crate) fn approximate_count(dimension: usize, degree: usize) -> f64 {
    let (fewer, more) = (dimension.min(degree), dimension.max(degree));
    (1..=fewer).map(|k| (more as f64 + k as f64) / k as f64).product()
}

impl IndexSet {
    /// N, the number of members; never 0, as β = 0 is in every set.
    pub fn count(&self) -> usize {
        self.steps.len()
    }

    /// d, the number of coordinates.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The largest |β|.
    pub fn degree(&self) -> usize {
        self.offsets.len() - 2
    }

    /// The members with |β| = `grade`; none where there is no such grade.
    pub fn grade(&self, grade: usize) -> Range<usize> {
        match self.offsets[grade.min(self.offsets.len())..] {
            [first, end, ..] => first..end,
            _ => 0..0,
        }
    }

    /// Index of the first member of each grade, and the count of all.
    #[inline(always)]
    pub(crate) fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Parent and last coordinate of the members in order, (N); (0, 0) for β = 0, which has neither.
    #[inline(always)]
    pub fn steps(&self) -> &[(u32, u32)] {
        &self.steps
    }

    /// The multi-indices themselves, (N, d). Time and memory N d.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn exponents(&self) -> Result<Array2<u32>, Error> {
        let (count, d) = (self.count(), self.dimension);
        let mut exponents = buffer::zeros::<u32>(buffer::size(&[count, d])?)?;
        for (index, &(parent, coordinate)) in self.steps.iter().enumerate().skip(1) {
            exponents.copy_within(parent as usize * d..(parent as usize + 1) * d, index * d);
            exponents[index * d + coordinate as usize] += 1;
        }
        matrix(exponents, count, d)
    }

    /// |β|! / β! of every member, (N), eq. (10.4): exact integers, each rounded once.
    pub fn multinomials(&self) -> &[f64] {
        &self.multinomials
    }

    /// |β|! / β! times what `of_grade` says of |β|, for every member.
    pub(crate) fn weights(&self, of_grade: impl Fn(usize) -> f64) -> Result<Vec<f64>, Error> {
        let mut weights = buffer::with_capacity(self.count())?;
        for (grade, range) in self.offsets.windows(2).enumerate() {
            let weight = of_grade(grade);
            weights.extend(self.multinomials[range[0]..range[1]].iter().map(|multinomial| weight * multinomial));
        }
        Ok(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_once_and_in_order() {
        for (dimension, grade) in [(0, 3), (1, 4), (2, 3), (3, 4), (5, 0), (16, 3)] {
            let tree = IndexSet::total_degree(dimension, grade).expect("few monomials");
            assert_eq!(Some(tree.count()), feature_count(dimension, grade));
            assert_eq!(tree.degree(), grade);
            let mut sequences: Vec<Vec<u32>> = vec![vec![]];
            for &(parent, coordinate) in &tree.steps()[1..] {
                let mut sequence = sequences[parent as usize].clone();
                assert!(sequence.last().is_none_or(|&last| last <= coordinate));
                sequence.push(coordinate);
                let before = sequences.last().expect("the constant is there");
                let key = |sequence: &Vec<u32>| (sequence.len(), sequence.iter().rev().copied().collect::<Vec<_>>());
                assert!(key(before) < key(&sequence));
                sequences.push(sequence);
            }
        }
    }

    /// Σ_β |β|!/β! x^β over one grade is (Σ x)^grade.
    #[test]
    fn weights_are_multinomial() {
        let x = [0.5, -1.5, 2.0];
        let tree = IndexSet::total_degree(3, 4).expect("few monomials");
        for wanted in 0..=4 {
            let weights = tree.weights(|grade| if grade == wanted { 1.0 } else { 0.0 }).expect("a small buffer");
            let mut values = vec![1.0];
            for &(parent, coordinate) in &tree.steps()[1..] {
                values.push(values[parent as usize] * x[coordinate as usize]);
            }
            let sum: f64 = weights.iter().zip(&values).map(|(weight, value)| weight * value).sum();
            assert!((sum - 1f64.powi(wanted as i32)).abs() < 1e-12);
        }
    }
}
