//! How the passes are cut into waves, chunks and what is kept between them.

use crate::constants::{CHUNK_KEYS, KEPT_BYTES, WAVE_QUERIES};

/// The sizes that decide where pieces of work end. The order of every sum follows from them and from the shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocking {
    /// Most queries of a wave.
    pub wave_queries: usize,
    /// Least keys of a chunk.
    pub chunk_keys: usize,
    /// Bytes for what pass 1 keeps.
    pub kept_bytes: usize,
}

impl Blocking {
    const CONSTANTS: Blocking = Blocking { wave_queries: WAVE_QUERIES, chunk_keys: CHUNK_KEYS, kept_bytes: KEPT_BYTES };

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

#[cfg(test)]
std::thread_local! {
    static CHOSEN: std::cell::Cell<Blocking> = const { std::cell::Cell::new(Blocking::CONSTANTS) };
}
