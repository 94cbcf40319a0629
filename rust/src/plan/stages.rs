//! One deadline, one progress bar and one confidence over several computations.

use std::time::Instant;

use crate::error::Error;
use crate::options::Options;
use crate::runtime::pool::Watch;

/// The time that is left, the part of the work that is done, and the number of looks at rows.
pub struct Stages<'a> {
    options: Options,
    start: Instant,
    watch: Option<Watch<'a>>,
    done: f64,
    looks: u32,
}

impl<'a> Stages<'a> {
    /// Nothing done yet.
    pub fn new(options: &Options, watch: Option<Watch<'a>>) -> Self {
        Stages { options: *options, start: Instant::now(), watch, done: 0.0, looks: 0 }
    }

    /// The number of the next look at rows that are drawn by their caps, from 1 on: all looks of a call spend one
    /// confidence.
    pub fn look(&mut self) -> u32 {
        self.looks += 1;
        self.looks
    }

    /// Runs `work`, which takes this share of the remaining work.
    ///
    /// # Errors
    /// [`Error::Deadline`] where no time is left; those of `work`.
    pub fn run<R>(
        &mut self,
        share: f64,
        work: impl FnOnce(&Options, Option<Watch<'_>>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut options = self.options;
        if let Some(timeout) = self.options.timeout {
            let left = timeout.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return Err(Error::Deadline(timeout));
            }
            options.timeout = Some(left);
        }
        let (from, part) = (self.done, share * (1.0 - self.done));
        self.done = from + part;
        let result = match &mut self.watch {
            Some(watch) => work(&options, Some(&mut |fraction| watch(from + part * fraction))),
            None => work(&options, None),
        };
        match (result, self.options.timeout) {
            (Err(Error::Deadline(_)), Some(timeout)) => Err(Error::Deadline(timeout)),
            (result, _) => result,
        }
    }
}
