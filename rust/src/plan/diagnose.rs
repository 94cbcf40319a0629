//! Statistics of queries and keys, and the decisions of the planner for some accuracies.

use ndarray::{Array2, ArrayView2};

use super::decision::{Decision, Method};
use super::diagnosis::{Diagnosis, Prediction, Regime, general};
use super::guard::foresee;
use super::request::Request;
use super::stages::Stages;
use crate::error::Error;
use crate::features::LogitSample;
use crate::float::{Float, compiled};
use crate::linalg::norms::largest;
use crate::linalg::products::{matrix, product};
use crate::options::Options;
use crate::polynomial::Kind;
use crate::problem::{Problem, Weights, Wrt, check_scale};
use crate::runtime::pool::{Run, Watch};

/// The accuracies that are looked into, from rough to fine.
pub const TOLERANCES: [f64; 3] = [1e-1, 1e-2, 1e-3];

/// That of the three by which data are called near-linear or not.
const DECIDING: f64 = TOLERANCES[1];

/// Degrees that are tried on the sampled logits; the count of features of more is out of reach.
const LARGEST_DEGREE: usize = 10;

/// Logits over a wider range than this are near no polynomial of such a degree.
const WIDEST_RANGE: f64 = 40.0;

/// Relative rounding of the attention weights from which the numbers themselves are the trouble.
const ROUNDING_TROUBLE: f64 = 1e-3;

/// Of what is left to do, a sample or a plan, and a product with the weights: for the progress bar.
const PLAN_SHARE: f64 = 0.25;
const PRODUCT_SHARE: f64 = 0.1;

