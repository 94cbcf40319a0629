//! The executable paper: every definition as a matrix in double precision. Slow, literal, and the oracle of the tests.
//!
//! Alman & Song, *The Fine-Grained Complexity of Gradient Computation for Training Large Language Models*
//! (arXiv 2402.04497). docs/math.md derives the same formulas and numbers them. Nothing here is fast: all matrices of
//! n × m are stored, memory O(n m), and O(n m d1 d2) where a Kronecker product is written out.
//!
//! ```
//! use attngrad::{Problem, Weights, Wrt, reference::Reference};
//! use ndarray::array;
//!
//! // One feature; two keys that the query cannot tell apart, with values 0 and 2, and the target 1.
//! let (A, A3) = (array![[1.0], [1.0]], array![[0.0], [2.0]]);
//! let (one, E) = (array![[1.0]], array![[1.0], [1.0]]);
//! let problem =
//!     Problem::new(A.view(), A.view(), A3.view(), Weights::Product(one.view()), one.view(), E.view())?;
//! let reference = Reference::new(&problem);
//! assert_eq!(reference.f, array![[0.5, 0.5], [0.5, 0.5]]);
//! assert_eq!(reference.loss, 0.0);
//! assert_eq!(reference.gradient(Wrt::X)?, array![[0.0]]);
//! # Ok::<(), attngrad::Error>(())
//! ```

use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

use crate::error::Error;
use crate::float::Float;
use crate::linalg::halves::Half;
use crate::problem::{Align, Approximation, Entries, Heads, Mask, Problem, Weights, Wrt, least_added};

/// Every quantity of the paper for one problem, by the paper's letters (docs/math.md, sections 1 and 2).
#[derive(Debug, Clone)]
pub struct Reference {
    /// Inputs on the query side, (n, d1).
    pub A1: Array2<f64>,
    /// Inputs on the key side, (m, d2).
    pub A2: Array2<f64>,
    /// Inputs on the value side, (m, d3).
    pub A3: Array2<f64>,
    /// Weight of the logits, (d1, d2): X itself, or W_Q W_Kᵀ.
    pub X: Array2<f64>,
    /// W_Q, (d1, d), and W_K, (d2, d), where X was given as a pair.
    pub pair: Option<(Array2<f64>, Array2<f64>)>,
    /// Weight of the values, (d3, dv).
    pub Y: Array2<f64>,
    /// Target, (n, dv), or c itself.
    pub E: Array2<f64>,
    /// Whether E is a target.
    pub is_target: bool,
    /// s, the scale of the logits.
    pub scale: f64,
    /// Whether query j sees keys 0..=j only.
    pub is_causal: bool,
    /// S = s A1 X A2ᵀ, eq. (1.1). (n, m)
    pub S: Array2<f64>,
    /// u = exp(S − row maximum), eqs. (1.2) and (1.8); 0 for a key that is not seen. (n, m)
    pub u: Array2<f64>,
    /// α_j = ⟨u_j, 1⟩, the diagonal of D, eq. (1.3). (n)
    pub alpha: Array1<f64>,
    /// f = D⁻¹ u, rows of attention, eq. (1.4). (n, m)
    pub f: Array2<f64>,
    /// h = A3 Y, the values, eq. (1.5). (m, dv)
    pub h: Array2<f64>,
    /// o = f h, the output, eq. (1.5); 0 where there are no keys. (n, dv)
    pub o: Array2<f64>,
    /// c = o − E, the residual, eq. (1.6), or what was given in its place. (n, dv)
    pub c: Array2<f64>,
    /// L = ½ ‖c‖²_F, eq. (1.7); 0 where c was given.
    pub loss: f64,
    /// q = c hᵀ = dL/df, eq. (2.1). (n, m)
    pub q: Array2<f64>,
    /// r_j = ⟨f_j, q_j⟩, eq. (2.3). (n)
    pub r: Array1<f64>,
    /// p1 = f ∘ q, eq. (2.2). (n, m)
    pub p1: Array2<f64>,
    /// p2 = diag(r) f, eq. (2.2). (n, m)
    pub p2: Array2<f64>,
    /// p = p1 − p2 = dL/dS, eq. (2.2); rows sum to zero. (n, m)
    pub p: Array2<f64>,
}

impl Reference {
    /// Computes every quantity of `problem`, whose numbers are widened to double precision first.
    ///
    /// Time O(n m (d1 + d2 + dv)), memory O(n m).
    ///
    /// # Panics
    /// Where the matrices of n × m do not fit into memory: this is the oracle for small problems.
    pub fn new<T: Float>(problem: &Problem<'_, T>) -> Self {
        Reference::from_exponentials(problem, |S, is_causal| exponentials(S, |j, i| !is_causal || i <= j))
    }

