//! Problems to test on: every number comes from a seed.

use attngrad::{Float, Problem, Weights, Wrt};
use ndarray::Array2;

/// A small generator of numbers (SplitMix64), so that a failure is reproduced by its seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [−1, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// A matrix of entries uniform in [−1, 1).
    pub fn matrix<T: Float>(&mut self, rows: usize, columns: usize) -> Array2<T> {
        Array2::from_shape_simple_fn((rows, columns), || T::narrow(self.uniform()))
    }
}

/// The sizes of a problem; `d` is the width of W_Q and W_K where X is given as that pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    pub n: usize,
    pub m: usize,
    pub d1: usize,
    pub d2: usize,
    pub d3: usize,
    pub dv: usize,
    pub pair: Option<usize>,
}

impl Shape {
    /// n queries and m keys, with all widths d.
    pub fn square(n: usize, m: usize, d: usize) -> Self {
        Shape { n, m, d1: d, d2: d, d3: d, dv: d, pair: None }
    }
}

/// Families of inputs, by the special property of their numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Family {
    /// Entries uniform in [−1, 1).
    Uniform,
    /// Logits about a hundred: beyond what may be exponentiated without a shift in f32.
    LargeLogits,
    /// Logits about ten thousand: rows nearly one-hot, beyond any exponent of f64.
    HugeLogits,
    /// Every key equals the first.
    EqualKeys,
    /// One query row a thousand times the others.
    Spike,
    /// Keys that grow along the row, so that the running maximum rises all the time.
    Rising,
    /// Values and target in units of 1e15.
    LargeUnits,
    /// Values and target in units of 1e-12.
    SmallUnits,
}

impl Family {
    pub const ALL: [Family; 8] = [
        Family::Uniform,
        Family::LargeLogits,
        Family::HugeLogits,
        Family::EqualKeys,
        Family::Spike,
        Family::Rising,
        Family::LargeUnits,
        Family::SmallUnits,
    ];
}

/// The arrays of a problem.
#[derive(Debug, Clone)]
pub struct Case<T> {
    pub A1: Array2<T>,
    pub A2: Array2<T>,
    pub A3: Array2<T>,
    pub X: Array2<T>,
    pub pair: Option<(Array2<T>, Array2<T>)>,
    pub Y: Array2<T>,
    pub E: Array2<T>,
    pub scale: f64,
    pub is_causal: bool,
}

impl<T: Float> Case<T> {
    /// The inputs that the problem has.
    pub fn inputs(&self) -> Vec<Wrt> {
        let mut all = if self.pair.is_some() { vec![Wrt::WQ, Wrt::WK] } else { vec![Wrt::X] };
        all.extend([Wrt::Y, Wrt::A1, Wrt::A2, Wrt::A3]);
        if self.A1.dim() == self.A2.dim() && self.A2.dim() == self.A3.dim() {
            all.push(Wrt::A);
        }
        all
    }

    pub fn new(shape: Shape, family: Family, is_causal: bool, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let Shape { n, m, d1, d2, d3, dv, pair } = shape;
        let mut case = Case {
            A1: rng.matrix(n, d1),
            A2: rng.matrix(m, d2),
            A3: rng.matrix(m, d3),
            X: rng.matrix(d1, d2),
            pair: pair.map(|d| (rng.matrix(d1, d), rng.matrix(d2, d))),
            Y: rng.matrix(d3, dv),
            E: rng.matrix(n, dv),
            scale: 1.0 / d2.max(1) as f64,
            is_causal,
        };
        case.shape_data(family);
        case
    }

    fn shape_data(&mut self, family: Family) {
        match family {
            Family::Uniform => {}
            Family::LargeLogits => self.scale *= 300.0,
            Family::HugeLogits => self.scale *= 30_000.0,
            Family::EqualKeys => {
                if let Some(first) = self.A2.rows().into_iter().next().map(|row| row.to_owned()) {
                    self.A2.rows_mut().into_iter().for_each(|mut row| row.assign(&first));
                }
            }
            Family::Spike => {
                let middle = self.A1.nrows() / 2;
                if let Some(mut row) = self.A1.rows_mut().into_iter().nth(middle) {
                    row.mapv_inplace(|x| x * T::narrow(1000.0));
                }
            }
            Family::Rising => {
                let m = self.A2.nrows() as f64;
                for (i, mut row) in self.A2.rows_mut().into_iter().enumerate() {
                    row.mapv_inplace(|x| x * T::narrow(200.0 * i as f64 / m));
                }
            }
            Family::LargeUnits => self.rescale(1e15),
            Family::SmallUnits => self.rescale(1e-12),
        }
    }

    /// Values and target in other units: the loss is multiplied by unit², dL/dX too.
    fn rescale(&mut self, unit: f64) {
        self.Y.mapv_inplace(|x| T::narrow(x.widen() * unit));
        self.E.mapv_inplace(|x| T::narrow(x.widen() * unit));
    }

    pub fn problem(&self) -> Problem<'_, T> {
        let weights = match &self.pair {
            Some((W_Q, W_K)) => Weights::Pair(W_Q.view(), W_K.view()),
            None => Weights::Product(self.X.view()),
        };
        Problem::new(self.A1.view(), self.A2.view(), self.A3.view(), weights, self.Y.view(), self.E.view())
            .expect("the shapes fit")
            .with_scale(self.scale)
            .with_causal(self.is_causal)
    }
}
