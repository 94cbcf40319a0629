//! The only door to rayon: one pool a process, and the calling thread waits while others work.
//!
//! Work is a list of tasks that `threads` workers take in order. Each task writes data of its own, so results do not
//! depend on which worker took it, nor on how many there are.

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};

use self::panics::{fail_point, panicked};

use crate::constants::{AWAKE_LOOKS, AWAKE_YIELDS, POLL, WAKE_NANOSECONDS};
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

/// Called on the calling thread every few milliseconds with the fraction done; `false` stops the computation. So does a
/// panic, which the caller then sees as it is.
pub type Watch<'a> = &'a mut (dyn FnMut(f64) -> bool + 'a);

/// One computation: its threads, its deadline, its progress.
pub struct Run<'a> {
    threads: usize,
    deadline: Option<(Instant, std::time::Duration)>,
    watch: Option<Watch<'a>>,
    cancel: Cancel,
    /// The part of the whole that phases divide.
    span: (f64, f64),
    /// The part of the span that the current phase covers.
    phase: (f64, f64),
    /// Set where this is a task of another computation, which has the threads, the deadline and the watch.
    outer: Option<&'a Cancel>,
}

impl<'a> Run<'a> {
    /// A computation that has not begun.
    pub fn new(options: &Options, watch: Option<Watch<'a>>) -> Self {
        Run {
            threads: options.threads.map_or_else(default_threads, NonZeroUsize::get),
            deadline: options.timeout.map(|timeout| (Instant::now(), timeout)),
            watch,
            cancel: Cancel::default(),
            span: (0.0, 1.0),
            phase: (0.0, 0.0),
            outer: None,
        }
    }

