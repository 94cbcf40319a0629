//! Sizes of keys and values, numbers of those that are alike, and how much they line up (docs/math.md, section 5).

use std::ops::Range;

use super::alike::{SKETCH, Trace, alike, both, longest, most_in_a_cell, outer};
use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::norms::{largest, largest_row, norm, norm_from};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Rows between two looks at a partial sum over a block: no multiple of it is a period that data have.
pub const LOOK: usize = 5;

/// Approximate time of counting a row.
const COUNT_NANOSECONDS: usize = 10;

/// Norms of some rows, of their mean, and of their distances from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Place {
    /// max ‖row‖.
    pub largest: f64,
    /// The norm of their mean.
    pub mean: f64,
    /// max ‖row − mean‖.
    pub farthest: f64,
}

impl Place {
    /// Of any rows.
    pub fn new<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Self, Error> {
        let largest = largest_row(rows, run)?;
        Place::of(rows, largest, run)
    }

    /// The same where the longest row is known.
    fn of<T: Float>(rows: Rows<'_, T>, longest: f64, run: &mut Run<'_>) -> Result<Self, Error> {
        let mean = mean(rows, run)?;
        let apart = rows.map(run, |row| {
            let apart = row.iter().zip(&mean).map(|(x, mean)| x.widen() - mean);
            norm_from(apart.clone().map(|x| x * x).sum(), apart)
        })?;
        Ok(Place { largest: longest, mean: norm(&mean), farthest: largest(&apart) })
    }

    /// ‖Σ_i f_i row_i‖ at most, for weights f of sum 1 whose squares add up to (1 + `uneven`²) / rows.
    pub fn weighted(&self, uneven: f64) -> f64 {
        (self.mean + uneven * self.farthest).min(self.largest)
    }
}

/// The mean row.
fn mean<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
    let (width, part) = (rows.width.max(1), rows.part() * rows.width.max(1));
    let mut means = buffer::zeros::<f64>(buffer::size(&[rows.data.len().div_ceil(part), rows.width])?)?;
    // Each row is divided first, so that large ones do not overflow.
    let share = 1.0 / rows.count.max(1) as f64;
    run.short(rows.data.len(), means.chunks_mut(width).zip(rows.data.chunks(part)), |(mean, data), _| {
        for row in data.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x.widen() * share);
        }
        Ok(())
    })?;
    let mut mean = buffer::zeros::<f64>(rows.width)?;
    for part in means.chunks(width) {
        mean.iter_mut().zip(part).for_each(|(mean, x)| *mean += x);
    }
    Ok(mean)
}

/// Rows with their traces.
#[derive(Clone, Copy)]
pub struct Side<'a, T> {
    pub rows: Rows<'a, T>,
    pub traces: &'a [Trace],
}

/// Parameters of the sums over keys and values.
pub struct Meets {
    /// The longest query, the scale included, so that its products with keys are natural logits.
    pub query: f64,
    /// Roundings that values lost when they were made.
    pub lost: f64,
    /// Keys that are summed in working precision at a time.
    pub block: usize,
    /// Whether p K is summed too, and not o alone.
    pub has_products: bool,
}

/// Sizes and likeness of keys and of values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys {
    pub key: Place,
    pub value: Place,
    /// Largest number of keys that are alike to rounding; of values that are; and of values with the same rounding
    /// error.
    pub key_repeats: f64,
    pub value_repeats: f64,
    pub value_losses: f64,
    /// Largest number of keys that are alike as terms of a sum over a block, so that no query tells them apart; of
    /// values that are; and of pairs of both that are.
    pub key_terms: f64,
    pub value_terms: f64,
    pub terms: f64,
    /// As `key_terms`, of keys whose weights are as small beside the largest as any can be; counted where blocks are
    /// folded no finer than the numbers are, and one elsewhere.
    pub small_terms: f64,
    /// The largest norm of a partial sum of values over whole blocks, over their number.
    pub folded: f64,
    /// The largest ‖partial sum over a block‖ over Σ ‖·‖ of values, and of outer products of keys and centred values,
    /// root mean square over the blocks: one where they line up, 1/√block where they are independent, and 2/block at
    /// least.
    pub values_line_up: f64,
    pub products_line_up: f64,
}

/// The part of a block of keys in the sums of all.
#[derive(Clone, Copy, Default)]
struct Block {
    values: f64,
    value_squares: f64,
    products: f64,
    product_squares: f64,
    count: f64,
    farthest_value: f64,
}

