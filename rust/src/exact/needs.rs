//! Which passes an output needs: the kernels and their price go by the same law.

use crate::problem::Wrt;

/// The width of A3 up to which f A3 (pass 1 on A3 itself) is cheaper for dL/dY than fᵀ c (the key side of pass 2).
pub(super) const WIDE_A3: usize = 2;

/// What the inputs asked for need of the passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    /// w = p K.
    pub query_side: bool,
    /// pᵀ Q and fᵀ c.
    pub key_side: bool,
    /// f A3, which gives o and dL/dY without a second pass.
    pub mixed_inputs: bool,
}

impl Needs {
    /// Of a problem of widths d3 and dv.
    pub fn of((d3, dv): (usize, usize), wrt: &[Wrt]) -> Needs {
        let any = |set: &[Wrt]| wrt.iter().any(|wrt| set.contains(wrt));
        let narrow = d3 <= WIDE_A3 * dv;
        let key_side = any(&[Wrt::WK, Wrt::A2, Wrt::A3, Wrt::A]) || (any(&[Wrt::Y]) && !narrow);
        Needs {
            query_side: any(&[Wrt::X, Wrt::WQ, Wrt::A1, Wrt::A]),
            key_side,
            mixed_inputs: any(&[Wrt::Y]) && !key_side,
        }
    }
}
