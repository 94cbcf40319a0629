//! Second derivatives of many heads as one computation, and of one.

use ndarray::{Array2, ArrayView2};

use super::head::{Moved, Residuals};
use crate::error::Error;
use crate::exact::kernels::Kernels;
use crate::exact::results::Results;
use crate::exact::stack::{Incoming, check, check_each, check_logarithms, each, operations};
use crate::float::{Float, compiled};
use crate::linalg::layout::take;
use crate::linalg::products::matrix;
use crate::options::Options;
use crate::problem::{Heads, Saved, Shape, Stack};
use crate::runtime::buffer;
use crate::runtime::pool::{Run, Watch};

/// The output of all heads and its change in a direction, rows of one head after those of the one before.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pushed<T> {
    /// o, (heads · n, dv); nothing where it was given.
    pub output: Option<Array2<T>>,
    /// ȯ, (heads · n, dv).
    pub tangent: Array2<T>,
}

/// The Jacobian-vector product of attention for all heads: its change when query, key and value move along those of
/// `direction`, a stack of the same shapes whose scale and mask count for nothing.
///
/// Masks are those of `stack`: a row that sees nothing does not move, and what no query sees has no effect. Results of
/// the forward pass that are given are used. With `is_checked` inputs that are not finite are refused. Time
/// 14 n m d a head for d = dv, 10 with results of the forward pass; half if causal. Memory O((n + m)(d + dv)) for each
/// thread besides the results.
///
/// # Errors
/// [`Error::Shape`] for a direction of other shapes, and those of [`crate::attention`], of the first head that has one.
pub fn attention_stack_jvp<T: Float>(
    stack: &Stack<'_, T>,
    direction: &Stack<'_, T>,
    saved: Option<&Saved<'_, T>>,
    is_checked: bool,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Pushed<T>, Error> {
    compiled!(
        T,
        pushed::<T>
            as fn(
                &Stack<'_, T>,
                &Stack<'_, T>,
                Option<&Saved<'_, T>>,
                bool,
                &Options,
                Option<Watch<'_>>,
            ) -> Result<Pushed<T>, Error>
    )(stack, direction, saved, is_checked, options, watch)
}

fn pushed<T: Float>(
    stack: &Stack<'_, T>,
    direction: &Stack<'_, T>,
    saved: Option<&Saved<'_, T>>,
    is_checked: bool,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<Pushed<T>, Error> {
    fits(stack, direction)?;
    let Shape { n, dv, .. } = stack.shape();
    let heads = stack.heads();
    let size = buffer::size(&[n, dv])?;
    let room = |count: usize| buffer::zeros::<T>(buffer::size(&[count, size])?);
    let mut output = room(if saved.is_some() { 0 } else { heads.len() })?;
    let mut tangent = room(heads.len())?;
    let mut tasks = buffer::with_capacity(heads.len())?;
    let (mut outputs, mut tangents) = (output.as_mut_slice(), tangent.as_mut_slice());
    for (number, moved) in moved(stack, direction, saved, ["dquery", "dkey", "dvalue"]).enumerate() {
        let own = if moved.saved.is_some() { 0 } else { size };
        tasks.push((number, moved, [take(&mut outputs, own), take(&mut tangents, size)]));
    }
    let (mut run, kernels) = (Run::new(options, watch), Kernels::of(options.isa()?));
    each(tasks, 14.0 * operations(stack), &mut run, |(_, moved, room), run| {
        if is_checked {
            moved.check((None, None), &kernels, run)?;
        }
        moved.push_into(room, options, run)
    })?;
    let rows = heads.len() * n;
    let output = if saved.is_some() { None } else { Some(matrix(output, rows, dv)?) };
    Ok(Pushed { output, tangent: matrix(tangent, rows, dv)? })
}

/// The Hessian of ⟨dout, o⟩ in query, key, value and dout times a direction, for all heads: the changes of the results
/// of [`crate::exact::attention_stack_vjp`] and of o. Without `ddout`, the direction of dout, they are also the gradients
/// of ⟨q̇, dq⟩ + ⟨k̇, dk⟩ + ⟨v̇, dv⟩ with respect to query, key, value and dout.
///
/// The parts of query (heads · n, d), key (key heads · m, d), value (key heads · m, dv) and dout (heads · n, dv); those
/// of shared keys are sums over the query heads that share them. `direction`, `is_checked` and results of the forward
/// pass as in [`attention_stack_jvp`]. Time 34 n m d a head for d = dv, 30 with results of the forward pass, 4 more with
/// `ddout`; half if causal. Memory O((n + m)(d + dv)) for each thread besides the results, and where query heads share
/// keys the parts of each of them.
///
/// # Errors
/// Those of [`attention_stack_jvp`], and [`Error::Shape`] for `dout` or `ddout` of another shape than the output.
pub fn attention_stack_hvp<T: Float>(
    stack: &Stack<'_, T>,
    direction: &Stack<'_, T>,
    (incoming, ddout): (&Incoming<'_, T>, Option<&[ArrayView2<'_, T>]>),
    is_checked: bool,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<[Array2<T>; 4], Error> {
    compiled!(
        T,
        turned::<T>
            as fn(
                &Stack<'_, T>,
                &Stack<'_, T>,
                (&Incoming<'_, T>, Option<&[ArrayView2<'_, T>]>),
                bool,
                &Options,
                Option<Watch<'_>>,
            ) -> Result<[Array2<T>; 4], Error>
    )(stack, direction, (incoming, ddout), is_checked, options, watch)
}

fn turned<T: Float>(
    stack: &Stack<'_, T>,
    direction: &Stack<'_, T>,
    (incoming, ddout): (&Incoming<'_, T>, Option<&[ArrayView2<'_, T>]>),
    is_checked: bool,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<[Array2<T>; 4], Error> {
    fits(stack, direction)?;
    let Shape { n, m, d, dv, .. } = stack.shape();
    let (count, group) = (stack.heads().len(), stack.group());
    incoming.check(count, (n, dv))?;
    ddout.map_or(Ok(()), |ddout| check_each("ddout", ddout, count, (n, dv)))?;
    let mut found = Results::new(count, [(n, d), (m, d), (m, dv), (n, dv)])?;
    let mut tasks = buffer::with_capacity(count)?;
    let names = ["ddquery", "ddkey", "ddvalue"];
    let heads = moved(stack, direction, incoming.saved.as_ref(), names);
    for (number, (moved, room)) in heads.zip(found.of_heads()).enumerate() {
        tasks.push((moved, (incoming.dout[number].reborrow(), ddout.map(|ddout| ddout[number].reborrow())), room));
    }
    let (mut run, kernels) = (Run::new(options, watch), Kernels::of(options.isa()?));
    each(tasks, 34.0 * operations(stack), &mut run, |(moved, dout, room), run| {
        if is_checked {
            moved.check((Some(dout.0), dout.1), &kernels, run)?;
        }
        moved.turn_into(dout, room, options, run)
    })?;
    found.finish(group, &[1, 2], &mut run)
}

/// An error unless the direction has the shapes of the heads.
fn fits<T: Float>(stack: &Stack<'_, T>, direction: &Stack<'_, T>) -> Result<(), Error> {
    let shapes = |stack: &Stack<'_, T>| {
        let Shape { n, m, d, dv, .. } = stack.shape();
        ([n, m, d, dv], stack.heads().len(), stack.group())
    };
    let ([n, m, d, dv], heads, group) = shapes(stack);
    if shapes(direction) == ([n, m, d, dv], heads, group) {
        return Ok(());
    }
    let Shape { n: rows, d: width, .. } = direction.shape();
    let wanted = format!("one of the shapes of query, key and value: {heads} heads of {:?}", [n, m, d, dv]);
    Err(Error::Shape { argument: "direction", found: vec![direction.heads().len(), rows, width], wanted })
}