    /// A computation that is one task of another one: its own tasks are done in order by the thread that does this
    /// one, and it ends where the other one does.
    pub fn within(cancel: &'a Cancel) -> Self {
        let whole = (0.0, 1.0);
        let cancelled = Cancel::default();
        Run {
            threads: 1,
            deadline: None,
            watch: None,
            cancel: cancelled,
            span: whole,
            phase: (0.0, 0.0),
            outer: Some(cancel),
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

    /// The part of the whole that phases divide.
    pub fn whole(&self) -> (f64, f64) {
        self.span
    }

    /// The phases that follow divide this part of the whole.
    pub fn span(&mut self, from: f64, to: f64) {
        (self.span, self.phase) = ((from, to), (0.0, 0.0));
    }

    /// Does every task, `threads` at a time. The first error stops the rest; so does a panic of a task, or of the
    /// iterator that makes it, which is an [`Error::Internal`].
    pub fn for_each<I>(
        &mut self,
        tasks: I,
        work: impl Fn(I::Item, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator + Send,
    {
        self.in_turn(usize::MAX, tasks.map(|task| (0, task)), work)
    }

    /// The same for tasks that take about so many nanoseconds together: where waking other threads takes longer, this
    /// one does them all.
    pub fn short<I>(
        &mut self,
        nanoseconds: usize,
        tasks: I,
        work: impl Fn(I::Item, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator + Send,
    {
        let most = if nanoseconds < WAKE_NANOSECONDS { 0 } else { usize::MAX };
        self.done(most, tasks.map(|task| (0, task)), work)
    }

    /// The same for tasks that come with how many of those before them must be done first, which may include all of
    /// them. A worker waits for that awake for a while: the sleep and the waking between two lists cost a tenth of a
    /// millisecond. No more than `most` are ever done at once, so that more threads could only wait.
    pub fn in_turn<I, X>(
        &mut self,
        most: usize,
        tasks: I,
        work: impl Fn(X, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator<Item = (usize, X)> + Send,
    {
        self.done(most.max(1), tasks, work)
    }

    /// The same, on this thread where `most` is none.
    fn done<I, X>(
        &mut self,
        most: usize,
        tasks: I,
        work: impl Fn(X, &Cancel) -> Result<(), Error> + Sync,
    ) -> Result<(), Error>
    where
        I: ExactSizeIterator<Item = (usize, X)> + Send,
    {
        if let Some(outer) = self.outer {
            return in_order(tasks, work, outer);
        }
        let count = tasks.len();
        if count == 0 {
            return self.poll(1.0);
        }
        let cancel = std::mem::take(&mut self.cancel);
        if most == 0 {
            catch_unwind(AssertUnwindSafe(|| in_order(tasks, work, &cancel)))
                .unwrap_or_else(|panic| Err(panicked(&*panic)))?;
            self.phase.0 = self.phase.1;
            return self.poll(1.0);
        }
        let tasks = Mutex::new(tasks);
        let done = Done::default();
        let failure = Mutex::new(None);
        let (sender, receiver) = mpsc::channel();
        let fail = |error| {
            lock(&failure).get_or_insert(error);
            done.stop(&cancel);
        };
        // Whether there may be another task.
        let one = || {
            // A poisoned lock: the iterator has panicked, and is not asked again.
            let Ok(mut rest) = tasks.lock() else { return Ok(false) };
            let Some((before, task)) = rest.next() else { return Ok(false) };
            drop(rest);
            // Who waits holds a later task than all that it waits for, and those are taken: somebody works on them.
            if !done.reached(before, &cancel) {
                return Ok(false);
            }
            fail_point();
            work(task, &cancel)?;
            done.add_one();
            Ok(true)
        };
        let worker = || {
            while cancel.check().is_ok() {
                let result = catch_unwind(AssertUnwindSafe(one));
                match result.unwrap_or_else(|panic| Err(panicked(&*panic))) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => fail(error),
                }
            }
        };
        let mut stopped = None;
        pool()?.in_place_scope(|scope| {
            // The scope waits for its workers before it lets a panic of the watch go on.
            let _stop = StopOnPanic { done: &done, cancel: &cancel };
            for _ in 0..self.threads.min(most).min(count) {
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
                        let fraction = done.count.load(Ordering::Relaxed) as f64 / count as f64;
                        if stopped.is_none()
                            && let Err(error) = self.poll(fraction)
                        {
                            stopped = Some(error);
                            done.stop(&cancel);
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
        let within = |(from, to): (f64, f64), fraction: f64| from + (to - from) * fraction;
        let fraction = within(self.span, within(self.phase, fraction));
        let goes_on = self.watch.as_mut().is_none_or(|watch| watch(fraction));
        if goes_on { Ok(()) } else { Err(Error::Cancelled) }
    }
}

/// Does the tasks on this thread, one after the other.
fn in_order<X>(
    tasks: impl Iterator<Item = (usize, X)>,
    work: impl Fn(X, &Cancel) -> Result<(), Error>,
    cancel: &Cancel,
) -> Result<(), Error> {
    for (_, task) in tasks {
        cancel.check()?;
        fail_point();
        work(task, cancel)?;
    }
    Ok(())
}

/// How many tasks are done, and who waits for that.
#[derive(Default)]
struct Done {
    count: AtomicUsize,
    sleepers: Mutex<usize>,
    /// Whether there are any: who adds one looks here, and takes the lock only for them.
    asleep: AtomicBool,
    wake: Condvar,
}

impl Done {
    /// One more. Both this and a sleeper write before they read, in one order for all threads: one of them sees the
    /// other.
    fn add_one(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.wake_all();
    }

    fn wake_all(&self) {
        if self.asleep.load(Ordering::SeqCst) {
            let _sleepers = lock(&self.sleepers);
            self.wake.notify_all();
        }
    }

    /// Sets `cancel`, and wakes who sleeps.
    fn stop(&self, cancel: &Cancel) {
        cancel.0.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Waits until `count` are done; false where the computation stops instead.
    fn reached(&self, count: usize, cancel: &Cancel) -> bool {
        for look in 0..AWAKE_LOOKS + AWAKE_YIELDS {
            if self.count.load(Ordering::Acquire) >= count {
                return true;
            }
            if cancel.check().is_err() {
                return false;
            }
            if look < AWAKE_LOOKS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let mut sleepers = lock(&self.sleepers);
        *sleepers += 1;
        self.asleep.store(true, Ordering::SeqCst);
        while self.count.load(Ordering::SeqCst) < count && !cancel.0.load(Ordering::SeqCst) {
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
        self.asleep.store(*sleepers > 0, Ordering::SeqCst);
        cancel.check().is_ok()
    }
}

fn lock<S: ?Sized>(mutex: &Mutex<S>) -> MutexGuard<'_, S> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stops the workers where the thread that waits for them panics.
struct StopOnPanic<'a> {
    done: &'a Done,
    cancel: &'a Cancel,
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.done.stop(self.cancel);
        }
    }
}

/// Threads that this process may use at once, as it was when this was first asked.
pub fn default_threads() -> usize {
    // To find out takes files of the system: as long as a tenth of a short call, which asks for every list of tasks.
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
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
    let pool = started(default_threads())?;
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

/// A pool of so many threads, or of as many as the system lets this process have: results do not depend on it.
fn started(threads: usize) -> Result<ThreadPool, Error> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|index| format!("attngrad-{index}")).build();
    match pool {
        Ok(pool) => Ok(pool),
        Err(_) if threads > 1 => started(threads / 2),
        Err(error) => Err(Error::Threads(error.to_string())),
    }
}

mod panics;
#[cfg(test)]
mod tests;
