//! Attention and its vector-Jacobian product.

use attngrad::exact::{attention_vjp, loss_gradient};
use attngrad::reference::{self, Reference};
use attngrad::{Float, Heads, Level, Options, Wrt, attention};
use ndarray::Array2;

use crate::data::{Case, Family, Rng, Shape};
use crate::ratio::{BAR, absolute, assert_gradient, floor, growth, ratio};

const SHAPES: [(usize, usize, usize, usize); 6] =
    [(1, 1, 1, 1), (33, 50, 8, 5), (50, 33, 5, 8), (130, 250, 3, 2), (7, 0, 2, 3), (4, 6, 0, 2)];

/// Query, key, value and incoming gradient as a problem: X and Y are identities, and E is chosen so that c = dout.
struct Head<T> {
    case: Case<T>,
    dout: Array2<T>,
}

impl<T: Float> Head<T> {
    fn new((n, m, d, dv): (usize, usize, usize, usize), family: Family, is_causal: bool) -> Self {
        let shape = Shape { n, m, d1: d, d2: d, d3: dv, dv, pair: None };
        let mut case = Case::<T>::new(shape, family, is_causal, 3);
        (case.X, case.Y) = (Array2::eye(d), Array2::eye(dv));
        Head { case, dout: Rng::new(4).matrix(n, dv) }
    }

    fn heads(&self) -> Heads<'_, T> {
        let Case { A1, A2, A3, .. } = &self.case;
        let heads = Heads::new(A1.view(), A2.view(), A3.view()).expect("the shapes fit");
        heads.with_scale(self.case.scale).with_causal(self.case.is_causal)
    }

    /// The reference whose residual is dout.
    fn reference(&self) -> Reference {
        let mut case = self.case.clone();
        case.E = (reference::attention(&self.heads()) - self.dout.mapv(T::widen)).mapv(T::narrow);
        Reference::new(&case.problem())
    }

    fn pull_back(&self, dout: &Array2<T>, level: Level) -> [Array2<T>; 3] {
        let options = Options { level: Some(level), ..Options::default() };
        let result = attention_vjp(&self.heads(), dout.view(), &options, None).expect("a regular head");
        for (gradient, rounding) in [&result.query, &result.key, &result.value] {
            assert!(*rounding >= 0.0, "rounding {rounding} of {:?}", gradient.dim());
        }
        [result.query.0, result.key.0, result.value.0]
    }
}

fn check<T: Float>(level: Level) {
    for shape in SHAPES {
        for family in [Family::Uniform, Family::LargeLogits, Family::HugeLogits] {
            for is_causal in [false, true] {
                let head = Head::<T>::new(shape, family, is_causal);
                let what = format!("{shape:?}, {family:?}, causal {is_causal}, {}, {}", T::NAME, level.name());
                let reference = head.reference();
                let absolute = absolute(&reference);
                let (growth, floor) = (growth(&reference), floor::<T>(&absolute));
                let options = Options { level: Some(level), ..Options::default() };
                let output = attention(&head.heads(), &options, None).expect("a regular head");
                let sums = absolute.f.dot(&absolute.A3);
                let worst = ratio(&output, &reference::attention(&head.heads()), &sums, growth, floor);
                assert!(worst <= BAR, "the output of {what}: ratio {worst}");
                let want = reference::attention_vjp(&head.heads(), head.dout.view());
                let got = head.pull_back(&head.dout, level);
                for ((got, want), wrt) in got.iter().zip(&want).zip([Wrt::A1, Wrt::A2, Wrt::A3]) {
                    let sums = absolute.gradient(wrt).expect("always there");
                    let worst = ratio(got, want, &sums, growth, floor);
                    assert!(worst <= BAR, "{} of {what}: ratio {worst}", wrt.name());
                }
            }
        }
    }
}

#[test]
fn agrees_with_the_reference() {
    for level in Level::available() {
        check::<f32>(level);
        check::<f64>(level);
    }
}

/// dL/dA1, dL/dA2 and dL/dA3 of the problem with identities are the product with c.
#[test]
fn is_the_loss_gradient_with_identities() {
    let head = Head::<f64>::new((40, 30, 6, 6), Family::Uniform, false);
    let problem = head.case.problem();
    let result = loss_gradient(&problem, &[Wrt::A1, Wrt::A2, Wrt::A3], &Options::default(), None).expect("regular");
    let reference = Reference::new(&problem);
    let level = Level::available().pop().expect("the baseline is always there");
    let pulled = head.pull_back(&reference.c, level);
    for (gradient, pulled) in result.gradients.iter().zip(&pulled) {
        assert_gradient(&gradient.value, &reference, gradient.wrt, "the loss gradient");
        assert_gradient(pulled, &reference, gradient.wrt, "the product with c");
    }
}

/// Powers of two and signs pass through bit for bit, sums to rounding, zero to zero.
#[test]
fn is_linear() {
    let head = Head::<f64>::new((40, 30, 5, 6), Family::Uniform, true);
    let other = Rng::new(5).matrix::<f64>(40, 6);
    for level in Level::available() {
        let one = head.pull_back(&head.dout, level);
        let two = head.pull_back(&other, level);
        let sum = head.pull_back(&(&head.dout + &other), level);
        let scaled = head.pull_back(&head.dout.mapv(|x| -8.0 * x), level);
        let zero = head.pull_back(&Array2::zeros((40, 6)), level);
        let reference = head.reference();
        let sums = absolute(&reference);
        for (k, wrt) in [Wrt::A1, Wrt::A2, Wrt::A3].into_iter().enumerate() {
            assert_eq!(scaled[k], one[k].mapv(|x| -8.0 * x), "{}", wrt.name());
            assert!(zero[k].iter().all(|&x| x == 0.0));
            // Three results, each with the error of its own terms; those of dout bound them but for this factor.
            const TERMS: f64 = 6.0;
            let sums = TERMS * sums.gradient(wrt).expect("always there");
            let worst = ratio(&sum[k], &(&one[k] + &two[k]), &sums, growth(&reference), 0.0);
            assert!(worst <= BAR, "{}: ratio {worst}", wrt.name());
        }
    }
}

/// Keys and values that no query sees are not read: their numbers may be anything.
#[test]
fn hidden_keys_do_not_matter() {
    let mut head = Head::<f32>::new((20, 50, 4, 3), Family::Uniform, true);
    for level in Level::available() {
        let before = head.pull_back(&head.dout, level);
        for i in 20..50 {
            head.case.A2.row_mut(i).fill(0.25 * i as f32 / 50.0);
            head.case.A3.row_mut(i).fill(0.5);
        }
        let after = head.pull_back(&head.dout, level);
        assert_eq!(before[0], after[0]);
        assert!(after[1].rows().into_iter().skip(20).flatten().all(|&x| x == 0.0));
        assert!(after[2].rows().into_iter().skip(20).flatten().all(|&x| x == 0.0));
    }
}
