//! Error bounds of the passes of the moment form (docs/math.md, equations 9.32 to 9.48 and 9.49).
//!
//! The passes count every query row into one of the `buckets`; `bounds` turns these into bounds of every gradient
//! through `setting`, the quantities that all rows share, `enclosures`, the bounds of P, and `charges`, the
//! contribution of one row. `caps` has one bound a row, for which `shells` groups the keys by their length.

mod bounds;
mod buckets;
mod caps;
mod charges;
mod enclosures;
mod setting;
mod shells;

use ndarray::Array2;

pub use bounds::Bound;
pub(crate) use bounds::{Bounds, Extent};
pub(crate) use buckets::{Buckets, RowNumbers};
pub use caps::Caps;
pub(crate) use caps::{Evaluated, caps, output_caps};

use crate::constants::MOMENT_ROWS;
use crate::features::Coordinates;
use crate::float::Float;
use crate::linalg::norms::wider;

/// The polynomial and the moments of the keys, as far as bounds need them.
pub(crate) struct Fitted<'a> {
    /// The keys.
    pub counted: Counted,
    /// P_0, …, P_g.
    pub coefficients: &'a [f64],
    /// The coordinates of queries and keys.
    pub coordinates: &'a Coordinates,
    /// Monomials below the highest grade.
    pub features: usize,
    /// max ‖k‖ in the coordinates, as computed.
    pub largest_key: f64,
    /// Bound of the error of sums of integers over the keys (8.13).
    pub lost: f64,
    /// Rows of A2 around the mean, rows of A3, and values in their unit, around a centre.
    pub balls: [Ball; 3],
    /// A3ᵀ A3 / m as computed.
    pub gram: Option<&'a Array2<f64>>,
    /// Σ h as computed, where there are moments.
    pub values: Option<Vec<f64>>,
    /// Σ k of the same.
    pub keys: Option<Vec<f64>>,
    /// Σ k kᵀ, where they reach that grade.
    pub squares: Option<Array2<f64>>,
}

/// Rows that were summed up in parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// How many rows.
    pub rows: usize,
    /// How often sums over some of them were added to those over others.
    pub merges: usize,
}

impl Counted {
    /// All rows in one go.
    pub fn whole(rows: usize) -> Self {
        Counted { rows, merges: 0 }
    }

    /// Counts another part in.
    pub fn merge(&mut self, other: Counted) {
        self.rows += other.rows;
        self.merges += other.merges + 1;
    }

    /// Rows whose sum in one go, in blocks that are folded in double precision, loses no less than the sum of the
    /// parts: a merge is a fold, or where a mean is merged four roundings.
    pub fn summed(&self) -> usize {
        self.rows + 4 * MOMENT_ROWS * self.merges
    }
}

/// Squared distances of vectors from a centre.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ball {
    /// Their sum.
    pub squares: f64,
    /// The largest.
    pub widest: f64,
}

impl Ball {
    /// Counts another part in.
    pub fn merge(&mut self, other: &Ball) {
        self.squares += other.squares;
        self.widest = wider(self.widest, other.widest);
    }
}

/// A [`Ball`] in each lane of a tile.
pub(crate) struct BallLanes<const L: usize> {
    squares: [f64; L],
    widest: [f64; L],
}

impl<const L: usize> BallLanes<L> {
    /// No vectors.
    pub const NONE: Self = BallLanes { squares: [0.0; L], widest: [0.0; L] };

    /// Counts the first `rows` of `x` in, laid out `[dimension][L]`; a missing centre is zero.
    #[inline(always)]
    pub fn add<T: Float>(&mut self, x: &[[T; L]], centre: &[f64], rows: usize) {
        let mut squares = [0.0; L];
        for (i, column) in x.iter().enumerate() {
            let centre = centre.get(i).copied().unwrap_or(0.0);
            for l in 0..L {
                let difference = column[l].widen() - centre;
                squares[l] += difference * difference;
            }
        }
        squares[rows..].fill(0.0);
        for ((sum, widest), &square) in self.squares.iter_mut().zip(&mut self.widest).zip(&squares) {
            *sum += square;
            *widest = wider(*widest, square);
        }
    }

    /// All of them.
    pub fn ball(&self) -> Ball {
        Ball { squares: self.squares.iter().sum(), widest: self.widest.iter().copied().fold(0.0, wider) }
    }
}
