//! Arithmetic of panels: the pairs of a tile of queries and a block of keys, a register tile for each strip.
//!
//! A panel is laid out `[strip][·][J][L]`: tiles of neighbouring strips are some numbers apart, so that panels of
//! several tiles of queries lie beside one another.

use std::f64::consts::LN_2;
use std::ops::Range;

use crate::exact::both_sides::key_products;
use crate::exact::entries::Room;
use crate::exact::walk::{Cover, Walk};
use crate::float::Float;
use crate::kernels::Strips;
use crate::kernels::tile::{self, Pair, Tile};
use crate::simd::Vector;

/// Numbers of the rows of a tile of queries, `L` of each kind.
pub struct Rows<'a, T> {
    /// Shift of the logits, so that weights are at most one.
    pub shift: &'a [T],
    /// Factor that makes weights sum to one; zero in rows that see nothing.
    pub factor: &'a [T],
    /// Σ f Ṡ.
    pub t: &'a [T],
    /// ⟨c, o⟩.
    pub r: &'a [T],
    /// The change of r.
    pub dr: &'a [T],
}

/// The strips of a block of keys that a tile of queries visits, and where their tiles are in a panel.
#[derive(Clone, Copy)]
pub struct Visit<'a, T> {
    pub walk: &'a Walk<'a>,
    /// The entries of a mask, where they say more than the walk.
    pub entries: Option<&'a Room<T>>,
    /// The first key of the block.
    pub first: usize,
    /// Numbers from a tile to that of the next strip.
    pub step: usize,
}

impl<T: Float> Visit<'_, T> {
    #[inline(always)]
    fn place<const J: usize>(&self, key: usize) -> usize {
        (key - self.first) / J * self.step
    }

    /// First keys of the strips, which have `keys` keys.
    #[inline(always)]
    pub fn strips(&self, keys: usize) -> impl Iterator<Item = usize> {
        let walked = if self.entries.is_some() { 0..0 } else { self.walk.strips_of(keys) };
        self.entries.map_or(&[][..], Room::firsts).iter().copied().chain(walked.step_by(keys))
    }
}

/// `L` of these numbers; zeros where there are not as many.
#[inline(always)]
fn lanes<T: Float, V: Vector<T, W>, const W: usize, const L: usize>(numbers: &[T]) -> Pair<V> {
    let Some(numbers) = numbers.first_chunk::<L>() else { return [V::splat(T::zero()); 2] };
    tile::load(numbers)
}

/// The tile of a panel that begins at `at`.
#[inline(always)]
fn tile_at<T, const L: usize, const J: usize>(panel: &mut [T], at: usize) -> &mut [[T; L]; J] {
    &mut panel[at..].as_chunks_mut::<L>().0.as_chunks_mut::<J>().0[0]
}

/// A tile in registers.
#[inline(always)]
fn loaded<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(kept: &[[T; L]; J]) -> Tile<V, J> {
    let mut tile = [[V::splat(T::zero()); 2]; J];
    for j in 0..J {
        tile[j] = tile::load(&kept[j]);
    }
    tile
}

/// Zeros for the keys of a strip that a query does not see, whatever is there.
#[inline(always)]
fn hide<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    kept: &mut [[T; L]; J],
    cover: &impl Cover<T, V, W, L, J>,
) {
    let mut tile: Tile<V, J> = loaded(kept);
    cover.hide_p(&mut tile);
    for j in 0..J {
        tile::store(tile[j], &mut kept[j]);
    }
}

/// The panel of Σ ⟨row, key⟩ over some pairs of sides: queries `[width][L]`, and strips of keys.
#[inline(always)]
pub fn products<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    factors: &[(&[T], &Strips<T>)],
    visit: Visit<'_, T>,
    panel: &mut [T],
) {
    for key in visit.strips(J) {
        let mut sums: Tile<V, J> = [[V::splat(T::zero()); 2]; J];
        for (rows, strips) in factors {
            tile::products_onto::<T, V, W, L, J>(rows, strips.strip::<J>(key), &mut sums);
        }
        let to = tile_at::<T, L, J>(panel, visit.place::<J>(key));
        for j in 0..J {
            tile::store(sums[j], &mut to[j]);
        }
    }
}