    /// The same with P in the place of exp, on logits of keys that are centred at `mean`, (d2): eqs. (8.1) and (8.2).
    /// Under a causal mask rows go in chunks of `chunk`, and exp remains for the keys of the query's own chunk:
    /// eq. (8.19); without one, for the exact keys of the approximation: eq. (8.18). A chunk of 0 rows is one of 1.
    pub fn polynomial<T: Float>(
        problem: &Problem<'_, T>,
        approximation: &Approximation,
        mean: &Array1<f64>,
        chunk: usize,
    ) -> Self {
        let chunk = chunk.max(1);
        let mut centred = widened(problem.A2);
        centred -= mean;
        let (X, A1) = (logit_weights(problem).0, widened(problem.A1));
        let S = problem.scale * A1.dot(&X).dot(&centred.t());
        let Approximation { coefficients, exact_keys, .. } = approximation;
        let P = |t: f64| coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * t + coefficient);
        Reference::from_exponentials(problem, |_, is_causal| {
            Array2::from_shape_fn(S.dim(), |(j, i)| match is_causal {
                true if i > j => 0.0,
                true if i / chunk == j / chunk => S[(j, i)].exp(),
                false if exact_keys.contains(&i) => S[(j, i)].exp(),
                _ => P(S[(j, i)]),
            })
        })
    }

    /// Everything from S and u, which is made of S and of whether the problem is causal.
    fn from_exponentials<T: Float>(problem: &Problem<'_, T>, u: impl Fn(&Array2<f64>, bool) -> Array2<f64>) -> Self {
        let (A1, A2, A3) = (widened(problem.A1), widened(problem.A2), widened(problem.A3));
        let (Y, E) = (widened(problem.Y), widened(problem.E));
        let (X, pair) = logit_weights(problem);
        let Problem { scale, is_causal, is_target, .. } = *problem;
        let logits = match &pair {
            None => A1.dot(&X).dot(&A2.t()),
            Some((W_Q, W_K)) => A1.dot(W_Q).dot(&A2.dot(W_K).t()),
        };
        let S = scale * logits;
        let u = u(&S, is_causal);
        let alpha = u.sum_axis(Axis(1));
        let f = &u / &alpha.view().insert_axis(Axis(1));
        let h = A3.dot(&Y);
        let o = f.dot(&h);
        let c = if is_target { &o - &E } else { E.clone() };
        let loss = if is_target { 0.5 * c.iter().map(|x| x * x).sum::<f64>() } else { 0.0 };
        let q = c.dot(&h.t());
        let p1 = &f * &q;
        let r = p1.sum_axis(Axis(1));
        let p2 = &f * &r.view().insert_axis(Axis(1));
        let p = &p1 - &p2;
        Reference {
            A1,
            A2,
            A3,
            X,
            pair,
            Y,
            E,
            is_target,
            scale,
            is_causal,
            S,
            u,
            alpha,
            f,
            h,
            o,
            c,
            loss,
            q,
            r,
            p1,
            p2,
            p,
        }
    }

    /// dL/d`wrt`, eqs. (2.5) to (2.12), from p and fᵀ c.
    ///
    /// # Errors
    /// [`Error::Option`] for an input that the problem does not have: X of a pair, W_Q and W_K of a product, A where
    /// A1, A2 and A3 differ in shape.
    pub fn gradient(&self, wrt: Wrt) -> Result<Array2<f64>, Error> {
        let Reference { A1, A2, A3, X, Y, scale: s, f, c, p, .. } = self;
        Ok(match (wrt, &self.pair) {
            (Wrt::X, None) => *s * A1.t().dot(p).dot(A2),
            (Wrt::WQ, Some((_, W_K))) => *s * A1.t().dot(p).dot(&A2.dot(W_K)),
            (Wrt::WK, Some((W_Q, _))) => *s * A2.t().dot(&p.t()).dot(&A1.dot(W_Q)),
            (Wrt::Y, _) => A3.t().dot(&f.t()).dot(c),
            (Wrt::A1, _) => *s * p.dot(A2).dot(&X.t()),
            (Wrt::A2, _) => *s * p.t().dot(A1).dot(X),
            (Wrt::A3, _) => f.t().dot(c).dot(&Y.t()),
            (Wrt::A, _) if A1.dim() == A2.dim() && A2.dim() == A3.dim() => {
                self.gradient(Wrt::A1)? + self.gradient(Wrt::A2)? + self.gradient(Wrt::A3)?
            }
            (wrt, pair) => {
                let wanted = match wrt {
                    Wrt::A => "A1, A2 or A3, because they are not one array",
                    _ if pair.is_some() => "W_Q or W_K, because X is given as a pair",
                    _ => "X, or X given as a pair (W_Q, W_K)",
                };
                return Err(Error::Option { option: "wrt", found: format!("{:?}", wrt.name()), wanted: wanted.into() });
            }
        })
    }

    /// r_j = ⟨c_j, o_j⟩, eq. (2.4): the same number as `r` with no matrix of n × m. (n)
    pub fn r_from_output(&self) -> Array1<f64> {
        (&self.c * &self.o).sum_axis(Axis(1))
    }

    /// A1 ⊗ A2, (n m, d1 d2): the matrix of the tensor trick, vec(A1 X A2ᵀ) = (A1 ⊗ A2) vec(X), eq. (4.2).
    pub fn kron_A(&self) -> Array2<f64> {
        kron(self.A1.view(), self.A2.view())
    }

    /// dL/dvec(X) = s (A1 ⊗ A2)ᵀ vec(p), eq. (4.3): the paper's form of dL/dX. (d1 d2)
    pub fn gradient_vec(&self) -> Array1<f64> {
        self.scale * self.kron_A().t().dot(&vec(self.p.view()))
    }

    /// dL/dX as the paper sums it: Σ_j s 𝖠_jᵀ (diag(f_j) − f_j f_jᵀ) q_j, eqs. (4.5) and (4.6), with 𝖠_j the rows of
    /// A1 ⊗ A2 that belong to query j. (d1 d2)
    pub fn gradient_by_rows(&self) -> Array1<f64> {
        let mut total = Array1::zeros(self.A1.ncols() * self.A2.ncols());
        for ((a1, f), q) in self.A1.rows().into_iter().zip(self.f.rows()).zip(self.q.rows()) {
            let block = kron(a1.insert_axis(Axis(0)), self.A2.view());
            let column = f.insert_axis(Axis(1));
            let jacobian = Array2::from_diag(&f) - column.dot(&column.t());
            total = total + self.scale * block.t().dot(&jacobian.dot(&q));
        }
        total
    }
}

