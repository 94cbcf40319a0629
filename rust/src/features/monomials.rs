//! The monomials x^β of a degree and below, as a tree (docs/math.md, equation 8.3).
//!
//! The order of an [`IndexSet`] makes most neighbours have the same last coordinate and parents that are neighbours, so
//! that a tile of them is one loop.

use std::ops::Range;

use super::index_set::{IndexSet, approximate_count, feature_count};
use crate::error::Error;
use crate::float::Float;
use crate::runtime::buffer;

/// Most monomials: their moments with 16 value columns are 140 MB a part in double precision.
const MOST: usize = 1 << 20;

/// The index set of all β with |β| up to a grade, and where its kernels' runs begin.
pub struct Monomials {
    set: IndexSet,
    /// Where the monomials of the highest grade with one last coordinate begin, and the count of all.
    leaves: Vec<usize>,
}

impl Monomials {
    /// All monomials of `dimension` coordinates with |β| ≤ `grade`.
    ///
    /// # Errors
    /// [`Error::Option`] with their number where it is beyond reach; [`Error::OutOfMemory`].
    pub fn new(dimension: usize, grade: usize) -> Result<Self, Error> {
        affordable(dimension, grade)?;
        let set = IndexSet::total_degree(dimension, grade)?;
        let mut leaves = buffer::with_capacity(dimension + 1)?;
        if grade > 0 {
            let highest = set.grade(grade);
            let last = |coordinate: usize| {
                set.steps()[highest.clone()].partition_point(|&(_, last)| (last as usize) < coordinate)
            };
            leaves.extend((0..=dimension).map(|coordinate| highest.start + last(coordinate)));
        }
        Ok(Monomials { set, leaves })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.set.count()
    }

    /// How many there are below the highest grade.
    pub fn inner(&self) -> usize {
        let offsets = self.set.offsets();
        offsets[offsets.len() - 2]
    }

    /// The highest grade.
    pub fn grades(&self) -> usize {
        self.set.degree()
    }

    /// The indices of one grade; none where there is no such grade.
    pub fn grade(&self, grade: usize) -> Range<usize> {
        self.set.grade(grade)
    }

    /// Parent and last coordinate of the monomials in order.
    #[inline(always)]
    pub fn steps(&self) -> &[(u32, u32)] {
        self.set.steps()
    }

    /// The first parent and the last coordinate of the `J` monomials from `first` on, where these have the coordinate
    /// in common, parents that follow one another, and no parent among themselves.
    #[inline(always)]
    pub fn run<const J: usize>(&self, first: usize) -> Option<(usize, usize)> {
        let steps = self.steps().get(first..)?.first_chunk::<J>()?;
        let (parent, coordinate) = (steps[0].0 as usize, steps[0].1);
        let (last, last_coordinate) = (steps[J - 1].0 as usize, steps[J - 1].1);
        // In between both only grow, and a parent has one child with a coordinate.
        let runs = last_coordinate == coordinate && last - parent == J - 1 && last < first;
        runs.then_some((parent, coordinate as usize))
    }

    /// The monomials of the highest grade by their last coordinate, from the first one on. Their parents are as many of
    /// the first of the grade below.
    #[inline(always)]
    pub fn leaves(&self) -> impl Iterator<Item = Range<usize>> {
        self.leaves.windows(2).map(|ends| ends[0]..ends[1])
    }

    /// Upper bounds of max |x^β| for the grade below the highest, from max |x_c|; not finite where one of a lower grade
    /// is not. Rounding keeps the order, so a product that was computed is not above that of its largest factors.
    pub fn bounds<T: Float>(&self, largest: &[T], to: &mut [T]) {
        to.iter_mut().zip(self.parents()).for_each(|(to, index)| *to = self.bound(largest, index));
    }

    fn bound<T: Float>(&self, largest: &[T], index: usize) -> T {
        let (parent, coordinate) = self.steps()[index];
        // In the order in which powers are made.
        if index == 0 { T::one() } else { self.bound(largest, parent as usize) * largest[coordinate as usize] }
    }

    /// The indices of the grade below the highest.
    #[inline(always)]
    pub fn parents(&self) -> Range<usize> {
        match *self.set.offsets() {
            [.., first, end, _] => first..end,
            _ => 0..0,
        }
    }

    /// The start, the first parent and the coordinate of the longest run between `first` and `end` that ends there;
    /// nothing where only the constant is left.
    #[inline(always)]
    pub fn run_before(&self, first: usize, end: usize) -> Option<(usize, usize, usize)> {
        let steps = &self.steps()[first.max(1)..end];
        let &(last, coordinate) = steps.last()?;
        let length = steps.iter().rev().zip((0..=last).rev());
        let length = length.take_while(|&(&step, parent)| step == (parent, coordinate)).count();
        // None of them is a parent of another.
        let length = length.min(end - 1 - last as usize);
        Some((end - length, last as usize + 1 - length, coordinate as usize))
    }

