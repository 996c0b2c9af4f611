//! The VRRP speaker on real sockets, side by side with the real keepalived, in network namespaces.
//! Needs root, `ip` and `keepalived`; fails without them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod lan;

use std::{
    io::{BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use lan::{Host, Keepalived, Lan, eventually, throughout};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Protocol, Socket, Type};
use vrrp::{
    Error, PacketErrors, Reason, Report, RouterConfig, RouterStatus, Speaker, SpeakerConfig,
    SpeakerHandle, State,
};

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const VRID: u8 = 51;
const NAME: &str = "eth0-51";

fn config(priority: u8) -> SpeakerConfig {
    let router =
        RouterConfig::new("eth0", VRID, vec![VIP.into()]).unwrap().with_priority(priority).unwrap();
    SpeakerConfig::new(vec![router]).unwrap()
}

fn speak(host: &Host, priority: u8) -> (SpeakerHandle, Receiver<Report>) {
    let (sender, reports) = channel();
    let on_report = Box::new(move |report| drop(sender.send(report)));
    let handle = host.run(|| Speaker::spawn(config(priority), on_report, None)).unwrap();
    (handle, reports)
}

fn status(handle: &SpeakerHandle) -> RouterStatus {
    handle.states().remove(0)
}

fn is_active(handle: &SpeakerHandle) -> bool {
    status(handle).state == State::Active
}

/// What keepalived says about packets it does not like.
fn complains(log: &str) -> bool {
    ["nvalid", "hecksum", "mismatch", "expected"].iter().any(|word| log.contains(word))
}

fn assert_no_complaint(log: &str) {
    assert!(!complains(log), "keepalived complains:\n{log}");
}

#[test]
fn keepalived_follows_us_and_takes_over_when_we_stop() {
    let lan = Lan::new(3);
    let (ours, theirs, client) = (lan.host(1), lan.host(2), lan.host(3));
    let keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    let (handle, reports) = speak(ours, 254);
    eventually("we become active", || is_active(&handle) && !theirs.holds(VIP));
    eventually("the client reaches us", || client.reaches(VIP));
    assert_eq!(client.neighbour(VIP), Some(ours.mac()));
    throughout("keepalived stays backup", Duration::from_secs(2), || {
        ours.holds(VIP) && !theirs.holds(VIP)
    });
    assert_no_complaint(&keepalived.log());

    handle.stop();
    assert!(!ours.holds(VIP), "stop() returns after the address is gone");
    eventually("keepalived takes over", || theirs.holds(VIP));
    eventually("the client is told", || client.neighbour(VIP) == Some(theirs.mac()));
    let states: Vec<_> = reports.iter().map(|report| report.to).collect();
    assert_eq!(states.first(), Some(&State::Backup), "never straight to active");
    assert_eq!(states.last(), Some(&State::Initialize));
}

#[test]
fn we_follow_keepalived_and_take_over_when_it_stops() {
    let lan = Lan::new(3);
    let (ours, theirs, client) = (lan.host(1), lan.host(2), lan.host(3));
    let keepalived = Keepalived::start(theirs, VRID, 200, VIP);
    eventually("keepalived becomes active", || theirs.holds(VIP));
    let (handle, reports) = speak(ours, 100);
    eventually("the client reaches keepalived", || client.reaches(VIP));
    throughout("we stay backup", Duration::from_secs(2), || {
        !is_active(&handle) && !ours.holds(VIP)
    });
    let before = status(&handle);
    assert_eq!(
        before.peer.map(|peer| (peer.source, peer.priority)),
        Some((theirs.address().into(), 200))
    );
    assert!(before.adverts_in > 5);
    assert_eq!(before.errors, PacketErrors::default());

    keepalived.stop();
    eventually("we become active", || is_active(&handle));
    assert!(ours.holds(VIP), "reported only after the address is there");
    eventually("the client is told", || client.neighbour(VIP) == Some(ours.mac()));
    assert!(client.reaches(VIP));
    assert_eq!(status(&handle).last_reason, Some(Reason::ActiveLeft));
    let takeover = reports.iter().find(|report| report.to == State::Active).unwrap();
    assert_eq!((takeover.vrid, takeover.addresses), (VRID, vec![VIP.into()]));
}

#[test]
fn priority_and_permission_decide_at_run_time() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    eventually("keepalived becomes active", || theirs.holds(VIP));
    let (handle, _reports) = speak(ours, 254);
    let we_have_it = || ours.holds(VIP) && !theirs.holds(VIP);
    let they_have_it = || theirs.holds(VIP) && !ours.holds(VIP);
    eventually("the higher priority preempts", we_have_it);
    handle.set_priority(NAME, 10).unwrap();
    eventually("keepalived preempts a lower priority", they_have_it);
    handle.set_priority(NAME, 254).unwrap();
    eventually("we preempt again", we_have_it);
    handle.set_permission(NAME, false).unwrap();
    eventually("we yield without permission", they_have_it);
    assert_eq!(status(&handle).last_reason, Some(Reason::PermissionWithdrawn));
    throughout("without permission priority does not count", Duration::from_secs(1), they_have_it);
    handle.set_permission(NAME, true).unwrap();
    eventually("with permission it does", we_have_it);
    assert_no_complaint(&keepalived.log());
    assert!(matches!(handle.set_priority("eth0-52", 1), Err(Error::UnknownRouter(_))));
    assert!(matches!(handle.set_priority(NAME, 255), Err(Error::Config(_))));
}

