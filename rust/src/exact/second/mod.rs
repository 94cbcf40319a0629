//! Second derivatives of attention: its Jacobian-vector product, and the Hessian-vector product of ⟨c, o⟩, never n × n
//! (docs/math.md, Propositions 6.3 and 6.4).
//!
//! A first pass over the keys leaves t and ȯ for each row, a second one sums over both sides. `panels` and `kernels`
//! have the arithmetic, `rows` what a group of queries keeps, `units` the sizes of the
//! direction and of c, `first` and `both` the passes, `head` all that is done for
//! a head, `stack` many of them.

mod both;
mod first;
mod head;
mod kernels;
mod panels;
mod rows;
mod stack;
mod units;

pub use stack::{Pushed, attention_hvp, attention_jvp, attention_stack_hvp, attention_stack_jvp};

#[cfg(test)]
mod tests;
