//! Packing and tiles: the arithmetic that all methods share, written once for every precision and instruction set.
//!
//! | module | content |
//! |---|---|
//! | `tile` | the register tile: two vectors of queries × `J` keys |
//! | `strips` | rows packed beside one another, [`Strips`] |
//! | `input_map` | rows of an input mapped to their coordinates, [`InputMap`] |
//! | `rhs`, `quantized` | blocks of rows that products are summed over: the right-hand side, also in 16-bit integers |
//! | `outputs` | rows of an output, and sums of outer products, from the coordinates of a block |
//! | `chunk` | rows of one side against a few of the other, with exp |

pub mod chunk;
mod input_map;
pub mod outputs;
pub mod quantized;
pub mod rhs;
mod strips;
pub mod tile;

pub use input_map::{InputMap, map, strips};
pub use strips::Strips;
