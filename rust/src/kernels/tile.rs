//! The register tile: two vectors of queries × `J` keys, written once for every precision and instruction set.
//!
//! `V` is a register of `W` numbers and `L = 2 W`. A tile of logits stays in registers through the exponential into
//! the next product.

use crate::float::Float;
use crate::linalg::norms::wider;
use crate::simd::Vector;
use crate::simd::transpose::{BLOCK, transposed};

/// `L` numbers in two registers.
pub type Pair<V> = [V; 2];

/// Logits, weights or p of `J` keys for the `L` queries of a tile.
pub type Tile<V, const J: usize> = [Pair<V>; J];

/// Loads `L` numbers.
#[inline(always)]
pub fn load<T, V: Vector<T, W>, const W: usize, const L: usize>(from: &[T; L]) -> Pair<V> {
    let halves = from.as_chunks::<W>().0;
    [V::load(&halves[0]), V::load(&halves[1])]
}

/// Stores `L` numbers.
#[inline(always)]
pub fn store<T, V: Vector<T, W>, const W: usize, const L: usize>(pair: Pair<V>, to: &mut [T; L]) {
    let halves = to.as_chunks_mut::<W>().0;
    pair[0].store(&mut halves[0]);
    pair[1].store(&mut halves[1]);
}

/// Applies `f` lane by lane to two pairs.
#[inline(always)]
pub fn zip<V: Copy>(a: Pair<V>, b: Pair<V>, f: impl Fn(V, V) -> V) -> Pair<V> {
    [f(a[0], b[0]), f(a[1], b[1])]
}

/// sums + a².
#[inline(always)]
pub fn add_square<T, V: Vector<T, W>, const W: usize>(a: Pair<V>, sums: Pair<V>) -> Pair<V> {
    zip(a, sums, |a, sum| a.mul_add(a, sum))
}

/// S[j][l] = Σ_i q[i][l] · key_j[i], with `queries` laid out `[width][L]` and `keys` `[width][J]`.
///
/// Forward and backward both call this, so the backward pass sees the forward's logits bit for bit.
#[inline(always)]
pub fn products<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    queries: &[T],
    keys: &[T],
) -> Tile<V, J> {
    first_products::<T, V, W, L, J, false>(queries, keys)
}

/// The same, of the first half of the keys alone if `HALF`: few keys are left in the last strip of many.
#[inline(always)]
pub fn first_products<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize, const HALF: bool>(
    queries: &[T],
    keys: &[T],
) -> Tile<V, J> {
    let mut tile = [[V::splat(T::zero()); 2]; J];
    for (query, key) in queries.as_chunks::<L>().0.iter().zip(keys.as_chunks::<J>().0) {
        let query = load::<T, V, W, L>(query);
        for j in 0..if HALF { J / 2 } else { J } {
            let key = V::splat(key[j]);
            tile[j] = zip(query, tile[j], |query, sum| query.mul_add(key, sum));
        }
    }
    tile
}

/// The same added to `tile`.
#[inline(always)]
pub fn products_onto<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    queries: &[T],
    keys: &[T],
    tile: &mut Tile<V, J>,
) {
    for (query, key) in queries.as_chunks::<L>().0.iter().zip(keys.as_chunks::<J>().0) {
        let query = load::<T, V, W, L>(query);
        for j in 0..J {
            let key = V::splat(key[j]);
            tile[j] = zip(query, tile[j], |query, sum| query.mul_add(key, sum));
        }
    }
}

/// Products added one after another in a sum over the keys of a strip. The next one waits for the last, so a strip's
/// sum is cut into chains short enough for the processor to overlap them.
const CHAIN: usize = 6;

/// Chains of the longest strip.
const CHAINS: usize = 2;

/// out[i][l] += Σ_j weights[j][l] · row_j[i], with `out` laid out `[width][L]` and `rows` `[width][J]`.
///
/// A strip has a sum of its own: a large term in `out` then rounds the terms after it once a strip, not once a key,
/// which matters where they are no larger than a rounding.
#[inline(always)]
pub fn accumulate<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    out: &mut [T],
    weights: &Tile<V, J>,
    rows: &[T],
) {
    for (out, row) in out.as_chunks_mut::<L>().0.iter_mut().zip(rows.as_chunks::<J>().0) {
        const { assert!(J <= CHAIN * CHAINS) };
        let mut sums = [[V::splat(T::zero()); 2]; CHAINS];
        for j in 0..J {
            let row = V::splat(row[j]);
            let chain = j / CHAIN;
            sums[chain] = if j % CHAIN == 0 {
                zip(weights[j], weights[j], |weight, _| weight.mul(row))
            } else {
                zip(weights[j], sums[chain], |weight, sum| weight.mul_add(row, sum))
            };
        }
        for chain in 1..J.div_ceil(CHAIN) {
            sums[0] = zip(sums[0], sums[chain], V::add);
        }
        store(zip(load::<T, V, W, L>(out), sums[0], V::add), out);
    }
}