/// Whether gradients of softmax(s · query keyᵀ) can be computed in near-linear time, and how: statistics, and the
/// planner's answer for dL/dX to an error of 0.1, 0.01 and 0.001 where values and target are as wide as the keys. s is
/// 1/√E unless given; `seed` is that of the sampled pairs.
///
/// Time O((n + m) E²), a fixed sample of pairs and one plan for each accuracy.
///
/// # Errors
/// Those of [`LogitSample::draw`] and of [`super::decide()`].
///
/// ```
/// use attngrad::plan::{Regime, diagnose};
/// use attngrad::Options;
/// use ndarray::Array2;
///
/// let matrix = |size: f64| Array2::from_shape_fn((20_000, 4), |(j, i)| size * ((4 * j + i + 1).pow(2) as f64).sin());
/// let small = diagnose(matrix(1.0).view(), matrix(0.9).view(), Some(0.25), 0, &Options::default(), None)?;
/// assert_eq!(small.regime, Regime::NearLinear);
/// let large = diagnose(matrix(9.0).view(), matrix(9.1).view(), Some(0.25), 0, &Options::default(), None)?;
/// assert_eq!(large.regime, Regime::Exact);
/// # Ok::<(), attngrad::Error>(())
/// ```
pub fn diagnose<T: Float>(
    query: ArrayView2<'_, T>,
    key: ArrayView2<'_, T>,
    scale: Option<f64>,
    seed: u64,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Diagnosis, Error> {
    compiled!(
        T,
        diagnose_in::<T>
            as fn(
                ArrayView2<'_, T>,
                ArrayView2<'_, T>,
                Option<f64>,
                u64,
                &Options,
                Option<Watch<'_>>,
            ) -> Result<Diagnosis, Error>
    )(query, key, scale, seed, options, watch)
}

fn diagnose_in<T: Float>(
    query: ArrayView2<'_, T>,
    key: ArrayView2<'_, T>,
    scale: Option<f64>,
    seed: u64,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Diagnosis, Error> {
    let width = query.ncols();
    let scale = scale.unwrap_or_else(|| (width.max(1) as f64).sqrt().recip());
    // First: it checks both sides against each other.
    let mut stages = Stages::new(options, watch);
    let data = Data::of(query, key, scale, seed, &mut stages)?;
    let one = Array2::<T>::eye(width);
    let problem = Problem::new(query, key, key, Weights::Product(one.view()), one.view(), query)?.with_scale(scale);
    data.diagnosed::<T>(planned(&problem, &[Wrt::X], &TOLERANCES, &mut stages)?)
}

/// The same of the queries and keys of a problem, A1 X and A2 or A1 W_Q and A2 W_K, with the decisions for the problem
/// itself, also for the accuracies `besides`.
///
/// # Errors
/// As [`diagnose`]; [`Error::Range`] where a product with the weights leaves the range of the precision.
pub fn diagnose_problem<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    besides: &[f64],
    seed: u64,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Diagnosis, Error> {
    compiled!(
        T,
        diagnose_problem_in::<T>
            as fn(&Problem<'_, T>, &[Wrt], &[f64], u64, &Options, Option<Watch<'_>>) -> Result<Diagnosis, Error>
    )(problem, wrt, besides, seed, options, watch)
}

fn diagnose_problem_in<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    besides: &[f64],
    seed: u64,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Diagnosis, Error> {
    let mut tolerances = TOLERANCES.to_vec();
    tolerances.extend(besides.iter().filter(|rtol| !TOLERANCES.contains(rtol)));
    tolerances.sort_by(|a, b| b.total_cmp(a));
    let mut stages = Stages::new(options, watch);
    let plans = planned(problem, wrt, &tolerances, &mut stages)?;
    let mut times = |rows: ArrayView2<'_, T>, weights: ArrayView2<'_, T>| {
        let made = stages.run(PRODUCT_SHARE, |options, watch| {
            let mut run = Run::new(options, watch);
            run.phase(1.0);
            product(rows, weights, 1.0, &mut run)
        });
        matrix(made?, rows.nrows(), weights.ncols())
    };
    let (query, key) = match problem.weights {
        Weights::Product(X) => (times(problem.A1, X)?, None),
        Weights::Pair(W_Q, W_K) => (times(problem.A1, W_Q)?, Some(times(problem.A2, W_K)?)),
    };
    let key = key.as_ref().map_or(problem.A2, |key| key.view());
    Data::of(query.view(), key, problem.scale, seed, &mut stages)?.diagnosed::<T>(plans)
}

/// The decision for each accuracy, in their order.
fn planned<T: Float>(
    problem: &Problem<'_, T>,
    wrt: &[Wrt],
    tolerances: &[f64],
    stages: &mut Stages<'_>,
) -> Result<Vec<(f64, Decision)>, Error> {
    let plan = |&rtol: &f64| {
        let foreseen = |options: &Options, watch: Option<Watch<'_>>| {
            foresee(problem, wrt, &Request::default().rtol(rtol).options(*options), watch)
        };
        Ok((rtol, stages.run(PLAN_SHARE, foreseen)?))
    };
    tolerances.iter().map(plan).collect()
}

/// Figures that describe queries and keys; none of them decides anything.
struct Data {
    sizes: [usize; 3],
    largest: [f64; 2],
    scale: f64,
    sample: LogitSample,
}

impl Data {
    fn of<T: Float>(
        query: ArrayView2<'_, T>,
        key: ArrayView2<'_, T>,
        scale: f64,
        seed: u64,
        stages: &mut Stages<'_>,
    ) -> Result<Self, Error> {
        check_scale(scale)?;
        let sample = stages
            .run(PLAN_SHARE, |options, watch| LogitSample::draw(query, key, scale, true, seed, options, watch))?;
        let largest = [query, key].map(|side| largest(side.iter().map(|x| x.widen().abs())));
        Ok(Data { sizes: [query.nrows(), key.nrows(), query.ncols()], largest, scale, sample })
    }

    fn diagnosed<T: Float>(self, plans: Vec<(f64, Decision)>) -> Result<Diagnosis, Error> {
        let ([queries, keys, width], [largest_query, largest_key]) = (self.sizes, self.largest);
        let bound = (self.scale.abs() * width as f64).sqrt() * (largest_query.sqrt() * largest_key.sqrt());
        let predictions = self.predictions(plans)?;
        let regime = regime(&predictions);
        let spectrum = self.sample.balance().spectrum.to_vec();
        Ok(Diagnosis {
            queries,
            keys,
            width,
            scale: self.scale,
            largest_query,
            largest_key,
            bound,
            threshold_ratio: bound / (queries.max(keys).max(2) as f64).ln().sqrt(),
            logit_bound: self.sample.bound(),
            logit_std: self.sample.spread(),
            logit_range: self.sample.range(),
            effective_rank: effective_rank(&spectrum),
            spectrum,
            findings: self.findings::<T>(&predictions),
            advice: advice(&predictions, regime),
            predictions,
            regime,
        })
    }

    /// The decision for each accuracy, with the errors of one rising sweep of degrees.
    fn predictions(&self, plans: Vec<(f64, Decision)>) -> Result<Vec<Prediction>, Error> {
        let finest = plans.iter().fold(f64::INFINITY, |least, (rtol, _)| least.min(*rtol));
        let (low, high) = self.sample.range();
        let mut errors: Vec<f64> = Vec::new();
        if high - low <= WIDEST_RANGE {
            for degree in 0..=LARGEST_DEGREE {
                errors.push(self.sample.error(&self.sample.fit(Kind::LeastSquares, degree)?));
                if errors[degree] <= finest {
                    break;
                }
            }
        }
        let prediction = |(rtol, decision)| {
            let smallest_degree = errors.iter().position(|error| *error <= rtol);
            let least = || errors.iter().copied().fold(f64::INFINITY, f64::min);
            let least_error = smallest_degree.map_or_else(least, |degree| errors[degree]);
            Prediction { rtol, decision, smallest_degree, least_error }
        };
        Ok(plans.into_iter().map(prediction).collect())
    }

    /// The three signatures of failure: rank too low, time not near-linear, magnitude.
    fn findings<T: Float>(&self, predictions: &[Prediction]) -> Vec<String> {
        let mut findings = Vec::new();
        if let Some(deciding) = at(predictions, DECIDING)
            && deciding.decision.method == Method::Exact
        {
            findings.push(match deciding.smallest_degree {
                None => format!(
                    "error too large: the rank is too low at every degree up to {LARGEST_DEGREE} (error {} at best, {} wanted)",
                    general(deciding.least_error, 2),
                    general(DECIDING, 3)
                ),
                Some(_) => format!("time is not near-linear at this size: {}", deciding.decision.reason),
            });
        }
        let (low, _) = self.sample.range();
        // Powers of a logit t < 0 cancel down to e^t from e^-t.
        let eps = 2.0 * T::UNIT_ROUNDOFF;
        let rounding = eps * (-2.0 * low).min(-eps.ln()).exp();
        if rounding > ROUNDING_TROUBLE {
            findings.push(format!(
                "numerical trouble: logits down to {} lose up to {} of a weight to rounding in a polynomial; their magnitude \
                 is the reason",
                general(low, 3),
                general(rounding.min(1.0), 1)
            ));
        }
        findings
    }
}

/// (Σ σ²)² / Σ σ⁴; 0 where all are zero.
fn effective_rank(spectrum: &[f64]) -> f64 {
    let most = largest(spectrum.iter().copied());
    let squares: Vec<f64> = spectrum.iter().map(|size| (size / most).powi(2)).collect();
    let total: f64 = squares.iter().sum();
    if most > 0.0 { total * total / squares.iter().map(|square| square * square).sum::<f64>() } else { 0.0 }
}

fn at(predictions: &[Prediction], rtol: f64) -> Option<&Prediction> {
    predictions.iter().find(|one| one.rtol == rtol)
}

/// The one that is planned near-linearly for an accuracy.
fn near(predictions: &[Prediction], rtol: f64) -> Option<&Prediction> {
    at(predictions, rtol).filter(|one| one.decision.method != Method::Exact)
}

fn regime(predictions: &[Prediction]) -> Regime {
    match (near(predictions, DECIDING), near(predictions, TOLERANCES[0])) {
        (Some(_), _) => Regime::NearLinear,
        (None, Some(_)) => Regime::Borderline,
        (None, None) => Regime::Exact,
    }
}

fn advice(predictions: &[Prediction], regime: Regime) -> String {
    let reason = at(predictions, DECIDING).map_or("", |one| &one.decision.reason);
    let does = |rtol: f64| {
        let Some(Decision { degree, features, .. }) = near(predictions, rtol).map(|one| &one.decision) else {
            return String::new();
        };
        format!("at {}, degree {degree} with {features} features does it", general(rtol, 3))
    };
    match regime {
        Regime::Exact => format!("use the exact method: {reason}"),
        Regime::NearLinear => format!("ask loss_gradient for rtol: {}", does(DECIDING)),
        Regime::Borderline => format!(
            "ask loss_gradient for rtol, or use the exact method: {}; at {}, {reason}",
            does(TOLERANCES[0]),
            general(DECIDING, 3)
        ),
    }
}
