//! The register tile: `L` queries in vector lanes × `J` keys, written once for every precision and instruction set.
//!
//! Plain arrays with constant bounds: compiled under a wider instruction set each `[T; L]` becomes two vector
//! registers, and a tile of logits stays in registers through the exponential into the next product.
//! `FMA` is off only where the instruction set has no fused multiply-add, which would become a library call.

use crate::float::Float;

/// Logits, weights or p of `J` keys for the `L` queries of a tile.
pub type Tile<T, const L: usize, const J: usize> = [[T; L]; J];

/// a·b + c, rounded once where the instruction set can.
#[inline(always)]
pub fn multiply_add<T: Float, const FMA: bool>(a: T, b: T, c: T) -> T {
    if FMA { T::fused(a, b, c) } else { a * b + c }
}

/// S[j][l] = Σ_i q[i][l] · key_j[i], with `queries` laid out `[width][L]` and `keys` `[width][J]`.
///
/// Forward and backward both call this, so the backward pass sees the forward's logits bit for bit.
#[inline(always)]
pub fn products<T: Float, const FMA: bool, const L: usize, const J: usize>(
    queries: &[T],
    keys: &[T],
) -> Tile<T, L, J> {
    let mut tile = [[T::zero(); L]; J];
    for (query, key) in queries.as_chunks::<L>().0.iter().zip(keys.as_chunks::<J>().0) {
        for j in 0..J {
            for l in 0..L {
                tile[j][l] = multiply_add::<T, FMA>(query[l], key[j], tile[j][l]);
            }
        }
    }
    tile
}

/// out[i][l] += Σ_j weights[j][l] · row_j[i], with `out` laid out `[width][L]` and `rows` `[width][J]`.
#[inline(always)]
pub fn accumulate<T: Float, const FMA: bool, const L: usize, const J: usize>(
    out: &mut [T],
    weights: &Tile<T, L, J>,
    rows: &[T],
) {
    for (out, row) in out.as_chunks_mut::<L>().0.iter_mut().zip(rows.as_chunks::<J>().0) {
        let mut sum = *out;
        for j in 0..J {
            for l in 0..L {
                sum[l] = multiply_add::<T, FMA>(weights[j][l], row[j], sum[l]);
            }
        }
        *out = sum;
    }
}

/// 2^x in each lane. Without `CLAMP` the caller knows |x| ≤ [`Float::UNSHIFTED_MAX`] or so.
#[inline(always)]
pub fn exp2<T: Float, const FMA: bool, const CLAMP: bool, const L: usize>(x: [T; L]) -> [T; L] {
    let mut y = [T::zero(); L];
    for l in 0..L {
        let x = if CLAMP && !(x[l] > T::EXP2_MIN) { T::EXP2_MIN } else { x[l] };
        let shifted = x + T::ROUNDING_SHIFT;
        let r = x - (shifted - T::ROUNDING_SHIFT);
        let mut sum = T::EXP2[T::EXP2.len() - 1];
        for k in (0..T::EXP2.len() - 1).rev() {
            sum = multiply_add::<T, FMA>(sum, r, T::EXP2[k]);
        }
        y[l] = multiply_add::<T, FMA>(sum, r, T::one()) * T::pow2(shifted);
    }
    y
}

/// 2^(S − shift) in each lane.
#[inline(always)]
pub fn weights<T: Float, const FMA: bool, const SHIFTED: bool, const MASKED: bool, const L: usize>(
    mut logits: [T; L],
    shift: &[T; L],
) -> [T; L] {
    if SHIFTED {
        for l in 0..L {
            logits[l] = logits[l] - shift[l];
        }
    }
    // A masked logit is −∞, so it needs the clamp even where no shift is needed.
    if SHIFTED || MASKED { exp2::<T, FMA, true, L>(logits) } else { exp2::<T, FMA, false, L>(logits) }
}

/// Adds the sums of one block of keys to those in double precision, and clears them.
#[inline(always)]
pub fn fold<T: Float, const L: usize>(sums: &mut [T], sums64: &mut [f64]) {
    for (sums, sums64) in sums.as_chunks_mut::<L>().0.iter_mut().zip(sums64.as_chunks_mut::<L>().0) {
        for l in 0..L {
            sums64[l] += sums[l].widen();
        }
        *sums = [T::zero(); L];
    }
}

/// Replaces the entries of keys after `last[l]` (an index within the strip; −1 masks all) by `fill`.
#[inline(always)]
pub fn mask<T: Float, const L: usize, const J: usize>(tile: &mut Tile<T, L, J>, last: &[i32; L], fill: T) {
    for j in 0..J {
        for l in 0..L {
            if j as i32 > last[l] {
                tile[j][l] = fill;
            }
        }
    }
}

/// Transposes up to `L` rows into `[width][L]`; lanes past the last row are zero.
#[inline(always)]
pub fn transpose<T: Float, const L: usize>(rows: &[T], width: usize, out: &mut [T]) {
    for (i, out) in out.as_chunks_mut::<L>().0.iter_mut().enumerate() {
        *out = [T::zero(); L];
        for (l, row) in rows.chunks_exact(width).enumerate() {
            out[l] = row[i];
        }
    }
}

/// sums[j][l] += Σ_t weights[j][t] · rows[t][l]: the tile with keys and columns as its sides, over `C` queries.
#[inline(always)]
pub fn outer<T: Float, const FMA: bool, const W: usize, const J: usize, const C: usize>(
    weights: [&[T; C]; J],
    rows: &[[T; W]; C],
) -> Tile<T, W, J> {
    let mut tile = [[T::zero(); W]; J];
    for (t, row) in rows.iter().enumerate() {
        for j in 0..J {
            for l in 0..W {
                tile[j][l] = multiply_add::<T, FMA>(weights[j][t], row[l], tile[j][l]);
            }
        }
    }
    tile
}