/// Exponentials computed side by side: each is one long chain of dependent steps, and four of them keep the
/// processor busy within the registers of every level.
pub const ABREAST: usize = 4;

/// 2^x in each lane, zero from [`Float::EXP2_MIN`] down. Without `CLAMP` the caller knows that |x| is at most
/// [`Float::UNSHIFTED_MAX`].
#[inline(always)]
pub fn exp2<T: Float, V: Vector<T, W>, const W: usize, const CLAMP: bool>(mut x: [V; ABREAST]) -> [V; ABREAST] {
    let rounding = V::splat(T::ROUNDING_SHIFT);
    let mut shifted = x;
    let mut sum = [V::splat(T::EXP2[T::EXP2.len() - 1]); ABREAST];
    // Loops, not `map`: its call would stand between the intrinsics and their instruction set.
    for i in 0..ABREAST {
        if CLAMP {
            x[i] = x[i].max(V::splat(T::EXP2_MIN));
        }
        shifted[i] = x[i].add(rounding);
        x[i] = x[i].sub(shifted[i].sub(rounding));
    }
    for k in (0..T::EXP2.len() - 1).rev() {
        for i in 0..ABREAST {
            sum[i] = sum[i].mul_add(x[i], V::splat(T::EXP2[k]));
        }
    }
    for i in 0..ABREAST {
        sum[i] = sum[i].mul_add(x[i], V::splat(T::EXP2_SCALE)).mul(shifted[i].pow2());
    }
    sum
}

/// Replaces logits S by weights 2^(S − shift).
#[inline(always)]
pub fn exponentiate<
    T: Float,
    V: Vector<T, W>,
    const W: usize,
    const SHIFTED: bool,
    const MASKED: bool,
    const J: usize,
>(
    tile: &mut Tile<V, J>,
    shift: Pair<V>,
) {
    const { assert!((2 * J).is_multiple_of(ABREAST) && 2 * J <= 6 * ABREAST) };
    // Written out, not a loop: what the compiler does not unroll it indexes, and then the whole tile lives in memory,
    // in the products before and after too.
    let quads = tile.as_chunks_mut::<{ ABREAST / 2 }>().0;
    macro_rules! quad {
        ($($i:literal)*) => {
            $(if let Some(quad) = quads.get_mut($i) {
                exponentiate_quad::<T, V, W, SHIFTED, MASKED>(quad, shift);
            })*
        };
    }
    quad!(0 1 2 3 4 5);
}

/// [`exponentiate`] for as many registers as are worked on side by side.
#[inline(always)]
fn exponentiate_quad<T: Float, V: Vector<T, W>, const W: usize, const SHIFTED: bool, const MASKED: bool>(
    pairs: &mut [Pair<V>; ABREAST / 2],
    shift: Pair<V>,
) {
    if SHIFTED {
        for pair in pairs.iter_mut() {
            *pair = zip(*pair, shift, V::sub);
        }
    }
    let [[a, b], [c, d]] = *pairs;
    // A masked logit is −∞, so it needs the clamp even where no shift is needed.
    let [a, b, c, d] =
        if SHIFTED || MASKED { exp2::<T, V, W, true>([a, b, c, d]) } else { exp2::<T, V, W, false>([a, b, c, d]) };
    *pairs = [[a, b], [c, d]];
}

/// Sets what belongs to keys that a lane does not see to `hidden`, −∞ for logits: it sees those from `begin[l]` up to
/// `end[l]`, by their indices within the strip.
#[inline(always)]
pub fn mask<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    tile: &mut Tile<V, J>,
    [begin, end]: &[[i32; L]; 2],
    hidden: T,
) {
    for (j, pair) in tile.iter_mut().enumerate() {
        let mut lanes = [T::zero(); L];
        store(*pair, &mut lanes);
        for l in 0..L {
            if (j as i32) < begin[l] || j as i32 >= end[l] {
                lanes[l] = hidden;
            }
        }
        *pair = load::<T, V, W, L>(&lanes);
    }
}

/// Sets entries to zero where that of `logits` is −∞.
#[inline(always)]
pub fn clear<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    tile: &mut Tile<V, J>,
    logits: &[[T; L]; J],
) {
    for (pair, logits) in tile.iter_mut().zip(logits) {
        let mut lanes = [T::zero(); L];
        store(*pair, &mut lanes);
        for l in 0..L {
            lanes[l] = if logits[l] == T::neg_infinity() { T::zero() } else { lanes[l] };
        }
        *pair = load::<T, V, W, L>(&lanes);
    }
}

/// Σ_t weights[j][t] · rows[t][·], the tile with keys and columns as its sides, over `C` queries. A row has `N`
/// registers.
#[inline(always)]
pub fn outer<T: Float, V: Vector<T, W>, const W: usize, const N: usize, const J: usize, const C: usize>(
    weights: [&[T; C]; J],
    rows: &[[[T; W]; N]; C],
) -> [[V; N]; J] {
    let mut tile = [[V::splat(T::zero()); N]; J];
    outer_onto(weights, rows, &mut tile);
    tile
}

