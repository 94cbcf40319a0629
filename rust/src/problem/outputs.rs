//! Which sums an output is made of: kernels, prices and forecasts of memory go by the same law.

use super::Wrt;

/// The width of A3 up to which f A3 (pass 1 on A3 itself) is cheaper for dL/dY than fᵀ c (the key side of pass 2).
pub(crate) const WIDE_A3: usize = 2;

/// The outputs that are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OutputSet {
    /// dL/dX or dL/dW_Q: wᵀ A1, with w = p K.
    pub weights: bool,
    /// Rows of w.
    pub A1: bool,
    /// (pᵀ Q)ᵀ A2.
    pub W_K: bool,
    /// Rows of pᵀ Q.
    pub A2: bool,
    /// (fᵀ c)ᵀ A3.
    pub Y: bool,
    /// Rows of fᵀ c.
    pub A3: bool,
}

/// The exact passes that outputs need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExactPasses {
    /// w = p K.
    pub query_side: bool,
    /// pᵀ Q and fᵀ c.
    pub key_side: bool,
    /// f A3, which gives o and dL/dY without a second pass.
    pub mixed_inputs: bool,
}

impl OutputSet {
    /// Of the inputs to differentiate by.
    pub fn of(wrt: &[Wrt]) -> Self {
        let any = |set: &[Wrt]| wrt.iter().any(|wrt| set.contains(wrt));
        OutputSet {
            weights: any(&[Wrt::X, Wrt::WQ]),
            A1: any(&[Wrt::A1, Wrt::A]),
            W_K: any(&[Wrt::WK]),
            A2: any(&[Wrt::A2, Wrt::A]),
            Y: any(&[Wrt::Y]),
            A3: any(&[Wrt::A3, Wrt::A]),
        }
    }

    /// Whether w = p K is needed.
    pub fn query_slopes(&self) -> bool {
        self.weights || self.A1
    }

    /// Whether pᵀ Q is.
    pub fn key_slopes(&self) -> bool {
        self.W_K || self.A2
    }

    /// Whether pᵀ Q or fᵀ c is.
    pub fn key_side(&self) -> bool {
        self.key_slopes() || self.Y || self.A3
    }

    /// The exact passes for widths d3 and dv.
    pub fn exact_passes(&self, (d3, dv): (usize, usize)) -> ExactPasses {
        let is_narrow = d3 <= WIDE_A3 * dv;
        let key_side = self.key_slopes() || self.A3 || (self.Y && !is_narrow);
        ExactPasses { query_side: self.query_slopes(), key_side, mixed_inputs: self.Y && !key_side }
    }
}
