//! Gradients that are zero by the structure of a problem, whatever its other numbers are: equal keys, equal values,
//! zero queries, a zero incoming gradient, zero weights (docs/math.md, Lemma 5.11).

use ndarray::{ArrayView1, ArrayView2};

use crate::error::Error;
use crate::float::Float;
use crate::problem::{Heads, Interval, Problem, Weights, Wrt};
use crate::runtime::buffer;

/// Which gradients of a problem are zero in exact arithmetic because of equal rows, zero rows or zero weights.
///
/// Such a gradient is returned as zeros with an error bound of 0. Every answer `true` is a proof; a gradient that
/// vanishes because sums cancel is not found. The question is: does every query row j contribute nothing, because its
/// c_j is zero, because the keys it sees are equal (p_j K = Σ_i p_ji k = 0, rows of p sum to zero), because the values
/// it sees are equal (p_j = 0), or because the row of A1, or the query, that its contribution is multiplied by is zero?
/// And are the weights behind the sum zero? Columns that only meet zeros of the weights do not count.
///
/// Making one takes O(d²) at most, an answer O((n + m) d) at most and O(d) on data without such structure: each look
/// ends at the first row that differs.
pub(crate) struct Structure<'a, T> {
    queries: Rows<'a, T>,
    /// The whole rows of A1.
    left: Rows<'a, T>,
    /// The rows of A2 as far as the keys depend on them.
    keys: Rows<'a, T>,
    /// The rows of A2 as far as p A2 Xᵀ depends on them.
    keys_of_left: Rows<'a, T>,
    /// The whole rows of A2.
    right: Rows<'a, T>,
    values: Rows<'a, T>,
    /// The whole rows of A3.
    inputs: Rows<'a, T>,
    /// E, or c itself, as far as ⟨c, h⟩ depends on it, and whole.
    given: Rows<'a, T>,
    whole_given: Rows<'a, T>,
    /// Whether the logits have a scale of zero, and whether W_Q and W_K have only zeros.
    scale_is_zero: bool,
    query_weights_are_zero: bool,
    key_weights_are_zero: bool,
    is_causal: bool,
    /// The keys that each query sees where there is another mask.
    sight: Option<&'a [Interval]>,
    is_target: bool,
}

/// Which of the gradients of a problem are zero by its structure.
pub(crate) fn zeros<T: Float>(problem: &Problem<'_, T>, wrt: &[Wrt]) -> Result<Vec<bool>, Error> {
    let structure = Structure::new(problem)?;
    buffer::collected(wrt.iter().map(|&wrt| structure.is_zero(wrt)))
}

impl<'a, T: Float> Structure<'a, T> {
    /// Of a problem.
    fn new(problem: &'a Problem<'_, T>) -> Result<Self, Error> {
        let Problem { A1, A2, A3, Y, E, weights, .. } = &problem.reborrow();
        let zero = |weights: &ArrayView2<'_, T>| weights.iter().all(|x| x.is_zero());
        let (queries, keys, keys_of_left, key_weights_are_zero) = match weights {
            // The keys are A2 itself.
            Weights::Product(X) => (met_rows(A1, X)?, Rows::whole(A2), Rows::of(A2, X.columns().into_iter())?, false),
            Weights::Pair(W_Q, W_K) => (met_rows(A1, W_Q)?, met_rows(A2, W_K)?, met_rows(A2, W_K)?, zero(W_K)),
        };
        let query_weights = match weights {
            Weights::Product(X) => X,
            Weights::Pair(W_Q, _) => W_Q,
        };
        Ok(Structure {
            queries,
            left: Rows::whole(A1),
            keys,
            keys_of_left,
            right: Rows::whole(A2),
            values: met_rows(A3, Y)?,
            inputs: Rows::whole(A3),
            given: Rows::of(E, Y.columns().into_iter())?,
            whole_given: Rows::whole(E),
            scale_is_zero: problem.scale == 0.0,
            query_weights_are_zero: zero(query_weights),
            key_weights_are_zero,
            is_causal: problem.is_causal,
            sight: None,
            is_target: problem.is_target,
        })
    }

    /// Of one head whose queries see these keys, with an incoming gradient: query, key and value are A1, A2 and A3.
    pub(crate) fn of_heads(heads: &'a Heads<'_, T>, sight: Option<&'a [Interval]>, dout: ArrayView2<'a, T>) -> Self {
        let [query, key, value] = [&heads.query, &heads.key, &heads.value].map(|array| Rows::whole(&array.reborrow()));
        let dout = Rows::whole(&dout);
        Structure {
            queries: query.clone(),
            left: query,
            keys: key.clone(),
            keys_of_left: key.clone(),
            right: key,
            values: value.clone(),
            inputs: value,
            given: dout.clone(),
            whole_given: dout,
            scale_is_zero: heads.scale == 0.0,
            query_weights_are_zero: false,
            key_weights_are_zero: false,
            is_causal: false,
            sight,
            is_target: false,
        }
    }

