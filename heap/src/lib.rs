//! One setting of the C library's allocator.
//!
//! A scan keeps a few small pieces of memory for each file, from all of its threads. Each thread
//! has an arena of its own, and glibc makes room in it by `mprotect`, a page at a time: 2,800 calls
//! in a scan of 52,000 files, each under the lock that page faults of all threads need, and each
//! an interrupt to the other cores. A scan is a quarter faster when arenas begin with room.

/// Room that an arena begins with, in bytes. It costs address space; pages that nobody uses are
/// never touched.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ROOM: libc::c_int = 4 * 1024 * 1024;

/// Makes arenas begin with room. To be called before the first thread is started; where the
/// allocator is another one, nothing happens.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no safe way to call mallopt")]
pub fn begin_with_room() {
    // SAFETY: mallopt has no preconditions; it takes the allocator's lock and changes a number.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, ROOM);
    }
}

/// Makes arenas begin with room: nothing to do here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn begin_with_room() {}
