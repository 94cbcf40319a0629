//! The only door to rayon: one pool a process, and the calling thread waits while others work.
//!
//! Work is a list of tasks that `threads` workers take in order. What a task writes is its own, so results do not
//! depend on which worker took it, nor on how many there are.

use std::any::Any;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::constants::{AWAKE_LOOKS, POLL};
use crate::error::Error;
use crate::options::Options;

/// Set by the waiting thread, read by every task between blocks.
#[derive(Debug, Default)]
pub struct Cancel(AtomicBool);

impl Cancel {
    /// An error once the computation was told to stop.
    #[inline]
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Called on the calling thread every few milliseconds with the fraction done; `false` stops the computation.
pub type Watch<'a> = &'a mut (dyn FnMut(f64) -> bool + 'a);

/// One computation: its threads, its deadline, its progress.
pub struct Run<'a> {
    threads: usize,
    deadline: Option<(Instant, std::time::Duration)>,
    watch: Option<Watch<'a>>,
    cancel: Cancel,
    /// The part of the whole that the current phase covers.
    phase: (f64, f64),
}

impl<'a> Run<'a> {
    /// A computation that has not begun.
    pub fn new(options: &Options, watch: Option<Watch<'a>>) -> Self {
        Run {
            threads: options.threads.map_or_else(default_threads, NonZeroUsize::get),
            deadline: options.timeout.map(|timeout| (Instant::now(), timeout)),
            watch,
            cancel: Cancel::default(),
            phase: (0.0, 0.0),
        }
    }

    /// Threads that work at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The next list of tasks takes the progress from where it stands to `end`; lists after it leave it there.
    pub fn phase(&mut self, end: f64) {
        self.phase = (self.phase.1, end);
    }

    /// Does every task, `threads` at a time. The first error, a panic included, stops the rest.
    pub fn for_each<I>(
        &mut self,
        tasks: I,
        work: impl Fn(I::Item, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator + Send,
    {
        self.in_turn(tasks.map(|task| (0, task)), work)
    }

    /// The same for tasks that come with how many of those before them must be done first, which may include all of
    /// them. A worker waits for that awake: the sleep and the waking between two lists cost a tenth of a millisecond.
    pub fn in_turn<I, X>(
        &mut self,
        tasks: I,
        work: impl Fn(X, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator<Item = (usize, X)> + Send,
    {
        let count = tasks.len();
        if count == 0 {
            return self.poll(1.0);
        }
        let pool = pool()?;
        let tasks = Mutex::new(tasks);
        let done = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let (sender, receiver) = mpsc::channel();
        let cancel = std::mem::take(&mut self.cancel);
        let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let worker = || {
            while cancel.check().is_ok()
                && let Some((before, task)) = next()
                // Who waits holds a later task than all that it waits for, and those are taken: somebody works on them.
                && reached(&done, before, &cancel)
            {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    #[cfg(feature = "failpoints")]
                    assert!(!crate::failpoint::task_panics(), "fail point");
                    work(task, &cancel)
                }))
                .unwrap_or_else(|panic| Err(Error::Internal(describe(&*panic))));
                if let Err(error) = result {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    cancel.0.store(true, Ordering::Relaxed);
                }
                done.fetch_add(1, Ordering::Release);
            }
        };
        let mut stopped = None;
        pool.in_place_scope(|scope| {
            for _ in 0..self.threads.min(count) {
                let sender = sender.clone();
                let worker = &worker;
                scope.spawn(move |_| {
                    worker();
                    // The receiver outlives the scope; a failed send could only mean that nobody waits.
                    let _ = sender.send(());
                });
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(POLL) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) => {
                        let fraction = done.load(Ordering::Relaxed) as f64 / count as f64;
                        if stopped.is_none()
                            && let Err(error) = self.poll(fraction)
                        {
                            stopped = Some(error);
                            cancel.0.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        self.phase.0 = self.phase.1;
        self.poll(1.0)
    }

    fn poll(&mut self, fraction: f64) -> Result<(), Error> {
        if let Some((start, timeout)) = self.deadline
            && start.elapsed() >= timeout
        {
            return Err(Error::Deadline(timeout));
        }
        let (from, to) = self.phase;
        let goes_on = self.watch.as_mut().is_none_or(|watch| watch(from + (to - from) * fraction));
        if goes_on { Ok(()) } else { Err(Error::Cancelled) }
    }
}

/// Waits until `done` is `count`; false where the computation stops instead.
fn reached(done: &AtomicUsize, count: usize, cancel: &Cancel) -> bool {
    let mut looks = 0;
    while done.load(Ordering::Acquire) < count {
        if cancel.check().is_err() {
            return false;
        }
        looks += 1;
        if looks < AWAKE_LOOKS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    true
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

/// Threads that this process may use at once.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

struct Owned {
    process: u32,
    pool: ThreadPool,
}

/// The pool of the process that made it. After a fork the child finds its parent's, whose threads it does not have.
static POOL: AtomicPtr<Owned> = AtomicPtr::new(ptr::null_mut());

/// This process's pool. A parent's pool is left as it is: dropping it would wait for threads that are not here.
fn pool() -> Result<&'static ThreadPool, Error> {
    let found = POOL.load(Ordering::Acquire);
    // SAFETY: POOL is null or comes from `Box::into_raw` below, and what it once held is never freed.
    if let Some(owned) = unsafe { found.as_ref() }
        && owned.process == process::id()
    {
        return Ok(&owned.pool);
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(default_threads())
        .thread_name(|index| format!("attngrad-{index}"))
        .build()
        .map_err(|_| Error::OutOfMemory { bytes: THREAD_STACK * default_threads() })?;
    let made = Box::into_raw(Box::new(Owned { process: process::id(), pool }));
    match POOL.compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: as above; `made` was just leaked.
        Ok(_) => Ok(unsafe { &(*made).pool }),
        Err(_) => {
            // SAFETY: another thread's pool won, so nobody else has seen `made`.
            drop(unsafe { Box::from_raw(made) });
            self::pool()
        }
    }
}

/// Stack of one worker, as the standard library sets it: what a failed start could not get.
const THREAD_STACK: usize = 2 << 20;
