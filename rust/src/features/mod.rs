//! Features whose inner products are near the exponential, and the coordinates and monomials that they are made of
//! (docs/math.md, section 10). The moment form uses the same index sets, and coordinates by the same law.
//!
//! | module | content |
//! |---|---|
//! | `index_set` | [`IndexSet`]: which monomials |
//! | `growth`, `contributions` | sets of all monomials of a degree, of those that contribute most, of given ones |
//! | `balance` | [`Balance`]: centred and balanced coordinates |
//! | `coordinates`, `monomials` | the coordinates and the index set of the moment form |
//! | `options` | [`FeatureOptions`] |
//! | `logits` | [`LogitSample`]: sampled logits, and polynomials for them |
//! | `sample`, `fit`, `select` | sampled logits, the polynomial fitted to them, the least that meets a tolerance |
//! | `expansion` | the features of rows side by side, for every instruction set |
//! | `map`, `exp_features` | the map φ from rows to features, and [`ExpFeatures`] around it |
//! | `rows` | passes over rows whose bits do not depend on threads |

mod balance;
mod contributions;
mod coordinates;
mod exp_features;
mod expansion;
mod fit;
mod growth;
mod index_set;
mod logits;
mod map;
mod monomials;
mod options;
mod rows;
mod sample;
mod select;

pub use balance::Balance;
pub(crate) use balance::mean_row;
pub(crate) use coordinates::Coordinates;
pub use exp_features::ExpFeatures;
pub(crate) use index_set::approximate_count;
pub use index_set::{IndexSet, feature_count};
pub use logits::LogitSample;
pub(crate) use map::{FeatureMap, Side};
pub(crate) use monomials::{Monomials, affordable};
pub use options::FeatureOptions;
pub(crate) use select::select;
