//! Attention and its vector-Jacobian product for many heads as one computation.
//!
//! Where heads are many, each is one task, done from end to end by one thread; the few that remain, and long ones that
//! are fewer than the threads, are cut into blocks that all threads share. Either way a head has the bits that it has
//! alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::attention::attend;
use super::kernels::Kernels;
use super::pull_back::{Estimate, Normaliser, Pulled};
use super::results::{Results, of_sums};
use super::sight::{Others, check_seen};
use crate::constants::{HEAD_NANOSECONDS, LONG_HEAD_NANOSECONDS, OPERATIONS_PER_NANOSECOND};
use crate::error::Error;
use crate::float::{Float, compiled};
use crate::linalg::layout::take;
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::{Heads, Saved, Shape, Stack, blame_not_finite};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The output of all heads, and the logarithm of the normaliser where it was wanted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attended<T> {
    /// o, (heads · n, dv): rows of one head after those of the one before.
    pub output: Array2<T>,
    /// ln Σ_i exp(logit_i) of each row, (heads, n); −∞ where a row sees nothing.
    pub lse: Option<Array2<T>>,
}

/// The inputs of the vector-Jacobian product of all heads besides the heads themselves.
#[derive(Debug, Clone)]
pub struct Incoming<'a, T> {
    /// The gradient of the output of each head, (n, dv).
    pub dout: Vec<ArrayView2<'a, T>>,
    /// The results of the forward pass, where they are to be used again: the caller vouches for them.
    pub saved: Option<Saved<'a, T>>,
}

impl<T: Float> Incoming<'_, T> {
    /// Whether there is an array of this shape for each head.
    pub(super) fn check(&self, heads: usize, shape: (usize, usize)) -> Result<(), Error> {
        let outputs = self.saved.iter().map(|saved| ("output", &saved.output));
        for (argument, arrays) in outputs.chain([("dout", &self.dout)]) {
            check_each(argument, arrays, heads, shape)?;
        }
        match self.saved.iter().flat_map(|saved| &saved.lse).find(|lse| lse.len() != shape.0) {
            None if self.saved.as_ref().is_none_or(|saved| saved.lse.len() == heads) => Ok(()),
            odd => {
                let wanted = format!("each of {heads} heads needs one of {}", shape.0);
                Err(Error::Shape { argument: "lse", found: odd.map_or_else(Vec::new, |lse| vec![lse.len()]), wanted })
            }
        }
    }
}

/// An error unless there is an array of this shape for each head.
pub(super) fn check_each<T: Float>(
    argument: &'static str,
    arrays: &[ArrayView2<'_, T>],
    heads: usize,
    shape: (usize, usize),
) -> Result<(), Error> {
    let odd = arrays.iter().find(|array| array.dim() != shape).map(|array| array.shape().to_vec());
    if odd.is_none() && arrays.len() == heads {
        return Ok(());
    }
    let wanted = format!("each of {heads} heads needs one of {shape:?}");
    Err(Error::Shape { argument, found: odd.unwrap_or_else(|| vec![arrays.len()]), wanted })
}

/// The gradients of all heads with their estimates; those of key and value are sums over the query heads that share
/// them, in the order of these.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StackGradients<T> {
    /// With respect to query (heads · n, d), key (key heads · m, d) and value (key heads · m, dv): rows of one head
    /// after those of the one before.
    pub values: [Array2<T>; 3],
    /// Norms and rounding errors of the gradients of each head, or key head.
    pub estimates: [Vec<Estimate>; 3],
}

/// o of all heads, and the logarithm of the normaliser if `has_lse`.
///
/// Time 2 n m (d + dv) a head, half if causal; memory O((n + m)(d + dv)) for each thread besides the result. With
/// `is_checked` inputs that are not finite are refused, keys that no query sees included.
///
/// # Errors
/// Those of [`super::attention()`], of the first head that has one.
pub fn attention_stack<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Attended<T>, Error> {
    compiled!(
        T,
        attended::<T> as fn(&Stack<'_, T>, (bool, bool), &Options, Option<Watch<'_>>) -> Result<Attended<T>, Error>
    )(stack, (has_lse, is_checked), options, watch)
}