/// sums[i][l] += Σ_keys panel[key][l] · key[i], with `sums` laid out `[width][L]`.
#[inline(always)]
pub fn accumulate<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    panel: &[T],
    visit: Visit<'_, T>,
    strips: &Strips<T>,
    sums: &mut [T],
) {
    for key in visit.strips(J) {
        let kept = &panel[visit.place::<J>(key)..].as_chunks::<L>().0.as_chunks::<J>().0[0];
        let weights: Tile<V, J> = loaded(kept);
        tile::accumulate::<T, V, W, L, J>(sums, &weights, strips.strip::<J>(key));
    }
}

/// Makes panels of S and Ṡ, in base-2 units, into those of f and f ∘ Ṡ; adds Σ f Ṡ to `sums`.
#[inline(always)]
pub fn weigh<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    [weights, changes]: [&mut [T]; 2],
    rows: &Rows<'_, T>,
    sums: &mut [T],
    visit: Visit<'_, T>,
) {
    let Some(sums) = sums.first_chunk_mut::<L>() else { return };
    if let Some(entries) = visit.entries {
        for (key, cover) in entries.strips::<L, J>() {
            let at = visit.place::<J>(key);
            let tiles = [tile_at(&mut *weights, at), tile_at(&mut *changes, at)];
            weigh_strip::<T, V, W, L, J, true>(tiles, rows, sums, cover);
        }
        return;
    }
    for key in visit.walk.full::<J>() {
        let at = visit.place::<J>(key);
        let tiles = [tile_at(&mut *weights, at), tile_at(&mut *changes, at)];
        weigh_strip::<T, V, W, L, J, false>(tiles, rows, sums, &[[0; L]; 2]);
    }
    for key in visit.walk.edges::<J>() {
        let at = visit.place::<J>(key);
        let tiles = [tile_at(&mut *weights, at), tile_at(&mut *changes, at)];
        weigh_strip::<T, V, W, L, J, true>(tiles, rows, sums, &visit.walk.lanes::<L, J>(key));
    }
}

/// One strip of it. A function, as its instruction set would not reach into a closure that is called twice.
#[inline(always)]
fn weigh_strip<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize, const MASKED: bool>(
    [weights, changes]: [&mut [[T; L]; J]; 2],
    rows: &Rows<'_, T>,
    sums: &mut [T; L],
    cover: &impl Cover<T, V, W, L, J>,
) {
    weights_of::<T, V, W, L, J, MASKED>(weights, rows, cover);
    let unit = V::splat(T::narrow(LN_2));
    for j in 0..J {
        let change = tile::zip(tile::load(&changes[j]), tile::load(&weights[j]), |x, f: V| x.mul(unit).mul(f));
        tile::store(change, &mut changes[j]);
    }
    if MASKED {
        // The weight is zero, but products of a hidden key may overflow.
        hide(changes, cover);
    }
    let mut total = tile::load::<T, V, W, L>(sums);
    for change in changes.iter() {
        total = tile::zip(total, tile::load(change), V::add);
    }
    tile::store(total, sums);
}

/// A tile of S in base-2 units becomes one of f.
#[inline(always)]
fn weights_of<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize, const MASKED: bool>(
    kept: &mut [[T; L]; J],
    rows: &Rows<'_, T>,
    cover: &impl Cover<T, V, W, L, J>,
) {
    let (shift, factor) = (lanes::<T, V, W, L>(rows.shift), lanes::<T, V, W, L>(rows.factor));
    let mut weights: Tile<V, J> = loaded(kept);
    if MASKED {
        cover.hide_logits(&mut weights);
    }
    tile::exponentiate::<T, V, W, true, true, J>(&mut weights, shift);
    for j in 0..J {
        tile::store(tile::zip(weights[j], factor, V::mul), &mut kept[j]);
    }
}

