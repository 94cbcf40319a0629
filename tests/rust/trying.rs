//! The price of trying: what `auto` spends on looks and tries that come to nothing is bounded before it is spent.

use attngrad::plan::{Asked, Kind, Method, Norm, Request, Solution, Start, Wanted, solve};
use attngrad::{Float, Options, Problem, Weights, Wrt};
use ndarray::{Array2, Axis};

use crate::data::Rng;

/// The most that may be lost, over the exact passes.
const MOST: f64 = 0.25;

/// Upper limit of the work that most requests lose, over the exact passes, and the share of such requests: among the
/// shortest that anything is tried for, where looks weigh most.
const USUAL: f64 = 0.05;
const USUALLY: f64 = 0.8;

const REQUESTS: u64 = 96;

/// One request and the sizes of its data.
#[derive(Debug)]
struct Drawn {
    n: usize,
    d: usize,
    wrt: Vec<Wrt>,
    is_causal: bool,
    is_single: bool,
    /// Bound of the entries of A1 and A2.
    entries: f64,
    family: Family,
    target: Target,
    request: Request,
}

#[derive(Debug, Clone, Copy)]
enum Family {
    Uniform,
    /// Some rows are longer than others.
    LongTails,
    /// Rows around a few centres.
    Clusters,
}

#[derive(Debug, Clone, Copy)]
enum Target {
    Uniform,
    /// Nothing but noise is left of the residual.
    NearTheOutput,
    /// A few rows hold most of the squares.
    HeavyTails,
}

impl Drawn {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut between = |low: f64, high: f64| {
            let share = 0.5 * (rng.uniform() + 1.0);
            low * (high / low).powf(share)
        };
        let (n, d) = (between(6000.0, 16000.0) as usize, between(2.0, 4.99) as usize);
        let (entries, rtol) = (between(0.2, 2.0), between(1e-4, 0.3));
        let mut one = |of: usize| (between(1.0, of as f64 + 0.999) as usize).min(of) - 1;
        let outputs: [&[Wrt]; 7] =
            [&[Wrt::X], &[Wrt::Y], &[Wrt::A1], &[Wrt::WQ], &[Wrt::WK], &[Wrt::X, Wrt::Y], &[Wrt::X, Wrt::A1]];
        let asked = [Asked::Any, Asked::Estimated, Asked::Statistical, Asked::Rigorous][one(4)];
        Drawn {
            n,
            d,
            wrt: outputs[one(outputs.len())].to_vec(),
            is_causal: one(4) == 3,
            is_single: one(2) == 1,
            entries,
            family: [Family::Uniform, Family::LongTails, Family::Clusters][one(3)],
            target: [Target::Uniform, Target::NearTheOutput, Target::HeavyTails][one(3)],
            request: Request {
                wanted: Wanted::Auto,
                rtol: Some(rtol),
                atol: 0.0,
                norm: if one(2) == 1 { Norm::Largest } else { Norm::Frobenius },
                asked,
                seed: Some(seed),
                ..Request::default()
            },
        }
    }

    fn side(&self, rng: &mut Rng) -> Array2<f64> {
        let mut rows: Array2<f64> = rng.matrix(self.n, self.d);
        match self.family {
            Family::Uniform => {}
            Family::LongTails => rows.rows_mut().into_iter().for_each(|mut row| row *= 0.5 / (1.01 - rng.uniform())),
            Family::Clusters => {
                let centres: Array2<f64> = rng.matrix(16, self.d);
                for mut row in rows.rows_mut() {
                    row *= 0.3;
                    row += &centres.row((rng.next() % 16) as usize);
                }
            }
        }
        rows
    }

    fn run<T: Float>(&self, seed: u64) -> Solution<T> {
        let mut rng = Rng::new(seed ^ 0xDA7A);
        let narrow = |array: Array2<f64>| array.mapv(T::narrow);
        let [A1, A2] = [(); 2].map(|()| narrow(self.entries * self.side(&mut rng)));
        let A3 = self.side(&mut rng);
        let unit: Array2<T> = Array2::eye(self.d);
        let mut E: Array2<f64> = rng.matrix(self.n, self.d);
        match self.target {
            Target::Uniform => {}
            Target::HeavyTails => {
                E.rows_mut().into_iter().for_each(|mut row| row /= 1.001 - rng.uniform());
            }
            // Keys see about alike: the output is near the mean of the values.
            Target::NearTheOutput => {
                E *= 1e-2;
                E += &A3.mean_axis(Axis(0)).expect("rows");
            }
        }
        let (A3, E) = (narrow(A3), narrow(E));
        let pair = self.wrt.iter().any(|wrt| matches!(wrt, Wrt::WQ | Wrt::WK));
        let weights = if pair { Weights::Pair(unit.view(), unit.view()) } else { Weights::Product(unit.view()) };
        let problem = Problem::new(A1.view(), A2.view(), A3.view(), weights, unit.view(), E.view())
            .expect("shapes that fit")
            .with_causal(self.is_causal);
        solve(&problem, &self.wrt, &self.request, Start::Fresh, None).expect("a result")
    }
}

