//! The kernels of the moment form, compiled for every level.

use std::ops::Range;

use super::causal::keys::{self as causal_keys, CausalKeyTask, CausalKeys};
use super::causal::queries::{self as causal_queries, CausalQueries, CausalTask};
use super::keys::{self, KeyFound, KeySide, KeyTask};
use super::near::Nothing;
use super::queries::{Found, Queries, QueryTask, queries_beside};
use super::sides::Sides;
use crate::error::Error;
use crate::runtime::pool::Cancel;
use crate::simd::levels::kernels;

kernels! {
    shape {}

    fn key_moments(
        sides: &Sides<'_, T>,
        rows: Range<usize>,
        integers: bool,
        sums: &mut [f64],
        cancel: &Cancel,
    ) -> Result<KeyFound, Error> {
        keys::key_moments::<T, V, W, L, J>(sides, rows, integers, sums, cancel)
    }

    fn queries(operands: &Queries<'_, T>, task: QueryTask<'_, T>, cancel: &Cancel) -> Result<Found, Error> {
        queries_beside::<T, V, W, L, J>(operands, task, cancel)
    }

    fn key_side(operands: &KeySide<'_, T>, task: KeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        keys::key_side::<T, W, L, J>(operands, task, &mut Nothing, cancel)
    }

    fn causal_queries(
        operands: &CausalQueries<'_, T>,
        task: CausalTask<'_, T>,
        cancel: &Cancel,
    ) -> Result<Found, Error> {
        causal_queries::causal_queries::<T, V, W, L, J>(operands, task, cancel)
    }

    fn query_moments(
        operands: &CausalKeys<'_, T>,
        rows: Range<usize>,
        sums: &mut [f64],
        cancel: &Cancel,
    ) -> Result<(), Error> {
        causal_keys::query_moments::<T, V, W, L, J>(operands, rows, sums, cancel)
    }

    fn causal_keys(operands: &CausalKeys<'_, T>, task: CausalKeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error> {
        causal_keys::causal_keys::<T, W, L, J>(operands, task, cancel)
    }
}
