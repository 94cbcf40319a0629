//! A prefix scan in waves of chunks: moments of each chunk side by side, sums of those before it, and then each chunk
//! with its own prefix.

use std::ops::Range;

use super::buffer;
use super::pool::{Cancel, Run};
use crate::constants::{MOMENT_PARTS, MOMENT_ROWS, WAVE_BYTES};
use crate::error::Error;

/// Moments that one task of a scan goes through: a chunk's share stays in L1.
const SCANNED: usize = 1024;

/// Waves of more chunks than this are multiples of it.
const SHARED: usize = 8;

/// The moments of the chunks of one wave, and of all chunks before it.
pub struct Waves {
    /// `[chunk][size]`.
    sums: Vec<f64>,
    running: Vec<f64>,
    size: usize,
    chunks: usize,
    total: usize,
}

impl Waves {
    /// For `total` chunks of `size` moments and `others` more sums each, by the shape alone: the order of summation
    /// must not know the threads.
    pub fn new(total: usize, size: usize, others: usize) -> Result<Self, Error> {
        let bytes = size.saturating_add(others).saturating_mul(size_of::<f64>());
        let fit = (WAVE_BYTES / bytes.max(1)).clamp(2, MOMENT_PARTS);
        // Threads share a round number evenly.
        let chunks = if fit > SHARED { fit / SHARED * SHARED } else { fit }.min(total.max(1));
        let sums = buffer::zeros(buffer::size(&[chunks, size])?)?;
        Ok(Waves { sums, running: buffer::zeros(size)?, size, chunks, total })
    }

    /// The waves in ascending order.
    pub fn all(&self) -> impl DoubleEndedIterator<Item = Range<usize>> + use<> {
        let (chunks, total) = (self.chunks, self.total);
        (0..total.div_ceil(chunks)).map(move |wave| wave * chunks..total.min((wave + 1) * chunks))
    }

    /// Moments of all chunks before each one of a wave, [`Waves::scanned`]; after it, going `down`. `take` adds those of
    /// one chunk to zeros, with results that are returned.
    pub fn before<S: Clone + Default + Send>(
        &mut self,
        wave: Range<usize>,
        down: bool,
        run: &mut Run<'_>,
        take: impl Fn(usize, &mut [f64], &Cancel) -> Result<S, Error> + Sync,
    ) -> Result<Vec<S>, Error> {
        let count = wave.len();
        let mut results = buffer::filled(count, S::default())?;
        let tasks = wave.zip(self.sums.chunks_exact_mut(self.size)).zip(&mut results);
        run.for_each(tasks, |((chunk, sums), result), cancel| {
            sums.fill(0.0);
            *result = take(chunk, sums, cancel)?;
            Ok(())
        })?;
        self.scan(count, down, run)?;
        Ok(results)
    }

    /// Replaces the moments of each of `count` chunks by those of all chunks before it; after it, going `down`.
    fn scan(&mut self, count: usize, down: bool, run: &mut Run<'_>) -> Result<(), Error> {
        let mut tasks = buffer::with_capacity(self.size.div_ceil(SCANNED))?;
        for running in self.running.chunks_mut(SCANNED) {
            tasks.push((running, buffer::with_capacity(count)?));
        }
        let chunks = self.sums[..count * self.size].chunks_exact_mut(self.size);
        for chunk in chunks {
            for (task, piece) in tasks.iter_mut().zip(chunk.chunks_mut(SCANNED)) {
                task.1.push(piece);
            }
        }
        run.for_each(tasks.into_iter(), |(running, mut pieces), _| {
            if down {
                pieces.reverse();
            }
            for piece in pieces {
                for (sum, running) in piece.iter_mut().zip(running.iter_mut()) {
                    let before = *running;
                    *running += *sum;
                    *sum = before;
                }
            }
            Ok(())
        })
    }

    /// Exclusive prefix or suffix sums that [`Waves::before`] left for `count` chunks.
    pub fn scanned(&self, count: usize) -> std::slice::ChunksExact<'_, f64> {
        self.sums[..count * self.size].chunks_exact(self.size)
    }
}

/// The rows of a chunk, of `count` rows in all.
pub fn rows(chunk: usize, count: usize) -> Range<usize> {
    count.min(chunk * MOMENT_ROWS)..count.min((chunk + 1) * MOMENT_ROWS)
}
