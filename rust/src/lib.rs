//! The gradient of softmax attention.
#![allow(non_snake_case)]
#![allow(missing_docs)]

mod buffer;
pub mod constants;
mod error;
pub mod exact;
#[cfg(feature = "failpoints")]
pub mod failpoint;
mod float;
mod norms;
mod options;
mod pool;
mod problem;
mod products;

pub use error::Error;
pub use exact::attention::{AttentionGradients, Heads, attention, attention_vjp};
pub use exact::gradient::{Gradient, Gradients, loss_gradient};
pub use float::Float;
pub use options::{Level, Options};
pub use pool::{Watch, default_threads};
pub use problem::{Problem, Weights, Wrt};
