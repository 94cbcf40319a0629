//! The paper's problem, its shapes checked once at the door.

use ndarray::ArrayView2;

use crate::error::Error;
use crate::float::Float;

/// The weights of the logits: X itself, or the pair that a transformer has, with X = W_Q W_Kᵀ.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a, T> {
    /// X, (d1, d2).
    Product(ArrayView2<'a, T>),
    /// W_Q, (d1, d), and W_K, (d2, d).
    Pair(ArrayView2<'a, T>, ArrayView2<'a, T>),
}

/// An input with respect to which the loss is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Wrt {
    /// Every input, in the order of the problem.
    pub const ALL: [Wrt; 8] = [Wrt::X, Wrt::WQ, Wrt::WK, Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3, Wrt::A];

    /// Its name in the Python API.
    pub fn name(self) -> &'static str {
        match self {
            Wrt::X => "X",
            Wrt::WQ => "W_Q",
            Wrt::WK => "W_K",
            Wrt::Y => "Y",
            Wrt::A1 => "A1",
            Wrt::A2 => "A2",
            Wrt::A3 => "A3",
            Wrt::A => "A",
        }
    }

    /// The input of that name.
    ///
    /// # Errors
    /// [`Error::Option`] with the names there are.
    pub fn parse(name: &str) -> Result<Wrt, Error> {
        Wrt::ALL.into_iter().find(|wrt| wrt.name() == name).ok_or_else(|| Error::Option {
            option: "wrt",
            found: format!("{name:?}"),
            wanted: format!("one of {}", Wrt::ALL.map(Wrt::name).join(", ")),
        })
    }
}

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
    /// [`Error::Shape`] naming the first array that does not fit those before it.
    pub fn new(
        A1: ArrayView2<'a, T>,
        A2: ArrayView2<'a, T>,
        A3: ArrayView2<'a, T>,
        weights: Weights<'a, T>,
        Y: ArrayView2<'a, T>,
        E: ArrayView2<'a, T>,
    ) -> Result<Self, Error> {
        let rows = |argument, array: &ArrayView2<'_, T>, wanted: usize, why: &str| {
            check(argument, array, array.nrows() == wanted, format!("{why}, so {argument} needs {wanted} rows"))
        };
        let columns = |argument, array: &ArrayView2<'_, T>, wanted: usize, why: &str| {
            check(argument, array, array.ncols() == wanted, format!("{why}, so {argument} needs {wanted} columns"))
        };
        match &weights {
            Weights::Product(X) => {
                rows("X", X, A1.ncols(), "A1 has that many columns")?;
                columns("X", X, A2.ncols(), "A2 has that many columns")?;
            }
            Weights::Pair(W_Q, W_K) => {
                rows("W_Q", W_Q, A1.ncols(), "A1 has that many columns")?;
                rows("W_K", W_K, A2.ncols(), "A2 has that many columns")?;
                columns("W_K", W_K, W_Q.ncols(), "W_Q has that many columns")?;
            }
        }
        rows("A3", &A3, A2.nrows(), "A2 has that many rows")?;
        rows("Y", &Y, A3.ncols(), "A3 has that many columns")?;
        rows("E", &E, A1.nrows(), "A1 has that many rows")?;
        columns("E", &E, Y.ncols(), "Y has that many columns")?;
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

    /// The same problem where the rows of E are c itself, dL/do given from outside, and no target: what is differentiated is
    /// then ⟨E, o⟩, and there is no loss (docs/math.md, equation 30).
    #[must_use]
    pub fn with_incoming(self) -> Self {
        Problem { is_target: false, ..self }
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

    /// Whether `wrt` can be asked of this problem.
    ///
    /// # Errors
    /// [`Error::Option`] for X of a pair, for W_Q and W_K of a product, for A of inputs of different shapes.
    pub(crate) fn check(&self, wrt: Wrt) -> Result<(), Error> {
        let pair = matches!(self.weights, Weights::Pair(..));
        let same = self.A1.dim() == self.A2.dim() && self.A2.dim() == self.A3.dim();
        let wanted = match wrt {
            Wrt::X if pair => "W_Q or W_K, because X is given as a pair",
            Wrt::WQ | Wrt::WK if !pair => "X, or X given as a pair (W_Q, W_K)",
            Wrt::A if !same => "A1, A2 or A3, because they are not one array",
            _ => return Ok(()),
        };
        Err(Error::Option { option: "wrt", found: format!("{:?}", wrt.name()), wanted: wanted.into() })
    }
}

fn check<T>(argument: &'static str, array: &ArrayView2<'_, T>, fits: bool, wanted: String) -> Result<(), Error> {
    if fits { Ok(()) } else { Err(Error::Shape { argument, found: array.shape().to_vec(), wanted }) }
}
