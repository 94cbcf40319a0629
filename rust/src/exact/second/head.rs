//! Second derivatives of one head: all that is done for it, into room that the caller has.

use std::f64::consts::{LN_2, LOG2_E};

use ndarray::{ArrayView1, ArrayView2, CowArray, Ix2};

use super::both::{Sums, both};
use super::first::tangent;
use super::kernels::Kernels;
use super::rows::{GROUP, Given, Group, Sides};
use super::units::{Direction, Incoming};
use crate::error::Error;
use crate::exact::Operands;
use crate::exact::engine::{Engine, Values};
use crate::exact::measured::queries;
use crate::exact::operands::key_block;
use crate::exact::pull_back::is_precise;
use crate::exact::sight::{Named, Sight, blamed, without};
use crate::float::Float;
use crate::linalg::layout::{in_range, rows, take};
use crate::linalg::products::{matrix, scale_into, view};
use crate::options::Options;
use crate::problem::Heads;
use crate::runtime::buffer;
use crate::runtime::pool::Run;

/// Operations a query and key of the forward pass, the first pass and the second, in units of d = dv.
const OPERATIONS: [f64; 3] = [4.0, 10.0, 20.0];

/// One head with a direction, and the results of the forward pass where the caller has them.
#[derive(Clone, Copy)]
pub(super) struct Moved<'a, T> {
    pub heads: Heads<'a, T>,
    /// q̇, k̇ and v̇.
    pub direction: Heads<'a, T>,
    /// Their names.
    pub names: [&'static str; 3],
    pub saved: Option<(ArrayView2<'a, T>, ArrayView1<'a, T>)>,
}

/// c and its change.
pub(super) type Residuals<'a, T> = (Option<ArrayView2<'a, T>>, Option<ArrayView2<'a, T>>);

/// All that the passes read of a head.
struct Prepared<'a, T: Float> {
    engine: Engine<'a, T>,
    values: Values<T>,
    direction: Direction<T>,
    /// Logarithm of the normaliser in base 2.
    log: Vec<f64>,
    kernels: Kernels<T>,
    key_block: usize,
}

/// o, and what the passes read.
type Begun<'a, T> = (CowArray<'a, T, Ix2>, Prepared<'a, T>);

impl<T: Float> Prepared<'_, T> {
    fn operands(&self) -> Operands<'_, T> {
        Operands { key_block: self.key_block, ..self.engine.operands(&self.values) }
    }

    fn sides<'a>(&'a self, operands: &'a Operands<'a, T>) -> Sides<'a, T> {
        Sides { operands, keys: &self.direction.keys, values: &self.direction.values }
    }

    fn given<'a>(&'a self, incoming: Option<&'a Incoming<T>>) -> Given<'a, T> {
        Given {
            queries: [&self.engine.queries, &self.direction.queries],
            dout: incoming.map(|incoming| (&*incoming.c, incoming.change.as_deref())),
            log: &self.log,
            bound: &self.engine.bound,
            width: self.engine.keys.width,
            value_width: self.values.rows.width,
        }
    }

    /// Gives ȯ the size that the unit took out of it.
    fn finish(&self, change: &mut [T]) {
        let unit = self.direction.unit;
        change.iter_mut().for_each(|x| *x = T::narrow(x.widen() * unit));
    }
}

impl<'a, T: Float> Moved<'a, T> {
    /// o, unless it is given, and ȯ into zeros.
    pub fn push_into(
        &self,
        [output, change]: [&mut [T]; 2],
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let seen = self.seen()?;
        let pushed = seen.pushed([output, change], options, run);
        pushed.map_err(|error| seen.blame((None, None), error, run))
    }

    fn pushed(&self, [output, change]: [&mut [T]; 2], options: &Options, run: &mut Run<'_>) -> Result<(), Error> {
        let share = OPERATIONS[0] / (OPERATIONS[0] + OPERATIONS[1]);
        let Some((output, prepared)) = self.prepared(output, share, options, run)? else { return Ok(()) };
        let output = rows(&output)?.data;
        let (operands, given) = (prepared.operands(), prepared.given(None));
        let sides = prepared.sides(&operands);
        run.phase(1.0);
        let width = given.value_width;
        let mut rest = &mut *change;
        let ranges = (0..given.log.len()).step_by(GROUP).map(|first| {
            let range = first..given.log.len().min(first + GROUP);
            let change = take(&mut rest, range.len() * width);
            (range, change)
        });
        run.for_each(ranges, |(range, change), cancel| {
            let output = &output[range.start * width..range.end * width];
            let mut group = Group::new(&given, range, &prepared.kernels)?;
            tangent(&sides, &mut group, (output, change), &prepared.kernels, cancel)
        })?;
        prepared.finish(change);
        in_range("the tangent of the output", T::NAME, prepared.engine.kernels.finite(change))
    }

