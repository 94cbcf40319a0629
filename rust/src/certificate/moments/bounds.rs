//! Rigorous bounds of the gradients from the records of the passes (docs/math.md, Theorems 9.21 and 9.24, equations
//! 9.32 to 9.47).

use ndarray::ArrayView2;

use super::buckets::{Bucket, Buckets};
use super::charges::{Charges, Known, LAWS, Law, Sizes};
use super::enclosures::enclosures;
use super::setting::Setting;
use super::{Counted, Fitted};
use crate::certificate::rigorous::Steps;
use crate::error::Error;
use crate::float::Float;
use crate::linalg::norms::norm;
use crate::linalg::outward::{FOLD_UNIT, gamma, outward, total};
use crate::problem::{Problem, Wrt};
use crate::runtime::buffer;

/// A guaranteed bound of an error, in the Frobenius norm and hence for each entry; infinite where nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Bound {
    /// Bound of the error from P in the place of exp.
    pub truncation: f64,
    /// Bound of the rounding error, from the inputs on.
    pub rounding: f64,
}

impl Bound {
    /// Nothing is known.
    pub const UNKNOWN: Self = Bound { truncation: f64::INFINITY, rounding: f64::INFINITY };

    /// Of both together.
    pub fn absolute(&self) -> f64 {
        outward(self.truncation + self.rounding)
    }

    fn of(truncation: f64, absolute: f64) -> Self {
        if !absolute.is_finite() || !truncation.is_finite() {
            return Bound::UNKNOWN;
        }
        Bound { truncation, rounding: outward((absolute - truncation).max(0.0)) }
    }
}

/// Size of an array: its Frobenius norm, and how many numbers it has.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// ‖array‖.
    pub size: f64,
    /// Its numbers.
    pub count: f64,
}

impl Extent {
    /// Of an array in row-major order.
    pub fn of<T: Float>(value: ArrayView2<'_, T>) -> Self {
        Extent { size: value.as_slice().map_or(f64::INFINITY, norm), count: value.len() as f64 }
    }
}

/// A line in ‖c‖ that is not below a convex function of it, for ‖c‖ up to a largest one.
struct Line {
    constant: f64,
    slope: f64,
}

/// A bucket with every number on the safe side of what it stands for.
struct Rows {
    bucket: Bucket,
    sizes: Sizes,
    known: Known,
}

impl Rows {
    fn new(setting: &Setting, edge: f64, bucket: &Bucket) -> Self {
        let [(x_factor, x_floor), (c_factor, c_floor)] = setting.measured;
        // Σ of numbers in f64, and ‖a‖ of d1 of them, which is less than the moments have.
        let sums = outward(1.0 + gamma(bucket.count + 64.0 + setting.merges, FOLD_UNIT));
        let a_factor = outward(1.0 + gamma(setting.input_width + 4.0, FOLD_UNIT));
        let a_floor = outward((setting.input_width * f64::MIN_POSITIVE).sqrt());
        let count = bucket.count;
        let (c, a) = (sums * c_factor * bucket.c, sums * a_factor * bucket.a);
        let query = outward(x_factor * (edge / setting.bucket_key) + x_floor).min(setting.query);
        let widened = Bucket {
            count,
            c: outward(c + count * c_floor),
            c_squared: outward(sums * (c_factor * (sums * bucket.c_squared).sqrt() + count.sqrt() * c_floor).powi(2)),
            a: outward(a + count * a_floor),
            a_c: outward(
                sums * a_factor * c_factor * bucket.a_c + a * c_floor + a_floor * c + count * a_floor * c_floor,
            ),
            largest_c: outward(c_factor * bucket.largest_c + c_floor),
            largest_a: outward(a_factor * bucket.largest_a + a_floor),
            ..*bucket
        };
        let sizes = Sizes {
            // NaN, of an edge and a key that are both infinite or zero, is no bound.
            query: if query.is_nan() { setting.query } else { query },
            input: widened.largest_a,
            output: outward(c_factor * bucket.largest_o.sqrt() + c_floor),
            normaliser: bucket.least_z,
        };
        Rows { bucket: widened, sizes, known: Known::NOTHING }
    }

    /// The chord of `charge`, which is convex in ‖c‖.
    fn line(&self, charge: impl Fn(f64) -> f64) -> Line {
        let (constant, end) = (charge(0.0), charge(self.bucket.largest_c));
        Line { constant, slope: outward((end - constant).max(0.0) / self.bucket.largest_c) }
    }

    /// Σ over the rows.
    fn plain(&self, charge: impl Fn(f64) -> f64) -> f64 {
        let line = self.line(charge);
        outward(line.constant * self.bucket.count + line.slope * self.bucket.c)
    }

