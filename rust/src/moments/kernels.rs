//! The kernels of the moment form, compiled for every level.

use super::causal::keys::{self as causal_keys, CausalKeyTask, CausalKeys, QueryMoments};
use super::causal::queries::{self as causal_queries, CausalQueries, CausalTask};
use super::collect::{self, KeyMoments};
use super::keys::{self, KeySide, KeyTask};
use super::near::Nothing;
use super::queries::{Queries, QueryTask, queries_beside};
use super::sides::Sides;
use crate::error::Error;
use crate::runtime::pool::Cancel;
use crate::simd::levels::kernels;

kernels! {
    integers
    shape { keys: "Keys of a tile." = J }

    fn key_moments(sides: &Sides<'_, T>, task: KeyMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
        collect::key_moments::<T, V, W, L, J>(sides, task, cancel)
    }

    fn queries(operands: &Queries<'_, T>, task: QueryTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        queries_beside::<T, V, W, L, J>(operands, task, cancel)
    }

    fn key_side(operands: &KeySide<'_, T>, task: KeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        keys::key_side::<T, V, W, L, J>(operands, task, &mut Nothing, cancel)
    }

    fn causal_queries(operands: &CausalQueries<'_, T>, task: CausalTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        causal_queries::causal_queries::<T, V, W, L, J>(operands, task, cancel)
    }

    fn query_moments(operands: &CausalKeys<'_, T>, task: QueryMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
        causal_keys::query_moments::<T, V, W, L, J>(operands, task, cancel)
    }

    fn causal_keys(operands: &CausalKeys<'_, T>, task: CausalKeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        causal_keys::causal_keys::<T, V, W, L, J>(operands, task, cancel)
    }
}
