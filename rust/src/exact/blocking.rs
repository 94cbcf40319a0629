//! Schedule of the passes: waves, chunks, and the score cache between them.

use crate::constants::{CHUNK_KEYS, KEPT_BYTES, KEPT_THREAD_BYTES, KEPT_TILES, SPLIT_KEYS, WAVE_QUERIES};

/// The sizes that decide where pieces of work end. The order of every sum follows from them and from the shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocking {
    /// Most queries of a wave.
    pub wave_queries: usize,
    /// Least keys of a chunk.
    pub chunk_keys: usize,
    /// Bytes for the score cache of pass 1.
    pub kept_bytes: usize,
    /// Least keys of a part where few queries share them.
    pub split_keys: usize,
}

impl Blocking {
    const CONSTANTS: Blocking =
        Blocking { wave_queries: WAVE_QUERIES, chunk_keys: CHUNK_KEYS, kept_bytes: KEPT_BYTES, split_keys: SPLIT_KEYS };

    /// The constants.
    #[cfg(not(test))]
    pub fn new() -> Self {
        Blocking::CONSTANTS
    }

    /// The constants, unless the thread has chosen sizes that put every edge at a small shape.
    #[cfg(test)]
    pub fn new() -> Self {
        CHOSEN.get()
    }

    /// From now on this thread has these sizes.
    #[cfg(test)]
    pub fn choose(change: impl FnOnce(&mut Blocking)) {
        let mut blocking = Blocking::CONSTANTS;
        change(&mut blocking);
        CHOSEN.set(blocking);
    }
}

/// Tiles of queries whose weights each thread keeps at a time, where those of one take `bytes` and all threads have
/// `kept_bytes` together, or each [`KEPT_THREAD_BYTES`] where that is more.
pub(crate) fn kept_tiles(bytes: usize, threads: usize, kept_bytes: usize) -> usize {
    let own = (kept_bytes / threads.max(1)).max(kept_bytes.min(KEPT_THREAD_BYTES));
    (own / bytes.max(1)).min(KEPT_TILES)
}

#[cfg(test)]
std::thread_local! {
    static CHOSEN: std::cell::Cell<Blocking> = const { std::cell::Cell::new(Blocking::CONSTANTS) };
}
