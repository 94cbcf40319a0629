//! One row of attention with weights that are off, densely in f64.

use attngrad::certificate::rigorous::{Difference, Enclosure, Spread, Weights};

use super::normal;
use crate::data::Rng;

/// Rounding of the dense computation, relative to the sizes that enter it.
pub(super) const ROUNDING: f64 = 1e-13;

/// Law of P: limits of the ratio P(t) e^−t, or of the difference P(t) − e^t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Law {
    Ratio,
    Difference,
}

/// One row: logits, P(t) e^−t or P(t) − e^t within [lo, hi], values, keys, target.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) law: Law,
    pub(super) logits: Vec<f64>,
    pub(super) off: Vec<f64>,
    pub(super) lo: f64,
    pub(super) hi: f64,
    pub(super) values: Vec<Vec<f64>>,
    pub(super) keys: Vec<Vec<f64>>,
    pub(super) target: Vec<f64>,
    pub(super) given: bool,
}

impl Case {
    pub(super) fn random(rng: &mut Rng, law: Law) -> Self {
        let pick = |rng: &mut Rng, count: u64| rng.next() % count;
        let count = 2 + pick(rng, 6) as usize;
        let (width, value_width) = (1 + pick(rng, 3) as usize, 1 + pick(rng, 3) as usize);
        let spread = [0.1, 1.0, 4.0][pick(rng, 3) as usize];
        let (lo, hi) = match law {
            Law::Ratio => {
                let lo = [0.9, 1e-3, 1.0, 37.0][pick(rng, 4) as usize];
                (lo, lo * (1.0 + [1e-8, 1e-3, 0.1, 1.0, 50.0][pick(rng, 5) as usize] * (1.0 + rng.uniform())))
            }
            Law::Difference => {
                let off = [1e-8, 1e-3, 0.1, 0.5, 0.9][pick(rng, 5) as usize];
                (-off, off)
            }
        };
        let ends = pick(rng, 2) == 0;
        let off = (0..count).map(|_| {
            let share = 0.5 * (rng.uniform() + 1.0);
            if ends { if share < 0.5 { lo } else { hi } } else { (lo + share * (hi - lo)).clamp(lo, hi) }
        });
        let off: Vec<f64> = off.collect();
        let offset = [0.0, 0.0, 3.0][pick(rng, 3) as usize];
        let mut matrix = |width: usize| (0..count).map(|_| vector(rng, width, offset)).collect::<Vec<_>>();
        let (values, keys) = (matrix(value_width), matrix(width));
        let logits: Vec<f64> = (0..count).map(|_| spread * normal(rng)).collect();
        // Differences are in units of the mean of e^t.
        let mean = logits.iter().map(|t| t.exp()).sum::<f64>() / count as f64;
        let unit = if law == Law::Ratio { 1.0 } else { mean };
        let off = off.into_iter().map(|off| unit * off).collect();
        let far = [0.0, 1.0, 10.0][pick(rng, 3) as usize];
        let target = (0..value_width).map(|_| far * normal(rng)).collect();
        Case { law, logits, off, lo: unit * lo, hi: unit * hi, values, keys, target, given: pick(rng, 2) == 0 }
    }

    /// A neighbour: some weights off by the other end, logits and vectors moved by `step`.
    pub(super) fn moved(&self, rng: &mut Rng, step: f64) -> Self {
        let mut next = self.clone();
        for logit in &mut next.logits {
            *logit += step * normal(rng);
        }
        for off in &mut next.off {
            if rng.uniform() > 0.6 {
                *off = if rng.uniform() > 0.0 { self.lo } else { self.hi };
            }
        }
        for entry in next.values.iter_mut().chain(&mut next.keys).flatten().chain(&mut next.target) {
            *entry += step * normal(rng);
        }
        next
    }

    /// e^t, and P(t).
    pub(super) fn exponentials(&self) -> [Vec<f64>; 2] {
        let exact: Vec<f64> = self.logits.iter().map(|t| t.exp()).collect();
        let off = |(u, off): (&f64, &f64)| if self.law == Law::Ratio { u * off } else { u + off };
        let approximate = exact.iter().zip(&self.off).map(off).collect();
        [exact, approximate]
    }

    /// f and f̃.
    pub(super) fn weights(&self) -> [Vec<f64>; 2] {
        self.exponentials().map(|all| {
            let sum: f64 = all.iter().sum();
            all.iter().map(|u| u / sum).collect()
        })
    }