    /// Σ ‖a‖ · over the rows.
    fn by_input(&self, charge: impl Fn(f64) -> f64) -> f64 {
        let line = self.line(charge);
        outward(line.constant * self.bucket.a + line.slope * self.bucket.a_c)
    }

    /// Σ of the squares over the rows.
    fn squares(&self, charge: impl Fn(f64) -> f64) -> f64 {
        let (line, bucket) = (self.line(charge), &self.bucket);
        let (constant, slope) = (line.constant, line.slope);
        outward(constant * (constant * bucket.count + 2.0 * slope * bucket.c) + slope * slope * bucket.c_squared)
    }
}

/// All that the bounds of one call are made of.
pub struct Bounds {
    settings: [Setting; 2],
    rows: Vec<Rows>,
    scale: f64,
    /// The units of the values and of c.
    units: [f64; 2],
    unit_roundoff: f64,
    least: f64,
}

impl Bounds {
    /// From the buckets of so many queries, of passes without a mask, whose longest query has the square `widest`, and
    /// the error of their sums of integers. Time O(buckets + d³).
    pub fn new<T: Float>(
        fitted: &Fitted<'_>,
        problem: &Problem<'_, T>,
        (queries, buckets): (Counted, &Buckets),
        widest: f64,
        lost: f64,
    ) -> Result<Self, Error> {
        let coordinates = fitted.coordinates;
        let setting = Setting::new(fitted, problem, queries, widest, lost);
        let mut rows = buffer::with_capacity(buckets.filled().count())?;
        rows.extend(buckets.filled().map(|(edge, bucket)| Rows::new(&setting, edge, bucket)));
        let mut reaches = buffer::with_capacity(rows.len())?;
        reaches.extend(rows.iter().map(|rows| outward(rows.sizes.query * setting.key)));
        let known = enclosures(fitted.coefficients, &reaches, setting.direction())?;
        rows.iter_mut().zip(known).for_each(|(rows, known)| rows.known = known);
        Ok(Bounds {
            settings: [setting.without_rounding(), setting],
            rows,
            scale: problem.scale.abs(),
            units: [coordinates.value_exponent.exp2(), coordinates.incoming_exponent.exp2()],
            unit_roundoff: T::UNIT_ROUNDOFF,
            least: T::MIN_EXP.exp2() * T::UNIT_ROUNDOFF,
        })
    }

    /// Of dL/d`wrt`, whose computed value is of this size (equations 9.39 to 9.47).
    pub fn gradient(&self, wrt: Wrt, value: Extent) -> Bound {
        let [truncation, absolute] = self.settings.each_ref().map(|setting| self.sum(setting, wrt));
        Bound::of(truncation, outward(absolute + self.last(value)))
    }

    /// How far the computed dL/dX or dL/dW_Q is from Σ s a_j ⊗ w_j with the w_j that [`crate::Polynomial::rows`] has
    /// (equation 9.58); nothing is known of the others.
    pub fn drift(&self, wrt: Wrt, value: Extent) -> f64 {
        let [_, setting] = &self.settings;
        let [unit, incoming] = self.units;
        if !matches!(wrt, Wrt::X | Wrt::WQ) {
            return f64::INFINITY;
        }
        let sum = total(self.rows.iter().map(|rows| {
            let row = Charges::new(setting, Law::Itself, rows.known, rows.sizes);
            rows.by_input(|c| row.drift(c))
        }));
        outward(unit * incoming * self.scale * (sum + setting.contracted_integers()) + self.last(value))
    }

    /// The last rounding of each entry, and what is below the normal numbers.
    fn last(&self, Extent { size, count }: Extent) -> f64 {
        outward(3.0 * self.unit_roundoff * size * (1.0 + gamma(count, FOLD_UNIT)) + count.sqrt() * self.least)
    }

    /// Of the rows of o that are safe, whose computed values are `value` (equation 9.69).
    pub fn output(&self, value: Extent) -> Bound {
        let [unit, _] = self.units;
        let of = |setting| {
            let squares = self.over_rows(setting, |rows, row| outward(rows.bucket.count * row.output().powi(2)));
            outward(unit * squares.sqrt())
        };
        let [truncation, absolute] = self.settings.each_ref().map(of);
        Bound::of(truncation, outward(absolute + self.last(value)))
    }

    /// Of the loss.
    pub fn loss(&self) -> Bound {
        let [_, unit] = self.units;
        let of = |setting| outward(unit * unit * self.over_rows(setting, |rows, row| rows.plain(|c| row.loss(c))));
        let [truncation, absolute] = self.settings.each_ref().map(of);
        Bound::of(truncation, outward(absolute * (1.0 + gamma(8.0, FOLD_UNIT))))
    }

