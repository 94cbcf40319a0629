//! The request to the planner, the judge of it, and the certificate of an error.

use std::num::NonZeroUsize;
use std::time::Duration;

use ndarray::Array2;

use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::{largest, norm};
use crate::names::named;
use crate::options::Options;
use crate::polynomial::MAX_DEGREE;

/// The least kind of certificate that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Asked {
    /// Whatever the method brings along.
    Any,
    /// A standard error with a safety factor.
    Estimated,
    /// A stated confidence that a rigorous cap on every row backs.
    Statistical,
    /// A bound, rounding included.
    Rigorous,
}

named!(Asked, "certificate":
    Any = "any", Estimated = "estimated", Statistical = "statistical", Rigorous = "rigorous");

/// The norm in which errors are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Norm {
    /// Frobenius.
    Frobenius,
    /// Largest entry; bounds of the Frobenius norm serve for it.
    Largest,
}

named!(Norm, "norm": Frobenius = "fro", Largest = "max");

impl Norm {
    /// Of an array.
    pub fn of<T: Float>(self, array: &Array2<T>) -> f64 {
        match (self, array.as_slice()) {
            (Norm::Frobenius, Some(entries)) => norm(entries),
            _ => largest(array.iter().map(|x| x.widen().abs())),
        }
    }
}

/// The method wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wanted {
    /// The cheapest that reaches the tolerance.
    Auto,
    /// The exact passes.
    Exact,
    /// The polynomial method, of a given degree or the cheapest that reaches the tolerance.
    Polynomial(Option<usize>),
}

/// The request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request {
    /// The method.
    pub wanted: Wanted,
    /// ‖ĝ − g‖ ≤ rtol ‖g‖ + atol for each output; without it, nothing is required.
    pub rtol: Option<f64>,
    /// See `rtol`.
    pub atol: f64,
    /// The norm of both.
    pub norm: Norm,
    /// The least kind of certificate.
    pub asked: Asked,
    /// B of the paper's problem: see [`Request::bound()`].
    pub bound: Option<f64>,
    /// Rows are drawn from the sequence that belongs to it; without one, to a hash of the problem.
    pub seed: Option<u64>,
    /// Threads, time and memory: nothing of it changes what is computed but the last bits, where a level is named.
    pub options: Options,
}

impl Default for Request {
    /// The cheapest method and no tolerance: the exact gradient, with whatever certificate it has.
    fn default() -> Self {
        Request {
            wanted: Wanted::Auto,
            rtol: None,
            atol: 0.0,
            norm: Norm::Frobenius,
            asked: Asked::Any,
            bound: None,
            seed: None,
            options: Options::default(),
        }
    }
}

/// Each of these asks for one thing more.
///
/// ```
/// use attngrad::Request;
/// use attngrad::plan::{Asked, Wanted};
///
/// let request = Request::default().rtol(1e-3).certificate(Asked::Statistical).seed(7).threads(2);
/// assert_eq!((request.rtol, request.asked, request.seed), (Some(1e-3), Asked::Statistical, Some(7)));
/// assert_eq!(Request::default().degree(2).wanted, Wanted::Polynomial(Some(2)));
/// ```
impl Request {
    /// The method; without a call of it, the cheapest that reaches the tolerance.
    #[must_use]
    pub fn method(self, wanted: Wanted) -> Self {
        Request { wanted, ..self }
    }

    /// The polynomial method of this degree.
    #[must_use]
    pub fn degree(self, degree: usize) -> Self {
        self.method(Wanted::Polynomial(Some(degree)))
    }

    /// An error of at most this part of the norm of each gradient.
    #[must_use]
    pub fn rtol(self, rtol: f64) -> Self {
        Request { rtol: Some(rtol), ..self }
    }

    /// An error of at most this, beside that of [`Request::rtol`] or alone.
    #[must_use]
    pub fn atol(self, atol: f64) -> Self {
        Request { atol, ..self }
    }

    /// The norm of the tolerance and of certificates.
    #[must_use]
    pub fn norm(self, norm: Norm) -> Self {
        Request { norm, ..self }
    }

    /// The least kind of certificate that will do.
    #[must_use]
    pub fn certificate(self, asked: Asked) -> Self {
        Request { asked, ..self }
    }

