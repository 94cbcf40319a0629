//! The direction and c in units of their own: powers of two that keep products near the weights, so that of their sizes
//! nothing overflows or vanishes on the way.

use std::f64::consts::LOG2_E;

use ndarray::ArrayView2;

use crate::error::Error;
use crate::exact::engine::{Engine, Values};
use crate::exact::residual::{GROWTH, unit};
use crate::float::Float;
use crate::kernels::Strips;
use crate::linalg::layout::{Rows, row_major, rows};
use crate::linalg::norms::largest;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Binary orders of magnitude between the direction over its unit and the largest number, for sums.
const ROOM: f64 = 20.0;

/// Q̂̇, k̇ and v̇ over their unit.
pub struct Direction<T> {
    pub queries: Vec<T>,
    pub keys: Strips<T>,
    pub values: Strips<T>,
    /// The largest norm of a row of v̇ that each query sees.
    seen: Vec<f64>,
    pub unit: f64,
}

impl<T: Float> Direction<T> {
    /// Rows of q̇, k̇ and v̇, for heads of this scale and these keys.
    pub fn new(
        [query, key, value]: [Rows<'_, T>; 3],
        (scale, of): (f64, Rows<'_, T>),
        (engine, values): (&Engine<'_, T>, &Values<T>),
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let mut norms = |rows| engine.kernels.row_norms(rows, run);
        let [queries, keys, of_values] = [norms(query)?, norms(key)?, norms(value)?];
        let own = [norms(Rows { data: &engine.queries, ..query })?, norms(of)?];
        let factor = scale.abs() * LOG2_E;
        // A row whose change is zero may see keys of any size.
        let logits = largest_product(&queries, &engine.seen(&own[1])?) + factor.log2();
        let logits = logits.max(largest_product(&own[0], &engine.seen(&keys)?));
        let widest = [factor * largest(&queries), largest(&keys), largest(&of_values)].map(f64::log2);
        let unit = unit_of::<T>(logits, widest, values.largest.log2());
        let mut seen = engine.seen(&of_values)?;
        seen.iter_mut().for_each(|norm| *norm /= unit);
        let strip = engine.kernels.keys;
        let keys = Strips::packed(Rows { data: &scaled(key, [1.0, unit.recip()], engine)?, ..key }, strip, run)?;
        let values = Strips::packed(Rows { data: &scaled(value, [1.0, unit.recip()], engine)?, ..value }, strip, run)?;
        Ok(Direction { queries: scaled(query, [scale, LOG2_E / unit], engine)?, keys, values, seen, unit })
    }
}

/// Logarithm of the largest product of numbers in the same place; a zero makes nothing of any size.
fn largest_product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(f64::NEG_INFINITY, |most, (a, b)| most.max(a.log2() + b.log2()))
}

/// The power of two that brings Ṡ to one at most, and v̇ to the size of v, from the logarithms of the largest entry of Ṡ,
/// of the largest norms of Q̂̇, k̇ and v̇, and of that of v.
fn unit_of<T: Float>(logits: f64, direction: [f64; 3], value: f64) -> f64 {
    let exponent = logits.max(direction[2] - value.max(-GROWTH));
    let exponent = if exponent.is_finite() { exponent } else { 0.0 };
    // A change that meets nothing but zeros may be of any size.
    let most = direction.into_iter().fold(f64::NEG_INFINITY, f64::max);
    exponent.max(most - (T::MAX.log2() - ROOM)).floor().exp2()
}

/// c and its change, the latter over the unit of the direction too.
pub struct Incoming<T> {
    pub c: Vec<T>,
    pub change: Option<Vec<T>>,
    pub unit: f64,
}

impl<T: Float> Incoming<T> {
    /// Those of the heads that the passes read.
    pub fn new(
        c: ArrayView2<'_, T>,
        change: Option<ArrayView2<'_, T>>,
        (engine, values): (&Engine<'_, T>, &Values<T>),
        direction: &Direction<T>,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (c, change) = (row_major(c)?, change.map(row_major).transpose()?);
        let (c, change) = (rows(&c)?, change.as_ref().map(rows).transpose()?);
        let mut sizes = engine.kernels.row_norms(c, run)?;
        if let Some(change) = change {
            let of_change = engine.kernels.row_norms(change, run)?;
            sizes.iter_mut().zip(of_change).for_each(|(size, norm)| *size = size.max(norm / direction.unit));
        }
        let mut seen = buffer::copied(&values.seen)?;
        seen.iter_mut().zip(&direction.seen).for_each(|(value, change)| *value = value.max(*change));
        let unit = unit(&sizes, &seen);
        let factors = [unit.recip(), direction.unit.recip()];
        Ok(Incoming {
            c: scaled(c, [factors[0], 1.0], engine)?,
            change: change.map(|change| scaled(change, factors, engine)).transpose()?,
            unit,
        })
    }
}

/// The numbers times both factors.
fn scaled<T: Float>(rows: Rows<'_, T>, factors: [f64; 2], engine: &Engine<'_, T>) -> Result<Vec<T>, Error> {
    let mut found = buffer::zeros(rows.data.len())?;
    engine.kernels.scaled(rows.data, factors, &mut found);
    Ok(found)
}