fn attended<T: Float>(
    stack: &Stack<'_, T>,
    (has_lse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Attended<T>, Error> {
    let Shape { n, dv, .. } = stack.shape();
    let heads = stack.heads();
    let mut output = buffer::zeros::<T>(buffer::size(&[heads.len(), n, dv])?)?;
    let mut lse = buffer::zeros::<T>(if has_lse { buffer::size(&[heads.len(), n])? } else { 0 })?;
    let mut tasks = buffer::with_capacity(heads.len())?;
    let (mut outputs, mut lses) = (output.as_mut_slice(), lse.as_mut_slice());
    for head in heads {
        tasks.push((head, take(&mut outputs, n * dv), has_lse.then(|| take(&mut lses, n))));
    }
    let (mut run, kernels) = (Run::new(options, watch), Kernels::of(options.isa()?));
    each(tasks, 4.0 * operations(stack), &mut run, |(head, output, lse), run| {
        if is_checked && !comes_through(head) {
            check(head, [&[], &[]], &kernels, run)?;
        }
        attend(head, output, lse, options, run)
    })?;
    let output = matrix(output, heads.len() * n, dv)?;
    let lse = if has_lse { Some(matrix(lse, heads.len(), n)?) } else { None };
    Ok(Attended { output, lse })
}

/// dL/dquery, dL/dkey and dL/dvalue of all heads for the gradients of their outputs.
///
/// With `is_coarse` the rounding estimates come from the sizes of rows alone, and results of the forward pass that are
/// given are used: whatever their own errors are, they are not in the estimates. Otherwise the forward pass is done
/// again, as its statistics are what the estimates are made of. `is_checked` as in [`attention_stack`].
///
/// Time 12 n m d a head, or 10 where results of the forward pass are used; half if causal. Memory O((n + m)(d + dv)) for
/// each thread besides the results, and where query heads share keys the gradients of each of them.
///
/// # Errors
/// Those of [`super::attention_vjp`], of the first head that has one.
pub fn attention_stack_vjp<T: Float>(
    stack: &Stack<'_, T>,
    incoming: &Incoming<'_, T>,
    (is_coarse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<StackGradients<T>, Error> {
    compiled!(
        T,
        pulled_back::<T>
            as fn(
                &Stack<'_, T>,
                &Incoming<'_, T>,
                (bool, bool),
                &Options,
                Option<Watch<'_>>,
            ) -> Result<StackGradients<T>, Error>
    )(stack, incoming, (is_coarse, is_checked), options, watch)
}

fn pulled_back<T: Float>(
    stack: &Stack<'_, T>,
    incoming: &Incoming<'_, T>,
    (is_coarse, is_checked): (bool, bool),
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<StackGradients<T>, Error> {
    let Shape { n, m, d, dv, .. } = stack.shape();
    let (heads, group) = (stack.heads(), stack.group());
    incoming.check(heads.len(), (n, dv))?;
    let mut found = Results::new(heads.len(), [(n, d), (m, d), (m, dv)])?;
    let mut estimates = buffer::filled(heads.len(), [Estimate::default(); 3])?;
    let mut tasks = buffer::with_capacity(heads.len())?;
    for (number, ((head, estimates), room)) in heads.iter().zip(&mut estimates).zip(found.of_heads()).enumerate() {
        let saved = incoming.saved.as_ref().map(|saved| saved.of_head(number));
        let saved = saved.map(|(output, lse)| (output, Normaliser::Returned(lse)));
        let pulled = Pulled { heads: head.reborrow(), dout: incoming.dout[number].reborrow(), saved, is_coarse };
        tasks.push((pulled, room, estimates));
    }
    let (mut run, kernels) = (Run::new(options, watch), Kernels::of(options.isa()?));
    let share = if group > 1 { SUMMED } else { 1.0 };
    run.span(0.0, share);
    each(tasks, 12.0 * operations(stack), &mut run, |(pulled, room, estimates), run| {
        if is_checked {
            let saved = pulled.saved.map(|(output, _)| ("output", output));
            let is_fine =
                saved.is_none_or(|(_, output)| output.as_slice().is_some_and(|output| kernels.finite(output)));
            if !is_fine || !comes_through(&pulled.heads) {
                let more: Vec<_> = [("dout", pulled.dout)].into_iter().chain(saved).collect();
                check(&pulled.heads, [&more, &[]], &kernels, run)?;
            }
            if let Some((_, Normaliser::Returned(lse))) = pulled.saved {
                check_logarithms(lse)?;
            }
        }
        *estimates = pulled.pull_into(room, options, run)?;
        Ok(())
    })?;
    let mut parts =
        [buffer::with_capacity(heads.len())?, buffer::with_capacity(heads.len())?, buffer::with_capacity(heads.len())?];
    for (place, parts) in parts.iter_mut().enumerate() {
        parts.extend(estimates.iter().map(|each| each[place]));
    }
    run.span(share, 1.0);
    let values = found.finish(group, &[1, 2], &mut run)?;
    if group > 1 {
        for place in [1, 2] {
            parts[place] = of_sums(&values[place], &parts[place], group)?;
        }
    }
    Ok(StackGradients { values, estimates: parts })
}

/// Share of the heads in the progress where the gradients of shared keys are summed after them.
const SUMMED: f64 = 0.98;

/// n m (d + dv) / 2 of one head: an operation each of a product with keys and with values would be four of these.
pub(super) fn operations<T: Float>(stack: &Stack<'_, T>) -> f64 {
    let Shape { n, m, d, dv, .. } = stack.shape();
    let all = n as f64 * m as f64;
    let pairs = stack.heads().first().map_or(all, |head| head.mask.pairs(n, m).unwrap_or(all));
    pairs * (d + dv) as f64 / 2.0
}

/// Does `one` for every head, of so many operations each: heads of the first tasks by one thread each, the rest block by
/// block by all threads. Of the errors that come from the data of a head the one of the first head counts.
pub(super) fn each<X: Send>(
    tasks: Vec<X>,
    operations: f64,
    run: &mut Run<'_>,
    one: impl Fn(X, &mut Run<'_>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let (count, threads) = (tasks.len(), run.threads());
    let nanoseconds = HEAD_NANOSECONDS + operations / OPERATIONS_PER_NANOSECOND;
    let by_blocks = match (nanoseconds >= LONG_HEAD_NANOSECONDS, threads) {
        (false, _) => 0,
        // Nobody is kept waiting, and progress is seen.
        (true, 1) => count,
        (true, _) => count % threads,
    };
    let whole = count - by_blocks;
    let failed = FirstError::new();
    let mut tasks = tasks.into_iter().enumerate();
    let (begin, end) = run.whole();
    let at = |done: usize| begin + (end - begin) * done as f64 / count.max(1) as f64;
    if whole > 0 {
        run.span(begin, at(whole));
        run.phase(1.0);
        let total = nanoseconds * whole as f64;
        run.short(total as usize, tasks.by_ref().take(whole), |(number, task), cancel| {
            failed.or_skipped(number, || one(task, &mut Run::within(cancel)))
        })?;
    }
    for (number, task) in tasks {
        run.span(at(number), at(number + 1));
        failed.or_skipped(number, || one(task, run))?;
    }
    failed.result()
}

/// The error of the first head that has one, whichever is found first.
struct FirstError {
    /// Heads from here on need not be computed.
    end: AtomicUsize,
    error: Mutex<Option<(usize, Error)>>,
}

impl FirstError {
    fn new() -> Self {
        FirstError { end: AtomicUsize::new(usize::MAX), error: Mutex::new(None) }
    }

    /// Does the work of a head; an error that does not come from its data ends all.
    fn or_skipped(&self, number: usize, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        if number > self.end.load(Ordering::Relaxed) {
            return Ok(());
        }
        match work() {
            Err(error @ (Error::Range { .. } | Error::NonFinite { .. })) => {
                let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(before, _)| number < *before) {
                    *first = Some((number, error));
                    self.end.store(number, Ordering::Relaxed);
                }
                Ok(())
            }
            result => result,
        }
    }

    fn result(self) -> Result<(), Error> {
        let found = self.error.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.map_or(Ok(()), |(_, error)| Err(error))
    }
}

/// An error that names the first of the inputs of a head that is not finite.
pub(crate) fn check_finite<T: Float>(
    head: &Heads<'_, T>,
    dout: Option<ArrayView2<'_, T>>,
    options: &Options,
) -> Result<(), Error> {
    let more = dout.map(|dout| ("dout", dout));
    check(head, [more.as_slice(), &[]], &Kernels::of(options.isa()?), &mut Run::new(options, None))
}

/// Whether a number of a head that is not finite ends in an error without a look at each of them: every row has a part
/// in some result, bounds of logits and results must be finite, and whoever finds one that is not names its cause.
fn comes_through<T: Float>(head: &Heads<'_, T>) -> bool {
    let (n, m) = (head.query.nrows(), head.key.nrows());
    let is_seen = head.plain().is_some_and(|is_causal| !is_causal || n >= m);
    is_seen && n > 0 && m > 0 && head.value.ncols() > 0
}

pub(super) fn check<T: Float>(
    head: &Heads<'_, T>,
    others: Others<'_, '_, T>,
    kernels: &Kernels<T>,
    run: &mut Run<'_>,
) -> Result<(), Error> {
    let own = [("query", head.query), ("key", head.key), ("value", head.value)];
    own.iter().chain(others.into_iter().flatten()).try_for_each(|(name, array)| {
        let known = array.as_slice().is_some_and(|numbers| kernels.finite(numbers));
        if known {
            return Ok(());
        }
        match (blame_not_finite(name, array), head.plain()) {
            // A mask may hide it.
            (Err(_), None) => check_seen(head, others, run),
            (result, _) => result,
        }
    })
}

/// The same for logarithms of normalisers; −∞ is that of nothing.
pub(super) fn check_logarithms<T: Float>(lse: ArrayView1<'_, T>) -> Result<(), Error> {
    match lse.iter().enumerate().find(|(_, x)| !x.is_finite() && **x != T::neg_infinity()) {
        Some((row, x)) => Err(Error::NonFinite { argument: "lse", found: x.to_string(), row, column: 0 }),
        None => Ok(()),
    }
}