/// The rows of a matrix one after the other, eq. (4.1): (a, b) → (a b).
pub fn vec(matrix: ArrayView2<'_, f64>) -> Array1<f64> {
    matrix.iter().copied().collect()
}

/// The matrix of `columns` columns whose rows, one after the other, are `vector`; the inverse of [`fn@vec`].
///
/// # Errors
/// [`Error::Shape`] where the length is not a multiple of `columns`.
pub fn unvec(vector: &Array1<f64>, columns: usize) -> Result<Array2<f64>, Error> {
    let rows = vector.len().checked_div(columns).unwrap_or(0);
    vector.clone().into_shape_with_order((rows, columns)).map_err(|_| Error::Shape {
        argument: "vector",
        found: vec![vector.len()],
        wanted: format!("a length that is a multiple of {columns} is wanted"),
    })
}

/// a ⊗ b: row j m + i, column k d + l holds a[j, k] b[i, l]. (n, e) and (m, d) → (n m, e d).
pub fn kron(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let ((n, e), (m, d)) = (a.dim(), b.dim());
    Array2::from_shape_fn((n * m, e * d), |(row, column)| a[[row / m, column / d]] * b[[row % m, column % d]])
}

/// o = softmax(s q kᵀ) v, eq. (6.1). (n, dv)
pub fn attention<T: Float>(heads: &Heads<'_, T>) -> Array2<f64> {
    weights(heads).dot(&widened(heads.value))
}

/// The gradients of ⟨dout, o⟩ with respect to query, key and value, eq. (6.2).
pub fn attention_vjp<T: Float>(heads: &Heads<'_, T>, dout: ArrayView2<'_, T>) -> [Array2<f64>; 3] {
    let (query, key, value) = (widened(heads.query), widened(heads.key), widened(heads.value));
    let (f, dout) = (weights(heads), widened(dout));
    let p1 = &f * &dout.dot(&value.t());
    let r = p1.sum_axis(Axis(1)).insert_axis(Axis(1));
    let p = p1 - &f * &r;
    [heads.scale * p.dot(&key), heads.scale * p.t().dot(&query), f.t().dot(&dout)]
}

/// f = softmax(s q kᵀ). (n, m)
fn weights<T: Float>(heads: &Heads<'_, T>) -> Array2<f64> {
    let S = heads.scale * widened(heads.query).dot(&widened(heads.key).t());
    let S = Array2::from_shape_fn(S.dim(), |(j, i)| S[[j, i]] + added(heads, j, i));
    let u = exponentials(&S, |j, i| sees(&heads.mask, S.dim(), j, i) && added(heads, j, i) > f64::NEG_INFINITY);
    let alpha = u.sum_axis(Axis(1)).insert_axis(Axis(1));
    // A row that sees nothing is nothing.
    u / alpha.mapv(|alpha| if alpha == 0.0 { 1.0 } else { alpha })
}

