//! The paper's problem, its shapes checked once at the door; in `heads` query, key and value of attention itself, in
//! `stack` many heads of it, in `mask`, `masks` and `attn_mask` which keys the queries of one head and of all see, in
//! `approximation` the polynomial in the place of exp, in `identity` which problem something was fitted to, in
//! `row_major` its inputs in the order in which the passes read them.

mod approximation;
mod attn_mask;
mod heads;
mod identity;
mod mask;
mod masks;
mod outputs;
mod parts;
mod row_major;
mod shape;
mod stack;

use ndarray::{Array2, ArrayView2, s};

use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::wide;
use crate::linalg::products::matrix;
use crate::names::named;
use crate::runtime::buffer;

pub use approximation::Approximation;
pub use attn_mask::AttnMask;
pub(crate) use attn_mask::{Entries, added_by, least_added};
pub use heads::{HEAD_INPUTS, Heads};
pub(crate) use identity::Identity;
pub use mask::Align;
pub(crate) use mask::{Interval, Mask};
pub use masks::Masks;
#[cfg(test)]
pub(crate) use outputs::WIDE_A3;
pub(crate) use outputs::{ExactPasses, OutputSet};
pub(crate) use row_major::RowMajor;
pub use shape::{Shape, StackSizes};
pub use stack::{Saved, Stack};

/// The weights of the logits: X itself, or the pair that a transformer has, with X = W_Q W_Kᵀ.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a, T> {
    /// X, (d1, d2).
    Product(ArrayView2<'a, T>),
    /// W_Q, (d1, d), and W_K, (d2, d).
    Pair(ArrayView2<'a, T>, ArrayView2<'a, T>),
}

impl<T: Float> Weights<'_, T> {
    /// The maps of queries and of keys in double precision: X and the identity, or the pair.
    pub(crate) fn wide(&self) -> [Array2<f64>; 2] {
        match self {
            Weights::Product(X) => [wide(*X), Array2::eye(X.ncols())],
            Weights::Pair(W_Q, W_K) => [wide(*W_Q), wide(*W_K)],
        }
    }
}

/// An input with respect to which the loss is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Wrt {
    /// dL/dX, (d1, d2).
    X,
    /// dL/dW_Q, (d1, d).
    WQ,
    /// dL/dW_K, (d2, d).
    WK,
    /// dL/dY, (d3, dv).
    Y,
    /// dL/dA1, (n, d1).
    A1,
    /// dL/dA2, (m, d2).
    A2,
    /// dL/dA3, (m, d3).
    A3,
    /// dL/dA where A1 = A2 = A3 = A: the sum of the three.
    A,
}

named!(Wrt, "wrt":
    X = "X", WQ = "W_Q", WK = "W_K", Y = "Y", A1 = "A1", A2 = "A2", A3 = "A3", A = "A");

/// L = ½ ‖D⁻¹ exp(s · A1 X A2ᵀ) A3 Y − E‖²_F, D = diag(exp(s · A1 X A2ᵀ) 1) (docs/math.md, section 1).
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a, T> {
    pub(crate) A1: ArrayView2<'a, T>,
    pub(crate) A2: ArrayView2<'a, T>,
    pub(crate) A3: ArrayView2<'a, T>,
    pub(crate) weights: Weights<'a, T>,
    pub(crate) Y: ArrayView2<'a, T>,
    pub(crate) E: ArrayView2<'a, T>,
    pub(crate) scale: f64,
    pub(crate) is_causal: bool,
    /// Whether E is a target, so that c = o − E; otherwise its rows are c itself.
    pub(crate) is_target: bool,
}

