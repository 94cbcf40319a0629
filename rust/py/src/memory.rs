//! Memory that calls leave to the next one, where the allocator is glibc's; others have their own ways.

/// Bytes up to which arrays are made of memory that the process has already: the largest threshold that glibc reaches
/// by itself, once a program has freed such an array.
const REUSED: libc::c_int = 32 << 20;

/// Free bytes that are kept for the next call: what one of a hundred thousand tokens needs.
const KEPT: libc::c_int = 256 << 20;

/// Variables by which a user has told glibc's allocator what to keep.
const SETTINGS: [&str; 3] = ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"];

/// Lets the allocator keep what a call frees. By itself glibc gives it back to the system as soon as it lies at the end
/// of the heap, and the next call waits for every page of it to be cleared (docs/performance.md).
pub fn keep() {
    if SETTINGS.iter().all(|name| std::env::var_os(name).is_none()) {
        for (parameter, value) in [(libc::M_MMAP_THRESHOLD, REUSED), (libc::M_TRIM_THRESHOLD, KEPT)] {
            // SAFETY: glibc's own function with two of its parameters; it takes the allocator's locks, and a value that
            // it refuses changes nothing.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
