//! Inputs in the order in which the passes read them.

use ndarray::{CowArray, Ix2};

use super::Problem;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::row_major;

/// A problem whose inputs by token are row-major: those of another one, or copies of them.
pub(crate) struct RowMajor<'a, T> {
    given: Problem<'a, T>,
    A1: CowArray<'a, T, Ix2>,
    A2: CowArray<'a, T, Ix2>,
    A3: CowArray<'a, T, Ix2>,
    E: CowArray<'a, T, Ix2>,
}

impl<'a, T: Float> RowMajor<'a, T> {
    /// That of any problem.
    pub fn of(problem: &Problem<'a, T>) -> Result<Self, Error> {
        Ok(RowMajor {
            given: *problem,
            A1: row_major(problem.A1)?,
            A2: row_major(problem.A2)?,
            A3: row_major(problem.A3)?,
            E: row_major(problem.E)?,
        })
    }

    /// The problem itself.
    pub fn problem(&self) -> Problem<'_, T> {
        Problem {
            A1: self.A1.view(),
            A2: self.A2.view(),
            A3: self.A3.view(),
            E: self.E.view(),
            ..self.given.reborrow()
        }
    }
}