/// What a neighbour sees of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Advertisement { priority: u8 },
    Arp { operation: u8 },
}

/// Every frame that reaches `host`, from now on.
fn capture(host: &Host) -> Socket {
    let every_protocol = Protocol::from(i32::from(0x0003_u16.to_be()));
    let socket = host.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol))).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// What has been captured of `sender`; every advertisement is checked for its IP header.
fn seen(mut capture: &Socket, sender: &Host) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut frame = [0; 2048];
    while let Ok(length) = capture.read(&mut frame) {
        match (&frame[12..14], &frame[14..length]) {
            ([0x08, 0x00], packet) if packet[9] == 112 => {
                assert_eq!(frame[..6], [0x01, 0, 0x5e, 0, 0, 0x12], "the group's mac address");
                assert_eq!((packet[1], packet[8]), (0xc0, 255), "tos and ttl");
                assert_eq!(packet[12..16], sender.address().octets(), "never from the vip");
                assert_eq!(packet[16..20], GROUP.octets());
                seen.push(Seen::Advertisement { priority: packet[22] });
            }
            ([0x08, 0x06], arp) if arp[14..18] == VIP.octets() && arp[24..28] == VIP.octets() => {
                assert_eq!(frame[..6], [0xff; 6], "broadcast");
                seen.push(Seen::Arp { operation: arp[7] });
            }
            _ => {}
        }
    }
    seen
}

#[test]
fn on_the_wire_a_takeover_is_advertised_then_announced_and_ends_with_a_goodbye() {
    let lan = Lan::new(2);
    let (ours, neighbour) = (lan.host(1), lan.host(2));
    let capture = capture(neighbour);
    let (handle, _reports) = speak(ours, 254);
    eventually("we have announced twice", || status(&handle).adverts_out > 4);
    handle.stop();
    let seen = seen(&capture, ours);
    let advertisement = Seen::Advertisement { priority: 254 };
    let announcement = [Seen::Arp { operation: 1 }, Seen::Arp { operation: 2 }];
    assert_eq!(seen[0], advertisement);
    assert_eq!(seen[1..3], announcement);
    assert!(seen[3..].windows(2).any(|pair| pair == announcement), "again after 0.2 s");
    assert_eq!(seen.last(), Some(&Seen::Advertisement { priority: 0 }));
}

/// An advertisement of priority 255 with some bytes changed, checksum made right unless it is
/// among the changes, sent with this TTL.
fn inject(host: &Host, ttl: u8, length: usize, changes: &[(usize, u8)]) {
    let mut message = vec![0x31, VRID, 255, 1, 0, 10, 0, 0];
    message.extend(VIP.octets());
    for (offset, value) in changes {
        message[*offset] = *value;
    }
    message.truncate(length);
    if length >= 8 && !changes.iter().any(|(offset, _)| (6..8).contains(offset)) {
        // The form without pseudo-header is accepted as well and easy to compute.
        let sum = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = sum.sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        message[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let source = host.address();
    host.run(move || {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))).unwrap();
        socket.set_multicast_ttl_v4(u32::from(ttl)).unwrap();
        socket.set_multicast_if_v4(&source).unwrap();
        let group = SocketAddrV4::new(GROUP, 0);
        socket.send_to(&message, &group.into()).unwrap();
    });
}

