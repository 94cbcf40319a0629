//! The laws that the library is held to, in one binary.
#![allow(non_snake_case, reason = "the letters of the paper: A1, X, W_Q")]

mod accuracy;
mod attention;
mod certificate;
mod certified;
mod control;
mod data;
mod determinism;
mod errors;
mod exact_keys;
mod factors;
#[cfg(feature = "failpoints")]
mod failpoints;
mod feature_input;
mod features;
mod fitted;
mod halves;
mod hidden;
mod incoming;
mod index_sets;
mod judge;
mod moments;
mod moments_causal;
mod paper;
mod partial;
mod plan;
mod ratio;
mod stack;
mod structure;
mod trying;
