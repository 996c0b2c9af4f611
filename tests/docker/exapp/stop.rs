//! Ends at SIGTERM. The kernel drops that signal for a PID 1 which does not ask for it, and the
//! standard library has no way to ask.

const SIGTERM: i32 = 15;

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn _exit(status: i32) -> !;
}

extern "C" fn leave(_number: i32) {
    // SAFETY: `_exit` is async-signal-safe, takes no pointer and does not return.
    unsafe { _exit(0) }
}

/// From now on SIGTERM ends the process.
pub fn on_sigterm() {
    // SAFETY: the signature is the C library's; the handler calls nothing but `_exit`.
    unsafe { signal(SIGTERM, leave) };
}