#[test]
fn packets_of_strangers_are_counted_and_change_nothing() {
    let lan = Lan::new(2);
    let (ours, stranger) = (lan.host(1), lan.host(2));
    let (handle, _reports) = speak(ours, 100);
    eventually("we become active", || is_active(&handle));
    let before = status(&handle);

    inject(stranger, 254, 12, &[]);
    inject(stranger, 255, 12, &[(6, 0xde), (7, 0xad)]);
    inject(stranger, 255, 12, &[(1, 52)]);
    inject(stranger, 255, 12, &[(1, 0)]);
    inject(stranger, 255, 12, &[(0, 0x21)]);
    inject(stranger, 255, 12, &[(0, 0x32)]);
    inject(stranger, 255, 12, &[(3, 0)]);
    inject(stranger, 255, 12, &[(3, 2)]);
    inject(stranger, 255, 12, &[(5, 0)]);
    inject(stranger, 255, 7, &[]);
    inject(stranger, 255, 0, &[]);

    let expected = PacketErrors {
        ttl: 1,
        checksum: 1,
        foreign_vrid: 1,
        vrid_zero: 1,
        version: 1,
        kind: 1,
        count_zero: 1,
        length: 1,
        interval_zero: 1,
        truncated: 2,
        ..PacketErrors::default()
    };
    eventually("every packet is counted", || status(&handle).errors == expected);
    let after = status(&handle);
    assert_eq!((after.state, after.since), (State::Active, before.since));
    assert_eq!(after.adverts_in, 0);
    assert!(ours.holds(VIP));

    // The same packet without a fault is obeyed: the test does reach the speaker.
    inject(stranger, 255, 12, &[]);
    eventually("a sound packet of higher priority is obeyed", || {
        let status = status(&handle);
        status.adverts_in == 1 && status.since != before.since
    });
}

#[test]
fn keepalived_refuses_the_checksum_form_of_rfc_9568() {
    // Why we send the other form; and a proof that `assert_no_complaint` can fail.
    let lan = Lan::new(2);
    let (theirs, stranger) = (lan.host(1), lan.host(2));
    let keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    eventually("keepalived becomes active", || theirs.holds(VIP));
    assert_no_complaint(&keepalived.log());
    inject(stranger, 255, 12, &[]);
    eventually("keepalived complains", || complains(&keepalived.log()));
    assert!(theirs.holds(VIP));
}

/// A speaker in a process of its own, to be killed.
struct Process(Child);

impl Process {
    fn start(host: &Host) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "speaker_process", "--nocapture", "--test-threads=1"])
            .env(NAMESPACE, host.namespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Self(child);
        assert!(
            lines.any(|line| line.is_ok_and(|line| line.contains("speaking"))),
            "the speaker process did not start"
        );
        process
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

const NAMESPACE: &str = "VRRP_TEST_NAMESPACE";

/// Not a test by itself: what [`Process`] runs. It ends with its parent.
#[test]
fn speaker_process() {
    let Ok(namespace) = std::env::var(NAMESPACE) else { return };
    lan::enter(&namespace);
    let _handle = Speaker::spawn(config(254), Box::new(|_| {}), None).unwrap();
    println!("\nspeaking");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn the_address_of_a_killed_speaker_goes_with_its_lease() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let process = Process::start(ours);
    eventually("it becomes active", || ours.holds(VIP));
    throughout("the lease is renewed", Duration::from_secs(4), || ours.holds(VIP));
    let _keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    process.kill();
    assert!(ours.holds(VIP), "nobody cleans up after SIGKILL but the kernel");
    eventually("keepalived takes over", || theirs.holds(VIP));
    eventually("the lease ends", || !ours.holds(VIP));
}

#[test]
fn a_hung_speaker_loses_the_address_and_takes_part_again_when_it_wakes() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let _keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    let process = Process::start(ours);
    eventually("it becomes active", || ours.holds(VIP) && !theirs.holds(VIP));
    process.signal(Signal::STOP);
    eventually("keepalived is the only owner", || theirs.holds(VIP) && !ours.holds(VIP));
    process.signal(Signal::CONT);
    eventually("it preempts as the only owner", || ours.holds(VIP) && !theirs.holds(VIP));
}

#[test]
fn release_clears_the_address_of_a_killed_speaker_at_once() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let process = Process::start(ours);
    eventually("it becomes active", || ours.holds(VIP));
    process.kill();
    assert!(ours.holds(VIP));
    assert_eq!(ours.run(|| vrrp::release("eth0", &[VIP.into()])).unwrap(), 1);
    assert!(!ours.holds(VIP));
    assert_eq!(ours.run(|| vrrp::release("eth0", &[VIP.into()])).unwrap(), 0);
    assert!(matches!(
        ours.run(|| vrrp::release("eth9", &[VIP.into()])),
        Err(Error::NoInterface(_))
    ));
}

#[test]
fn a_restarted_speaker_removes_what_its_predecessor_left() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let process = Process::start(ours);
    eventually("it becomes active", || ours.holds(VIP));
    process.kill();
    assert!(ours.holds(VIP));
    // Another address than the killed one's: only the tag tells that this was a speaker's.
    let other = Ipv4Addr::new(10, 99, 0, 101);
    let router = RouterConfig::new("eth0", VRID, vec![other.into()]).unwrap();
    let config = SpeakerConfig::new(vec![router]).unwrap();
    let handle = ours.run(|| Speaker::spawn(config, Box::new(|_| {}), None)).unwrap();
    assert!(!ours.holds(VIP));
    eventually("it becomes active", || ours.holds(other));
    drop(handle);
    assert!(!ours.holds(other), "dropping the handle is stopping");
}

