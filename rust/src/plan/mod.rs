//! The planner: from the data and the accuracy asked for to a method and its size, and the result with its certificate
//! (docs/math.md, section 11).
//!
//! | module | content |
//! |---|---|
//! | [`request`] | the request, the judge of it, and the certificate of an error |
//! | `solution` | the result |
//! | `logits` | a sample of logits, and how well a polynomial serves for it |
//! | `cost` | operations of every method, from shapes alone |
//! | `forecast`, `rates` | operations, seconds and memory of a decision; how fast this machine is |
//! | `decision` | the decision: a method and its size, and how a certificate is obtained |
//! | [`mod@decide`] | the law from all of these to exact or polynomial, degree and rows |
//! | `needed` | how many rows a certificate is expected to take |
//! | `probe` | about how large the gradients are, from a few rows |
//! | `pilot` | by how much an error of o moves c, from a few rows with all of their keys |
//! | `entries` | the paper's bound B on the entries of A1 X and A2 |
//! | `stages` | one deadline, one progress bar and one confidence over several computations |
//! | `rows` | sampled rows, exact and approximate, and the estimates from them for each output |
//! | `reach` | how far logits reach: keys that stand out, and rows that no polynomial is believed in |
//! | `lengths` | lengths of all queries, keys, values and targets |
//! | `by_key` | errors of sampled rows at every key, the terms of outputs by key |
//! | `sizes` | approximate contribution of each row to an error, by which outliers stand out |
//! | `attempt` | results of one degree, of gradients or of the output, and the exact ones in their place |
//! | `apart` | rows that the polynomial is not trusted with, computed exactly |
//! | `seed` | the seed of a call that was given none |
//! | `unfold` | the pair W_Q, W_K multiplied out |
//! | `setting` | shared inputs of every step of one degree |
//! | `passes` | one degree: the approximate gradient and its certificates from rows or bounds |
//! | `search` | the tries of one call: their shared inputs, the cost so far, the cost that the next one may have |
//! | `guard` | checks before a try: keys that are left to exp, rows in which a polynomial is not believed |
//! | `tries` | tries compared with each other and with the request |
//! | `prepared` | reusable parts of a call: the polynomial and the moments of the keys |
//! | `diagnosis`, `diagnose` | statistics of queries and keys, and the decisions for them |
//! | `heads` | gradients of several heads of attention as one result |
//! | `attention` | the output of several heads as one result |
//! | `output` | one degree: the approximate output of a head and its certificate |
//! | `execute` | a decision carried out; another try, or the exact gradient |
//! | `rounded` | gradients in half precision, with that rounding in their certificates |
//! | `stronger` | a stronger kind of certificate for the gradient of a weaker one |
//! | `gradient` | the gradient by the method that all of these lead to |
//!
//! A decision depends on the data, on the request and on the constants here, never on a clock.

mod apart;
mod attempt;
mod attention;
mod by_key;
pub mod cost;
pub mod decide;
mod decision;
mod diagnose;
mod diagnosis;
mod entries;
mod execute;
mod forecast;
mod gradient;
mod guard;
mod heads;
mod lengths;
mod logits;
mod needed;
mod output;
mod passes;
mod pilot;
mod prepared;
mod prices;
mod probe;
mod rates;
mod reach;
pub mod request;
mod rounded;
mod rows;
mod search;
mod seed;
mod setting;
mod sizes;
mod solution;
mod stages;
mod stronger;
mod tries;
mod unfold;

pub use crate::problem::HEAD_INPUTS;
pub use attention::{AttentionOutput, certified_attention};
pub use decide::decide;
pub use decision::{Decision, Method};
pub use diagnose::{TOLERANCES, diagnose, diagnose_problem};
pub use diagnosis::{Diagnosis, Prediction, Regime};
pub use entries::Entries;
pub use execute::Start;
pub use forecast::{Forecast, forecast, forecast_heads, forward_bytes, second_bytes};
pub use gradient::{Plan, loss_gradient, plan_loss_gradient, solve};
pub use guard::foresee;
pub use heads::{Beside, Pulled, attention_vjp, decide_heads, settled_heads, solve_heads, solve_stack};
pub(crate) use logits::Logits;
pub use prepared::Prepared;
pub use request::{Asked, Certificate, Kind, Norm, Request, Verdict, Wanted};
pub use solution::{Gradient, Solution};