/// The same added to `tile`.
#[inline(always)]
pub fn outer_onto<T: Float, V: Vector<T, W>, const W: usize, const N: usize, const J: usize, const C: usize>(
    weights: [&[T; C]; J],
    rows: &[[[T; W]; N]; C],
    tile: &mut [[V; N]; J],
) {
    for (t, row) in rows.iter().enumerate() {
        let mut halves = [V::splat(T::zero()); N];
        for half in 0..N {
            halves[half] = V::load(&row[half]);
        }
        for j in 0..J {
            let weight = V::splat(weights[j][t]);
            for half in 0..N {
                tile[j][half] = halves[half].mul_add(weight, tile[j][half]);
            }
        }
    }
}

/// Adds the sums of one block of keys to those in double precision, and clears them.
#[inline(always)]
pub fn fold<T: Float>(sums: &mut [T], sums64: &mut [f64]) {
    for (sum, sum64) in sums.iter_mut().zip(sums64) {
        *sum64 += sum.widen();
        *sum = T::zero();
    }
}

/// Transposes up to `L` rows into `[width][L]`; lanes past the last row are zero.
#[inline(always)]
pub fn transpose<T: Float, const L: usize>(rows: &[T], width: usize, out: &mut [T]) {
    let fits = L.is_multiple_of(BLOCK) && rows.len() == L * width;
    let whole = if fits { width / BLOCK * BLOCK } else { 0 };
    let (blocks, rest) = out[..width * L].split_at_mut(whole * L);
    // Entry by entry it takes twice as long: a load and a store for each.
    for (block, columns) in blocks.chunks_exact_mut(BLOCK * L).enumerate() {
        for at in (0..L).step_by(BLOCK) {
            let mut entries = [[T::zero(); BLOCK]; BLOCK];
            for r in 0..BLOCK {
                entries[r].copy_from_slice(&rows[(at + r) * width + block * BLOCK..][..BLOCK]);
            }
            let entries = transposed(entries);
            for c in 0..BLOCK {
                columns[c * L + at..][..BLOCK].copy_from_slice(&entries[c]);
            }
        }
    }
    for (i, out) in (whole..width).zip(rest.as_chunks_mut::<L>().0) {
        let mut column = [T::zero(); L];
        for (to, row) in column.iter_mut().zip(rows.chunks_exact(width)) {
            *to = row[i];
        }
        *out = column;
    }
}

/// Rows `first..first + count` of the row-major `rows` from `[width][L]`.
#[inline(always)]
pub fn untranspose<T: Float, const L: usize>(lanes: &[T], (first, count): (usize, usize), rows: &mut [T]) {
    let columns = lanes.as_chunks::<L>().0;
    let width = columns.len();
    let rows = &mut rows[first * width..];
    let count = count.min(rows.len() / width.max(1));
    let rows = &mut rows[..count * width];
    let whole = if L.is_multiple_of(BLOCK) && count == L { width / BLOCK * BLOCK } else { 0 };
    for at in (0..whole).step_by(BLOCK) {
        for l in (0..L).step_by(BLOCK) {
            let mut entries = [[T::zero(); BLOCK]; BLOCK];
            for c in 0..BLOCK {
                entries[c].copy_from_slice(&columns[at + c][l..][..BLOCK]);
            }
            let entries = transposed(entries);
            for r in 0..BLOCK {
                rows[(l + r) * width + at..][..BLOCK].copy_from_slice(&entries[r]);
            }
        }
    }
    for (l, row) in rows.chunks_exact_mut(width.max(1)).enumerate() {
        for (to, column) in row[whole..].iter_mut().zip(&columns[whole..]) {
            *to = column[l];
        }
    }
}

/// ‖x‖² of each row; `x` is laid out `[dimension][L]`.
#[inline(always)]
pub fn square_norms<T: Float, const L: usize>(x: &[[T; L]]) -> [T; L] {
    let mut squares = [T::zero(); L];
    for column in x {
        for l in 0..L {
            squares[l] += column[l] * column[l];
        }
    }
    squares
}

/// ‖x‖ of each row in double precision: inputs are in any unit.
#[inline(always)]
pub fn wide_norms<T: Float, const L: usize>(x: &[[T; L]]) -> [f64; L] {
    let mut squares = [0.0; L];
    for column in x {
        for l in 0..L {
            squares[l] += column[l].widen() * column[l].widen();
        }
    }
    squares.map(f64::sqrt)
}

/// The largest ‖x‖², NaN if one is.
#[inline(always)]
pub fn widest<T: Float, const L: usize>(x: &[[T; L]]) -> f64 {
    square_norms(x).iter().fold(0.0, |max, square| wider(max, square.widen()))
}

#[cfg(test)]
mod tests;