    /// Whether the gradient with respect to `wrt` is zero by structure.
    pub(crate) fn is_zero(&self, wrt: Wrt) -> bool {
        let no_row = |_| false;
        let through_logits = |keys: usize, left: &dyn Fn(usize) -> bool| {
            let equal = keys.max(self.values.equal());
            // Whatever it is, one key alone has all of the weight.
            let is_one = |seen: Interval| seen.end <= equal || seen.len() <= 1;
            self.scale_is_zero || self.vanishes(&is_one, &self.given, left)
        };
        let zeros = |keys: usize| move |seen: Interval| seen.end <= keys || seen.len() == 0;
        let zero_query = |j| self.queries.is_zero(j);
        match wrt {
            // s A1ᵀ p K
            Wrt::X | Wrt::WQ => through_logits(self.keys.equal(), &|j| self.left.is_zero(j)),
            // s p K W_Qᵀ
            Wrt::A1 => self.query_weights_are_zero || through_logits(self.keys_of_left.equal(), &no_row),
            // s A2ᵀ pᵀ Q
            Wrt::WK => through_logits(self.right.equal(), &zero_query),
            // s pᵀ Q W_Kᵀ
            Wrt::A2 => self.key_weights_are_zero || through_logits(0, &zero_query),
            // A3ᵀ fᵀ c
            Wrt::Y => self.vanishes(&zeros(self.inputs.zeros()), &self.whole_given, &no_row),
            // fᵀ c Yᵀ
            Wrt::A3 => self.vanishes(&zeros(0), &self.given, &no_row),
            Wrt::A => [Wrt::A1, Wrt::A2, Wrt::A3].into_iter().all(|part| self.is_zero(part)),
        }
    }

    /// Whether all keys that a query sees pass `alike`, or it has c = 0, or it passes `left`: of every query.
    fn vanishes(&self, alike: &dyn Fn(Interval) -> bool, given: &Rows<'_, T>, left: &dyn Fn(usize) -> bool) -> bool {
        let m = self.inputs.array.nrows();
        // A target leaves c = o − E: zero where E and the values that make o are.
        let zero_output = if self.is_target { self.values.zeros() } else { m };
        // Without a look at the queries, of which there may be any number where they have no columns.
        if alike(Interval { begin: 0, end: m }) || m <= zero_output && given.is_empty() {
            return true;
        }
        (0..self.left.array.nrows()).all(|j| {
            let seen = match self.sight {
                Some(sight) => sight[j],
                None => Interval { begin: 0, end: if self.is_causal { m.min(j + 1) } else { m } },
            };
            alike(seen) || (seen.end <= zero_output && given.is_zero(j)) || left(j)
        })
    }
}

/// Rows of a matrix, of which only some columns count.
#[derive(Clone)]
struct Rows<'a, T> {
    array: ArrayView2<'a, T>,
    /// All of them where this is `None`.
    columns: Option<Vec<usize>>,
}

/// The rows of `array` in a product array · weights: columns that meet a row of zeros do not count.
fn met_rows<'a, T: Float>(array: &ArrayView2<'a, T>, weights: &ArrayView2<'_, T>) -> Result<Rows<'a, T>, Error> {
    Rows::of(array, weights.rows().into_iter())
}

impl<'a, T: Float> Rows<'a, T> {
    fn whole(array: &ArrayView2<'a, T>) -> Self {
        Rows { array: *array, columns: None }
    }

    /// The columns of `array` that meet something else than a line of zeros.
    fn of<'b>(array: &ArrayView2<'a, T>, lines: impl ExactSizeIterator<Item = ArrayView1<'b, T>>) -> Result<Self, Error>
    where
        T: 'b,
    {
        let mut columns = buffer::with_capacity(lines.len())?;
        columns.extend(lines.enumerate().filter(|(_, line)| line.iter().any(|x| !x.is_zero())).map(|(i, _)| i));
        let columns = (columns.len() < array.ncols()).then_some(columns);
        Ok(Rows { array: *array, columns })
    }

    fn is_zero(&self, row: usize) -> bool {
        self.all(row, |_, x| x.is_zero())
    }

    /// Number of rows from the first on that are equal to it.
    fn equal(&self) -> usize {
        self.leading(|row| self.all(row, |column, x| x == self.array[[0, column]]))
    }

    /// Number of rows from the first on that are zero.
    fn zeros(&self) -> usize {
        self.leading(|row| self.is_zero(row))
    }

    /// Whether no column counts, so that all rows are equal.
    fn is_empty(&self) -> bool {
        self.columns.as_ref().map_or(self.array.ncols(), Vec::len) == 0
    }

    fn leading(&self, holds: impl Fn(usize) -> bool) -> usize {
        if self.is_empty() {
            return self.array.nrows();
        }
        (0..self.array.nrows()).find(|&row| !holds(row)).unwrap_or(self.array.nrows())
    }

    fn all(&self, row: usize, holds: impl Fn(usize, T) -> bool) -> bool {
        let row = self.array.row(row);
        match &self.columns {
            None => row.iter().enumerate().all(|(column, &x)| holds(column, x)),
            Some(columns) => columns.iter().all(|&column| holds(column, row[column])),
        }
    }
}
