//! One deadline and one progress bar over several computations.

use std::time::Instant;

use crate::error::Error;
use crate::options::Options;
use crate::pool::Watch;

/// What is left of the time, and how much of the whole is done.
pub struct Stages<'a> {
    options: Options,
    start: Instant,
    watch: Option<Watch<'a>>,
    done: f64,
}

impl<'a> Stages<'a> {
    /// Nothing done yet.
    pub fn new(options: &Options, watch: Option<Watch<'a>>) -> Self {
        Stages { options: *options, start: Instant::now(), watch, done: 0.0 }
    }

    /// Runs `work`, which takes this share of what is left to do.
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
