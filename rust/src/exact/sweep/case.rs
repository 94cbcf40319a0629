//! One problem and its reference results.

use ndarray::{Array2, ArrayView2};

use crate::exact::gradient::of_seen;
use crate::exact::structure::zeros;
use crate::options::Options;
use crate::problem::{Problem, Weights, Wrt};
use crate::reference::Reference;
use crate::runtime::rng::Rng;
use crate::{Float, exact_rows};

/// Slack of [`Case::check`], in units of docs/math.md, equation (5.13).
const SLACK: f64 = 30.0;

/// Distribution of the logits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Logits {
    /// Small: no maximum is needed.
    Small,
    /// Beyond what may be exponentiated without a maximum, and near one another, so that every key counts.
    Shifted,
    /// Far apart, the running maximum rising.
    Spread,
    /// A few rows far apart: tiles with a maximum beside tiles without.
    Spikes,
}

/// The widths of a problem; `pair` is that of W_Q and W_K.
#[derive(Debug, Clone, Copy)]
pub struct Widths {
    pub d1: usize,
    pub d2: usize,
    pub d3: usize,
    pub dv: usize,
    pub pair: Option<usize>,
}

/// A problem, the truth, and the sums of absolute values that its rounding is measured by.
pub struct Case<T> {
    arrays: [Array2<T>; 5],
    /// X, or W_Q and W_K.
    weights: Vec<Array2<T>>,
    is_causal: bool,
    truth: Reference,
    sums: Reference,
    /// For messages.
    name: String,
}

impl<T: Float> Case<T> {
    pub fn new((n, m): (usize, usize), widths: Widths, is_causal: bool, logits: Logits, seed: u64) -> Self {
        let Widths { d1, d2, d3, dv, pair } = widths;
        let rng = &mut Rng::new(seed);
        let mut matrix =
            |rows, columns| Array2::from_shape_simple_fn((rows, columns), || T::narrow(2.0 * rng.unit() - 1.0));
        let mut weights = match pair {
            None => vec![matrix(d1, d2)],
            Some(d) => vec![matrix(d1, d), matrix(d2, d)],
        };
        let mut arrays = [matrix(n, d1), matrix(m, d2), matrix(m, d3), matrix(d3, dv), matrix(n, dv)];
        // A little above what needs no maximum, times the width that the scale takes out again.
        let large = T::narrow(3.0 * T::UNSHIFTED_MAX * d2 as f64);
        match logits {
            Logits::Small => {}
            Logits::Shifted => {
                // All keys have a large first coordinate in common, and all queries see it with weight one.
                weights[0].column_mut(0).fill(T::zero());
                weights[0][(0, 0)] = T::one();
                if let [_, W_K] = &mut weights[..] {
                    W_K.row_mut(0).fill(T::zero());
                    W_K.column_mut(0).fill(T::zero());
                    W_K[(0, 0)] = T::one();
                }
                arrays[0].column_mut(0).fill(T::one());
                arrays[1].column_mut(0).fill(large);
            }
            Logits::Spread => {
                for (i, mut row) in arrays[1].rows_mut().into_iter().enumerate() {
                    row.mapv_inplace(|x| x * large * T::narrow((i + 1) as f64 / m as f64));
                }
            }
            Logits::Spikes => {
                for mut row in arrays[0].rows_mut().into_iter().step_by(29) {
                    row.mapv_inplace(|x| x * large);
                }
            }
        }
        let name = format!("{n} x {m}, {widths:?}, causal {is_causal}, {logits:?}, {}", T::NAME);
        let truth = Reference::new(&problem(&arrays, &weights, is_causal));
        // Weights from here down are zero, which no relative measure forgives: an entry may lose as much of each key.
        let dropped = (T::EXP2_MIN.widen() + 1.0).exp2();
        let sums = absolute(&truth, dropped / (2.0 * T::UNIT_ROUNDOFF));
        Case { arrays, weights, is_causal, truth, sums, name }
    }

