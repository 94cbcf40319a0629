//! The gradient of softmax attention to the accuracy asked for, at the lowest cost known for the data, with an error
//! bar that can be trusted: exact in two passes over tiles and O((n + m) d) memory, or near-linear where a polynomial
//! will do.
//!
//! # The problem
//!
//! ```text
//! L = ½ ‖ f A3 Y − E ‖²_F,    f = D⁻¹ exp(s · A1 X A2ᵀ),    D = diag(exp(s · A1 X A2ᵀ) 1)
//! ```
//!
//! the attention loss of Alman & Song (arXiv 2402.04497), for rectangular shapes, any scale s, and optionally causal.
//! With c = f A3 Y − E and p = f ∘ (c (A3 Y)ᵀ) − diag(r) f, where r_j = ⟨c_j, (f A3 Y)_j⟩, its gradients are
//!
//! ```text
//! dL/dX = s A1ᵀ p A2        dL/dW_Q = s A1ᵀ p (A2 W_K)        dL/dW_K = s A2ᵀ pᵀ (A1 W_Q)
//! dL/dY = A3ᵀ fᵀ c          dL/dA1 = s p A2 Xᵀ                dL/dA2 = s pᵀ A1 X        dL/dA3 = fᵀ c Yᵀ
//! ```
//!
//! W_Q and W_K belong to X = W_Q W_Kᵀ given as a pair. The vector-Jacobian product of attention itself is the same
//! with c replaced by the incoming gradient: [`attention_vjp`].
//!
//! # Example
//!
//! ```
//! use attngrad::ndarray::Array2;
//! use attngrad::{Problem, Request, Weights, Wrt, loss_gradient};
//!
//! let matrix = |rows, columns, a: f64| Array2::from_shape_fn((rows, columns), |(j, i)| (a * (j + 3 * i) as f64).sin());
//! let (A1, A2, A3) = (matrix(100, 4, 0.7), matrix(80, 4, 0.9), matrix(80, 5, 1.1));
//! let (X, Y, E) = (matrix(4, 4, 1.3), matrix(5, 6, 1.7), matrix(100, 6, 1.9));
//!
//! let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(X.view()), Y.view(), E.view())?;
//! let result = loss_gradient(&problem, &[Wrt::X, Wrt::Y], &Request::default())?;
//! let [by_X, by_Y] = &result.gradients[..] else { unreachable!("two were asked for") };
//! assert_eq!((by_X.value.dim(), by_Y.value.dim()), ((4, 4), (5, 6)));
//! assert!(by_X.certificate.absolute < 1e-10);
//!
//! // A small step against the gradient lowers the loss.
//! let closer = &X - &(1e-3 * &by_X.value);
//! let problem = Problem::new(A1.view(), A2.view(), A3.view(), Weights::Product(closer.view()), Y.view(), E.view())?;
//! assert!(loss_gradient(&problem, &[], &Request::default())?.loss < result.loss);
//!
//! // To an accuracy: by the cheapest method that reaches it, each gradient with a certificate.
//! let solution = loss_gradient(&problem, &[Wrt::X], &Request::default().rtol(1e-3))?;
//! assert_eq!(solution.gradients[0].certificate.reached, Some(true));
//! # Ok::<(), attngrad::Error>(())
//! ```
//!
//! Where to begin: [`loss_gradient`] and [`plan_loss_gradient`] for the problem, [`attention_vjp`] and [`attention`]
//! for heads, [`diagnose`] for data, [`ExpFeatures`] and [`factors()`] for the paper's features and factors;
//! [`plan::solve`] where a computation is watched or reuses parts of an earlier one. The folder `examples` has a
//! program for each.
//!
//! # Notation
//!
//! docs/math.md derives every formula and numbers it; the comments of the code use its letters.
//!
//! | symbol | name | shape | meaning |
//! |---|---|---|---|
//! | A1, A2, A3 | `A1`, `A2`, `A3` | (n, d1), (m, d2), (m, d3) | inputs on the query, key and value side |
//! | X | [`Weights::Product`] | (d1, d2) | weight of the logits |
//! | W_Q, W_K | [`Weights::Pair`] | (d1, d), (d2, d) | the same as a pair, X = W_Q W_Kᵀ |
//! | Y | `Y` | (d3, dv) | weight of the values |
//! | E | `E` | (n, dv) | target, or c itself ([`Problem::with_incoming`]) |
//! | s | `scale` | | scale of the logits, 1/d2 unless given |
//! | S | `logits` | (n, m) | s A1 X A2ᵀ; in the kernels times log2 e, so that weights are powers of two |
//! | Q, K | `queries`, `keys` | (n, d), (m, d) | A1 X and A2, or A1 W_Q and A2 W_K |
//! | μ_j | `shift` | (n) | the offset subtracted from the logits of a row |
//! | P | `weights` | (n, m) | 2^(logit − shift), before it is normalised |
//! | α_j | `total` | (n) | the normaliser Σ_i P_ji |
//! | f | | (n, m) | P / α: rows of attention |
//! | h | `values` | (m, dv) | A3 Y |
//! | o | `output` | (n, dv) | f h |
//! | c | `c` | (n, dv) | o − E, the residual, or any incoming gradient |
//! | r_j | `r` | (n) | ⟨c_j, o_j⟩ |
//! | p | `p` | (n, m) | dL/dS, in tiles only |
//! | w | `w` | (n, d) | p K |
//!
//! # Modules
//!
//! | module | content |
//! |---|---|
//! | `problem` | [`Problem`], [`Weights`], [`Wrt`], [`Heads`], [`Approximation`] by a polynomial: shapes checked once |
//! | `options`, `error`, `names` | [`Options`], [`Level`]; [`Error`], with the remedy in its message; names of values |
//! | [`exact`] | two passes: `engine` walks tiles, `gradient` and `attention` for callers, `rounding` the estimate |
//! | [`features`] | [`ExpFeatures`]: the map from rows to features, index sets, balanced coordinates |
//! | `factors` | [`factors()`]: the paper's U1, V1 … U4, V4 and the gradients from them |
//! | [`moments`] | the polynomial method, near-linear: moments of one side, values and slopes on the other |
//! | [`polynomial`] | polynomials for exp on an interval, with guaranteed bounds of their error |
//! | [`certificate`] | bounds of the error of an approximate gradient: rigorous, statistical, estimated |
//! | [`plan`] | from the data and the accuracy to a method and its size, and the result with its certificate |
//! | [`partial`] | the polynomial method over shards of the tokens: states that merge and travel |
//! | [`mod@reference`] | the paper's definitions as matrices of n × m: the oracle of the tests |
//! | `simd` | a vector register as a type, the shapes of tiles, the table of kernels of each instruction set |
//! | `kernels` | the arithmetic of all methods: the register tile, packed rows, right-hand sides and their sums |
//! | `runtime` | threads, deadline, progress, cancelling; fallible buffers; [`rng`], the same numbers everywhere |
//! | `float` | the two precisions |
//! | `linalg` | small products in a fixed order, safe norms, eigenvectors of small matrices, rows of arrays |
//! | [`constants`] | every constant that is not mathematics, with its reason |
//!
//! # Guarantees
//!
//! Logits of any size; any shape, zero included; results that are bitwise the same for any number of threads; an
//! estimate of the rounding error beside every result; an [`Error`] instead of a panic or an abort.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
#![cfg_attr(doctest, doc = include_str!("../../docs/tutorials/rust.md"))]
#![allow(non_snake_case, reason = "the letters of the paper: A1, X, W_Q")]

