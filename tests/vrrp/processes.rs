//! Speakers that end badly: killed, stopped, panicked, and what they leave behind.

use std::{
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use vrrp::{Error, Report, RouterConfig, Speaker, SpeakerConfig, State};

use crate::{
    NAME, VIP, VRID, config,
    keepalived::{Instance, Keepalived},
    lan::{self, Host, Lan, eventually, throughout},
    status,
};

/// A speaker in a process of its own, to be killed.
struct Process(Child);

impl Process {
    fn start(host: &Host) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::speaker_process", "--nocapture", "--test-threads=1"])
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
    let _keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
    process.kill();
    assert!(ours.holds(VIP), "nobody cleans up after SIGKILL but the kernel");
    eventually("keepalived takes over", || theirs.holds(VIP));
    eventually("the lease ends", || !ours.holds(VIP));
}

#[test]
fn a_hung_speaker_loses_the_address_and_takes_part_again_when_it_wakes() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let _keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
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
fn a_panic_on_the_thread_of_the_speaker_gives_the_address_back() {
    let lan = Lan::new(2);
    let (ours, theirs) = (lan.host(1), lan.host(2));
    let _keepalived = Keepalived::start(theirs, &Instance::new(VRID, 100, VIP));
    let on_report = |report: Report| assert_ne!(report.to, State::Active, "panics on purpose");
    let handle = ours.run(|| Speaker::spawn(config(254), Box::new(on_report), None)).unwrap();
    eventually("the thread panics", || !handle.is_running());
    assert!(!ours.holds(VIP));
    assert_eq!(status(&handle).state, State::Initialize);
    assert!(matches!(handle.set_priority(NAME, 100), Err(Error::Stopped)));
    eventually("keepalived takes over", || theirs.holds(VIP));
}
