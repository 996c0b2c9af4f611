//! What is done to the Active, and how it is made whole again.

use std::time::Duration;

use super::console::Console;
use super::node::Node;
use super::{Error, Fault};

/// How long a node may take to end after it was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Injects the fault. [`super::Options`] has refused those that are not built.
pub(super) fn strike(fault: Fault, active: &mut Node) -> Result<(), Error> {
    match fault {
        Fault::Kill => active.cut_power(),
        Fault::Drain => active.ask_to_stop(),
        Fault::None | Fault::Crash | Fault::Isolate | Fault::SegmentCut | Fault::WitnessLoss => {
            Ok(())
        }
    }
}

/// Undoes it.
pub(super) async fn repair(
    fault: Fault,
    struck: &mut Node,
    console: &Console,
) -> Result<(), Error> {
    match fault {
        Fault::Kill => struck.restore_power(),
        Fault::Drain => {
            if !struck.ended(STOP_LIMIT).await? {
                let name = struck.host().name();
                let seconds = STOP_LIMIT.as_secs();
                console.progress(&format!("node {name} did not stop within {seconds} s; killed"));
            }
            struck.start()
        }
        Fault::None | Fault::Crash | Fault::Isolate | Fault::SegmentCut | Fault::WitnessLoss => {
            Ok(())
        }
    }
}