    /// Error bounds of f, c, q, p1 and p2, the largest over the rows; logits count with their rounding.
    pub fn steps(&self) -> Steps {
        let [_, setting] = &self.settings;
        let mut steps = Steps::default();
        for rows in &self.rows {
            let row = |law| Charges::new(setting, law, rows.known, rows.sizes).row(rows.bucket.largest_c);
            let [ratio, difference] = LAWS.map(row);
            let row = if ratio.mass() <= difference.mass() { ratio } else { difference };
            steps.add(&row, outward(setting.value + setting.lost[0]), rows.sizes.output);
        }
        let [value, incoming] = self.units;
        let square = value * incoming;
        let Steps { f, c, q, p1, p2 } = steps;
        Steps {
            f,
            c: outward(c * incoming),
            q: outward(q * square),
            p1: outward(p1 * square),
            p2: outward(p2 * square),
        }
    }

    /// Σ over the buckets, each by the law that charges it least.
    fn over_rows(&self, setting: &Setting, of: impl Fn(&Rows, &Charges<'_>) -> f64) -> f64 {
        total(self.rows.iter().map(|rows| {
            let by = |law| of(rows, &Charges::new(setting, law, rows.known, rows.sizes));
            // NaN is no bound.
            LAWS.map(by).into_iter().filter(|charge| !charge.is_nan()).fold(f64::INFINITY, f64::min)
        }))
    }

    fn sum(&self, setting: &Setting, wrt: Wrt) -> f64 {
        let [_, _, back_own, back_rows, values] = setting.maps;
        let query_error = setting.query_error;
        let single = |width: f64| gamma(width + 4.0, setting.unit);
        let [value, incoming] = self.units;
        let square = value * incoming;
        outward(match wrt {
            Wrt::X | Wrt::WQ => {
                let sum = self.over_rows(setting, |rows, row| rows.by_input(|c| row.weights(c)));
                square * self.scale * (sum + setting.contracted_integers())
            }
            Wrt::A1 => {
                let squares = self.over_rows(setting, |rows, row| rows.squares(|c| row.queries(c)));
                square * self.scale * squares.sqrt()
            }
            Wrt::WK => {
                let sum = self.over_rows(setting, |rows, row| {
                    let change = rows.plain(|c| row.key_weights(c).0);
                    let size = if query_error > 0.0 { rows.by_input(|c| row.key_weights(c).1) } else { 0.0 };
                    row.query() * back_own.spectral * change + query_error * size
                });
                let integers = back_own.spectral * setting.inputs[0] * setting.counts[1] * setting.key_integers();
                square * (sum + integers)
            }
            Wrt::A2 => {
                let own = if back_own.frobenius > 0.0 { back_rows.frobenius / back_own.frobenius } else { 0.0 };
                let product = single(setting.widths[0]) * back_rows.frobenius;
                let sum = self.over_rows(setting, |rows, row| {
                    let change = rows.plain(|c| row.keys(c, true).0).min(rows.plain(|c| row.keys(c, false).0));
                    let size = rows.plain(|c| row.keys(c, true).1);
                    let by_input = if query_error > 0.0 { rows.by_input(|c| row.keys(c, true).1) } else { 0.0 };
                    row.query() * (back_rows.spectral * change + product * (size + change))
                        + query_error * own * by_input
                });
                let integers = (back_rows.spectral + product) * setting.counts[1].sqrt() * setting.key_integers();
                square * (sum + integers)
            }
            Wrt::A3 => {
                let product = single(setting.widths[1]) * values.frobenius;
                self.value_sums(setting, |change, size| values.spectral * change + product * (size + change))
            }
            Wrt::Y => incoming * self.over_rows(setting, |rows, row| rows.plain(|c| row.value_weights(c))),
            Wrt::A => {
                let parts = [Wrt::A1, Wrt::A2, Wrt::A3].map(|part| self.sum(setting, part));
                // Adding the third one rounds once more than the last rounding of the sum.
                let third = self.value_sums(setting, |change, size| values.spectral * (size + change));
                total(parts) + 2.0 * setting.unit * third
            }
        })
    }

    /// Σ of what `of` makes of Σ ‖Δ(f_j ⊗ c_j)‖ and of Σ ‖f_j ⊗ c_j‖, over the buckets.
    fn value_sums(&self, setting: &Setting, of: impl Fn(f64, f64) -> f64) -> f64 {
        // The map Y is in the unit of the values.
        let [value, incoming] = self.units;
        value
            * incoming
            * self.over_rows(setting, |rows, row| of(rows.plain(|c| row.values(c).0), rows.plain(|c| row.values(c).1)))
    }
}
