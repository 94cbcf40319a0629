//! Likeness of rows, which decides whether their rounding errors cancel or add up (docs/math.md, section 5).

use ndarray::ArrayView2;

use crate::error::Error;
use crate::float::Float;
use crate::linalg::layout::Rows;
use crate::linalg::norms::{LANES, largest, norm, norm_from, sum_of};
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Entries of a sketch: the norm of a sum of outer products of two sketches is right to a third or so, and takes 64
/// multiplications a row.
pub const SKETCH: usize = LANES;

/// Sums that rows are scattered over: their squares add up to what the rows' cells give, to a third or so.
const SUMS: usize = 16;

/// Roundings that numbers may differ by and still be rounded alike.
const ALIKE: f64 = 4.0;

/// Trace of a row, from which rows that are alike are found.
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

    /// The cell of the row where those alike lie in one, `width` being the difference that their tags may have.
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

/// Added to a number it leaves the number's integer in the last bits; the instruction that rounds is no part of every
/// level.
const ROUNDING: f64 = 1.5 * (1u64 << 52) as f64;

#[inline(always)]
fn cell(tag: f64, width: f64) -> u64 {
    // A width of zero leaves equal numbers in one cell; −0 is 0.
    let place = if width > 0.0 { tag / width + ROUNDING } else { tag + 0.0 };
    mixed(place.to_bits())
}

/// The cell of rows that two cells have in common.
pub fn both(one: u64, other: u64) -> u64 {
    mixed(one ^ other.rotate_left(32))
}

/// Difference of the tags of rows of norms up to `largest` that `block` roundings could have made.
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

    /// Adds what another one has.
    pub fn merge(&mut self, other: &LinedUp) {
        let sums = self.sums.as_flattened_mut().iter_mut().zip(other.sums.as_flattened());
        sums.for_each(|(sum, other)| *sum += other);
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
pub fn longest(traces: &[Trace]) -> f64 {
    largest(traces.iter().map(|trace| trace.norm))
}

/// Number of rows in the fullest cell, from the cells of the rows.
pub fn most_in_a_cell(cells: impl ExactSizeIterator<Item = u64>) -> Result<f64, Error> {
    // Open addressing: a place for every other row at least stays free.
    let places = cells.len().saturating_mul(2).next_power_of_two();
    let mut table = buffer::zeros::<(u64, u32)>(places)?;
    let mut most = 1;
    for cell in cells {
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
