//! What makes the VRRP thread punctual on a busy host, as far as this is allowed: it runs before
//! everything else, it never waits for its memory, and it cannot run away.

use std::time::Duration;

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use crate::sys;

/// CPU time between two waits after which the kernel ends the process (SIGXCPU), in microseconds:
/// a thread above all others that never waits would freeze the host, and the guardian hands over.
/// One pass of the loop takes a millisecond at most.
const LONGEST_PASS: u64 = 500_000;

/// How long a thread with more work than it can do lets the others have the processor.
const BREATH: Duration = Duration::from_micros(100);

/// Lets the others run for a moment, also those of lower priority: packets that come faster than
/// they can be read must neither freeze a small host nor look like a thread that runs away.
pub(crate) fn breathe() {
    std::thread::sleep(BREATH);
}

/// Prepares the calling thread. What is refused is said once and done without.
pub(crate) fn enter(priority: Option<u8>) {
    // Only what is there now: all code, and the stack and first heap of this thread, as pages
    // come to be used. With MCL_FUTURE too, every later mapping of the other threads would count
    // against RLIMIT_MEMLOCK and fail beyond it, and freed memory could not be given back.
    if let Err(error) = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::ONFAULT) {
        tracing::warn!(
            %error,
            "vrrp runs with memory that can be swapped out; a takeover may wait for the disk \
             (cap_ipc_lock or LimitMEMLOCK= allows it)"
        );
    }
    let Some(priority) = priority else { return };
    if let Err(error) = sys::schedule_round_robin(priority) {
        tracing::warn!(
            %error,
            priority,
            "vrrp runs without realtime scheduling; a busy host may lose its addresses for a \
             moment (cap_sys_nice or LimitRTPRIO= allows it)"
        );
        return;
    }
    let set = getrlimit(Resource::Rttime);
    if set.current.is_none_or(|limit| limit > LONGEST_PASS) {
        // Lowering one's own limit is always allowed.
        let _ = setrlimit(Resource::Rttime, Rlimit { current: Some(LONGEST_PASS), ..set });
    }
}