    /// The Hessian of ⟨c, o⟩ times a direction with ċ = `ddout`, zeros where it is None, into zeros for the parts of
    /// query, key, value and dout.
    pub fn turn_into(
        &self,
        (dout, ddout): (ArrayView2<'a, T>, Option<ArrayView2<'a, T>>),
        [query, key, value, change]: [&mut [T]; 4],
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let seen = self.seen()?;
        let (rows, d, dv) = (seen.heads.key.nrows(), seen.heads.key.ncols(), seen.heads.value.ncols());
        let out = [query, &mut key[..rows * d], &mut value[..rows * dv], change];
        let turned = seen.turned((dout, ddout), out, options, run);
        turned.map_err(|error| seen.blame((Some(dout), ddout), error, run))
    }

    fn turned(
        &self,
        (dout, ddout): (ArrayView2<'a, T>, Option<ArrayView2<'a, T>>),
        [query, key, value, change]: [&mut [T]; 4],
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<(), Error> {
        let whole: f64 = OPERATIONS.iter().sum();
        let size = if self.saved.is_some() { 0 } else { change.len() };
        let mut room = buffer::zeros::<T>(size)?;
        let Some((output, prepared)) = self.prepared(&mut room, OPERATIONS[0] / whole, options, run)? else {
            return Ok(());
        };
        let (output, passes) = (rows(&output)?.data, (&prepared.engine, &prepared.values));
        let shown = |array: ArrayView2<'a, T>| without(array, prepared.engine.sight.blind());
        let (dout, ddout) = (shown(dout)?, ddout.map(shown).transpose()?);
        let ddout = ddout.as_ref().map(|ddout| ddout.view());
        let incoming = Incoming::new(dout.view(), ddout, passes, &prepared.direction, run)?;
        let (operands, given) = (prepared.operands(), prepared.given(Some(&incoming)));
        let sides = prepared.sides(&operands);
        let (n, width) = (given.log.len(), given.value_width);
        let mut groups = buffer::with_capacity(n.div_ceil(GROUP))?;
        groups.extend((0..n.div_ceil(GROUP)).map(|_| None));
        let begin = 1.0 - OPERATIONS[2] / whole;
        run.phase(begin);
        let mut rest = &mut *change;
        let tasks = groups.iter_mut().enumerate().map(|(number, group)| {
            let range = number * GROUP..n.min((number + 1) * GROUP);
            let change = take(&mut rest, range.len() * width);
            (range, group, change)
        });
        run.for_each(tasks, |(range, place, change), cancel| {
            let own = range.start * width..range.end * width;
            let mut group = Group::new(&given, range, &prepared.kernels)?;
            tangent(&sides, &mut group, (&output[own.clone()], &mut *change), &prepared.kernels, cancel)?;
            group.residuals(
                (&incoming.c[own.clone()], &output[own.clone()]),
                (incoming.change.as_ref().map(|ddout| &ddout[own]), change),
                width,
            );
            *place = Some(group);
            Ok(())
        })?;
        let groups: Vec<Group<T>> = groups.into_iter().flatten().collect();
        let unit = incoming.unit * prepared.direction.unit;
        let mut sums = Sums { queries: query, scale: self.heads.scale * unit, keys: Vec::new(), values: Vec::new() };
        both(&sides, &groups, &prepared.kernels, (&mut sums, begin), run)?;
        scale_into(&sums.keys, LN_2 * unit, key);
        scale_into(&sums.values, unit, value);
        prepared.finish(change);
        let names = ["query", "key", "value", "dout"];
        for (name, array) in names.into_iter().zip([&*sums.queries, key, value, change]) {
            let fits = prepared.engine.kernels.finite(array);
            in_range(&format!("the second derivative with respect to {name}"), T::NAME, fits)?;
        }
        Ok(())
    }

    /// The same without keys that no query sees.
    fn seen(&self) -> Result<Self, Error> {
        let heads = self.heads.admitted()?;
        let direction = Heads { mask: heads.mask, scale: heads.scale, ..self.direction };
        Ok(Moved { heads, direction: direction.admitted()?, ..*self })
    }

    /// The inputs besides query, key and value, with c and its change where they are wanted: by query, and by key.
    pub fn others<'b>(&self, (dout, ddout): Residuals<'b, T>) -> [Vec<Named<'b, T>>; 2]
    where
        'a: 'b,
    {
        let [query, key, value] = self.names;
        let output = self.saved.map(|(output, _)| output);
        let more = [("dout", dout), ("ddout", ddout), ("output", output)];
        let by_query = [(query, self.direction.query)].into_iter();
        [
            by_query.chain(more.into_iter().filter_map(|(name, array)| Some((name, array?)))).collect(),
            vec![(key, self.direction.key), (value, self.direction.value)],
        ]
    }

    /// An overflow, or its cause.
    fn blame(&self, residuals: Residuals<'a, T>, error: Error, run: &mut Run<'_>) -> Error {
        let [by_query, by_key] = self.others(residuals);
        blamed(&self.heads, [&by_query, &by_key], error, run)
    }

    /// What the passes read, and o, which the forward pass writes into `room` unless it is given; it takes the progress
    /// to `end`. Nothing where there is no key.
    fn prepared<'r>(
        &self,
        room: &'r mut [T],
        end: f64,
        options: &Options,
        run: &mut Run<'_>,
    ) -> Result<Option<Begun<'r, T>>, Error>
    where
        'a: 'r,
    {
        let heads = &self.heads;
        let (n, dv, sight) = (heads.query.nrows(), heads.value.ncols(), Sight::of(heads, run)?);
        let m = heads.key.nrows();
        let [key, value, dkey, dvalue] = [heads.key, heads.value, self.direction.key, self.direction.value];
        let shown = |array| without(array, sight.unseen(m));
        let (key, value, dkey, dvalue) = (shown(key)?, shown(value)?, shown(dkey)?, shown(dvalue)?);
        let dquery = without(self.direction.query, sight.blind())?;
        let moved = [rows(&dquery)?, rows(&dkey)?, rows(&dvalue)?];
        let (key, value) = (rows(&key)?, rows(&value)?);
        let engine = Engine::new(queries(heads, &sight, options)?, n, key, sight, options, run)?;
        let values = engine.values(value, None, run)?;
        if key.count == 0 {
            return Ok(None);
        }
        let mut log = buffer::with_capacity(n)?;
        let output = if let Some((output, lse)) =
            self.saved.filter(|(_, lse)| lse.iter().all(|&lse| is_precise::<T>(lse.widen())))
        {
            log.extend(lse.iter().map(|lse| lse.widen() * LOG2_E));
            without(output, engine.sight.blind())?
        } else {
            let mut own = buffer::zeros(if self.saved.is_some() { buffer::size(&[n, dv])? } else { 0 })?;
            let to = if self.saved.is_some() { &mut *own } else { &mut *room };
            let found = engine.forward_of_few(&values, to, end, run)?;
            log.extend(found.shift.iter().zip(&found.total).map(|(shift, total)| shift.widen() + total.log2()));
            in_range("the output", T::NAME, engine.kernels.finite(to))?;
            if self.saved.is_some() { matrix(own, n, dv)?.into() } else { view(room, n, dv)?.into() }
        };
        let direction = Direction::new(moved, (heads.scale, key), (&engine, &values), run)?;
        let strip = engine.kernels.keys;
        // Rows of both sides and of their changes stay in the cache together.
        let block = key_block::<T>(options.key_block, 2 * (key.width + value.width), strip);
        let key_block = block.min(key.count.next_multiple_of(strip));
        let kernels = Kernels::of(options.isa()?);
        Ok(Some((output, Prepared { engine, values, direction, log, kernels, key_block })))
    }
}

impl<T: Float> Group<T> {
    /// r and ṙ of the rows, from those of c and o, and of ċ and ȯ.
    fn residuals(&mut self, (c, o): (&[T], &[T]), (dc, change): (Option<&[T]>, &[T]), width: usize) {
        let inner = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.widen() * b.widen()).sum::<f64>();
        for row in 0..self.count {
            let own = row * width..(row + 1) * width;
            let (c, o) = (&c[own.clone()], &o[own.clone()]);
            self.r[row] = T::narrow(inner(c, o));
            let of_change = dc.map_or(0.0, |dc| inner(&dc[own.clone()], o));
            self.dr[row] = T::narrow(inner(c, &change[own]) + of_change);
        }
    }
}