    /// Known limits of the weights; nothing where P is so far off that its sum need not be positive.
    pub(super) fn known(&self) -> Option<Weights> {
        if self.law == Law::Ratio {
            return Some(Weights::Ratio(Enclosure { lo: self.lo, hi: self.hi }));
        }
        let [_, approximate] = self.exponentials();
        let unit = approximate.len() as f64 / approximate.iter().sum::<f64>() * (1.0 + ROUNDING);
        let usual = (self.off.iter().map(|off| off * off).sum::<f64>() / self.off.len() as f64).sqrt();
        let difference = Difference { largest: self.hi * unit, usual: usual * unit };
        (0.0..1.0).contains(&difference.usual).then_some(Weights::Difference(difference))
    }

    /// Spread of `vectors` from what f̃ says of it (equation 9.12).
    pub(super) fn spread(&self, weights: Weights, vectors: &[Vec<f64>]) -> Spread {
        let [_, approximate] = self.weights();
        let centre = mean(&approximate, vectors);
        let Weights::Difference(difference) = weights else {
            return Spread { weighted: spread(&approximate, vectors, &centre), flat: f64::NAN, joint: f64::NAN };
        };
        let count = vectors.len() as f64;
        let raised: Vec<f64> = approximate.iter().map(|f| f + difference.largest / count).collect();
        let weighted = (1.0 + difference.of_true()).sqrt() * spread(&raised, vectors, &centre);
        let sum: f64 = self.exponentials()[1].iter().sum();
        let off: Vec<f64> = self.off.iter().map(|off| count * (off / sum).powi(2)).collect();
        let flat = spread(&vec![1.0 / count; vectors.len()], vectors, &centre);
        Spread { weighted, flat, joint: spread(&off, vectors, &centre) }
    }

    /// The largest weight that the law asks for.
    pub(super) fn peak(&self, weights: Weights) -> f64 {
        let [_, approximate] = self.weights();
        let most = approximate.iter().fold(0.0, |max: f64, &f| max.max(f));
        match weights {
            Weights::Ratio(_) => most,
            Weights::Difference(difference) => {
                (1.0 + difference.of_true()) * (most + difference.largest / approximate.len() as f64)
            }
        }
    }
}

pub(super) fn vector(rng: &mut Rng, width: usize, offset: f64) -> Vec<f64> {
    (0..width).map(|_| offset + normal(rng)).collect()
}

pub(super) fn mean(weights: &[f64], vectors: &[Vec<f64>]) -> Vec<f64> {
    let width = vectors[0].len();
    (0..width).map(|l| weights.iter().zip(vectors).map(|(weight, x)| weight * x[l]).sum()).collect()
}

/// The largest deviation from `centre` over the directions: exact for widths 1 and 2, the root of the trace beyond.
pub(super) fn spread(weights: &[f64], vectors: &[Vec<f64>], centre: &[f64]) -> f64 {
    let covariance = |a: usize, b: usize| -> f64 {
        weights.iter().zip(vectors).map(|(weight, x)| weight * (x[a] - centre[a]) * (x[b] - centre[b])).sum()
    };
    let square = match centre.len() {
        2 => {
            let (a, b, c) = (covariance(0, 0), covariance(0, 1), covariance(1, 1));
            0.5 * (a + c) + (0.25 * (a - c).powi(2) + b * b).sqrt()
        }
        width => (0..width).map(|l| covariance(l, l)).sum(),
    };
    square.max(0.0).sqrt() * (1.0 + ROUNDING)
}

pub(super) fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

pub(super) fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(super) fn outer(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect()
}

/// One side of the comparison: all steps of a row for given weights.
pub(super) struct Side {
    pub(super) f: Vec<f64>,
    pub(super) o: Vec<f64>,
    pub(super) c: Vec<f64>,
    pub(super) q: Vec<f64>,
    pub(super) p1: Vec<f64>,
    pub(super) p2: Vec<f64>,
    pub(super) p: Vec<f64>,
    pub(super) w: Vec<f64>,
}

pub(super) fn side(case: &Case, f: Vec<f64>) -> Side {
    let o = mean(&f, &case.values);
    let c = if case.given { case.target.clone() } else { difference(&o, &case.target) };
    let q: Vec<f64> = case.values.iter().map(|h| inner(&c, h)).collect();
    let r = inner(&c, &o);
    let p1: Vec<f64> = f.iter().zip(&q).map(|(f, q)| f * q).collect();
    let p2: Vec<f64> = f.iter().map(|f| r * f).collect();
    let p = f.iter().zip(&q).map(|(f, q)| f * (q - r)).collect::<Vec<_>>();
    let w = mean(&p, &case.keys);
    Side { f, o, c, q, p1, p2, p, w }
}
