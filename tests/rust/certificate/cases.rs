//! Problems whose rows are made to be hard, and polynomials for them.

use attngrad::polynomial::{Interval, Kind, Polynomial as Exponential};
use attngrad::{Approximation, Float, Problem, Weights, Wrt};
use ndarray::{Array2, Axis};

use super::normal;
use crate::data::Rng;

/// Number of families that the rows of a matrix may be of.
const FAMILIES: u64 = 10;

fn rows(rng: &mut Rng, count: usize, width: usize) -> Array2<f64> {
    let mut matrix = Array2::from_shape_simple_fn((count, width), || normal(rng));
    let uniform = Array2::from_shape_simple_fn((count, width), || rng.uniform());
    match rng.next() % FAMILIES {
        0 | 1 => matrix = uniform,
        2 => {}
        // One direction, and one that dominates.
        3 => matrix = matrix.slice(ndarray::s![.., ..1]).dot(&uniform.slice(ndarray::s![..1, ..])),
        4 => matrix.column_mut(0).mapv_inplace(|x| 30.0 * x),
        // One row stands out.
        5 => {
            let row = rng.next() as usize % count;
            let factor = [10.0, 100.0, 1e4][rng.next() as usize % 3];
            matrix.row_mut(row).mapv_inplace(|x| factor * x);
        }
        // Student's t with two degrees of freedom.
        6 => {
            for mut row in matrix.rows_mut() {
                let square = 0.5 * (normal(rng).powi(2) + normal(rng).powi(2));
                row.mapv_inplace(|x| x / square.sqrt());
            }
        }
        // All equal, all zero, far from the origin.
        7 => {
            let first = matrix.row(0).to_owned();
            matrix.rows_mut().into_iter().for_each(|mut row| row.assign(&first));
        }
        8 => matrix.fill(0.0),
        _ => matrix = &uniform + &uniform.row(0) * 100.0,
    }
    matrix
}

/// The numbers of a problem.
#[derive(Debug, Clone)]
pub(super) struct Case<T> {
    pub(super) inputs: [Array2<T>; 3],
    pub(super) weights: [Array2<T>; 2],
    pub(super) pair: bool,
    pub(super) Y: Array2<T>,
    pub(super) E: Array2<T>,
    /// Whether E is c itself.
    pub(super) given: bool,
    pub(super) scale: f64,
}

impl<T: Float> Case<T> {
    pub(super) fn random(rng: &mut Rng) -> Self {
        let pick = |rng: &mut Rng, sizes: &[usize]| sizes[rng.next() as usize % sizes.len()];
        let same = rng.next().is_multiple_of(3);
        let (n, m) = (pick(rng, &[1, 2, 7, 20, 33]), pick(rng, &[1, 2, 5, 19, 40]));
        let (d1, d2, d3) = (pick(rng, &[1, 2, 4]), pick(rng, &[1, 3, 4]), pick(rng, &[1, 2, 5]));
        let (n, d2, d3) = if same { (m, d1, d1) } else { (n, d2, d3) };
        let (d, dv) = (pick(rng, &[1, 2, 4]), pick(rng, &[1, 3, 17]));
        let pair = rng.next().is_multiple_of(2);
        let A1 = rows(rng, n, d1);
        let (A2, A3) = if same { (A1.clone(), A1.clone()) } else { (rows(rng, m, d2), rows(rng, m, d3)) };
        let (E, Y) = (rows(rng, n, dv), rows(rng, d3, dv));
        let weights = if pair { [rows(rng, d1, d), rows(rng, d2, d)] } else { [rows(rng, d1, d2), Array2::eye(d2)] };
        let unit = [1.0, 1.0, 1e12, 1e-9][pick(rng, &[0, 1, 2, 3])];
        let logits = A1.dot(&weights[0]).dot(&weights[1].t()).dot(&A2.t());
        let middle = logits.mean_axis(Axis(1)).expect("there are keys").insert_axis(Axis(1));
        let mut sizes: Vec<f64> = (&logits - &middle).iter().map(|t| t.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        // The typical logit, or the largest, is of this size.
        let size = sizes[if rng.next().is_multiple_of(2) { sizes.len() - 1 } else { sizes.len() / 2 }];
        let wanted = [1e-6, 0.01, 0.1, 0.5, 1.0, 2.0][pick(rng, &[0, 1, 2, 3, 4, 5])];
        let sign = [1.0, 1.0, -1.0][pick(rng, &[0, 1, 2])];
        let scale = if size > 0.0 { sign * wanted / size } else { wanted };
        let narrow = |array: Array2<f64>| array.mapv(T::narrow);
        Case {
            inputs: [A1, A2, A3].map(narrow),
            weights: weights.map(narrow),
            pair,
            Y: narrow(&Y * unit),
            E: narrow(&E * unit),
            given: false,
            scale,
        }
    }

    pub(super) fn problem(&self) -> Problem<'_, T> {
        let [A1, A2, A3] = self.inputs.each_ref().map(|array| array.view());
        let [left, right] = self.weights.each_ref().map(|array| array.view());
        let weights = if self.pair { Weights::Pair(left, right) } else { Weights::Product(left) };
        let problem = Problem::new(A1, A2, A3, weights, self.Y.view(), self.E.view()).expect("the shapes fit");
        let problem = if self.given { problem.with_incoming() } else { problem };
        problem.with_scale(self.scale)
    }