impl<'a, T: Float> Problem<'a, T> {
    /// The problem with the paper's scale 1/d2, not causal.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn new(
        A1: ArrayView2<'a, T>,
        A2: ArrayView2<'a, T>,
        A3: ArrayView2<'a, T>,
        weights: Weights<'a, T>,
        Y: ArrayView2<'a, T>,
        E: ArrayView2<'a, T>,
    ) -> Result<Self, Error> {
        Shape::of_arrays(|name| match (name, &weights) {
            ("A1", _) => Some(A1.shape()),
            ("A2", _) => Some(A2.shape()),
            ("A3", _) => Some(A3.shape()),
            ("Y", _) => Some(Y.shape()),
            ("E", _) => Some(E.shape()),
            ("X", Weights::Product(X)) => Some(X.shape()),
            ("W_Q", Weights::Pair(W_Q, _)) => Some(W_Q.shape()),
            ("W_K", Weights::Pair(_, W_K)) => Some(W_K.shape()),
            _ => None,
        })?;
        let scale = 1.0 / A2.ncols().max(1) as f64;
        Ok(Problem { A1, A2, A3, weights, Y, E, scale, is_causal: false, is_target: true })
    }

    /// The same problem with logits scale · A1 X A2ᵀ.
    #[must_use]
    pub fn with_scale(self, scale: f64) -> Self {
        Problem { scale, ..self }
    }

    /// The same problem where query j sees keys 0..=j only (top-left, also where n ≠ m).
    #[must_use]
    pub fn with_causal(self, is_causal: bool) -> Self {
        Problem { is_causal, ..self }
    }

    /// The same problem where the rows of E are c itself, dL/do given from outside, and no target: what is
    /// differentiated is then ⟨E, o⟩, and there is no loss (docs/math.md, equation 6.2).
    #[must_use]
    pub fn with_incoming(self) -> Self {
        Problem { is_target: false, ..self }
    }

    /// The problem as every function works on it: its scale checked, and without the keys that a mask hides from all
    /// queries, which must not matter.
    ///
    /// # Errors
    /// [`Error::Option`] for a scale that is no finite number.
    pub(crate) fn admitted(&self) -> Result<Self, Error> {
        check_scale(self.scale)?;
        let (n, m) = (self.A1.nrows(), self.A2.nrows());
        if !self.is_causal || m <= n {
            return Ok(*self);
        }
        Ok(Problem { A2: self.A2.slice_move(s![..n, ..]), A3: self.A3.slice_move(s![..n, ..]), ..*self })
    }

    /// An output of this problem from that of [`Problem::admitted`]: nothing depends on keys that are hidden from all
    /// queries.
    pub(crate) fn whole(&self, wrt: Wrt, value: Array2<T>) -> Result<Array2<T>, Error> {
        if matches!(wrt, Wrt::A2 | Wrt::A3) { extended(value, self.A2.nrows()) } else { Ok(value) }
    }

    /// The first input that is not finite in the place of an overflow: the size of the others is not to blame then.
    pub(crate) fn blame(&self, error: Error) -> Error {
        let (first, second) = match &self.weights {
            Weights::Product(X) => (("X", X), None),
            Weights::Pair(W_Q, W_K) => (("W_Q", W_Q), Some(("W_K", W_K))),
        };
        let inputs = [("A1", &self.A1), ("A2", &self.A2), ("A3", &self.A3), first];
        blame(error, inputs.into_iter().chain(second).chain([("Y", &self.Y), ("E", &self.E)]))
    }

    /// The same problem for as long as it is borrowed.
    pub(crate) fn reborrow(&self) -> Problem<'_, T> {
        let weights = match &self.weights {
            Weights::Product(X) => Weights::Product(X.reborrow()),
            Weights::Pair(W_Q, W_K) => Weights::Pair(W_Q.reborrow(), W_K.reborrow()),
        };
        Problem {
            A1: self.A1.reborrow(),
            A2: self.A2.reborrow(),
            A3: self.A3.reborrow(),
            weights,
            Y: self.Y.reborrow(),
            E: self.E.reborrow(),
            scale: self.scale,
            is_causal: self.is_causal,
            is_target: self.is_target,
        }
    }

    /// The same problem with other queries and their rows of E.
    pub(crate) fn with_queries<'b>(&'b self, A1: ArrayView2<'b, T>, E: ArrayView2<'b, T>) -> Problem<'b, T> {
        Problem { A1, E, ..self.reborrow() }
    }

    /// The shape of the gradient with respect to `wrt`, which is that of the input.
    pub(crate) fn dim(&self, wrt: Wrt) -> (usize, usize) {
        match (wrt, &self.weights) {
            (Wrt::X, _) => (self.A1.ncols(), self.A2.ncols()),
            (Wrt::WQ, Weights::Product(X)) | (Wrt::WK, Weights::Product(X)) => X.dim(),
            (Wrt::WQ, Weights::Pair(W_Q, _)) => W_Q.dim(),
            (Wrt::WK, Weights::Pair(_, W_K)) => W_K.dim(),
            (Wrt::Y, _) => self.Y.dim(),
            (Wrt::A1 | Wrt::A, _) => self.A1.dim(),
            (Wrt::A2, _) => self.A2.dim(),
            (Wrt::A3, _) => self.A3.dim(),
        }
    }

    /// Whether `wrt` can be asked of this problem, as [`Shape::check`] says it.
    pub(crate) fn check(&self, wrt: Wrt) -> Result<(), Error> {
        Shape::of(self).check(wrt)
    }
}