    /// The seed of sampled rows, in place of a hash of the problem.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Request { seed: Some(seed), ..self }
    }

    /// Threads, time and memory.
    #[must_use]
    pub fn options(self, options: Options) -> Self {
        Request { options, ..self }
    }

    /// Threads that work at once; 0 is all that the process may use.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        self.options(Options { threads: NonZeroUsize::new(threads), ..self.options })
    }

    /// Longest time to work.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        self.options(Options { timeout: Some(timeout), ..self.options })
    }
}

/// Unit roundoffs below which a tolerance is out of reach whatever the data: the gradient itself is rounded to the
/// precision, and the sums behind it add a few more.
const LEAST_ROUNDINGS: f64 = 4.0;

impl Request {
    /// Whether there is a tolerance at all: without one nothing is required of an approximation.
    pub fn tolerates(&self) -> bool {
        self.rtol.is_some() || self.atol > 0.0
    }

    /// Whether nothing but rounding is allowed.
    pub fn is_exact(&self) -> bool {
        self.rtol.unwrap_or(0.0) == 0.0 && self.atol == 0.0
    }

    /// The error that is allowed for a result of norm `size` with an error of at most `absolute`: ‖g‖ may be smaller by
    /// that.
    pub fn allowed(&self, absolute: f64, size: f64) -> f64 {
        let rtol = self.rtol.unwrap_or(0.0);
        let truth = (size - absolute).max(0.0);
        // 0 · ∞ is not known.
        if rtol == 0.0 { self.atol } else { self.atol + rtol * truth }
    }

    /// Whether the gradient is that of an estimate, with a bound that holds for it: for a stronger kind of a degree
    /// that was named. Where the tolerance decides, a stronger kind takes the degree that reaches it, which is better
    /// by far.
    pub fn borrows(&self) -> bool {
        matches!(self.asked, Asked::Statistical | Asked::Rigorous) && matches!(self.wanted, Wanted::Polynomial(_))
    }

    /// The same without a tolerance, against which a loss is checked.
    pub fn without_tolerance(&self) -> Self {
        Request { rtol: None, atol: 0.0, ..*self }
    }

    /// Holds an error of at most `absolute` of a result of norm `size` against the tolerance: the only judge there is.
    pub fn judge(&self, kind: Kind, absolute: f64, size: f64) -> Verdict {
        // NaN is not known, hence infinite.
        let absolute = if absolute.is_nan() { f64::INFINITY } else { absolute };
        let truth = size - absolute;
        let over = |error: f64| match error {
            error if error <= 0.0 => 0.0,
            error if truth > 0.0 && absolute.is_finite() => error / truth,
            _ => f64::INFINITY,
        };
        let known = absolute.is_finite() && !size.is_nan();
        let reached = match (self.is_exact(), kind) {
            (true, Kind::Exact) => Some(known),
            (true, _) if self.rtol.is_none() => None,
            (true, _) => Some(absolute == 0.0),
            _ => Some(known && absolute <= self.allowed(absolute, size)),
        };
        Verdict { relative: over(absolute), reached, best_rtol: over(absolute - self.atol) }
    }

    /// The verdict in words.
    pub fn message(&self, kind: Kind, absolute: f64, size: f64, reached: Option<bool>) -> String {
        let kind = kind.name();
        let asked = match (self.rtol, self.atol) {
            (Some(rtol), 0.0) => format!("rtol {}", short(rtol)),
            (None | Some(0.0), atol) => format!("atol {}", short(atol)),
            (Some(rtol), atol) => format!("rtol {} with atol {}", short(rtol), short(atol)),
        };
        match reached {
            None => format!("{kind}; no tolerance was asked for"),
            Some(true) if self.is_exact() => "exact to rounding".into(),
            Some(true) => format!("{kind}; {asked} reached"),
            Some(false) if !absolute.is_finite() => format!("{kind}; the error could not be bounded"),
            Some(false) if self.is_exact() => format!("{kind}; nothing but rounding is allowed"),
            Some(false) => format!(
                "{kind}; {asked} not reached: the error is at most {absolute:.1e}, where {:.1e} is allowed",
                self.allowed(absolute, size)
            ),
        }
    }

