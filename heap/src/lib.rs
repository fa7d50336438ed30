//! Two settings of the C library's allocator.
//!
//! A scan keeps a few small pieces of memory for each file, from all of its threads. Each thread
//! has an arena of its own, and glibc makes room in it by `mprotect`, a page at a time: 2,800 calls
//! in a scan of 52,000 files, each under the lock that page faults of all threads need, and each
//! an interrupt to the other cores. A scan is a quarter faster when arenas begin with room.

//!
//! It is for programs that scan and end. A server gains nothing by it.

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

/// Bytes above which a piece is mapped on its own and given back at once: what glibc's threshold
/// climbs to by itself, unless one of these numbers is set.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: libc::c_int = 32 * 1024 * 1024;

/// Keeps large pieces for their next use, as packs have one after the other. It costs their memory.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "there is no safe way to call mallopt")]
pub fn keep_large_pieces() {
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
    }
}

/// Makes arenas begin with room: nothing to do here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn begin_with_room() {}

/// Keeps large pieces: nothing to do here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_large_pieces() {}
