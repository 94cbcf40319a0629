//! How much rows are alike: what decides whether their rounding errors cancel or add up (docs/math.md, section 5).

use ndarray::ArrayView2;

use crate::buffer;
use crate::error::Error;
use crate::float::Float;
use crate::norms::{LANES, norm, norm_from, sum_of};
use crate::pool::Run;
use crate::tile::Rows;

/// Entries of a sketch: the norm of a sum of outer products of two sketches is right to a third or so, and takes 64
/// multiplications a row.
const SKETCH: usize = LANES;

/// Sums that rows are scattered over: their squares add up to what the rows' cells give, to a third or so.
const SUMS: usize = 16;

/// Roundings that numbers may differ by and still be rounded alike.
const ALIKE: f64 = 4.0;

/// What is kept of a row to tell which rows are alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace {
    /// ‖row‖.
    pub norm: f64,
    /// A sum of the entries with weights of one size that all differ: rows that are alike have it alike.
    pub tag: f64,
    /// The direction of the row, folded into a few numbers: its norm is 1 in the mean.
    pub sketch: [f32; SKETCH],
}

impl Trace {
    /// Of a row.
    #[inline(always)]
    pub fn new<T: Float>(row: &[T]) -> Self {
        let (mut tag, mut squares, mut sums) = (0.0, [0.0; LANES], [0.0; SKETCH]);
        for (part, columns) in row.chunks(COLUMNS).enumerate() {
            let mut tags = [0.0; LANES];
            let mut add = |columns: &[T], weights: &[f64; LANES], signs: &[f64; LANES]| {
                for (k, x) in columns.iter().enumerate() {
                    let x = x.widen();
                    tags[k] += weights[k] * x;
                    squares[k] += x * x;
                    sums[k] += signs[k] * x;
                }
            };
            let (whole, rest) = columns.as_chunks::<LANES>();
            let mut tables = WEIGHTS.iter().zip(if row.len() <= SKETCH { &PLAIN } else { &SIGNS });
            for (columns, (weights, signs)) in whole.iter().zip(&mut tables) {
                add(columns, weights, signs);
            }
            if let Some((weights, signs)) = tables.next() {
                add(rest, weights, signs);
            }
            tag += part_weight(part) * sum_of(tags);
        }
        let norm = norm_from(sum_of(squares), row.iter().map(|x| x.widen()));
        let sketch = sums.map(|sum| if norm > 0.0 { (sum / norm) as f32 } else { 0.0 });
        Trace { norm, tag, sketch }
    }

    /// The cell of the row where those alike lie in one, `width` being what tags of these may differ by.
    pub fn cell(&self, width: f64) -> u64 {
        cell(self.tag, width)
    }

    /// The cell of its direction, of 16: rows of one attend to about the same keys.
    pub fn direction(&self) -> u64 {
        mixed(self.sketch[..4].iter().fold(1, |bits, &x| 2 * bits + u64::from(x > 0.0)))
    }
}

/// Columns with weights in a table; those beyond have the same ones, times that of their part.
const COLUMNS: usize = 256;

/// The golden ratio: it spreads its multiples evenly.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// The weights of entries in the tag, between 1 and 2.
static WEIGHTS: [[f64; LANES]; COLUMNS / LANES] = {
    let mut table = [[0.0; LANES]; COLUMNS / LANES];
    let mut i = 0;
    while i < COLUMNS {
        let multiple = (i + 1) as f64 * GOLDEN;
        table[i / LANES][i % LANES] = 1.0 + (multiple - (multiple as u64) as f64);
        i += 1;
    }
    table
};

/// Their signs in the sketch ...
static SIGNS: [[f64; LANES]; COLUMNS / LANES] = {
    let mut table = [[1.0; LANES]; COLUMNS / LANES];
    let mut i = 0;
    while i < COLUMNS {
        if mixed(i as u64) & 1 == 1 {
            table[i / LANES][i % LANES] = -1.0;
        }
        i += 1;
    }
    table
};

/// ... where a row that fits is kept as it is.
static PLAIN: [[f64; LANES]; COLUMNS / LANES] = [[1.0; LANES]; COLUMNS / LANES];

/// The weight of a part of the columns, between 1 and 1.5.
#[inline(always)]
fn part_weight(part: usize) -> f64 {
    if part == 0 { 1.0 } else { 1.0 + 0.5 * (part as f64 * GOLDEN).fract() }
}

/// A number from which nobody can tell the other (SplitMix64).
#[inline(always)]
const fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[inline(always)]
fn cell(tag: f64, width: f64) -> u64 {
    // A width of zero leaves equal numbers in one cell; −0 is 0.
    let place = if width > 0.0 { (tag / width).round() + 0.0 } else { tag + 0.0 };
    mixed(place.to_bits())
}

