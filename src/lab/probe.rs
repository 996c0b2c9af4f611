//! ICMP echo to one address each millisecond: who owns an address answers, and only its kernel.
//!
//! Two OS threads on one unprivileged ping socket, one sends, one receives, so that neither waits
//! for the other nor for a runtime. The socket stays in the namespace it was opened in.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::namespaces::Host;
use super::trace::Sample;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
/// ICMP header; the probe's number follows it.
const HEADER: usize = 8;
const PACKET: usize = HEADER + 8;
/// How soon the receiver notices that it should end.
const PATIENCE: Duration = Duration::from_millis(50);

/// A running train of probes.
pub struct Probe {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Probe {
    /// Starts probing `target` from `host`.
    ///
    /// # Errors
    /// The ping socket or a thread could not be made.
    pub fn start(host: &Host, target: Ipv4Addr, every: Duration) -> io::Result<Self> {
        // The kernel opens ping sockets only to groups in this range, root's included.
        host.sysctl("net.ipv4.ping_group_range", "0 0")?;
        let socket = host.within(|| open(target))??;
        let receiver = socket.try_clone()?;
        let shared = Arc::new(Shared::default());
        // Made before the threads: if the second cannot start, dropping it ends the first.
        let mut probe = Self { shared: Arc::clone(&shared), threads: Vec::with_capacity(2) };
        let sending = Arc::clone(&shared);
        let threads = &mut probe.threads;
        threads.push(start_thread("probe-receive", move || receive(&receiver, &shared))?);
        threads.push(start_thread("probe-send", move || send(&socket, &sending, every))?);
        Ok(probe)
    }

    /// Everything so far, in the order it was sent.
    pub fn samples(&self) -> Vec<Sample> {
        self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn start_thread(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(work)
}

fn open(target: Ipv4Addr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
    socket.connect(&SocketAddrV4::new(target, 0).into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn send(socket: &Socket, shared: &Shared, every: Duration) {
    let mut due = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let number = {
            let mut samples = shared.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push(Sample { sent, answered: None });
            samples.len() as u64 - 1
        };
        // A send that fails (no route, no neighbour) is a probe that stays unanswered.
        let _ = socket.send(&packet(number));
        due += every;
        match due.checked_duration_since(Instant::now()) {
            Some(rest) => thread::sleep(rest),
            // After a pause of the machine the missed probes are not sent in a burst.
            None => due = Instant::now(),
        }
    }
}

fn receive(mut socket: &Socket, shared: &Shared) {
    let mut answer = [0u8; 256];
    while !shared.stop.load(Ordering::Relaxed) {
        // Errors are time-outs and "host unreachable" of an earlier probe: nothing was answered.
        let Ok(length) = socket.read(&mut answer) else { continue };
        let now = Instant::now();
        let Some(number) = answer.get(..length).and_then(reply) else { continue };
        let mut samples = shared.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = samples.get_mut(number) {
            sample.answered.get_or_insert(now);
        }
    }
}

/// An echo request; the kernel fills in identifier and checksum of a ping socket.
fn packet(number: u64) -> [u8; PACKET] {
    let mut bytes = [0u8; PACKET];
    bytes[0] = ECHO_REQUEST;
    bytes[6..HEADER].copy_from_slice(&number.to_be_bytes()[6..]);
    bytes[HEADER..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number in an echo reply.
fn reply(bytes: &[u8]) -> Option<usize> {
    let number: [u8; 8] = bytes.get(HEADER..PACKET)?.try_into().ok()?;
    (bytes.first() == Some(&ECHO_REPLY))
        .then(|| usize::try_from(u64::from_be_bytes(number)).ok())?
}

#[cfg(test)]
mod tests {
    use super::super::namespaces::{Lan, wait_until};
    use super::super::trace::{largest_hole, steady};
    use super::*;

    const MOVING: Ipv4Addr = Ipv4Addr::new(10, 79, 0, 100);

    #[test]
    fn only_replies_carry_a_number() {
        let mut bytes = packet(70_000);
        assert_eq!(reply(&bytes), None);
        bytes[0] = ECHO_REPLY;
        assert_eq!(reply(&bytes), Some(70_000));
        assert_eq!(reply(&bytes[..12]), None);
    }

    /// Needs root and iproute2.
    #[tokio::test]
    async fn an_address_that_moves_leaves_a_hole_as_long_as_it_was_away() {
        let lan = Lan::new("trigon-probe").unwrap();
        let client = lan.host("client", Ipv4Addr::new(10, 79, 0, 50)).unwrap();
        let one = lan.host("one", Ipv4Addr::new(10, 79, 0, 11)).unwrap();
        let two = lan.host("two", Ipv4Addr::new(10, 79, 0, 12)).unwrap();
        one.set_address(MOVING, true).unwrap();
        let probe = Probe::start(&client, MOVING, Duration::from_millis(1)).unwrap();
        let limit = Duration::from_secs(20);
        let (window, late) = (Duration::from_millis(200), Duration::from_millis(20));
        let calm = || Ok::<_, io::Error>(steady(&probe.samples(), Instant::now(), window, late));
        assert!(wait_until(limit, calm).await.unwrap(), "answered from the first owner");

        let fault = Instant::now();
        one.set_address(MOVING, false).unwrap();
        let gone = Instant::now();
        tokio::time::sleep(Duration::from_millis(150)).await;
        let back = Instant::now();
        two.set_address(MOVING, true).unwrap();
        two.within(|| announce(MOVING)).unwrap();
        assert!(wait_until(limit, calm).await.unwrap(), "answered from the second owner");

        let end = Instant::now();
        let hole = largest_hole(&probe.samples(), late, fault, end).unwrap();
        assert!(hole.length(end) >= back - gone, "{hole:?}");
        assert!(hole.until.is_some());
    }

    /// The client learns the new owner from the ARP request that precedes this datagram.
    fn announce(address: Ipv4Addr) {
        let socket = std::net::UdpSocket::bind((address, 0)).unwrap();
        socket.send_to(b"here", (Ipv4Addr::new(10, 79, 0, 50), 9)).unwrap();
    }
}
