//! The kernels of each dispatch level: one generic source, compiled under three instruction sets.

use std::ops::Range;

use super::beside::queries_beside;
use super::causal::keys::{self as causal_keys, Answered, CausalKeyTask, CausalKeys, QueryMoments};
use super::causal::queries::{self as causal_queries, CausalQueries, CausalTask};
use super::collect::{self, KeyMoments, Keys};
use super::exponentials;
use super::keys::{self, KeySide, KeyTask};
use super::lengths::{self, Measured, Measures};
use super::near::Nothing;
use super::queries::{Queries, QueryTask};
use super::weighed::{self, Sums, Weighed};
use crate::error::Error;
use crate::runtime::pool::Cancel;
use crate::simd::levels::{every_level, kernels};
use crate::tile::Rows;

kernels! {
    shape { keys: "Keys of a tile." }
    fn key_moments(operands: &Keys<'_, T>, task: KeyMoments<'_>, cancel: &Cancel) -> Result<(), Error>;
    fn queries(operands: &Queries<'_, T>, task: QueryTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn key_side(operands: &KeySide<'_, T>, task: KeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn causal_queries(operands: &CausalQueries<'_, T>, task: CausalTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn query_moments(operands: &Answered<'_, T>, task: QueryMoments<'_>, cancel: &Cancel) -> Result<(), Error>;
    fn causal_keys(operands: &CausalKeys<'_, T>, task: CausalKeyTask<'_, T>, cancel: &Cancel) -> Result<(), Error>;
    fn exponentials(numbers: &mut [T]);
    fn lengths(measured: &Measured<'_, T>, of: Range<usize>, to: Measures<'_>) -> Result<(), Error>;
    fn weigh(
        weighed: &Weighed<T>,
        first: usize,
        keys: Rows<'_, T>,
        values: Rows<'_, T>,
        sums: &mut Sums
    ) -> Result<bool, Error>;
}

macro_rules! level {
    ($name:ident, $t:ident, $vector:ty, $width:literal, $keys:literal $(, $features:literal)?) => {
        mod $name {
            use super::*;

            $(#[target_feature(enable = $features)])?
            pub fn key_moments(operands: &Keys<'_, $t>, task: KeyMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
                collect::key_moments::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn queries(operands: &Queries<'_, $t>, task: QueryTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                queries_beside::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn key_side(operands: &KeySide<'_, $t>, task: KeyTask<'_, $t>, cancel: &Cancel) -> Result<(), Error> {
                keys::key_side::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, &mut Nothing, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn causal_queries(
                operands: &CausalQueries<'_, $t>,
                task: CausalTask<'_, $t>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                causal_queries::causal_queries::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn query_moments(operands: &Answered<'_, $t>, task: QueryMoments<'_>, cancel: &Cancel) -> Result<(), Error> {
                causal_keys::query_moments::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn causal_keys(
                operands: &CausalKeys<'_, $t>,
                task: CausalKeyTask<'_, $t>,
                cancel: &Cancel,
            ) -> Result<(), Error> {
                causal_keys::causal_keys::<$t, $vector, $width, { 2 * $width }, $keys>(operands, task, cancel)
            }

            $(#[target_feature(enable = $features)])?
            pub fn exponentials(numbers: &mut [$t]) {
                exponentials::exponentiate::<$t, $vector, $width>(numbers)
            }

            $(#[target_feature(enable = $features)])?
            pub fn lengths(measured: &Measured<'_, $t>, of: Range<usize>, to: Measures<'_>) -> Result<(), Error> {
                lengths::lengths::<$t, $vector, $width, { 2 * $width }, $keys>(measured, of, to)
            }

            $(#[target_feature(enable = $features)])?
            pub fn weigh(
                weighed: &Weighed<$t>,
                first: usize,
                keys: Rows<'_, $t>,
                values: Rows<'_, $t>,
                sums: &mut Sums,
            ) -> Result<bool, Error> {
                weighed::weigh::<$t, $vector, $width, { 2 * $width }, $keys>(weighed, first, keys, values, sums)
            }

            pub const KERNELS: Kernels<$t> = Kernels {
                keys: $keys,
                key_moments,
                queries,
                key_side,
                causal_queries,
                query_moments,
                causal_keys,
                exponentials,
                lengths,
                weigh,
            };
        }
    };
}

every_level!(level, integers);