/// X, and the pair where it was given as one.
#[allow(clippy::type_complexity, reason = "two fields of the reference")]
fn logit_weights<T: Float>(problem: &Problem<'_, T>) -> (Array2<f64>, Option<(Array2<f64>, Array2<f64>)>) {
    match problem.weights {
        Weights::Product(X) => (widened(X), None),
        Weights::Pair(W_Q, W_K) => {
            let (W_Q, W_K) = (widened(W_Q), widened(W_K));
            (W_Q.dot(&W_K.t()), Some((W_Q, W_K)))
        }
    }
}

/// exp(S − maximum of the row) over the keys that each query `sees`, eqs. (1.8) and (1.9); 0 for the others.
fn exponentials(S: &Array2<f64>, sees: impl Fn(usize, usize) -> bool) -> Array2<f64> {
    let mut u = S.clone();
    for (j, mut row) in u.rows_mut().into_iter().enumerate() {
        let seen = row.iter().enumerate().filter(|(i, _)| sees(j, *i));
        let largest = seen.map(|(_, x)| *x).fold(f64::NEG_INFINITY, f64::max);
        for (i, x) in row.iter_mut().enumerate() {
            *x = if sees(j, i) { (*x - largest).exp() } else { 0.0 };
        }
    }
    u
}

/// The number that a mask adds to a logit, −∞ where it hides the key.
fn added<T: Float>(heads: &Heads<'_, T>, j: usize, i: usize) -> f64 {
    match &heads.entries {
        None => 0.0,
        Some(Entries::Seen(entries)) if entries[[j, i]] == 0 => f64::NEG_INFINITY,
        Some(Entries::Seen(_)) => 0.0,
        Some(Entries::Added(entries)) => match entries[[j, i]].widen() {
            entry if entry < least_added::<T>() => f64::NEG_INFINITY,
            entry => entry,
        },
        Some(Entries::Halves(half, entries)) => match half_number(*half, entries[[j, i]]) {
            entry if entry < -half_number(*half, LARGEST_HALF[*half as usize]) / 8.0 => f64::NEG_INFINITY,
            entry => entry,
        },
    }
}

/// Bits of the largest finite number of each format.
const LARGEST_HALF: [u16; 2] = [0x7bff, 0x7f7f];

/// The number that 16 bits stand for, by the definition of the format: a sign, an exponent and a fraction.
pub fn half_number(half: Half, bits: u16) -> f64 {
    let (digits, bias) = match half {
        Half::Float16 => (10, 15),
        Half::Bfloat16 => (7, 127),
    };
    let (exponent, fraction) = ((bits & 0x7fff) >> digits, bits & ((1 << digits) - 1));
    let size = match exponent {
        0 => f64::from(fraction) * f64::from(1 - bias - digits).exp2(),
        _ if exponent == 0x7fff >> digits && fraction == 0 => f64::INFINITY,
        _ if exponent == 0x7fff >> digits => f64::NAN,
        _ => f64::from(fraction + (1 << digits)) * f64::from(i32::from(exponent) - bias - digits).exp2(),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// Whether query j sees key i, of n and m (docs/math.md, Definition 6.5).
fn sees(mask: &Mask<'_>, (n, m): (usize, usize), j: usize, i: usize) -> bool {
    let whole = [[0, n], [0, mask.keys.unwrap_or(m)]];
    let [of_queries, of_keys] = mask.sequences.unwrap_or([&whole[0], &whole[1]]);
    of_queries.windows(2).zip(of_keys.windows(2)).any(|(queries, keys)| {
        let corner = if mask.align == Align::TopLeft { 0 } else { 1 };
        let apart = (i as i64 - keys[corner] as i64) - (j as i64 - queries[corner] as i64);
        let [before, after] =
            mask.window.map(|reach| reach.map_or(i64::MAX, |reach| i64::try_from(reach).unwrap_or(i64::MAX)));
        let is_own = (queries[0]..queries[1]).contains(&j) && (keys[0]..keys[1]).contains(&i);
        is_own && -before <= apart && apart <= after
    })
}

/// In double precision, row-major.
fn widened<T: Float>(array: ArrayView2<'_, T>) -> Array2<f64> {
    let mut out = Array2::zeros(array.dim());
    Zip::from(&mut out).and(&array).for_each(|out, x| *out = x.widen());
    out
}

#[cfg(test)]
mod tests;
