//! Whether an array has numbers only, and copies of it that have, at the speed of memory.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::float::Float;
use crate::options::Options;
use crate::runtime::pool::{Run, Watch};

/// Numbers of a task: some hundred microseconds of reading.
const TASK: usize = 1 << 19;

/// Numbers of a task that copies: they stay in the cache of the thread that looks at the copy.
const PART: usize = 1 << 16;

/// Bytes that one thread reads in a nanosecond, at least.
const BYTES_PER_NANOSECOND: usize = 8;

/// Independent sums, so that they are made many at a time.
const LANES: usize = 64;

/// Whether no value is NaN or infinite. Time O(n), by all threads.
///
/// # Errors
/// [`Error::Deadline`], [`Error::Cancelled`], [`Error::OutOfMemory`].
pub fn all_finite<T: Float>(values: &[T], options: &Options, watch: Option<Watch<'_>>) -> Result<bool, Error> {
    let mut run = Run::new(options, watch);
    all(size_of_val(values), values.chunks(TASK), all_finite_of, &mut run)
}

/// Copies numbers, and says of the copy whether no value is NaN or infinite. Time O(n), by all threads: a single one
/// does not use all of the memory's speed.
///
/// # Errors
/// [`Error::OutOfMemory`]; [`Error::Internal`] where the lengths differ.
pub fn snapshot<T: Float>(values: &[T], copy: &mut [T], options: &Options) -> Result<bool, Error> {
    if values.len() != copy.len() {
        return Err(Error::Internal("a copy of another length".into()));
    }
    let parts = copy.chunks_mut(PART).zip(values.chunks(PART));
    let copied = |(copy, values): (&mut [T], &[T])| {
        copy.copy_from_slice(values);
        all_finite_of(copy)
    };
    // What is read is written as well.
    all(2 * size_of_val(values), parts, copied, &mut Run::new(options, None))
}

/// Whether all parts are `good`, of so many bytes to be read and written together; every part is looked at.
fn all<X>(
    bytes: usize,
    parts: impl ExactSizeIterator<Item = X> + Send,
    good: impl Fn(X) -> bool + Sync,
    run: &mut Run<'_>,
) -> Result<bool, Error> {
    let all_good = AtomicBool::new(true);
    run.short(bytes / BYTES_PER_NANOSECOND, parts, |part, _| {
        if !good(part) {
            all_good.store(false, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(all_good.into_inner())
}

/// Zero times a number is zero, and what is no number stays in a sum.
#[inline(always)]
pub(crate) fn all_finite_of<T: Float>(values: &[T]) -> bool {
    let mut sums = [T::zero(); LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x * T::zero();
        }
    }
    sums.iter().all(|&sum| sum == T::zero()) && rest.iter().all(|x| x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds_each<T: Float>(worst: [T; 3]) {
        for length in [0, 1, 63, 64, 1000, TASK + 70] {
            let mut values: Vec<T> = (0..length).map(|i| T::narrow(i as f64 - 500.0)).collect();
            let of = |values: &[T]| {
                let finite = all_finite(values, &Options::default(), None).expect("no deadline");
                let mut copy = vec![T::zero(); values.len()];
                assert_eq!(snapshot(values, &mut copy, &Options::default()).expect("equal lengths"), finite);
                assert!(copy.iter().zip(values).all(|(a, b)| a == b || a.is_nan() && b.is_nan()));
                finite
            };
            assert!(of(&values), "{length}");
            for index in [0, length / 2, length.saturating_sub(1)].into_iter().filter(|&index| index < length) {
                let before = values[index];
                for bad in worst {
                    values[index] = bad;
                    assert!(!of(&values), "{length} {index} {bad}");
                }
                values[index] = T::max_value();
                assert!(of(&values), "{length} {index}");
                values[index] = before;
            }
        }
    }

    #[test]
    fn one_that_is_no_number_is_found_wherever_it_is() {
        finds_each([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        finds_each([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    }
}
