//! The sizes of a problem, and the law of which sizes fit together.

use crate::error::Error;

/// A side of a matrix: the last two axes of an array are rows and columns.
#[derive(Clone, Copy)]
enum Side {
    Rows,
    Columns,
}

use Side::{Columns, Rows};

/// An array, a side of it, and the side of another array that is as long.
type Rule = (&'static str, Side, &'static str, Side);

/// Rules of the paper's problem, for weights of either kind.
const PROBLEM: [Rule; 9] = [
    ("A1", Columns, "X", Rows),
    ("A2", Columns, "X", Columns),
    ("W_K", Columns, "W_Q", Columns),
    ("A1", Columns, "W_Q", Rows),
    ("A2", Columns, "W_K", Rows),
    ("A3", Rows, "A2", Rows),
    ("A3", Columns, "Y", Rows),
    ("E", Rows, "A1", Rows),
    ("E", Columns, "Y", Columns),
];

/// Rules of heads of attention.
const HEADS: [Rule; 6] = [
    ("key", Columns, "query", Columns),
    ("value", Rows, "key", Rows),
    ("dout", Rows, "query", Rows),
    ("dout", Columns, "value", Columns),
    ("output", Rows, "query", Rows),
    ("output", Columns, "value", Columns),
];

impl Side {
    /// Its length in an array of this shape; no axis is of length 0.
    fn of(self, shape: &[usize]) -> usize {
        let back = if matches!(self, Rows) { 2 } else { 1 };
        shape.len().checked_sub(back).map_or(0, |axis| shape[axis])
    }

    /// So many of them, in words.
    fn count(self, length: usize) -> String {
        let name = if matches!(self, Rows) { "row" } else { "column" };
        format!("{length} {name}{}", if length == 1 { "" } else { "s" })
    }
}

/// Holds the sizes of arrays, which `find` finds by name, against the rules; those of arrays that are not given say
/// nothing.
fn fit<'a>(rules: &[Rule], find: impl Fn(&str) -> Option<&'a [usize]>) -> Result<(), Error> {
    for &(argument, side, other, other_side) in rules {
        let (Some(found), Some(known)) = (find(argument), find(other)) else { continue };
        let wanted = other_side.of(known);
        if side.of(found) != wanted {
            let wanted =
                format!("{other} has {}, so {argument} needs {}", other_side.count(wanted), side.count(wanted));
            return Err(Error::Shape { argument, found: found.to_vec(), wanted });
        }
    }
    Ok(())
}

/// Leading dimensions in words.
fn dimensions(leading: &[usize]) -> String {
    let each: Vec<String> = leading.iter().map(usize::to_string).collect();
    if each.is_empty() { "none".into() } else { each.join(" × ") }
}

/// The shape of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Queries.
    pub n: usize,
    /// Keys.
    pub m: usize,
    /// Width of the logits.
    pub d: usize,
    /// Width of A1.
    pub d1: usize,
    /// Width of A2.
    pub d2: usize,
    /// Width of A3.
    pub d3: usize,
    /// Width of the values.
    pub dv: usize,
    /// Whether X is given as a pair.
    pub pair: bool,
}

impl Shape {
    /// That of a problem whose arrays have these shapes: A1, A2, A3, Y, E, and X or W_Q and W_K, found by name.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn of_arrays<'a>(find: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Self, Error> {
        fit(&PROBLEM, &find)?;
        let size = |name: &str, side: Side| side.of(find(name).unwrap_or_default());
        let pair = find("W_Q").is_some();
        let d = size(if pair { "W_Q" } else { "X" }, Columns);
        let [(n, d1), (m, d2), (d3, dv)] = ["A1", "A2", "Y"].map(|name| (size(name, Rows), size(name, Columns)));
        Ok(Shape { n, m, d, d1, d2, d3, dv, pair })
    }

    /// That of one of the heads of attention whose arrays have these shapes, query, key, value and, where they are given,
    /// dout, output and lse, found by name; axes before the last two count heads, and are those of the query.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn of_heads<'a>(find: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Self, Error> {
        Ok(StackSizes::of_arrays(false, find)?.head)
    }

    /// That of a head of attention as a problem with unit weights.
    pub fn of_head(n: usize, m: usize, width: usize, dv: usize) -> Self {
        Shape { n, m, d: width, d1: width, d2: width, d3: dv, dv, pair: false }
    }
}

/// The sizes of a stack of heads of attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackSizes {
    /// The shape of one head.
    pub head: Shape,
    /// Heads of the query.
    pub heads: usize,
    /// Heads of the query that share one of key and value.
    pub group: usize,
}

impl StackSizes {
    /// As [`Shape::of_heads`]; with `enable_gqa` the last leading dimension of the query may be a multiple of that of
    /// key and value.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the first array that does not fit another one.
    pub fn of_arrays<'a>(enable_gqa: bool, find: impl Fn(&str) -> Option<&'a [usize]>) -> Result<Self, Error> {
        let lead = |shape: &'a [usize]| &shape[..shape.len().saturating_sub(2)];
        let given = ["query", "key", "value", "dout", "output"].map(|name| find(name).map(|shape| (name, shape)));
        let query = find("query").map_or(&[][..], lead);
        let mut group = 1;
        for (argument, found) in given.into_iter().flatten() {
            let misfit = |wanted: String| Err(Error::Shape { argument, found: found.to_vec(), wanted });
            if found.len() < 2 {
                return misfit("expected at least two dimensions, (..., rows, columns)".into());
            }
            let (own, wanted) = (lead(found), dimensions(query));
            if own == query {
                continue;
            }
            let shares = enable_gqa && ["key", "value"].contains(&argument) && own.len() == query.len();
            match (query.split_last(), own.split_last()) {
                (Some((heads, before)), Some((shared, others))) if shares && before == others => {
                    if *shared == 0 || heads % shared != 0 {
                        return misfit(format!("query has {heads} heads, expected a number of heads that divides it"));
                    }
                    group = (heads / shared).max(1);
                }
                _ => {
                    return misfit(format!("query has leading dimensions {wanted}, so {argument} needs the same"));
                }
            }
        }
        if let (Some(key), Some(found)) = (find("key"), find("value"))
            && lead(key) != lead(found)
        {
            let wanted = format!("key has leading dimensions {}, so value needs the same", dimensions(lead(key)));
            return Err(Error::Shape { argument: "value", found: found.to_vec(), wanted });
        }
        if let (Some(query), Some(found)) = (find("query"), find("lse"))
            && found != &query[..query.len() - 1]
        {
            let wanted =
                format!("query has {}, so lse needs {}", dimensions(query), dimensions(&query[..query.len() - 1]));
            return Err(Error::Shape { argument: "lse", found: found.to_vec(), wanted });
        }
        fit(&HEADS, &find)?;
        let size = |name: &str, side: Side| side.of(find(name).unwrap_or_default());
        let head =
            Shape::of_head(size("query", Rows), size("value", Rows), size("query", Columns), size("value", Columns));
        let heads = query.iter().fold(1, |count: usize, &axis| count.saturating_mul(axis));
        Ok(StackSizes { head, heads, group })
    }
}