/// The heads with their directions, whose arrays have these names.
fn moved<'a, T: Float>(
    stack: &'a Stack<'_, T>,
    direction: &'a Stack<'_, T>,
    saved: Option<&'a Saved<'_, T>>,
    names: [&'static str; 3],
) -> impl Iterator<Item = Moved<'a, T>> {
    stack.heads().iter().zip(direction.heads()).enumerate().map(move |(number, (heads, direction))| Moved {
        heads: heads.reborrow(),
        direction: direction.reborrow(),
        names,
        saved: saved.map(|saved| saved.of_head(number)),
    })
}

impl<T: Float> Moved<'_, T> {
    /// An error that names the first of the inputs that is not finite, c and its change included.
    fn check(&self, residuals: Residuals<'_, T>, kernels: &Kernels<T>, run: &mut Run<'_>) -> Result<(), Error> {
        let [by_query, by_key] = self.others(residuals);
        check(&self.heads, [&by_query, &by_key], kernels, run)?;
        self.saved.map_or(Ok(()), |(_, lse)| check_logarithms(lse))
    }
}

/// o and its change when query, key and value move along those of `direction`, of the same shapes, whose scale and mask
/// count for nothing.
///
/// Time 14 n m d for d = dv, half if causal; memory O((n + m)(d + dv)).
///
/// # Errors
/// [`Error::Shape`] for a direction of other shapes, and those of [`crate::attention`].
///
/// # Example
///
/// ```
/// use attngrad::ndarray::Array2;
/// use attngrad::{Heads, Options, attention, attention_jvp};
///
/// let matrix = |rows, columns, a: f64| Array2::from_shape_fn((rows, columns), |(j, i)| (a * (j + 3 * i) as f64).sin());
/// let (query, key, value) = (matrix(7, 4, 0.7), matrix(9, 4, 0.9), matrix(9, 3, 1.1));
/// let still = (Array2::zeros((7, 4)), Array2::zeros((9, 4)));
///
/// // Attention is linear in the value.
/// let heads = Heads::new(query.view(), key.view(), value.view())?;
/// let direction = Heads::new(still.0.view(), still.1.view(), value.view())?;
/// let [output, tangent] = attention_jvp(&heads, &direction, &Options::default(), None)?;
/// assert_eq!(output, attention(&heads, &Options::default(), None)?);
/// assert!((output - tangent).iter().all(|difference| difference.abs() < 1e-14));
/// # Ok::<(), attngrad::Error>(())
/// ```
pub fn attention_jvp<T: Float>(
    heads: &Heads<'_, T>,
    direction: &Heads<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<[Array2<T>; 2], Error> {
    let [stack, direction] = [Stack::of(vec![heads.reborrow()])?, Stack::of(vec![direction.reborrow()])?];
    let Pushed { output, tangent } = attention_stack_jvp(&stack, &direction, None, false, options, watch)?;
    let output = output.ok_or_else(|| Error::Internal("no output was made".into()))?;
    Ok([output, tangent])
}

/// The gradients with respect to query, key, value and `dout` of ⟨q̇, dq⟩ + ⟨k̇, dk⟩ + ⟨v̇, dv⟩, where dq, dk and dv are the
/// vector-Jacobian product for `dout`, and `direction` has q̇, k̇ and v̇: the vector-Jacobian product of that one.
///
/// Linear in `dout` and in the direction. Time 34 n m d for d = dv, half if causal; memory O((n + m)(d + dv)).
///
/// # Errors
/// [`Error::Shape`] where `dout` is not (n, dv), and those of [`attention_jvp`].
///
/// # Example
///
/// ```
/// use attngrad::ndarray::Array2;
/// use attngrad::{Heads, Options, attention_hvp, attention_jvp};
///
/// let matrix = |rows, columns, a: f64| Array2::from_shape_fn((rows, columns), |(j, i)| (a * (j + 3 * i) as f64).sin());
/// let (query, key, value, dout) = (matrix(7, 4, 0.7), matrix(9, 4, 0.9), matrix(9, 3, 1.1), matrix(7, 3, 1.3));
/// let along = (matrix(7, 4, 1.7), matrix(9, 4, 1.9), matrix(9, 3, 2.1));
///
/// let heads = Heads::new(query.view(), key.view(), value.view())?;
/// let direction = Heads::new(along.0.view(), along.1.view(), along.2.view())?;
/// let options = Options::default();
/// let [_, _, _, by_dout] = attention_hvp(&heads, dout.view(), &direction, &options, None)?;
/// // dq, dk and dv are linear in dout, and what they are linear by is the Jacobian.
/// let [_, tangent] = attention_jvp(&heads, &direction, &options, None)?;
/// assert_eq!(by_dout, tangent);
/// # Ok::<(), attngrad::Error>(())
/// ```
pub fn attention_hvp<T: Float>(
    heads: &Heads<'_, T>,
    dout: ArrayView2<'_, T>,
    direction: &Heads<'_, T>,
    options: &Options,
    watch: Option<Watch<'_>>,
) -> Result<[Array2<T>; 4], Error> {
    let [stack, direction] = [Stack::of(vec![heads.reborrow()])?, Stack::of(vec![direction.reborrow()])?];
    let incoming = Incoming { dout: vec![dout], saved: None };
    attention_stack_hvp(&stack, &direction, (&incoming, None), false, options, watch)
}
