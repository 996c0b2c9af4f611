//! What is done to the Active, the network or the witness, and how it is made whole again.

use std::future::Future;
use std::time::{Duration, Instant};

use super::console::Console;
use super::node::Node;
use super::topology::NodeIndex;
use super::{Error, Fault};

/// How long a node may take to end after it was asked to stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Injects the fault when `moment` comes and returns when it struck. [`super::Options`] has
/// refused the loss of a witness that is not there.
pub(super) async fn strike(
    fault: Fault,
    nodes: &mut [Node; 2],
    witness: Option<&mut Node>,
    struck: NodeIndex,
    moment: impl Future<Output = ()>,
) -> Result<Instant, Error> {
    let active = &mut nodes[struck];
    match fault {
        Fault::Kill => {
            // Looking them up takes milliseconds, which must not lie after the moment.
            let processes = active.processes()?;
            moment.await;
            let at = Instant::now();
            active.cut_power(processes)?;
            Ok(at)
        }
        Fault::Drain => {
            moment.await;
            let at = Instant::now();
            active.ask_to_stop()?;
            Ok(at)
        }
        Fault::Crash => {
            moment.await;
            let at = Instant::now();
            active.kill_worker()?;
            Ok(at)
        }
        Fault::Isolate => {
            moment.await;
            active.host().isolate(true).map_err(Error::network("a port of the switch"))?;
            Ok(Instant::now())
        }
        Fault::SegmentCut => {
            moment.await;
            deafen(nodes, true)?;
            Ok(Instant::now())
        }
        Fault::WitnessLoss => {
            let Some(witness) = witness else { return Ok(Instant::now()) };
            let processes = witness.processes()?;
            moment.await;
            let at = Instant::now();
            witness.cut_power(processes)?;
            Ok(at)
        }
        Fault::None => Ok(Instant::now()),
    }
}

/// Mends the network, where that is what the fault broke.
pub(super) fn heal(fault: Fault, nodes: &[Node; 2]) -> Result<(), Error> {
    match fault {
        Fault::SegmentCut => deafen(nodes, false),
        Fault::Isolate => nodes.iter().try_for_each(|node| {
            node.host().isolate(false).map_err(Error::network("a port of the switch"))
        }),
        Fault::None | Fault::Kill | Fault::Crash | Fault::Drain | Fault::WitnessLoss => Ok(()),
    }
}

/// Neither node hears the other's advertisements, which are multicast; the control links are not.
fn deafen(nodes: &[Node; 2], deaf: bool) -> Result<(), Error> {
    nodes.iter().try_for_each(|node| {
        node.host().deafen(deaf).map_err(Error::network("a port of the switch"))
    })
}

/// Undoes it.
pub(super) async fn repair(
    fault: Fault,
    struck: &mut Node,
    witness: Option<&mut Node>,
    console: &Console,
) -> Result<(), Error> {
    match fault {
        Fault::Kill => struck.restore_power(),
        Fault::Drain | Fault::Crash => {
            if !struck.ended(STOP_LIMIT).await? {
                let name = struck.host().name();
                let seconds = STOP_LIMIT.as_secs();
                console.progress(&format!("node {name} did not stop within {seconds} s; killed"));
            }
            struck.start()
        }
        Fault::WitnessLoss => witness.map_or(Ok(()), Node::restore_power),
        Fault::None | Fault::Isolate | Fault::SegmentCut => Ok(()),
    }
}
