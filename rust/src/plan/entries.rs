//! The paper's bound B on the entries of A1 X and A2 (docs/math.md, section 12).

use super::request::{Norm, Request};
use super::stages::Stages;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::largest;
use crate::linalg::products::{product, view};
use crate::problem::{Problem, Weights};
use crate::runtime::pool::Run;

/// Roundings of a product of rows and columns, for each of its terms, that a bound leaves room for: B may have been
/// measured in the same precision.
const ROUNDINGS: f64 = 4.0;

/// The largest entries, in absolute value, of what the paper bounds by B.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Entries {
    /// Of A1 X.
    pub query: f64,
    /// Of A2.
    pub key: f64,
}

impl Entries {
    /// The least B that the problem has.
    pub fn bound(&self) -> f64 {
        self.query.max(self.key)
    }

    fn of<T: Float>(problem: &Problem<'_, T>, run: &mut Run<'_>) -> Result<Self, Error> {
        let query = match problem.weights {
            Weights::Product(X) => product(problem.A1, X, 1.0, run)?,
            Weights::Pair(W_Q, W_K) => {
                let X = product(W_Q, W_K.t(), 1.0, run)?;
                product(problem.A1, view(&X, W_Q.nrows(), W_K.nrows())?, 1.0, run)?
            }
        };
        let size = |x: &T| x.widen().abs();
        Ok(Entries { query: largest(query.iter().map(size)), key: largest(problem.A2.iter().map(size)) })
    }
}

impl Request {
    /// The bound B on the entries of A1 X and A2 in the paper's problem AAttLGC: a problem whose entries are larger is
    /// refused.
    ///
    /// ```
    /// use attngrad::ndarray::Array2;
    /// use attngrad::plan::Norm;
    /// use attngrad::{Problem, Request, Weights, Wrt, loss_gradient};
    ///
    /// let (A, one) = (Array2::from_elem((8, 2), 0.5), Array2::eye(2));
    /// let problem = Problem::new(A.view(), A.view(), A.view(), Weights::Product(one.view()), one.view(), A.view())?;
    /// let attlgc = Request::default().atol(1e-6).norm(Norm::Largest);
    /// let found = loss_gradient(&problem, &[Wrt::X], &attlgc)?;
    /// assert_eq!(found.entries.map(|entries| entries.bound()), Some(0.5));
    /// let error = loss_gradient(&problem, &[Wrt::X], &attlgc.bound(0.4)).unwrap_err();
    /// assert_eq!(error.to_string(), "B: found 0.4; expected at least 0.5, the largest entry of A1 X (of A2: 0.5)");
    /// # Ok::<(), attngrad::Error>(())
    /// ```
    #[must_use]
    pub fn bound(self, bound: f64) -> Self {
        Request { bound: Some(bound), ..self }
    }

    /// Whether it is the paper's problem: an absolute error of the largest entry, and nothing else.
    pub fn is_attlgc(&self) -> bool {
        self.norm == Norm::Largest && self.atol > 0.0 && self.rtol.unwrap_or(0.0) == 0.0
    }

    /// Measures the entries of a problem where B is given, or would be in the paper, and refuses those above B.
    ///
    /// # Errors
    /// [`Error::Option`]; [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
    pub(super) fn admit<T: Float>(
        &self,
        problem: &Problem<'_, T>,
        stages: &mut Stages<'_>,
    ) -> Result<Option<Entries>, Error> {
        // Where c comes from outside there is no loss, and no problem of the paper.
        if !problem.is_target || (self.bound.is_none() && !self.is_attlgc()) {
            return Ok(None);
        }
        let found = stages.run(0.0, |options, watch| Entries::of(problem, &mut Run::new(options, watch)))?;
        // Numbers that are none are another error, which the passes raise.
        let room = 1.0 + ROUNDINGS * (problem.A1.ncols() + 2) as f64 * T::UNIT_ROUNDOFF;
        match self.bound {
            Some(bound) if found.bound() > bound * room => Err(refused(bound, found)),
            _ => Ok(Some(found)),
        }
    }

    /// Refuses B where there is no problem of the paper: for heads of attention.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub(super) fn check_for_heads(&self) -> Result<(), Error> {
        match self.bound {
            None => Ok(()),
            Some(bound) => Err(Error::Option {
                option: "B",
                found: bound.to_string(),
                wanted: "none for heads of attention, where the paper has no such bound".into(),
            }),
        }
    }
}

fn refused(bound: f64, found: Entries) -> Error {
    let Entries { query, key } = found;
    let (largest, name, other, other_name) =
        if query >= key { (query, "A1 X", key, "A2") } else { (key, "A2", query, "A1 X") };
    Error::Option {
        option: "B",
        found: bound.to_string(),
        wanted: format!("at least {largest}, the largest entry of {name} (of {other_name}: {other})"),
    }
}