/// Makes panels of S, Ṡ, c vᵀ and its change into those of f, ḟ, p and ṗ (docs/math.md, equation 6.4); S and Ṡ come in
/// base-2 units.
#[inline(always)]
pub fn slopes<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    [weights, changes, slopes, turns]: [&mut [T]; 4],
    rows: &Rows<'_, T>,
    visit: Visit<'_, T>,
) {
    if let Some(entries) = visit.entries {
        for (key, cover) in entries.strips::<L, J>() {
            let at = visit.place::<J>(key);
            let (weights, changes) = (tile_at(&mut *weights, at), tile_at(&mut *changes, at));
            let tiles = [weights, changes, tile_at(&mut *slopes, at), tile_at(&mut *turns, at)];
            slopes_strip::<T, V, W, L, J, true>(tiles, rows, cover);
        }
        return;
    }
    for key in visit.walk.full::<J>() {
        let at = visit.place::<J>(key);
        let (weights, changes) = (tile_at(&mut *weights, at), tile_at(&mut *changes, at));
        let tiles = [weights, changes, tile_at(&mut *slopes, at), tile_at(&mut *turns, at)];
        slopes_strip::<T, V, W, L, J, false>(tiles, rows, &[[0; L]; 2]);
    }
    for key in visit.walk.edges::<J>() {
        let at = visit.place::<J>(key);
        let (weights, changes) = (tile_at(&mut *weights, at), tile_at(&mut *changes, at));
        let tiles = [weights, changes, tile_at(&mut *slopes, at), tile_at(&mut *turns, at)];
        slopes_strip::<T, V, W, L, J, true>(tiles, rows, &visit.walk.lanes::<L, J>(key));
    }
}

/// One strip of it.
#[inline(always)]
fn slopes_strip<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize, const MASKED: bool>(
    [weights, changes, slopes, turns]: [&mut [[T; L]; J]; 4],
    rows: &Rows<'_, T>,
    cover: &impl Cover<T, V, W, L, J>,
) {
    let (t, r, dr) = (lanes::<T, V, W, L>(rows.t), lanes::<T, V, W, L>(rows.r), lanes::<T, V, W, L>(rows.dr));
    let unit = V::splat(T::narrow(LN_2));
    weights_of::<T, V, W, L, J, MASKED>(weights, rows, cover);
    for j in 0..J {
        let weight = tile::load::<T, V, W, L>(&weights[j]);
        let change = tile::zip(tile::load(&changes[j]), t, |x: V, t| x.mul(unit).sub(t));
        let slope = tile::zip(tile::load(&slopes[j]), r, V::sub);
        let turn = tile::zip(tile::load(&turns[j]), dr, V::sub);
        let turn = tile::zip(turn, tile::zip(change, slope, V::mul), V::add);
        tile::store(tile::zip(change, weight, V::mul), &mut changes[j]);
        tile::store(tile::zip(slope, weight, V::mul), &mut slopes[j]);
        tile::store(tile::zip(turn, weight, V::mul), &mut turns[j]);
    }
    if MASKED {
        hide(changes, cover);
        hide(slopes, cover);
        hide(turns, cover);
    }
}

/// sums[key] += Σ_query panel[key][query] · rows[query], for a panel of `tiles` tiles of queries, whose rows are packed
/// in panels of their own; `tiles_of` says which of them see each strip.
#[inline(always)]
pub fn key_sums<T: Float, V: Vector<T, W>, const W: usize, const L: usize, const J: usize>(
    panel: &[T],
    rows: &[&[T]],
    tiles_of: &[Range<usize>],
    tiles: usize,
    sums: &mut [T],
) {
    let padded = rows.first().map_or(0, |rows| rows.len() / L);
    let kept = panel.as_chunks::<L>().0.as_chunks::<J>().0;
    key_products::<T, V, W, L, J>(kept, tiles, rows, padded, |strip| tiles_of[strip].clone(), sums);
}
