//! The VRRP speaker on real sockets, side by side with the real keepalived, in network namespaces.
//! Needs root, `ip`, `keepalived` and `tshark`; fails without them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod capture;
mod interop;
mod keepalived;
mod lan;
mod links;
mod processes;
mod reachability;
mod strangers;
mod takeover;

use std::{
    net::Ipv4Addr,
    sync::mpsc::{Receiver, channel},
};

use vrrp::{Report, RouterConfig, RouterStatus, Speaker, SpeakerConfig, SpeakerHandle, State};

use self::lan::Host;

const VIP: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 100);
const VRID: u8 = 51;
const NAME: &str = "eth0-51";

fn router(priority: u8) -> RouterConfig {
    RouterConfig::new("eth0", VRID, vec![VIP.into()]).unwrap().with_priority(priority).unwrap()
}

fn config(priority: u8) -> SpeakerConfig {
    SpeakerConfig::new(vec![router(priority)]).unwrap()
}

fn speak(host: &Host, priority: u8) -> (SpeakerHandle, Receiver<Report>) {
    speak_as(host, router(priority))
}

fn speak_as(host: &Host, router: RouterConfig) -> (SpeakerHandle, Receiver<Report>) {
    let (sender, reports) = channel();
    let on_report = Box::new(move |report| drop(sender.send(report)));
    let config = SpeakerConfig::new(vec![router]).unwrap();
    let handle = host.run(|| Speaker::spawn(config, on_report, None)).unwrap();
    (handle, reports)
}

fn status(handle: &SpeakerHandle) -> RouterStatus {
    handle.states().remove(0)
}

fn is_active(handle: &SpeakerHandle) -> bool {
    status(handle).state == State::Active
}