/// The cell of rows that two cells have in common.
pub fn both(one: u64, other: u64) -> u64 {
    mixed(one ^ other.rotate_left(32))
}

/// What tags of rows of norms up to `largest` differ by that `block` roundings could have made.
pub fn alike(largest: f64, unit: f64, block: f64) -> f64 {
    ALIKE * unit * block * largest
}

/// The trace of each row.
pub fn traces<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<Trace>, Error> {
    rows.map(run, Trace::new)
}

/// Their norms.
pub fn norms(traces: &[Trace]) -> Result<Vec<f64>, Error> {
    buffer::collected(traces.iter().map(|trace| trace.norm))
}

/// √Σ over cells of ‖Σ over its rows of x_j‖², where x_j is a number times a few directions: scattered over a few sums
/// with a random sign for each cell, rows of different cells add up as their squares, and rows of one cell plainly.
pub struct LinedUp {
    sums: [[f64; SKETCH * SKETCH]; SUMS],
}

impl LinedUp {
    /// Of nothing yet.
    pub fn new() -> Self {
        LinedUp { sums: [[0.0; SKETCH * SKETCH]; SUMS] }
    }

    /// Adds `size` times the directions.
    #[inline(always)]
    pub fn add(&mut self, size: f64, cell: u64, directions: &[f64]) {
        if size != 0.0 {
            let size = if cell >> 32 & 1 == 0 { size } else { -size };
            for (sum, direction) in self.sums[cell as usize % SUMS].iter_mut().zip(directions) {
                *sum += size * direction;
            }
        }
    }

    /// The sum.
    pub fn total(&self) -> f64 {
        norm(self.sums.as_flattened())
    }
}

/// The outer product of two directions, or the first alone.
#[inline(always)]
pub fn outer(a: &[f32; SKETCH], b: &[f32; SKETCH]) -> [f64; SKETCH * SKETCH] {
    let mut out = [0.0; SKETCH * SKETCH];
    for (row, &a) in out.as_chunks_mut::<SKETCH>().0.iter_mut().zip(a) {
        for (entry, &b) in row.iter_mut().zip(b) {
            *entry = f64::from(a) * f64::from(b);
        }
    }
    out
}

/// The largest norm, NaN if one is.
pub fn largest(traces: &[Trace]) -> f64 {
    traces.iter().fold(0.0, |max, &Trace { norm, .. }| if norm > max || norm.is_nan() { norm } else { max })
}

/// How much keys are alike, and values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Keys {
    /// max ‖h_i‖, and max ‖h_i − mean‖.
    pub largest_value: f64,
    pub centred_value: f64,
    /// Most keys that are alike to rounding, and values; and the same for terms of a sum over a block of keys.
    pub key_repeats: f64,
    pub value_repeats: f64,
    pub key_repeats_in_block: f64,
    pub value_repeats_in_block: f64,
    /// ‖Σ over a block‖ / Σ ‖·‖ of values, and of outer products of keys and centred values, root mean square over the
    /// blocks: one where they line up, 1/√block where they are independent.
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
}

impl Keys {
    /// Of keys and values with these traces, values that are summed in blocks of `block`.
    pub fn new<T: Float>(
        key_traces: &[Trace],
        value_traces: &[Trace],
        values: Rows<'_, T>,
        block: usize,
        run: &mut Run<'_>,
    ) -> Result<Self, Error> {
        let m = values.count;
        let block = block.max(1);
        let range = |i: usize| i * block..m.min((i + 1) * block);
        let mean = mean(values, run)?;
        let mut blocks = buffer::zeros::<(Block, f64)>(m.div_ceil(block))?;
        let nanoseconds = m.saturating_mul(3 * values.width + SKETCH * SKETCH);
        run.short(nanoseconds, blocks.iter_mut().enumerate(), |(i, (sums, largest)), _| {
            (*sums, *largest) = Block::new(range(i), key_traces, values, &mean)?;
            Ok(())
        })?;
        let mut sums = Block::default();
        let mut centred_value = 0.0;
        for (block, centred) in &blocks {
            sums.add(block);
            centred_value = f64::max(centred_value, *centred);
        }
        let (largest_key, largest_value) = (largest(key_traces), largest(value_traces));
        let repeats = |traces: &[Trace], largest: f64, block: f64| -> Result<f64, Error> {
            most_in_a_cell(traces, alike(largest, T::UNIT_ROUNDOFF, block))
        };
        let length = block.min(m.max(1)) as f64;
        Ok(Keys {
            largest_value,
            centred_value,
            key_repeats: repeats(key_traces, largest_key, 1.0)?,
            value_repeats: repeats(value_traces, largest_value, 1.0)?,
            key_repeats_in_block: repeats(key_traces, largest_key, length)?,
            value_repeats_in_block: repeats(value_traces, largest_value, length)?,
            values_line_up: line_up(sums.values, sums.value_squares, sums.count, m),
            products_line_up: line_up(sums.products, sums.product_squares, sums.count, m),
        })
    }
}