/// Counted in operations: no clock has a say.
#[test]
fn what_comes_to_nothing_costs_little() {
    let (mut usual, mut approximated, mut gave_up) = (0, 0, 0);
    for seed in 0..REQUESTS {
        let drawn = Drawn::new(seed);
        let (decision, kinds) =
            if drawn.is_single { outcome(drawn.run::<f32>(seed)) } else { outcome(drawn.run::<f64>(seed)) };
        let lost = decision.spent / decision.operations;
        assert!(lost <= MOST, "{lost:.3} of the exact passes were lost: {}; {drawn:?}", decision.reason);
        usual += u64::from(lost <= USUAL);
        approximated += u64::from(decision.method == Method::Polynomial);
        gave_up += u64::from(lost > 0.0);
        assert!(decision.method == Method::Polynomial || kinds.iter().all(|kind| *kind == Kind::Exact));
    }
    assert!(usual as f64 >= USUALLY * REQUESTS as f64, "only {usual} of {REQUESTS} lost at most {USUAL}");
    // So that there is something that could have been lost.
    assert!(approximated >= REQUESTS / 10 && gave_up >= REQUESTS / 10, "{approximated} and {gave_up} of {REQUESTS}");
}

fn outcome<T>(planned: Solution<T>) -> (attngrad::plan::Decision, Vec<Kind>) {
    let kinds = planned.gradients.iter().map(|one| one.certificate.kind).collect();
    (planned.decision, kinds)
}

/// Where terms cancel, the rounding of squares hides the error that a high degree leaves: a sample would know nothing
/// of it, and the moments be lost.
#[test]
fn the_smallest_error_of_values_is_seen() {
    let (n, d) = (2000, 3);
    let mut rng = Rng::new(7);
    let [A1, A2, A3, E]: [Array2<f64>; 4] = [(); 4].map(|()| rng.matrix(n, d));
    let (A1, A2, unit) = (0.4 * A1, 0.4 * A2, Array2::eye(d));
    let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(unit.view()), unit.view(), E.view())
        .expect("shapes that fit");
    let exact = attngrad::exact::loss_gradient(&problem, &[Wrt::Y], &Options::default(), None).expect("a gradient");
    for degree in [2, 5, 7] {
        let request = Request {
            wanted: Wanted::Polynomial(Some(degree)),
            rtol: None,
            atol: 0.0,
            norm: Norm::Frobenius,
            asked: Asked::Estimated,
            seed: Some(1),
            ..Request::default()
        };
        let start = Start::Sized { degree, samples: 128 };
        let planned = solve(&problem, &[Wrt::Y], &request, start, None);
        let one = planned.expect("a result").gradients.remove(0);
        assert_eq!(one.certificate.kind, Kind::Estimated, "degree {degree}");
        let error = Norm::Frobenius.of(&(&one.value - &exact.gradients[0].value));
        let rounding = exact.gradients[0].rounding;
        assert!(error <= one.certificate.absolute + rounding, "degree {degree}: {error:e}, {:?}", one.certificate);
        // 128 of 2000 rows, with their safety; cancelled terms leave thousands of times the error at the higher
        // degrees.
        let most = 40.0 * error + rounding;
        assert!(one.certificate.sampling <= most, "degree {degree}: {:?} of {error:e}", one.certificate);
    }
}
