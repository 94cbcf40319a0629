//! How many rows a sample must hold, from norms alone: asked before anything is spent on moments.

use super::sizes::{Sizes, least_share, spiked, stand_out};
use super::stages::Stages;
use crate::error::Error;
use crate::float::Float;
use crate::problem::{Problem, Wrt};

/// Rows that a uniform sample must hold to see enough of those that an error is made of; nothing where one of them weighs by
/// itself and cannot be computed apart. Time O(n d (d1 + dv)).
pub fn least_samples<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    degree: usize,
    stages: &mut Stages<'_>,
) -> Result<Option<usize>, Error> {
    let mut sizes = Sizes::new(problem, degree, stages)?;
    let n = problem.A1.nrows();
    if problem.is_causal {
        if spiked(&sizes.weighted) {
            return Ok(None);
        }
        sizes.mask(problem.A2.nrows());
    } else {
        let apart = stand_out(&sizes, wrt, n)?;
        sizes.without(&apart);
    }
    let share = least_share(&sizes.weighted).max(least_share(&sizes.own));
    // NaN, of sizes that are infinite, takes them all.
    Ok(Some(if share.is_nan() { n } else { n.min((share * n as f64).ceil() as usize) }))
}
