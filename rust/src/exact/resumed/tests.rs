//! Pass 2 from the results of pass 1 that were returned, at every tile shape; and estimates from sizes alone, which are
//! never below those that know which rows are alike.

use ndarray::{Array1, Array2};

use crate::exact::attention::attend;
use crate::exact::pull_back::{Estimate, Normaliser, Pulled};
use crate::float::Float;
use crate::options::{Isa, Level, Options};
use crate::problem::Heads;
use crate::runtime::pool::{Cancel, Run};
use crate::runtime::rng::Rng;

/// Around tiles of queries, strips and chunks of keys, and waves of queries.
const SHAPES: [(usize, usize); 8] = [(1, 1), (5, 3), (31, 34), (64, 121), (100, 130), (257, 250), (70, 500), (300, 70)];
const WIDTH: usize = 5;
const VALUE_WIDTH: usize = 3;

/// Roundings that both ways may differ by, for results whose terms are of size one; they grow with the logarithm.
const SLACK: f64 = 200.0;

/// Directions of rows, whose norm is one in the coarse estimate, are single numbers in the fine one.
const SKETCH_ROUNDING: f64 = 1e-6;

struct Case<T> {
    query: Array2<T>,
    key: Array2<T>,
    value: Array2<T>,
    dout: Array2<T>,
    is_causal: bool,
}

impl<T: Float> Case<T> {
    fn new((n, m): (usize, usize), scale: f64, is_causal: bool) -> Self {
        let mut rng = Rng::new((1000 * n + m) as u64);
        let mut matrix = |rows: usize, columns: usize, size: f64| {
            Array2::from_shape_simple_fn((rows, columns), || T::narrow(size * (2.0 * rng.unit() - 1.0)))
        };
        Case {
            query: matrix(n, WIDTH, scale),
            key: matrix(m, WIDTH, 1.0),
            value: matrix(m, VALUE_WIDTH, 1.0),
            dout: matrix(n, VALUE_WIDTH, 1.0),
            is_causal,
        }
    }

    fn heads(&self) -> Heads<'_, T> {
        let heads = Heads::new(self.query.view(), self.key.view(), self.value.view()).expect("the shapes fit");
        heads.with_causal(self.is_causal)
    }

    fn forward(&self, options: &Options) -> (Array2<T>, Array1<T>) {
        let (n, cancel) = (self.query.nrows(), Cancel::default());
        let (mut output, mut lse) = (vec![T::zero(); n * VALUE_WIDTH], vec![T::nan(); n]);
        let run = &mut Run::within(&cancel);
        attend(&self.heads(), &mut output, Some(&mut lse), options, run).expect("a regular head");
        (Array2::from_shape_vec((n, VALUE_WIDTH), output).expect("as many"), lse.into())
    }

    fn backward(
        &self,
        saved: Option<&(Array2<T>, Array1<T>)>,
        is_coarse: bool,
        options: &Options,
    ) -> ([Vec<T>; 3], [Estimate; 3]) {
        let room = |array: &Array2<T>| vec![T::nan(); array.len()];
        let mut found = [room(&self.query), room(&self.key), room(&self.value)];
        let saved = saved.map(|(output, lse)| (output.view(), Normaliser::Returned(lse.view())));
        let pulled = Pulled { heads: self.heads(), dout: self.dout.view(), saved, is_coarse };
        let cancel = Cancel::default();
        let out = found.each_mut().map(Vec::as_mut_slice);
        let estimates = pulled.pull_into(out, options, &mut Run::within(&cancel)).expect("a regular head");
        (found, estimates)
    }

    fn check(&self, level: Level, scale: f64) {
        let options = Options { level: Some(level), ..Options::default() };
        let forward = self.forward(&options);
        let (whole, fine) = self.backward(None, false, &options);
        let (again, coarse) = self.backward(Some(&forward), true, &options);
        let (plain, sizes) = self.backward(None, true, &options);
        assert_eq!(whole, plain, "the estimate changes no bit");
        let log = forward.1.iter().fold(1.0, |most: f64, x| most.max(x.widen().abs()));
        let what = format!("{:?}, causal {}, scale {scale}, {level}", self.query.dim(), self.is_causal);
        for place in 0..3 {
            let rows = if place == 0 { 1.0 } else { self.query.nrows() as f64 };
            let allowed = SLACK * T::UNIT_ROUNDOFF * log * scale * rows.sqrt();
            for (one, other) in whole[place].iter().zip(&again[place]) {
                let error = (one.widen() - other.widen()).abs();
                assert!(error <= allowed, "{place} of {what}: {error:e} where {allowed:e} is allowed");
            }
            for estimate in [coarse[place], sizes[place]] {
                let most = (1.0 + SKETCH_ROUNDING) * estimate.rounding;
                assert!(most >= fine[place].rounding, "{place} of {what}: {estimate:?}, {fine:?}");
            }
        }
    }
}

fn every_shape<T: Float>() {
    for level in Isa::shapes().map(Isa::level) {
        for shape in SHAPES {
            for is_causal in [false, true] {
                for scale in [0.5, 20.0, 200.0] {
                    Case::<T>::new(shape, scale, is_causal).check(level, scale);
                }
            }
        }
    }
}

#[test]
fn every_shape_in_single_precision() {
    every_shape::<f32>();
}

#[test]
fn every_shape_in_double_precision() {
    every_shape::<f64>();
}
