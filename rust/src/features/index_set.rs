//! Downward-closed sets of multi-indices: which monomials are features (docs/math.md, equations 103 to 105).

use std::ops::Range;

use ndarray::Array2;

use super::contributions::Contributions;
use crate::buffer;
use crate::error::Error;
use crate::products::matrix;

/// Halvings of the bracket of a threshold: down to the unit that contributions are rounded to.
const HALVINGS: usize = 30;

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
    dimension: usize,
    /// Index of the first member of each grade, and the count of all.
    offsets: Vec<usize>,
    /// Parent and last coordinate of each member; of no meaning for β = 0.
    steps: Vec<(u32, u32)>,
    /// |β|! / β! of each member.
    multinomials: Vec<f64>,
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
    /// All β of `dimension` coordinates with |β| ≤ `degree`, eq. (104): [`feature_count`] of them, in as much time.
    ///
    /// # Errors
    /// [`Error::Option`] with their number where it is beyond 2³²; [`Error::OutOfMemory`].
    pub fn total_degree(dimension: usize, degree: usize) -> Result<Self, Error> {
        let most = feature_count(dimension, degree).filter(|&count| u32::try_from(count).is_ok());
        let most = most.ok_or_else(|| Error::Option {
            option: "degree",
            found: format!(
                "{degree}, which has {:.3e} monomials of {dimension} coordinates",
                approximate_count(dimension, degree)
            ),
            wanted: format!("a degree with at most {} monomials", u32::MAX),
        })?;
        let mut tree = Growth::new(dimension, most)?;
        buffer::reserve(&mut tree.set.offsets, degree)?;
        for _ in 0..degree {
            tree.grade(most, f64::NEG_INFINITY, |_, _| 0.0)?;
        }
        Ok(tree.set)
    }

    /// The β of |β| ≤ `degree` that are expected to contribute most to e^t, at most `max_features`, eq. (105).
    ///
    /// `spectrum` holds the second moments of balanced coordinates ([`super::Balance`]). The set is a level set, so
    /// that directions of equal variance are treated alike; a level that does not fit is left out whole. Time about 40
    /// N d for N members.
    ///
    /// # Errors
    /// [`Error::Option`] for no features at all, and for moments that are negative or not finite;
    /// [`Error::OutOfMemory`].
    pub fn anisotropic(spectrum: &[f64], degree: usize, max_features: usize) -> Result<Self, Error> {
        if max_features == 0 {
            return Err(Error::Option {
                option: "max_features",
                found: "0".into(),
                wanted: "1 or more: an empty set of monomials stands for nothing".into(),
            });
        }
        if let Some(moment) = spectrum.iter().find(|moment| !(moment.is_finite() && **moment >= 0.0)) {
            let wanted = "finite second moments, 0 or more".into();
            return Err(Error::Option { option: "spectrum", found: moment.to_string(), wanted });
        }
        let dimension = spectrum.len();
        if feature_count(dimension, degree).is_some_and(|count| count <= max_features) {
            return IndexSet::total_degree(dimension, degree);
        }
        let most = max_features.min(u32::MAX as usize);
        let mut table = Contributions::new(spectrum, degree)?;
        let mut best = loop {
            if let Some(set) = grown(&table, 0.0, most)? {
                break set;
            }
            // Contributions that do not fall with the power, as of large logits: fewer powers, then.
            table.lower();
        };
        let (mut low, mut high) = (-1.0, 0.0);
        while let Some(set) = grown(&table, low, most)? {
            if feature_count(dimension, table.degree()) == Some(set.count()) {
                return Ok(set);
            }
            (best, low, high) = (set, 2.0 * low, low);
        }
        for _ in 0..HALVINGS {
            let middle = 0.5 * (low + high);
            match grown(&table, middle, most)? {
                None => low = middle,
                Some(set) => (best, high) = (set, middle),
            }
        }
        Ok(best)
    }

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

    /// |β|! / β! of every member, (N), eq. (103): exact integers, each rounded once.
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

