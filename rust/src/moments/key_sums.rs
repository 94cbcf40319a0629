//! Sums over keys, which add up over blocks of them in any order (docs/math.md, equation 8.21).

use ndarray::Array2;

use super::keys::KeyFound;
use crate::certificate::moments::Counted;
use crate::error::Error;
use crate::linalg::norms::wider;
use crate::runtime::buffer;

/// The moments of some keys, and what bounds need to know of these.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeySums {
    /// How many keys.
    pub counted: Counted,
    /// M_β, `[count][dv + 1]`; nothing where the problem is causal.
    pub sums: Vec<f64>,
    /// Sizes of the keys.
    pub found: KeyFound,
    /// A3ᵀ A3 / m as computed, where it costs little beside the moments.
    pub gram: Option<Array2<f64>>,
}

impl KeyFound {
    /// Counts another part in.
    pub fn merge(&mut self, other: &KeyFound) {
        self.widest = wider(self.widest, other.widest);
        self.lost += other.lost;
        self.balls.iter_mut().zip(&other.balls).for_each(|(ball, other)| ball.merge(other));
    }
}

impl KeySums {
    /// Those of a causal problem, whose keys depend on the query: nothing is known of them.
    pub fn unknown() -> Self {
        KeySums { found: KeyFound { widest: f64::INFINITY, ..KeyFound::default() }, ..KeySums::default() }
    }

    /// max ‖k‖ in the coordinates.
    pub fn largest_key(&self) -> f64 {
        self.found.widest.sqrt()
    }

    /// Counts the keys of another block in, whose sums have the same sizes. A block without keys changes no bit.
    pub fn merge(&mut self, other: &KeySums) -> Result<(), Error> {
        if other.counted.rows == 0 {
            return Ok(());
        }
        if self.counted.rows == 0 {
            let gram = other.gram.clone();
            *self = KeySums { sums: buffer::copied(&other.sums)?, found: other.found.clone(), gram, ..*other };
            return Ok(());
        }
        let parts = [self.counted.rows, other.counted.rows].map(|rows| rows as f64);
        let total = parts[0] + parts[1];
        match (&mut self.gram, &other.gram) {
            (Some(gram), Some(other)) => gram.zip_mut_with(other, |one, other| {
                *one = (*one * parts[0] + *other * parts[1]) / total;
            }),
            _ => self.gram = None,
        }
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, term)| *sum += term);
        self.found.merge(&other.found);
        self.counted.merge(other.counted);
        Ok(())
    }
}
