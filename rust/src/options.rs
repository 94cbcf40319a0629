//! Options of a computation, besides its data.

use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::time::Duration;

use crate::constants::MOST_THREADS;
use crate::error::Error;
use crate::names::unknown;

/// The instruction set that the kernels run on. Every level has its name on every machine;
/// [`Level::available`] says which of them this one has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// The instruction set that every processor of this architecture has.
    Baseline,
    /// AVX2 and fused multiply-add, on x86-64.
    Avx2,
    /// AVX-512 (F, VL, DQ, BW), on x86-64.
    Avx512,
    /// The tiles of AVX2 on portable vectors.
    #[cfg(test)]
    PortableAvx2,
    /// The tiles of AVX-512 on portable vectors.
    #[cfg(test)]
    PortableAvx512,
}

impl Level {
    /// The levels of this machine, best last.
    pub fn available() -> Vec<Level> {
        [Level::Baseline, Level::Avx2, Level::Avx512].into_iter().filter(|level| level.is_available()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_available(self) -> bool {
        use std::arch::is_x86_feature_detected as has;
        let avx2 = has!("avx2") && has!("fma");
        match self {
            Level::Avx2 => avx2,
            Level::Avx512 => avx2 && has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw"),
            _ => true,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_available(self) -> bool {
        !matches!(self, Level::Avx2 | Level::Avx512)
    }

    /// Its name: "baseline", "avx2" or "avx512".
    pub fn name(self) -> &'static str {
        match self {
            Level::Baseline => "baseline",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            #[cfg(test)]
            Level::PortableAvx2 => "portable avx2",
            #[cfg(test)]
            Level::PortableAvx512 => "portable avx512",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

impl std::str::FromStr for Level {
    type Err = Error;

    /// The level of that name, if this machine has it.
    fn from_str(name: &str) -> Result<Level, Error> {
        let levels = Level::available();
        let found = levels.iter().copied().find(|level| level.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = levels.into_iter().map(Level::name).collect();
            unknown("level", name, "one that this machine has:", &names)
        })
    }
}

/// A level that this processor has, and the proof of it: only [`Isa::of`] and [`Isa::best`] make one, and look at the
/// processor first. Tables of kernels are given out for this alone, so that nobody can run what the processor lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Level);

impl Isa {
    /// The best that there is.
    pub fn best() -> Isa {
        // Every step of a short call asks for it.
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa(Level::available().pop().unwrap_or(Level::Baseline)))
    }

    /// The level, where this processor has it.
    pub fn of(level: Level) -> Result<Isa, Error> {
        match level {
            #[cfg(test)]
            Level::PortableAvx2 | Level::PortableAvx512 => Ok(Isa(level)),
            _ => level.name().parse().map(Isa),
        }
    }

    /// Those of this machine, and the shapes of all others on portable vectors: every shape once.
    #[cfg(test)]
    pub(crate) fn shapes() -> impl Iterator<Item = Isa> {
        let own = Level::available();
        let twins = [(Level::Avx2, Level::PortableAvx2), (Level::Avx512, Level::PortableAvx512)];
        let others: Vec<Level> =
            twins.into_iter().filter(|(level, _)| !own.contains(level)).map(|(_, twin)| twin).collect();
        own.into_iter().chain(others).map(Isa)
    }

    /// Its level.
    pub fn level(self) -> Level {
        self.0
    }
}

/// Options that change the speed and the manner of a computation, never its mathematics.
///
/// | name | default | purpose | range |
/// |---|---|---|---|
/// | `threads` | all that the process may use | threads that work at once; no effect on bits | 1 to [`MOST_THREADS`] |
/// | `level` | best of the machine | instruction set; changes the last bits | [`Level::available`] |
/// | `timeout` | none | gives up with [`Error::Deadline`] | > 0 |
/// | `memory` | all there is | a planned call that is expected to take more ends with [`Error::Memory`] at once | ≥ 0 |
/// | `key_block` | by size | keys summed in working precision at a time; changes the last bits | ≥ 1 |
///
/// A `key_block` of more than 240 (96 at [`Level::Baseline`]) is taken as that.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// Threads that work at once.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set of the kernels.
    pub level: Option<Level>,
    /// Longest time to work.
    pub timeout: Option<Duration>,
    /// Bytes that a planned call may take besides its inputs.
    pub memory: Option<u64>,
    /// Keys per block, of at most `KEY_BLOCK`: longer sums would lose more than the rounding estimate says.
    pub key_block: Option<NonZeroUsize>,
}

impl Options {
    /// The settings of the environment: `ATTNGRAD_LEVEL` names a [`Level`], `ATTNGRAD_KEY_BLOCK` is `key_block`; what
    /// is unset or empty stays as by default. They are for tests and for a look into a machine.
    ///
    /// # Errors
    /// [`Error::Option`] with the name of a variable whose value is invalid.
    pub fn from_env() -> Result<Options, Error> {
        let read = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let level = read("ATTNGRAD_LEVEL").map(|text| text.parse()).transpose()?;
        let key_block = read("ATTNGRAD_KEY_BLOCK").map(|text| {
            text.parse().map_err(|_| Error::Option {
                option: "ATTNGRAD_KEY_BLOCK",
                found: format!("{text:?}"),
                wanted: "a whole number from 1".into(),
            })
        });
        Ok(Options { level, key_block: key_block.transpose()?, ..Options::default() })
    }

    /// The level that is named, or the best of the machine.
    pub fn runs_on(&self) -> Level {
        self.level.unwrap_or_else(|| Isa::best().level())
    }

    /// The instruction set to run, checked against the machine: a [`Level`] can be named on a machine that lacks it.
    /// Every computation asks for it first, so the other options are checked here too.
    pub(crate) fn isa(&self) -> Result<Isa, Error> {
        if let Some(threads) = self.threads
            && threads.get() > MOST_THREADS
        {
            let wanted = format!("1 to {MOST_THREADS}");
            return Err(Error::Option { option: "threads", found: threads.to_string(), wanted });
        }
        self.level.map_or_else(|| Ok(Isa::best()), Isa::of)
    }
}
