//! What may be asked of a computation besides its data.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::error::Error;

/// The instruction set that the kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of this architecture has.
    Baseline,
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, VL, DQ, BW).
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The levels of this machine, best last.
    pub fn available() -> Vec<Level> {
        let mut levels = vec![Level::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma");
            if avx2 {
                levels.push(Level::Avx2);
            }
            if avx2 && has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") {
                levels.push(Level::Avx512);
            }
        }
        levels
    }

    /// Its name: "baseline", "avx2" or "avx512".
    pub fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// The level of that name, if this machine has it.
    ///
    /// # Errors
    /// [`Error::Option`] with the names that this machine has.
    pub fn parse(name: &str) -> Result<Level, Error> {
        let levels = Level::available();
        levels.iter().copied().find(|level| level.name() == name).ok_or_else(|| {
            let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
            Error::Option {
                option: "level",
                found: format!("{name:?}"),
                wanted: format!("one that this machine has: {}", names.join(", ")),
            }
        })
    }
}

/// Options that change the speed and the manner of a computation, never its mathematics.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `threads` | all that the process may use | threads that work at once; bits do not depend on it | ≥ 1 |
/// | `level` | best of the machine | instruction set; changes the last bits | [`Level::available`] |
/// | `timeout` | none | gives up with [`Error::Deadline`] | > 0 |
/// | `key_block` | by size | keys that are summed in working precision at a time; changes the last bits | ≥ 1 |
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Threads that work at once.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set of the kernels.
    pub level: Option<Level>,
    /// Longest time to work.
    pub timeout: Option<Duration>,
    /// Keys per block.
    pub key_block: Option<NonZeroUsize>,
}

impl Options {
    /// The level to run, checked against the machine: a [`Level`] can be named on a machine that lacks it.
    pub(crate) fn level(&self) -> Result<Level, Error> {
        match self.level {
            Some(level) => Level::parse(level.name()),
            None => Ok(Level::available().pop().unwrap_or(Level::Baseline)),
        }
    }
}
