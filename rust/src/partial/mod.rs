//! Partial states: the passes over shards of the tokens, in any number of processes and machines (docs/math.md,
//! equation 8.21).
//!
//! [`Frame`] is fixed first, from some rows of both sides. A [`KeyState`] is made of every shard of keys, and they are
//! merged; with it a [`QueryState`] of every shard of queries; with that, where outputs of the key side are wanted, a
//! [`GradientState`] of every shard of keys. [`gather`] makes the loss, the gradients and their rigorous bounds of all
//! three. A merge adds sums, maxima and counts: any split and any tree of merges give the whole to rounding, and the
//! same ones give the same bits. The size of a state does not depend on how many tokens it has seen.
//!
//! A [`SoftmaxState`] is that of the exact method: of a block of queries over some of the keys (docs/math.md, equation
//! 3.5). With all keys merged in, it pulls the gradient of the output back through one shard of keys after the other.
//!
//! `bytes` is how they travel.

mod bytes;
mod frame;
mod gradients;
mod keys;
mod queries;
mod softmax;
mod states;

use ndarray::Array2;

pub use frame::Frame;
pub use gradients::GradientState;
pub use keys::KeyState;
pub use queries::QueryState;
pub use softmax::SoftmaxState;

use crate::certificate::moments::Bound;
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::moments::Gathered;
use crate::options::Options;
use crate::plan::{Certificate, Decision, Gradient, Kind, Method, Norm, Request, Solution};
use crate::problem::Problem;
use crate::runtime::pool::{Run, Watch};

/// The loss and the gradients of all shards together, with rigorous certificates. `problem` has the widths and weights
/// of the shards and may have no rows; gradients by token have none here, as they left with their shards.
///
/// # Errors
/// [`Error::Option`] for states of another frame, for outputs of the key side without their state, where the polynomial
/// does not serve some queries, with the first of them, and for another norm than that of Frobenius;
/// [`Error::Range`], [`Error::OutOfMemory`], [`Error::Deadline`], [`Error::Cancelled`].
pub fn gather<T: Float>(
    frame: &Frame,
    problem: &Problem<'_, T>,
    (keys, queries, gradients): (&KeyState, &QueryState, &GradientState),
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    compiled!(
        T,
        gather_in::<T>
            as fn(
                &Frame,
                &Problem<'_, T>,
                (&KeyState, &QueryState, &GradientState),
                &Request,
                Option<Watch<'_>>,
            ) -> Result<Solution<T>, Error>
    )(frame, problem, (keys, queries, gradients), request, watch)
}

fn gather_in<T: Float>(
    frame: &Frame,
    problem: &Problem<'_, T>,
    (keys, queries, gradients): (&KeyState, &QueryState, &GradientState),
    request: &Request,
    watch: Option<Watch<'_>>,
) -> Result<Solution<T>, Error> {
    frame.admit(problem)?;
    queries.require(frame)?;
    gradients.require(frame)?;
    let options: &Options = &request.options;
    let refused = |option, found: String, wanted: &str| Err(Error::Option { option, found, wanted: wanted.into() });
    if request.norm != Norm::Frobenius {
        return refused("norm", request.norm.to_string(), "'fro': the largest entry is not known of shards");
    }
    if frame.needs().key_side() && gradients.rows() != keys.rows() {
        let found = format!("gradients of {} keys where there are {}", gradients.rows(), keys.rows());
        return refused("state", found, "the shards of all keys");
    }
    let polynomial = keys.polynomial(frame)?;
    if queries.sums.unsafe_rows > 0 {
        let (count, first) = (queries.sums.unsafe_rows, queries.sums.first_unsafe);
        let found = format!("{}, which does not serve {count} queries, the first of them {first}", frame.degree());
        return refused("degree", found, "another degree, or the exact method");
    }
    let run = &mut Run::new(options, watch);
    let found = polynomial.gathered(problem, &queries.sums, &gradients.sums, frame.wrt(), run)?;
    let Gathered { loss, loss_bound, gradients, sizes, steps, level } = found;
    let rigorous = |request: &Request, bound: Bound, size: f64| {
        Certificate::new(request, Kind::Rigorous, [bound.truncation, 0.0, bound.rounding], size)
    };
    let gradients = gradients.into_iter().zip(sizes);
    let gradients = gradients.map(|((wrt, value, bound), size): ((_, Array2<T>, _), f64)| Gradient {
        wrt,
        value,
        certificate: rigorous(request, bound, size),
    });
    let mut decision = Decision::new(Method::Polynomial, frame.degree(), 0);
    decision.features = frame.features();
    decision.predicted_error = frame.predicted_error();
    decision.reason = "the degree was fixed before the shards were read".into();
    Ok(Solution {
        loss,
        loss_certificate: rigorous(&request.without_tolerance(), loss_bound, loss),
        gradients: gradients.collect(),
        steps: Some(steps),
        decision,
        prepared: None,
        entries: None,
        level,
    })
}