impl Keys {
    /// Of keys and values.
    pub fn new<T: Float>(
        keys: Side<'_, T>,
        values: Side<'_, T>,
        Meets { query, lost, block, has_products }: Meets,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let (m, block) = (values.rows.count, block.max(1));
        let range = |i: usize| i * block..m.min((i + 1) * block);
        let value_mean = mean(values.rows, run)?;
        let mut blocks = buffer::filled(m.div_ceil(block), Block::default())?;
        let width = values.rows.width;
        let mut totals = buffer::zeros::<f64>(buffer::size(&[blocks.len(), width])?)?;
        let nanoseconds = m.saturating_mul(3 * values.rows.width + if has_products { SKETCH * SKETCH } else { 0 });
        let parts = blocks.iter_mut().zip(totals.chunks_mut(width.max(1))).enumerate();
        run.short(nanoseconds, parts, |(i, (sums, total)), _| {
            *sums = Block::new(range(i), keys.traces, values.rows, &value_mean, has_products, total)?;
            Ok(())
        })?;
        let (mut running, mut folded) = (buffer::zeros::<f64>(width)?, 0.0);
        for total in totals.chunks(width.max(1)) {
            running.iter_mut().zip(total).for_each(|(running, x)| *running += x);
            folded = largest([folded, norm(&running)]);
        }
        let mut sums = Block::default();
        blocks.iter().for_each(|block| sums.add(block));
        let key = Place::of(keys.rows, longest(keys.traces), run)?;
        let value = Place {
            largest: longest(values.traces),
            mean: norm(&value_mean),
            farthest: largest(blocks.iter().map(|block| block.farthest_value)),
        };
        let length = block.min(m.max(1)) as f64;
        // Difference up to which a key and a value are counted with another one, alone or both together.
        let width = |largest: f64, terms: f64| Some(alike(largest, T::UNIT_ROUNDOFF, terms));
        // Keys that differ by less make no difference to a weight.
        let (key_term, value_term) = (width(key.largest.max(query.recip()), length), width(value.largest, length));
        // The smaller a weight is, the more may keys differ that make the same of it in a sum.
        let small = (2.0 * query * key.farthest).exp();
        let is_fold_finer = T::UNIT_ROUNDOFF > f64::UNIT_ROUNDOFF;
        let counted = [
            (width(key.largest, 1.0), None),
            (None, width(value.largest, 1.0)),
            (None, width(value.largest.max(lost), 1.0)),
            (key_term, None),
            (None, value_term),
            (key_term, value_term),
            (key_term.map(|width| width * small), None),
        ];
        let counts = counted.len() - usize::from(is_fold_finer);
        let mut most = [1.0; 7];
        let nanoseconds = m.saturating_mul(counts * COUNT_NANOSECONDS);
        run.short(nanoseconds, most[..counts].iter_mut().zip(counted), |(most, (by_key, by_value)), _| {
            let cell = |trace: &Trace, width: Option<f64>| width.map_or(0, |width| trace.cell(width));
            let pairs = keys.traces.iter().zip(values.traces);
            *most = most_in_a_cell(pairs.map(|(key, value)| both(cell(key, by_key), cell(value, by_value))))?;
            Ok(())
        })?;
        let [key_repeats, value_repeats, value_losses, key_terms, value_terms, terms, small_terms] = most;
        // Between two looks a partial sum is a term or two.
        let line_up = |squares, rows| line_up(squares, sums.count, rows, m).max((2.0 / length).min(1.0));
        Ok(Keys {
            key,
            value,
            key_repeats,
            value_repeats,
            value_losses,
            key_terms,
            value_terms,
            terms,
            small_terms,
            folded: folded / m.max(1) as f64,
            values_line_up: line_up(sums.values, sums.value_squares),
            products_line_up: line_up(sums.products, sums.product_squares),
        })
    }
}

/// √(Σ ‖partial sum‖² / Σ count²) over the root mean square of the rows.
fn line_up(sums: f64, counts: f64, squares: f64, rows: usize) -> f64 {
    let known = squares > 0.0 && squares.is_finite() && sums.is_finite();
    if known { (sums / counts / (squares / rows as f64)).sqrt().min(1.0) } else { 1.0 }
}

impl Block {
    /// Of the keys of a block; their values are added to `sum`.
    fn new<T: Float>(
        range: Range<usize>,
        keys: &[Trace],
        values: Rows<'_, T>,
        mean: &[f64],
        has_products: bool,
        sum: &mut [f64],
    ) -> Result<Self, Error> {
        let mut products = [0.0; SKETCH * SKETCH];
        let mut centred = buffer::zeros::<f64>(mean.len())?;
        let mut block = Block { count: (range.len() as f64).powi(2), ..Block::default() };
        let end = range.end;
        for i in range {
            let row = &values.data[i * values.width..][..values.width];
            for ((x, sum), (centred, mean)) in row.iter().zip(sum.iter_mut()).zip(centred.iter_mut().zip(mean)) {
                *sum += x.widen();
                *centred = x.widen() - mean;
                block.value_squares += x.widen() * x.widen();
            }
            let is_look = i % LOOK == LOOK - 1 || i + 1 == end;
            if is_look {
                block.values = largest([block.values, norm(sum).powi(2)]);
            }
            if !has_products {
                block.farthest_value = largest([block.farthest_value, norm(&centred)]);
                continue;
            }
            let trace = Trace::new(&centred);
            block.farthest_value = largest([block.farthest_value, trace.norm]);
            let size = trace.norm * keys[i].norm;
            block.product_squares += size * size;
            for (sum, product) in products.iter_mut().zip(outer(&keys[i].sketch, &trace.sketch)) {
                *sum += size * product;
            }
            if is_look {
                block.products = largest([block.products, norm(&products).powi(2)]);
            }
        }
        Ok(block)
    }

    fn add(&mut self, other: &Block) {
        self.values += other.values;
        self.value_squares += other.value_squares;
        self.products += other.products;
        self.product_squares += other.product_squares;
        self.count += other.count;
    }
}
