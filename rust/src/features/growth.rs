//! How sets of multi-indices are made: grade by grade, children from their parents (docs/math.md, equation 10.6).

use ndarray::ArrayView2;

use super::contributions::Contributions;
use super::index_set::{IndexSet, approximate_count, feature_count};
use crate::error::Error;
use crate::runtime::buffer;

/// Halvings of the bracket of a threshold: down to the unit that contributions are rounded to.
const HALVINGS: usize = 30;

impl IndexSet {
    /// All β of `dimension` coordinates with |β| ≤ `degree`, eq. (10.5): [`feature_count`] of them, in as much time.
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

    /// The β of |β| ≤ `degree` that are expected to contribute most to e^t, at most `max_features`, eq. (10.6).
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

    /// The set of these multi-indices, (N, d), in whichever order they are given; [`IndexSet::exponents`] gives them
    /// back in the order of the set. Time N d log N.
    ///
    /// ```
    /// use attngrad::features::IndexSet;
    /// use ndarray::array;
    ///
    /// let cross = IndexSet::from_exponents(array![[0, 2], [0, 0], [1, 0], [0, 1]].view())?;
    /// assert_eq!(cross.exponents()?, array![[0, 0], [1, 0], [0, 1], [0, 2]]);
    /// assert!(IndexSet::from_exponents(array![[0, 0], [1, 1]].view()).is_err());
    /// # Ok::<(), attngrad::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Option`] for a set that is empty, holds a member twice, or holds one and not all below it;
    /// [`Error::OutOfMemory`].
    pub fn from_exponents(exponents: ArrayView2<'_, u32>) -> Result<Self, Error> {
        let (given, d) = exponents.dim();
        let refuse = |found: String| {
            let wanted = "a set that holds every multi-index once, and with each all below it".into();
            Err(Error::Option { option: "exponents", found, wanted })
        };
        let mut order = buffer::collected(0..given)?;
        order.sort_unstable_by(|&a, &b| exponents.row(a).iter().cmp(exponents.row(b)));
        if let Some(two) = order.windows(2).find(|two| exponents.row(two[0]) == exponents.row(two[1])) {
            return refuse(format!("{} twice", exponents.row(two[0])));
        }
        let holds = |beta: &[u32]| order.binary_search_by(|&row| exponents.row(row).iter().cmp(beta)).is_ok();
        // Rows of the members so far, to look for their children.
        let mut rows = buffer::zeros::<u32>(d)?;
        if !holds(&rows) {
            return refuse(if given == 0 { "no member".into() } else { "no constant".into() });
        }
        let mut tree = Growth::new(d, given)?;
        while tree.set.count() < given {
            let grade = tree.set.offsets.len() - 1;
            let (first, end) = (tree.set.offsets[grade - 1], tree.set.offsets[grade]);
            for coordinate in 0..d {
                for parent in first..end {
                    let last = tree.set.steps[parent].1 as usize;
                    if last > coordinate {
                        continue;
                    }
                    let mut beta = buffer::copied(&rows[parent * d..(parent + 1) * d])?;
                    beta[coordinate] += 1;
                    if holds(&beta) {
                        tree.push(parent, coordinate as u32, beta[coordinate], grade, 0.0);
                        buffer::reserve(&mut rows, d)?;
                        rows.extend(beta);
                    }
                }
            }
            if tree.set.count() == end {
                break;
            }
            tree.set.offsets.push(tree.set.count());
        }
        // Every member was reached by one way only: over those below it whose last coordinates are no later.
        let is_closed = (0..tree.set.count()).all(|index| {
            let beta = &rows[index * d..(index + 1) * d];
            (0..d).all(|coordinate| {
                let mut below = beta.to_vec();
                below[coordinate] = below[coordinate].saturating_sub(1);
                beta[coordinate] == 0 || holds(&below)
            })
        });
        if tree.set.count() < given || !is_closed {
            return refuse(format!("{given} members, of which some lack one below them"));
        }
        Ok(tree.set)
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