    fn problem(&self) -> Problem<'_, T> {
        problem(&self.arrays, &self.weights, self.is_causal)
    }

    /// 30 ε (1 + max |S| + log2 max(n, m)), eq. (5.13): the error allowed in an entry, in units of its sum of absolute
    /// values.
    fn slack(&self) -> f64 {
        let (n, m) = self.truth.S.dim();
        let largest = self.sums.S.iter().fold(0.0, |largest: f64, &s| largest.max(s));
        SLACK * 2.0 * T::UNIT_ROUNDOFF * (1.0 + largest + (n.max(m) as f64).log2())
    }

    /// The loss and these gradients against the truth. The passes get all keys, those too that the doors of the crate
    /// cut off because no query sees them.
    pub fn check(&self, wrt: &[Wrt], options: &Options) {
        let problem = self.problem();
        let zero = zeros(&problem, wrt).expect("room for a few answers");
        let found = of_seen(&problem, wrt, &zero, options, None).expect("a regular problem");
        let off = (found.loss - self.truth.loss).abs();
        assert!(off <= self.slack() * self.sums.loss, "{}: the loss is off by {off:e}, {options:?}", self.name);
        for gradient in &found.gradients {
            let name = gradient.wrt.name();
            let [want, sums] =
                [&self.truth, &self.sums].map(|reference| reference.gradient(gradient.wrt).expect("it was asked for"));
            self.compare(name, gradient.value.view(), &want, &sums, options);
            if self.is_causal && matches!(gradient.wrt, Wrt::A2 | Wrt::A3) {
                let unseen = gradient.value.rows().into_iter().skip(self.truth.o.nrows());
                let zero = unseen.flatten().all(|&entry| entry == T::zero());
                assert!(zero, "{}: dL/d{name} of keys that no query sees, {options:?}", self.name);
            }
        }
    }

    /// o and w of these rows against the truth.
    pub fn check_rows(&self, rows: &[usize], options: &Options) {
        let found = exact_rows(&self.problem(), rows, options, None).expect("a regular problem");
        let pick = |reference: &Reference| {
            let keys = match &reference.pair {
                None => reference.A2.clone(),
                Some((_, W_K)) => reference.A2.dot(W_K),
            };
            [reference.o.clone(), reference.p.dot(&keys)].map(|all| all.select(ndarray::Axis(0), rows))
        };
        let ([o, w], [o_sums, w_sums]) = (pick(&self.truth), pick(&self.sums));
        self.compare("row o", found.output.view(), &o, &o_sums, options);
        self.compare("row w", found.w.view(), &w, &w_sums, options);
    }

    fn compare(&self, name: &str, found: ArrayView2<'_, T>, want: &Array2<f64>, sums: &Array2<f64>, options: &Options) {
        assert_eq!(found.dim(), want.dim(), "{}: {name}", self.name);
        let slack = self.slack();
        for (at, (found, (want, sum))) in found.iter().zip(want.iter().zip(sums)).enumerate() {
            let off = (found.widen() - want).abs();
            // Written so that NaN fails.
            assert!(off <= slack * sum, "{}: {name} at {at} is {found}, not {want}; {sum}, {options:?}", self.name);
        }
    }
}

fn problem<'a, T: Float>(arrays: &'a [Array2<T>; 5], weights: &'a [Array2<T>], is_causal: bool) -> Problem<'a, T> {
    let [A1, A2, A3, Y, E] = arrays.each_ref().map(|array| array.view());
    let weights = match weights {
        [W_Q, W_K] => Weights::Pair(W_Q.view(), W_K.view()),
        [X, ..] => Weights::Product(X.view()),
        [] => unreachable!("there are weights"),
    };
    Problem::new(A1, A2, A3, weights, Y, E).expect("the shapes fit").with_causal(is_causal)
}

/// The same definitions with the absolute value of everything that is summed, (2.5) to (2.11), and `least` added to
/// each weight.
fn absolute(truth: &Reference, least: f64) -> Reference {
    let mut sums = truth.clone();
    sums.f += least;
    for array in [&mut sums.A1, &mut sums.A2, &mut sums.A3, &mut sums.X, &mut sums.Y, &mut sums.E] {
        array.mapv_inplace(f64::abs);
    }
    if let Some((W_Q, W_K)) = &mut sums.pair {
        W_Q.mapv_inplace(f64::abs);
        W_K.mapv_inplace(f64::abs);
        sums.X = W_Q.dot(&W_K.t());
    }
    sums.S = sums.scale.abs() * sums.A1.dot(&sums.X).dot(&sums.A2.t());
    sums.h = sums.A3.dot(&sums.Y);
    sums.o = sums.f.dot(&sums.h);
    sums.c = &sums.o + &sums.E;
    sums.loss = 0.5 * sums.c.iter().map(|c| c * c).sum::<f64>();
    let p1 = &sums.f * &sums.c.dot(&sums.h.t());
    let r = p1.sum_axis(ndarray::Axis(1)).insert_axis(ndarray::Axis(1));
    sums.p = p1 + &sums.f * &r;
    sums
}