    /// Refuses numbers that mean nothing.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<(), Error> {
        for (option, value) in [("rtol", self.rtol), ("atol", Some(self.atol)), ("B", self.bound)] {
            let value = value.unwrap_or(0.0);
            if !(value >= 0.0 && value.is_finite()) {
                let wanted = "a finite number >= 0".into();
                return Err(Error::Option { option, found: value.to_string(), wanted });
            }
        }
        if let Wanted::Polynomial(Some(degree)) = self.wanted {
            check_degree(degree)?;
        }
        if self.wanted == Wanted::Polynomial(None) && self.is_exact() {
            let wanted = "a degree, or rtol > 0 or atol > 0 to choose it by".into();
            return Err(Error::Option { option: "degree", found: "none for the polynomial method".into(), wanted });
        }
        Ok(())
    }

    /// The same, and refuses a tolerance that no data could reach in the precision, or with the method that was named.
    ///
    /// # Errors
    /// [`Error::Option`], [`Error::Tolerance`].
    pub fn check_in<T: Float>(&self) -> Result<(), Error> {
        self.check()?;
        let least = LEAST_ROUNDINGS * T::UNIT_ROUNDOFF;
        let rtol = self.rtol.filter(|_| self.atol == 0.0);
        let limit = match (rtol, self.wanted) {
            (Some(0.0), Wanted::Polynomial(_)) => "exact, where an approximation was asked for by name",
            (Some(rtol), _) if rtol > 0.0 && rtol < least => "below what rounding leaves of any gradient",
            _ => return Ok(()),
        };
        Err(Error::Tolerance { found: short(rtol.unwrap_or(0.0)), limit, precision: T::NAME, least })
    }
}

/// A tolerance as a user would write it.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-3..1e4).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}

/// An error held against a tolerance.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// The error over the norm of the truth, which may be smaller than that of the result by the error.
    pub relative: f64,
    /// Whether the tolerance was reached; nothing where none was asked for of an approximation.
    pub reached: Option<bool>,
    /// The least `rtol` that would be, beside the same `atol`.
    pub best_rtol: f64,
}

/// Refuses a degree that no polynomial has.
pub(super) fn check_degree(degree: usize) -> Result<(), Error> {
    if degree <= MAX_DEGREE {
        return Ok(());
    }
    Err(Error::Option {
        option: "degree",
        found: degree.to_string(),
        wanted: format!("an integer from 0 to {MAX_DEGREE}"),
    })
}

/// The kind of evidence for a certificate; kinds are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Rounding only.
    Exact,
    /// A bound that always holds.
    Rigorous,
    /// One that holds at a stated confidence.
    Statistical,
    /// A standard error with a safety factor.
    Estimated,
}

named!(Kind, "kind": Exact = "exact", Rigorous = "rigorous", Statistical = "statistical", Estimated = "estimated");

/// The error of one output.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// The kind of evidence for it.
    pub kind: Kind,
    /// The error is at most this: the sum of the terms below.
    pub absolute: f64,
    /// Of the polynomial in the place of exp.
    pub truncation: f64,
    /// Of the estimate from sampled rows instead.
    pub sampling: f64,
    /// Of the arithmetic.
    pub rounding: f64,
    /// Of a statement of kind [`Kind::Statistical`].
    pub confidence: Option<f64>,
    /// Whether the tolerance was reached; nothing where none was asked for of an approximation.
    pub reached: Option<bool>,
    /// The error over the norm of the truth at its least.
    pub relative: f64,
    /// The least `rtol` that is reached beside the `atol` asked for; infinite where none is.
    pub best_rtol: f64,
    /// Norm of the result.
    pub size: f64,
}

impl Certificate {
    /// That of a result with no error but rounding.
    pub fn exact(request: &Request, rounding: f64, size: f64) -> Self {
        Certificate::new(request, Kind::Exact, [0.0, 0.0, rounding], size)
    }

    /// From the terms truncation, sampling and rounding, for a result of norm `size`; NaN is not known, hence infinite.
    pub fn new(request: &Request, kind: Kind, terms: [f64; 3], size: f64) -> Self {
        let [truncation, sampling, rounding] = terms.map(|term| if term.is_nan() { f64::INFINITY } else { term });
        let absolute = truncation + sampling + rounding;
        let Verdict { relative, reached, best_rtol } = request.judge(kind, absolute, size);
        Certificate {
            kind,
            absolute,
            truncation,
            sampling,
            rounding,
            confidence: None,
            reached,
            relative,
            best_rtol,
            size,
        }
    }

    /// Its verdict in words.
    pub fn message(&self, request: &Request) -> String {
        request.message(self.kind, self.absolute, self.size, self.reached)
    }
}
