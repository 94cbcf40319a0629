//! What the inputs that are asked for need of the passes.

use crate::error::Error;
use crate::float::Float;
use crate::problem::{Problem, Wrt};

/// What the inputs asked for need of the passes.
#[derive(Clone, Copy)]
pub(super) struct Needs {
    pub weights: bool,
    /// Whether those come from the moments of both sides.
    pub contracts: bool,
    pub A1: bool,
    pub W_K: bool,
    pub A2: bool,
    pub Y: bool,
    pub A3: bool,
}

impl Needs {
    pub fn of<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt]) -> Result<Needs, Error> {
        for &wrt in wrt {
            problem.check(wrt)?;
        }
        let any = |set: &[Wrt]| wrt.iter().any(|wrt| set.contains(wrt));
        Ok(Needs {
            weights: any(&[Wrt::X, Wrt::WQ]),
            contracts: false,
            A1: any(&[Wrt::A1, Wrt::A]),
            W_K: any(&[Wrt::WK]),
            A2: any(&[Wrt::A2, Wrt::A]),
            Y: any(&[Wrt::Y]),
            A3: any(&[Wrt::A3, Wrt::A]),
        })
    }

    /// w = p K.
    pub fn query_slopes(&self) -> bool {
        self.outer() || self.A1
    }

    /// wᵀ A1.
    pub fn outer(&self) -> bool {
        self.weights && !self.contracts
    }

    /// Moments of the queries.
    pub fn query_moments(&self) -> bool {
        self.key_side() || self.contracts
    }

    /// pᵀ Q.
    pub fn key_slopes(&self) -> bool {
        self.W_K || self.A2
    }

    /// pᵀ Q or fᵀ c.
    pub fn key_side(&self) -> bool {
        self.key_slopes() || self.Y || self.A3
    }

    pub fn slopes(&self) -> bool {
        self.query_slopes() || self.key_slopes()
    }
}