/// The mean row.
fn mean<T: Float>(rows: Rows<'_, T>, run: &mut Run<'_>) -> Result<Vec<f64>, Error> {
    let (width, part) = (rows.width.max(1), rows.part() * rows.width.max(1));
    let mut means = buffer::zeros::<f64>(buffer::size(&[rows.data.len().div_ceil(part), rows.width])?)?;
    run.short(rows.data.len(), means.chunks_mut(width).zip(rows.data.chunks(part)), |(mean, data), _| {
        for row in data.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x.widen() / rows.count as f64);
        }
        Ok(())
    })?;
    let mut mean = buffer::zeros::<f64>(rows.width)?;
    for part in means.chunks(width) {
        mean.iter_mut().zip(part).for_each(|(mean, x)| *mean += x);
    }
    Ok(mean)
}

/// √(Σ ‖block sum‖² / Σ count²) over the root mean square of the rows.
fn line_up(sums: f64, squares: f64, counts: f64, rows: usize) -> f64 {
    let known = squares > 0.0 && squares.is_finite() && sums.is_finite();
    if known { (sums / counts / (squares / rows as f64)).sqrt().min(1.0) } else { 1.0 }
}

impl Block {
    /// Of the keys of a block, and the largest centred value.
    fn new<T: Float>(
        range: std::ops::Range<usize>,
        keys: &[Trace],
        values: Rows<'_, T>,
        mean: &[f64],
    ) -> Result<(Self, f64), Error> {
        let (mut sum, mut products) = (buffer::zeros::<f64>(mean.len())?, [0.0; SKETCH * SKETCH]);
        let mut centred = buffer::zeros::<f64>(mean.len())?;
        let mut block = Block { count: (range.len() as f64).powi(2), ..Block::default() };
        let mut largest = 0.0;
        for i in range {
            let row = &values.data[i * values.width..][..values.width];
            for ((x, sum), (centred, mean)) in row.iter().zip(&mut sum).zip(centred.iter_mut().zip(mean)) {
                *sum += x.widen();
                *centred = x.widen() - mean;
                block.value_squares += x.widen() * x.widen();
            }
            let trace = Trace::new(&centred);
            let size = trace.norm * keys[i].norm;
            block.product_squares += size * size;
            for (sum, product) in products.iter_mut().zip(outer(&keys[i].sketch, &trace.sketch)) {
                *sum += size * product;
            }
            largest = f64::max(largest, trace.norm);
        }
        (block.values, block.products) = (norm(&sum).powi(2), norm(&products).powi(2));
        Ok((block, largest))
    }

    fn add(&mut self, other: &Block) {
        self.values += other.values;
        self.value_squares += other.value_squares;
        self.products += other.products;
        self.product_squares += other.product_squares;
        self.count += other.count;
    }
}

/// How many rows the fullest cell holds.
fn most_in_a_cell(traces: &[Trace], width: f64) -> Result<f64, Error> {
    // Open addressing: a place for every other row at least stays free.
    let places = traces.len().saturating_mul(2).next_power_of_two();
    let mut table = buffer::zeros::<(u64, u32)>(places)?;
    let mut most = 1;
    for trace in traces {
        let cell = trace.cell(width);
        let mut place = cell as usize & (places - 1);
        while table[place].1 > 0 && table[place].0 != cell {
            place = (place + 1) & (places - 1);
        }
        table[place] = (cell, table[place].1.saturating_add(1));
        most = most.max(table[place].1);
    }
    Ok(f64::from(most))
}

/// Whether products with the matrix lose nothing: a column has one power of two at most, and zeros.
pub fn is_exact<T: Float>(matrix: ArrayView2<'_, T>) -> bool {
    matrix.columns().into_iter().all(|column| {
        let mut others = column.iter().filter(|x| !x.is_zero());
        let is_power = others.next().is_none_or(|x| {
            let log = x.widen().abs().log2();
            log.fract() == 0.0 && log.exp2() == x.widen().abs()
        });
        is_power && others.next().is_none()
    })
}