pub mod certificate;
pub mod constants;
mod error;
pub mod exact;
mod factors;
#[cfg(feature = "failpoints")]
pub mod failpoint;
pub mod features;
mod float;
mod kernels;
mod linalg;
pub mod moments;
mod names;
mod options;
pub mod partial;
pub mod plan;
pub mod polynomial;
mod probe;
mod problem;
pub mod reference;
mod runtime;
mod simd;

pub use certificate::moments::{Bound, Caps};
pub use error::Error;
pub use exact::proved::ProvedRounding;
pub use exact::rows::exact_rows;
pub use exact::{attention, attention_hvp, attention_jvp};
pub use factors::{Factors, factors, factors_bytes, row_kronecker};
pub use features::ExpFeatures;
pub use float::Float;
pub use linalg::finite::{all_finite, snapshot};
pub use linalg::halves::{Half, Halved};
pub use linalg::rows::RowValues;
pub use moments::{Polynomial, PolynomialGradients, polynomial_gradient};
/// Arrays in and out are of this version of it.
pub use ndarray;
pub use options::{Level, Options};
pub use plan::{
    Diagnosis, Gradient, Plan, Request, Solution, attention_vjp, diagnose, loss_gradient, plan_loss_gradient,
};
pub use problem::{
    Align, Approximation, AttnMask, Heads, Masks, Problem, Saved, Shape, Stack, StackSizes, Weights, Wrt,
};
pub use runtime::limits::limited_memory;
pub use runtime::pool::{Watch, default_threads};
pub use runtime::rng;