#[test]
fn two_routers_of_one_speaker_are_independent() {
    let lan = Lan::new(2);
    let (ours, stranger) = (lan.host(1), lan.host(2));
    let other = Ipv4Addr::new(10, 99, 0, 101);
    let routers = [(VRID, VIP), (VRID + 1, other)]
        .map(|(vrid, address)| RouterConfig::new("eth0", vrid, vec![address.into()]).unwrap());
    let config = SpeakerConfig::new(routers.to_vec()).unwrap();
    let handle = ours.run(|| Speaker::spawn(config, Box::new(|_| {}), None)).unwrap();
    eventually("both become active", || ours.holds(VIP) && ours.holds(other));
    handle.set_permission("eth0-52", false).unwrap();
    eventually("one yields", || !ours.holds(other));
    throughout("the other does not", Duration::from_secs(1), || ours.holds(VIP));
    let received = || handle.states().iter().map(|status| status.adverts_in).collect::<Vec<_>>();
    inject(stranger, 255, 12, &[(1, VRID + 1)]);
    eventually("each gets its own advertisements", || received() == [0, 1]);
    handle.stop();
    assert!(!ours.holds(VIP) && !ours.holds(other));
}

#[test]
fn a_panic_on_the_thread_of_the_speaker_gives_the_address_back() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let _keepalived = Keepalived::start(theirs, VRID, 100, VIP);
    let on_report = |report: Report| assert_ne!(report.to, State::Active, "panics on purpose");
    let handle = ours.run(|| Speaker::spawn(config(254), Box::new(on_report), None)).unwrap();
    eventually("the thread panics", || !handle.is_running());
    assert!(!ours.holds(VIP));
    assert_eq!(status(&handle).state, State::Initialize);
    assert!(matches!(handle.set_priority(NAME, 100), Err(Error::Stopped)));
    eventually("keepalived takes over", || theirs.holds(VIP));
}

#[test]
fn an_address_removed_by_someone_else_is_put_back() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, _reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    let since = status(&handle).since;
    ours.ip(&format!("address delete {VIP}/32 dev eth0"));
    eventually("it is put back", || ours.holds(VIP));
    assert_eq!(status(&handle).since, since, "without leaving active");
}

#[test]
fn a_cut_cable_ends_active_and_a_plugged_one_starts_over() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    let (handle, reports) = speak(ours, 254);
    eventually("we become active", || ours.holds(VIP));
    lan.set_cable(1, false);
    eventually("the address goes", || !ours.holds(VIP));
    eventually("we take no part", || status(&handle).state == State::Initialize);
    assert_eq!(status(&handle).last_reason, Some(Reason::LinkDown));
    lan.set_cable(1, true);
    eventually("we become active again", || is_active(&handle) && ours.holds(VIP));
    ours.ip(&format!("address delete {}/24 dev eth0", ours.address()));
    eventually("without own address we take no part", || !is_active(&handle));
    assert!(!ours.holds(VIP), "the virtual address never serves as source");
    ours.ip("address add 10.99.0.77/24 dev eth0");
    eventually("a new own address will do", || is_active(&handle));
    handle.stop();
    let states: Vec<_> = reports.iter().map(|report| report.to).collect();
    let round = [State::Backup, State::Active, State::Initialize];
    assert_eq!(states, [round, round, round].concat());
}

#[test]
fn a_virtual_address_that_is_configured_on_the_host_is_refused() {
    let lan = Lan::new(1);
    let ours = lan.host(1);
    ours.ip(&format!("address add {VIP}/24 dev eth0"));
    let error =
        ours.run(|| Speaker::spawn(config(254), Box::new(|_| {}), None)).map(drop).unwrap_err();
    assert!(matches!(error, Error::StaticAddress { prefix: 24, .. }), "{error}");
}

#[test]
fn two_speakers_of_ours_hand_over_and_back() {
    let lan = Lan::new(2);
    let (first, second) = (lan.host(1), lan.host(2));
    let (strong, _strong_reports) = speak(first, 254);
    eventually("the first becomes active", || first.holds(VIP));
    let (weak, _weak_reports) = speak(second, 253);
    throughout("the second stays backup", Duration::from_secs(1), || !second.holds(VIP));
    strong.stop();
    eventually("the second takes over", || is_active(&weak) && second.holds(VIP));
    let (strong, _strong_reports) = speak(first, 254);
    eventually("the first preempts", || first.holds(VIP) && !second.holds(VIP));
    assert_eq!(
        status(&weak).last_reason,
        Some(Reason::BetterAdvertisement { source: first.address().into(), priority: 254 })
    );
    assert!(is_active(&strong));
}
