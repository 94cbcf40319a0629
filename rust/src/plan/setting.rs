//! Shared inputs of every step of one degree, and outputs with W_Q W_Kᵀ multiplied out.

use ndarray::{Array2, ArrayView2};

use super::prepared::Prepared;
use super::reach::Reach;
use super::request::Request;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::products::mapped;
use crate::linalg::spectral::spectral;
use crate::problem::{Problem, Weights, Wrt};

/// Shared inputs of every step of one degree.
pub struct Setting<'a, T> {
    /// The problem as it was given.
    pub original: Problem<'a, T>,
    /// The same, with W_Q W_Kᵀ multiplied out where dL/dW_K is certified from rows.
    pub problem: Problem<'a, T>,
    /// The outputs.
    pub wrt: &'a [Wrt],
    /// Which of them are zero by the structure of the problem.
    pub zero: &'a [bool],
    /// The request.
    pub request: &'a Request,
    /// Rows are drawn from the sequence that belongs to it.
    pub seed: u64,
    /// Lengths of queries and keys, where certificates are of rows drawn uniformly.
    pub reach: Option<&'a Reach>,
    /// The polynomial and its moments.
    pub prepared: &'a Prepared,
}

impl<T: Float> Setting<'_, T> {
    /// W_Q and W_K as they were given.
    pub fn pair(&self) -> Option<(ArrayView2<'_, T>, ArrayView2<'_, T>)> {
        match &self.original.weights {
            Weights::Pair(W_Q, W_K) => Some((W_Q.reborrow(), W_K.reborrow())),
            Weights::Product(_) => None,
        }
    }

    /// Whether the pair was multiplied out.
    pub fn unfolded(&self) -> bool {
        self.pair().is_some() && matches!(self.problem.weights, Weights::Product(_))
    }

    /// The outputs to ask of [`Setting::problem`].
    pub fn asked(&self) -> Vec<Wrt> {
        let mut asked: Vec<Wrt> = Vec::new();
        for &wrt in self.wrt {
            let of = if self.unfolded() && matches!(wrt, Wrt::WQ | Wrt::WK) { Wrt::X } else { wrt };
            if !asked.contains(&of) {
                asked.push(of);
            }
        }
        asked
    }

    /// An error of an output of the original problem from that of dL/dX or dL/dW_Q of the other.
    pub fn folded_error(&self, wrt: Wrt, error: f64) -> f64 {
        if error == 0.0 {
            return 0.0;
        }
        match (wrt, self.pair().filter(|_| self.unfolded())) {
            (Wrt::WQ, Some((_, W_K))) => error * spectral(wide(W_K).view()),
            (Wrt::WK, Some((W_Q, _))) => error * spectral(wide(W_Q).view()),
            (Wrt::X | Wrt::WQ, _) => error,
            _ => 0.0,
        }
    }

    /// The outputs of the original problem from those of the other.
    pub fn folded(&self, gradients: Vec<(Wrt, Array2<T>)>) -> Result<Vec<(Wrt, Array2<T>)>, Error> {
        let Some((W_Q, W_K)) = self.pair().filter(|_| self.unfolded()) else { return Ok(gradients) };
        let of = |wrt: Wrt| {
            let found = gradients.iter().find(|(of, _)| *of == wrt).map(|(_, value)| value);
            found.ok_or_else(|| Error::Internal(format!("dL/d{} was not computed", wrt.name())))
        };
        let narrow = |array: Array2<f64>| array.mapv(T::narrow).as_standard_layout().into_owned();
        let each = self.wrt.iter().map(|&wrt| {
            Ok((
                wrt,
                match wrt {
                    Wrt::WQ => narrow(wide(of(Wrt::X)?.view()).dot(&wide(W_K))),
                    Wrt::WK => narrow(wide(of(Wrt::X)?.view()).t().dot(&wide(W_Q))),
                    _ => mapped(of(wrt)?.view(), |x| x)?,
                },
            ))
        });
        each.collect()
    }
}
