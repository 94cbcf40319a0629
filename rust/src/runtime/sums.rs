//! Sums over tasks in the order of their numbers, whichever is done first.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::buffer;
use super::pool::{Cancel, Run};
use crate::error::Error;

/// Sums that every task has of its own while it works. They are added up in the order of the tasks, whichever is done
/// first, so that no bit depends on the threads; and then lent again, so that there are about as many as threads.
pub struct Sums<const N: usize>([Option<Sum>; N]);

impl<const N: usize> Sums<N> {
    /// Of so many numbers each, where they are wanted.
    pub fn new(sizes: [Option<usize>; N]) -> Self {
        Sums(sizes.map(|size| size.map(|size| Sum { size, added: Mutex::default() })))
    }

    /// Does tasks that are numbered from `first` on, each with sums of its own, zeros at first; the results in order.
    pub fn each<X, S: Clone + Default + Send>(
        &self,
        first: usize,
        tasks: impl ExactSizeIterator<Item = X> + Send,
        run: &mut Run<'_>,
        work: impl Fn(X, [Option<&mut [f64]>; N], &Cancel) -> Result<S, Error> + Sync,
    ) -> Result<Vec<S>, Error> {
        let mut results = buffer::filled(tasks.len(), S::default())?;
        run.for_each(tasks.zip(&mut results).enumerate(), |(number, (task, result)), cancel| {
            let mut own = [const { None }; N];
            for (own, sum) in own.iter_mut().zip(&self.0) {
                *own = sum.as_ref().map(Sum::lend).transpose()?;
            }
            *result = work(task, own.each_mut().map(|own: &mut Option<Vec<f64>>| own.as_deref_mut()), cancel)?;
            for (own, sum) in own.into_iter().zip(&self.0) {
                if let (Some(own), Some(sum)) = (own, sum) {
                    sum.add(first + number, own);
                }
            }
            Ok(())
        })?;
        Ok(results)
    }

    /// All of them together: zeros where there was no task.
    pub fn totals(self) -> Result<[Option<Vec<f64>>; N], Error> {
        let mut totals = [const { None }; N];
        for (total, sum) in totals.iter_mut().zip(self.0) {
            *total = sum.map(Sum::total).transpose()?;
        }
        Ok(totals)
    }
}

/// One of the sums.
struct Sum {
    size: usize,
    added: Mutex<Added>,
}

#[derive(Default)]
struct Added {
    total: Option<Vec<f64>>,
    /// The task whose sums are added next.
    next: usize,
    waiting: BTreeMap<usize, Vec<f64>>,
    /// Zeros.
    free: Vec<Vec<f64>>,
}

impl Sum {
    fn total(self) -> Result<Vec<f64>, Error> {
        let total = self.added.into_inner().unwrap_or_else(PoisonError::into_inner).total;
        total.map_or_else(|| buffer::zeros(self.size), Ok)
    }

    fn lend(&self) -> Result<Vec<f64>, Error> {
        let free = self.added.lock().unwrap_or_else(PoisonError::into_inner).free.pop();
        free.map_or_else(|| buffer::zeros(self.size), Ok)
    }

    fn add(&self, task: usize, own: Vec<f64>) {
        let mut added = self.added.lock().unwrap_or_else(PoisonError::into_inner);
        let Added { total, next, waiting, free } = &mut *added;
        waiting.insert(task, own);
        while let Some(mut own) = waiting.remove(next) {
            *next += 1;
            let Some(total) = total else {
                *total = Some(own);
                continue;
            };
            for (sum, term) in total.iter_mut().zip(&mut own) {
                *sum += *term;
                *term = 0.0;
            }
            free.push(own);
        }
    }
}
