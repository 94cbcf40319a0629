//! The terms of the rows of a sample, their sums and the spectrum of their covariance (docs/math.md, equations 9.60 and
//! 9.61).

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, Zip};

use crate::error::Error;
use crate::runtime::buffer;
use crate::runtime::rng::Rng;

/// Steps of the power iteration for λ₁, each of 4 m p d operations. It stops earlier where λ₁ moves by less than
/// `POWER_TOLERANCE`; a flat spectrum, where it converges slowly, is where λ₁ matters least.
const POWER_STEPS: usize = 30;
const POWER_TOLERANCE: f64 = 1e-3;

/// Start of the power iteration: any vector that no data is orthogonal to.
const POWER_SEED: u64 = 0x9041_3E57;

/// Most rows of which all pairs are formed: 4600 pairs know the sum of their squares within a few hundredths.
const MOST_PAIRED: usize = 96;

/// How the rows were drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Drawing<'a> {
    /// All sets of m of the `population` rows equally likely, no row twice.
    Uniform {
        /// n.
        population: usize,
    },
    /// Independent draws with replacement: m numbers 1 / (m π_j), π_j the probability of row j in each draw.
    Weighted(&'a [f64]),
}

/// The factors of the terms of the m rows: x_t is the sum over the pairs of row t of the left, shape
/// (m, p), ⊗ row t of the right, shape (m, d).
pub type Factors<'a> = (ArrayView2<'a, f64>, ArrayView2<'a, f64>);

/// How the covariance of the terms is spread over directions, in shares of its trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spectrum {
    /// λ₁ / trace.
    pub concentration: f64,
    /// Σ λ² / trace².
    pub square_concentration: f64,
}

impl Spectrum {
    /// The most that it may be.
    pub const UNKNOWN: Self = Spectrum { concentration: 1.0, square_concentration: 1.0 };

    /// Of the sample covariance of `terms` with this `mean`, `norms` ‖y_t‖² and `trace`. That of few rows is more
    /// concentrated than that of all, and more so where few of them are large: an error that it allows for and the
    /// truth does not.
    pub fn new(terms: &Terms<'_>, mean: &Array2<f64>, norms: &[f64], trace: f64) -> Result<Self, Error> {
        let concentration = (terms.largest_variance(mean)? / trace).min(1.0);
        let count = terms.count as f64;
        let inner = terms.inner(mean)?;
        let along = buffer::collected(inner.iter().zip(&terms.weights).map(|(x, w)| count * w * x))?;
        let squared_mean = square(mean);
        // Σ ‖y_t − mean‖⁴: the squares of the pairs of a row with itself.
        let deviations = norms.iter().zip(&along).map(|(norm, along)| norm - 2.0 * along + squared_mean);
        let of_rows: f64 = deviations.map(|deviation| (deviation / (count - 1.0)).powi(2)).sum();
        let of_pairs = terms.mean_square(&along, squared_mean)?;
        // Σ λ² is no more than λ₁ Σ λ; NaN leaves that.
        let square_concentration = ((of_pairs + of_rows) / (trace * trace)).min(concentration);
        Ok(Spectrum { concentration, square_concentration })
    }
}

/// The terms of the drawn rows, never formed: only sums of them and products with a matrix.
pub(super) struct Terms<'a> {
    factors: &'a [Factors<'a>],
    /// ω_t, so that Δ̂ = Σ ω_t x_t.
    pub weights: Vec<f64>,
    pub count: usize,
    /// (p, d).
    shape: (usize, usize),
}