/// The β whose contributions are at least `floor`; None if they are more than `most`.
fn grown(table: &Contributions, floor: f64, most: usize) -> Result<Option<IndexSet>, Error> {
    let mut tree = Growth::new(table.dimension(), 1)?;
    for _ in 0..table.degree() {
        let before = tree.set.count();
        if !tree.grade(most, floor, |coordinate, power| table.of(coordinate, power))? {
            return Ok(None);
        }
        if tree.set.count() == before {
            tree.set.offsets.pop();
            break;
        }
    }
    Ok(Some(tree.set))
}

/// A set while it grows, grade by grade.
struct Growth {
    set: IndexSet,
    /// The exponent of the last coordinate of each member.
    powers: Vec<u32>,
    /// |β|! / β! as an integer; None where that is beyond 128 bits.
    exact: Vec<Option<u128>>,
    /// The sum of the contributions of each member.
    values: Vec<f64>,
}

impl Growth {
    /// β = 0, with room for so many members.
    fn new(dimension: usize, room: usize) -> Result<Self, Error> {
        let mut tree = Growth {
            set: IndexSet { dimension, offsets: vec![0, 1], steps: Vec::new(), multinomials: Vec::new() },
            powers: Vec::new(),
            exact: Vec::new(),
            values: Vec::new(),
        };
        tree.reserve(room)?;
        tree.set.steps.push((0, 0));
        tree.set.multinomials.push(1.0);
        tree.powers.push(0);
        tree.exact.push(Some(1));
        tree.values.push(0.0);
        Ok(tree)
    }

    fn reserve(&mut self, more: usize) -> Result<(), Error> {
        buffer::reserve(&mut self.set.steps, more)?;
        buffer::reserve(&mut self.set.multinomials, more)?;
        buffer::reserve(&mut self.powers, more)?;
        buffer::reserve(&mut self.exact, more)?;
        buffer::reserve(&mut self.values, more)
    }

    /// The next grade: the children of the last one whose value is `floor` or more, where `of` gives what a power of a
    /// coordinate adds to it and never rises with the power, so that no child has a parent outside. Whether all are at
    /// most `most`.
    fn grade(&mut self, most: usize, floor: f64, of: impl Fn(usize, usize) -> f64) -> Result<bool, Error> {
        let grade = self.set.offsets.len() - 1;
        let [.., first, end] = self.set.offsets[..] else { return Ok(true) };
        for coordinate in 0..self.set.dimension as u32 {
            // Members of a grade are in the order of their last coordinates.
            let parents = self.set.steps[first..end].partition_point(|&(_, last)| last <= coordinate);
            let parents = first..first + parents;
            if self.set.steps.capacity() - self.set.steps.len() < parents.len() {
                self.reserve(parents.len())?;
            }
            for parent in parents {
                let same = grade > 1 && self.set.steps[parent].1 == coordinate;
                let power = if same { self.powers[parent] } else { 0 };
                let place = coordinate as usize;
                let value = self.values[parent] + (of(place, power as usize + 1) - of(place, power as usize));
                if value < floor {
                    continue;
                }
                if self.set.steps.len() == most {
                    return Ok(false);
                }
                self.push(parent, coordinate, power + 1, grade, value);
            }
        }
        self.set.offsets.push(self.set.steps.len());
        Ok(true)
    }

    fn push(&mut self, parent: usize, coordinate: u32, power: u32, grade: usize, value: f64) {
        // The division leaves no rest.
        let exact = self.exact[parent].and_then(|above| above.checked_mul(grade as u128));
        let exact = exact.map(|product| product / u128::from(power));
        let rounded = self.set.multinomials[parent] * grade as f64 / f64::from(power);
        self.set.steps.push((parent as u32, coordinate));
        self.set.multinomials.push(exact.map_or(rounded, |exact| exact as f64));
        self.powers.push(power);
        self.exact.push(exact);
        self.values.push(value);
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
