//! Allocator settings: two parameters of glibc's `malloc`, for programs that scan and end.
//!
//! A scan keeps a few small allocations for each file, from all of its threads. Each thread has an
//! arena, which glibc grows by `mprotect`, a page at a time. A scan of 52,000 files takes 2,800
//! such calls. Each call takes the lock that page faults of all threads need, and interrupts the
//! other cores. A scan is a quarter faster when arenas begin with some padding. A server gains
//! nothing.
//!
//! With another allocator than glibc's, both functions do nothing.

/// Makes arenas begin with 4 MiB, of which untouched pages cost address space only. Called before
/// the first thread starts.
pub(crate) fn set_top_pad() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    mallopt(libc::M_TOP_PAD, 4 * 1024 * 1024);
}

/// Keeps freed allocations of up to 32 MiB for the next pack, at the cost of their memory. glibc
/// itself raises this threshold to the same limit, unless a parameter is set.
pub(crate) fn raise_mmap_threshold() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024 * 1024);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no safe way to call mallopt")]
fn mallopt(parameter: libc::c_int, value: libc::c_int) {
    // SAFETY: mallopt has no preconditions; it takes the allocator's lock and changes a number.
    unsafe {
        libc::mallopt(parameter, value);
    }
}