impl Shape {
    /// That of a problem.
    pub fn of<T>(problem: &Problem<'_, T>) -> Self {
        let ((n, d1), (m, d2), (d3, dv)) = (problem.A1.dim(), problem.A2.dim(), problem.Y.dim());
        let (d, pair) = match problem.weights {
            Weights::Product(_) => (d2, false),
            Weights::Pair(W_Q, _) => (W_Q.ncols(), true),
        };
        Shape { n, m, d, d1, d2, d3, dv, pair }
    }

    /// Whether `wrt` can be asked of a problem of this shape.
    ///
    /// # Errors
    /// [`Error::Option`] for X of a pair, for W_Q and W_K of a product, for A of inputs of different shapes.
    pub fn check(&self, wrt: Wrt) -> Result<(), Error> {
        let same = self.n == self.m && self.d1 == self.d2 && self.d2 == self.d3;
        let wanted = match wrt {
            Wrt::X if self.pair => "W_Q or W_K where X is given as the pair (W_Q, W_K); their product has X",
            Wrt::WQ | Wrt::WK if !self.pair => "X where X is one matrix; the pair (W_Q, W_K) in its place has both",
            Wrt::A if !same => "A1, A2 or A3 where they are not one array",
            _ => return Ok(()),
        };
        Err(Error::Option { option: "wrt", found: format!("'{}'", wrt.name()), wanted: wanted.into() })
    }
}

/// Refuses a scale that no logit can be made with.
pub(crate) fn check_scale(scale: f64) -> Result<(), Error> {
    if scale.is_finite() {
        return Ok(());
    }
    Err(Error::Option { option: "scale", found: scale.to_string(), wanted: "a finite number".into() })
}

/// An overflow, or the first entry of the inputs that is not finite, which it comes from; also where that was found in
/// a part of the problem.
pub(crate) fn blame<'b, T: Float>(
    error: Error,
    inputs: impl IntoIterator<Item = (&'static str, &'b ArrayView2<'b, T>)>,
) -> Error {
    if !matches!(error, Error::Range { .. } | Error::NonFinite { .. }) {
        return error;
    }
    let first = |(argument, array): (&'static str, &ArrayView2<'_, T>)| blame_not_finite(argument, array).err();
    inputs.into_iter().find_map(first).unwrap_or(error)
}

/// An error that names the first entry of an array that is not finite.
pub(crate) fn blame_not_finite<T: Float>(argument: &'static str, array: &ArrayView2<'_, T>) -> Result<(), Error> {
    match array.indexed_iter().find(|(_, x)| !x.is_finite()) {
        Some(((row, column), x)) => Err(Error::NonFinite { argument, found: x.to_string(), row, column }),
        None => Ok(()),
    }
}

/// Rows of zeros after those of an output by token.
pub(crate) fn extended<T: Float>(value: Array2<T>, rows: usize) -> Result<Array2<T>, Error> {
    let (known, width) = value.dim();
    if known >= rows {
        return Ok(value);
    }
    let mut data = buffer::with_capacity(buffer::size(&[rows, width])?)?;
    data.extend(value.iter().copied());
    data.resize(rows * width, T::zero());
    matrix(data, rows, width)
}
