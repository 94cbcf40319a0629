//! The smallest polynomial and set of monomials that meet a tolerance on the data.

use super::balance::Balance;
use super::fit::{fit_polynomial, logit_interval};
use super::index_set::{IndexSet, approximate_count, feature_count};
use super::map::{FeatureMap, Side};
use super::options::{FeatureOptions, Size};
use super::sample::{Looks, Sample, selected};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::products::product;
use crate::options::Isa;
use crate::polynomial::{MAX_DEGREE, Polynomial};
use crate::runtime::pool::Run;
use crate::runtime::rng::Rng;

/// For what the sample of a large problem does not show. Of 596 fits with an error below 1, to heads, Gaussian,
/// Student-t and one-dimensional data, the error over all pairs was more than 1.25 times that over the sample in 2
/// (both Student-t with wide logits; 1.38 and 1.72 times).
const SAMPLING_MARGIN: f64 = 1.25;

/// An error of the polynomial below this share of the whole: a higher degree does not help.
const NEGLIGIBLE: f64 = 0.1;

/// Sets of features that are tried under a tolerance, each this many times the one before.
const GROWTH: usize = 2;

/// P, the monomials, where the logits lie, and the error of eq. (10.7).
pub(crate) struct Choice {
    pub polynomial: Polynomial,
    pub set: IndexSet,
    pub interval: (f64, f64),
    pub error: f64,
}

/// The choice for queries and keys in their coordinates.
pub(crate) fn select<T: Float>(
    options: &FeatureOptions,
    balance: &Balance,
    [query, key]: [Rows<'_, T>; 2],
    isa: Isa,
    run: &mut Run<'_>,
) -> Result<Choice, Error> {
    let width = balance.dimension();
    let size = options.size()?;
    let degrees = degrees(options, size, width)?;
    let mut rng = Rng::new(options.seed);
    let looks = Looks::new(balance, query, key, run)?;
    let sample = Sample::draw(balance, &looks, query, key, &mut rng, run)?;
    // Errors are measured on pairs that the polynomial was not fitted to.
    let check = Sample::draw(balance, &looks, query, key, &mut rng, run)?;
    let rows = [selected(query, &check.queries)?, selected(key, &check.keys)?];
    let of = |data, count| Rows { data, count, width };
    let rows = [of(&rows[0], check.queries.len()), of(&rows[1], check.keys.len())];
    let margin = if check.complete { 1.0 } else { SAMPLING_MARGIN };
    let interval = logit_interval(&sample, looks.logit_bound(balance.scale));
    let (mut best, last) = (f64::INFINITY, *degrees.end());
    let mut degree = *degrees.start();
    loop {
        let polynomial = fit_polynomial(options.kind, degree, interval, &sample)?;
        let power = polynomial.power();
        let limit = check.error(check.logits.iter().map(|&t| polynomial.eval(t)));
        let mut error = f64::INFINITY;
        for features in sizes(options, size, width, degree, limit) {
            let set = if options.anisotropic {
                IndexSet::anisotropic(balance.spectrum.as_slice().unwrap_or_default(), degree, features)?
            } else {
                IndexSet::total_degree(width, degree)?
            };
            error = measured((balance, &set, &power), rows, &check, isa, run)?;
            match size {
                Size::Degree(_) => return Ok(Choice { polynomial, set, interval, error }),
                Size::Tolerance(rtol) | Size::Both(_, rtol) if error * margin <= rtol => {
                    return Ok(Choice { polynomial, set, interval, error });
                }
                _ => {}
            }
        }
        best = best.min(error * margin);
        // A small error of the polynomial: what is left is rounding, or monomials that were left out.
        if degree == last || limit < NEGLIGIBLE * error {
            break;
        }
        degree += 1;
    }
    let rtol = size.tolerance().unwrap_or(0.0);
    let (low, high) = sample.range;
    Err(Error::Unreached {
        rtol,
        best,
        limit: format!(
            "degree {degree} with at most {} features reaches no better than {best:.2e} in {}; centred logits go from \
             {low:.3} to {high:.3}",
            options.max_features,
            T::NAME
        ),
        remedy: "allow more features or a larger rtol",
    })
}

/// The degrees to try, rising; all of them are affordable.
fn degrees(options: &FeatureOptions, size: Size, width: usize) -> Result<std::ops::RangeInclusive<usize>, Error> {
    let most = options.max_features;
    let fits = |degree: usize| feature_count(width, degree).is_some_and(|count| count <= most);
    let largest = (0..=MAX_DEGREE).rev().find(|&degree| fits(degree)).unwrap_or(0);
    match size.degree() {
        None if options.anisotropic => Ok(0..=MAX_DEGREE),
        None => Ok(0..=largest),
        Some(degree) if options.anisotropic || fits(degree) => Ok(degree..=degree),
        Some(degree) => Err(Error::Option {
            option: "degree",
            found: format!(
                "{degree}, which has {:.0} features at width {width} where max_features is {most}",
                approximate_count(width, degree)
            ),
            wanted: format!("at most {largest}, an anisotropic set, or more features allowed"),
        }),
    }
}

/// The sizes of the sets of monomials to try at one degree, rising, the last as large as allowed. `limit` is the error
/// of the polynomial itself: above the tolerance, smaller sets are no use.
fn sizes(options: &FeatureOptions, size: Size, width: usize, degree: usize, limit: f64) -> Vec<usize> {
    let largest = feature_count(width, degree).unwrap_or(usize::MAX).min(options.max_features);
    let mut sizes = vec![largest];
    if options.anisotropic && size.tolerance().is_some_and(|rtol| limit <= rtol) {
        let mut smaller = largest;
        while smaller > width + 1 {
            smaller /= GROWTH;
            sizes.push(smaller);
        }
    }
    sizes.reverse();
    sizes
}

/// The error of the features themselves, in the precision of the data.
fn measured<T: Float>(
    (balance, set, power): (&Balance, &IndexSet, &[f64]),
    [queries, keys]: [Rows<'_, T>; 2],
    sample: &Sample,
    isa: Isa,
    run: &mut Run<'_>,
) -> Result<f64, Error> {
    let (left, _) = FeatureMap::new(balance, set, power, Side::Query, false, isa)?.apply(queries, run)?;
    let (right, _) = FeatureMap::new(balance, set, power, Side::Key, false, isa)?.apply(keys, run)?;
    let product: Vec<T> = product(left.view(), right.t(), 1.0, run)?;
    Ok(sample.error(product.iter().map(|x| x.widen())))
}