    /// The same with c given in place of a target, of any size.
    pub(super) fn with_incoming(self, rng: &mut Rng) -> Self {
        let unit = [1.0, 1e6, 1e-6, 1e-12][rng.next() as usize % 4];
        Case { E: self.E.mapv(|x| T::narrow(x.widen() * unit)), given: true, ..self }
    }

    pub(super) fn inputs(&self) -> Vec<Wrt> {
        let mut all = if self.pair { vec![Wrt::WQ, Wrt::WK] } else { vec![Wrt::X] };
        all.extend([Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]);
        let [A1, A2, A3] = &self.inputs;
        all.extend((A1.dim() == A2.dim() && A2.dim() == A3.dim()).then_some(Wrt::A));
        all
    }

    /// With every key and value so many times.
    pub(super) fn repeated(self, times: usize) -> Self {
        let [A1, A2, A3] = self.inputs;
        let many = |array: &Array2<T>| {
            array.select(Axis(0), &(0..times * array.nrows()).map(|i| i / times).collect::<Vec<_>>())
        };
        let inputs = [A1, many(&A2), many(&A3)];
        Case { inputs, ..self }
    }

    /// Without some of the query rows.
    pub(super) fn without(&self, rows: &[usize]) -> Self {
        let kept: Vec<usize> = (0..self.E.nrows()).filter(|row| !rows.contains(row)).collect();
        let mut rest = self.clone();
        rest.inputs[0] = self.inputs[0].select(Axis(0), &kept);
        rest.E = self.E.select(Axis(0), &kept);
        rest
    }

    /// The logits of centred keys, a few of them.
    pub(super) fn samples(&self) -> Vec<f64> {
        let wide = |array: &Array2<T>| array.mapv(T::widen);
        let keys = wide(&self.inputs[1]);
        let keys = &keys - &keys.mean_axis(Axis(0)).expect("there are keys");
        let [left, right] = self.weights.each_ref().map(wide);
        (self.scale * wide(&self.inputs[0]).dot(&left).dot(&right.t()).dot(&keys.t())).iter().copied().collect()
    }
}

/// P of one of three kinds, of degrees 1 to 4.
pub(super) fn approximation(rng: &mut Rng, samples: &[f64]) -> Approximation {
    let degree = 1 + rng.next() as usize % 4;
    let inside: Vec<f64> = samples.iter().copied().filter(|t| t.abs() < 20.0).collect();
    let range = inside.iter().fold(1e-3, |max: f64, t| max.max(t.abs()));
    let interval = Interval::symmetric(range).expect("a small range");
    let polynomial = match rng.next() % 3 {
        0 => Exponential::least_squares(degree, interval, &inside, &vec![1.0; inside.len()]),
        1 => Exponential::new(Kind::MinimaxRelative, degree, interval),
        _ => Exponential::new(Kind::Taylor, degree, interval),
    };
    Approximation { coefficients: polynomial.expect("a small degree").power(), integers: true, exact_keys: vec![] }
}

pub(super) fn norm(array: &Array2<f64>) -> f64 {
    super::norm(&array.iter().copied().collect::<Vec<_>>())
}