    /// The index of β + e_i for every β below the highest grade and every coordinate i, `[inner][dimension]`.
    pub fn raised(&self) -> Result<Vec<u32>, Error> {
        let dimension = self.grade(1).len();
        let mut raised = buffer::zeros::<u32>(buffer::size(&[self.inner(), dimension])?)?;
        for (index, &(parent, coordinate)) in self.steps().iter().enumerate().skip(1) {
            raised[parent as usize * dimension + coordinate as usize] = index as u32;
        }
        // A coordinate before the last one of β: raised is the parent, and then it has the last one of β too.
        for index in 1..self.inner() {
            let (parent, last) = self.steps()[index];
            for coordinate in 0..last as usize {
                let sibling = raised[parent as usize * dimension + coordinate] as usize;
                raised[index * dimension + coordinate] = raised[sibling * dimension + last as usize];
            }
        }
        Ok(raised)
    }

    /// |β|! / β! times what `of_grade` says of |β|, for every monomial in order.
    pub fn weights(&self, of_grade: impl Fn(usize) -> f64) -> Result<Vec<f64>, Error> {
        self.set.weights(of_grade)
    }
}

/// How many monomials there are.
///
/// # Errors
/// [`Error::Option`] with their number where it is beyond reach.
pub fn affordable(dimension: usize, grade: usize) -> Result<usize, Error> {
    feature_count(dimension, grade).filter(|&count| count <= MOST).ok_or_else(|| Error::Option {
        option: "degree",
        found: format!(
            "{:.0} monomials of {dimension} coordinates up to grade {grade}",
            approximate_count(dimension, grade)
        ),
        wanted: format!("a degree with at most {MOST}, or the exact method"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_they_say() {
        for (dimension, grade) in [(0, 3), (1, 9), (2, 5), (7, 3), (16, 3)] {
            let tree = Monomials::new(dimension, grade).expect("few monomials");
            let mut found = 0;
            for first in 0..tree.count() {
                let Some((parent, coordinate)) = tree.run::<4>(first) else { continue };
                let wanted: [(u32, u32); 4] = std::array::from_fn(|j| ((parent + j) as u32, coordinate as u32));
                assert_eq!(tree.steps()[first..first + 4], wanted);
                assert!(parent + 4 <= first);
                found += 1;
            }
            assert_eq!(found > 0, dimension > 1, "{dimension} {grade}");
        }
    }

    #[test]
    fn leaves_have_the_first_parents() {
        for (dimension, grade) in [(0, 3), (1, 9), (2, 5), (7, 3), (16, 3), (4, 1)] {
            let tree = Monomials::new(dimension, grade).expect("few monomials");
            assert_eq!(tree.leaves().count(), dimension);
            let parents = tree.parents();
            let mut next = tree.inner();
            for (coordinate, leaves) in tree.leaves().enumerate() {
                assert_eq!(leaves.start, next);
                next = leaves.end;
                for (parent, leaf) in parents.clone().zip(leaves.clone()) {
                    assert_eq!(tree.steps()[leaf], (parent as u32, coordinate as u32));
                }
                assert!(leaves.len() <= parents.len());
            }
            assert_eq!(next, tree.count());
        }
    }

    #[test]
    fn raised_is_one_coordinate_more() {
        for (dimension, grade) in [(0, 2), (1, 4), (3, 4), (7, 3)] {
            let tree = Monomials::new(dimension, grade).expect("few monomials");
            let mut exponents = vec![vec![0; dimension]];
            for &(parent, coordinate) in &tree.steps()[1..] {
                let mut exponent: Vec<u32> = exponents[parent as usize].clone();
                exponent[coordinate as usize] += 1;
                exponents.push(exponent);
            }
            let raised = tree.raised().expect("a small buffer");
            assert_eq!(raised.len(), tree.inner() * dimension);
            for (at, &index) in raised.iter().enumerate() {
                let mut wanted = exponents[at / dimension].clone();
                wanted[at % dimension] += 1;
                assert_eq!(exponents[index as usize], wanted);
            }
        }
    }

    #[test]
    fn too_many_are_refused_with_their_number() {
        let error = Monomials::new(128, 5).err().expect("336 million").to_string();
        assert!(error.contains("monomials of 128 coordinates up to grade 5"), "{error}");
        assert!(Monomials::new(usize::MAX, 9).is_err());
    }
}
