//! What the targets share: a heap that is counted, so that "bounded memory" can be asserted.
//!
//! Each target in `fuzz_targets/` feeds one reader of outside bytes and states on its front page
//! what must hold besides "does not panic".

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting what the current thread holds.
struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

/// Runs `work` and returns what it returns; panics if its thread ever held more than `limit`
/// bytes of heap beyond what it held before.
pub fn within<R>(limit: usize, work: impl FnOnce() -> R) -> R {
    let before = LIVE.get();
    PEAK.set(before);
    let result = work();
    let peak = PEAK.get() - before;
    assert!(
        usize::try_from(peak).is_ok_and(|peak| peak <= limit),
        "held {peak} bytes of heap, at most {limit} are allowed"
    );
    result
}

fn note(change: isize) {
    let live = LIVE.get().wrapping_add(change);
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches two
// thread-local cells that neither allocate nor need to be dropped.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(signed(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-signed(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(signed(size) - signed(layout.size()));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