impl<'a> Terms<'a> {
    pub fn new(factors: &'a [Factors<'a>], drawing: Drawing<'_>) -> Result<Self, Error> {
        let Some((left, right)) = factors.first() else {
            return Err(Error::Internal("the sampled rows: found no factors".to_string()));
        };
        let (count, shape) = (left.nrows(), (left.ncols(), right.ncols()));
        let fits = |(left, right): &Factors<'_>| left.dim() == (count, shape.0) && right.dim() == (count, shape.1);
        let drawn = match drawing {
            Drawing::Uniform { population } => count <= population,
            Drawing::Weighted(weights) => weights.len() == count,
        };
        if !drawn || !factors.iter().all(fits) {
            return Err(Error::Internal(format!(
                "the sampled rows: found {count} whose factors or weights do not fit"
            )));
        }
        let weights = match drawing {
            Drawing::Uniform { population } => buffer::filled(count, population as f64 / count as f64)?,
            Drawing::Weighted(weights) => buffer::copied(weights)?,
        };
        Ok(Terms { factors, weights, count, shape })
    }

    /// Σ_t coefficient_t x_t.
    pub fn sum(&self, coefficients: &[f64]) -> Result<Array2<f64>, Error> {
        let mut sum = matrix(self.shape)?;
        let mut scaled = matrix((self.count, self.shape.1))?;
        for (left, right) in self.factors {
            scaled.assign(right);
            for (mut row, coefficient) in scaled.rows_mut().into_iter().zip(coefficients) {
                row *= *coefficient;
            }
            general_mat_mul(1.0, &left.t(), &scaled, 1.0, &mut sum);
        }
        Ok(sum)
    }

    /// ⟨x_t, direction⟩ for each t.
    fn inner(&self, direction: &Array2<f64>) -> Result<Vec<f64>, Error> {
        let mut inner = buffer::zeros(self.count)?;
        let mut product = matrix((self.count, self.shape.1))?;
        for (left, right) in self.factors {
            general_mat_mul(1.0, left, direction, 0.0, &mut product);
            for ((sum, a), b) in inner.iter_mut().zip(product.rows()).zip(right.rows()) {
                *sum += a.dot(&b);
            }
        }
        Ok(inner)
    }

    /// ‖y_t‖² for each t, y_t = m ω_t x_t.
    pub fn squares(&self) -> Result<Vec<f64>, Error> {
        let mut norms: Vec<f64> = buffer::zeros(self.count)?;
        for (left, right) in self.factors {
            for (other_left, other_right) in self.factors {
                let rows = left.rows().into_iter().zip(right.rows());
                let others = other_left.rows().into_iter().zip(other_right.rows());
                for ((norm, (a, b)), (c, d)) in norms.iter_mut().zip(rows).zip(others) {
                    *norm += a.dot(&c) * b.dot(&d);
                }
            }
        }
        let count = self.count as f64;
        norms.iter_mut().zip(&self.weights).for_each(|(norm, weight)| *norm *= (count * weight).powi(2));
        Ok(norms)
    }

    /// Mean of ⟨y_s − mean, y_t − mean⟩² over pairs of different rows: `along` are ⟨y_t, mean⟩ and `squared_mean` is
    /// the square of the norm of the mean.
    fn mean_square(&self, along: &[f64], squared_mean: f64) -> Result<f64, Error> {
        let rows = self.count.min(MOST_PAIRED);
        // Rows from the whole of the sample, which is in the order of the tokens.
        let place = |row: usize| row * self.count / rows;
        let chosen = |of: &ArrayView2<'_, f64>| {
            let mut some = matrix((rows, of.ncols()))?;
            some.rows_mut().into_iter().enumerate().for_each(|(row, mut to)| to.assign(&of.row(place(row))));
            Ok::<_, Error>(some)
        };
        let mut factors = buffer::with_capacity(self.factors.len())?;
        for (left, right) in self.factors {
            factors.push((chosen(left)?, chosen(right)?));
        }
        let [mut inner, mut of_left, mut of_right] =
            [matrix((rows, rows))?, matrix((rows, rows))?, matrix((rows, rows))?];
        for (left, right) in &factors {
            for (other_left, other_right) in &factors {
                general_mat_mul(1.0, left, &other_left.t(), 0.0, &mut of_left);
                general_mat_mul(1.0, right, &other_right.t(), 0.0, &mut of_right);
                Zip::from(&mut inner).and(&of_left).and(&of_right).for_each(|sum, a, b| *sum += a * b);
            }
        }
        let weight = |row: usize| self.count as f64 * self.weights[place(row)];
        let mut sum = 0.0;
        for ((row, column), value) in inner.indexed_iter() {
            if row < column {
                let centre = squared_mean - along[place(row)] - along[place(column)];
                sum += (value * weight(row) * weight(column) + centre).powi(2);
            }
        }
        Ok(sum / (rows * (rows - 1) / 2) as f64)
    }

    /// λ₁ of the sample covariance of the y_t, whose mean is `mean`, by power iteration.
    fn largest_variance(&self, mean: &Array2<f64>) -> Result<f64, Error> {
        let count = self.count as f64;
        let mut rng = Rng::new(POWER_SEED);
        let mut direction = matrix(self.shape)?;
        direction.map_inplace(|x| *x = rng.unit() - 0.5);
        let mut largest = 0.0;
        for _ in 0..POWER_STEPS {
            let norm = square(&direction).sqrt();
            if norm == 0.0 {
                break;
            }
            direction /= norm;
            let mut coefficients = self.inner(&direction)?;
            for (coefficient, weight) in coefficients.iter_mut().zip(&self.weights) {
                *coefficient *= (count * weight).powi(2) / (count - 1.0);
            }
            let along_mean = count / (count - 1.0) * Zip::from(mean).and(&direction).fold(0.0, |sum, a, b| sum + a * b);
            direction = self.sum(&coefficients)?;
            direction.scaled_add(-along_mean, mean);
            let next = square(&direction).sqrt();
            let settled = (next - largest).abs() <= POWER_TOLERANCE * next;
            largest = next;
            if settled {
                break;
            }
        }
        Ok(largest)
    }
}

/// ‖·‖²_F.
pub(super) fn square(matrix: &Array2<f64>) -> f64 {
    matrix.iter().map(|x| x * x).sum()
}

/// A matrix of zeros.
fn matrix(shape: (usize, usize)) -> Result<Array2<f64>, Error> {
    let zeros = buffer::zeros(buffer::size(&[shape.0, shape.1])?)?;
    Array2::from_shape_vec(shape, zeros).map_err(|error| Error::Internal(error.to_string()))
}
