//! A VRRP speaker (RFC 9568 and RFC 3768): one of several hosts holds virtual addresses.
//!
//! Start at [`Speaker::spawn`]. The protocol is decided in [`VirtualRouter`], which has neither
//! clock nor sockets; the speaker is the OS thread that carries its decisions out.
//!
//! | RFC 9568 | file |
//! |---|---|
//! | 5.1, 5.2 packet format of both versions, 7.1 receive checks | `packet/`, `checksum.rs`, `terms.rs` |
//! | 7.3 virtual MAC addresses | `virtual_mac.rs` |
//! | versions, unicast, members | `dialect.rs`, `password.rs` |
//! | 6.1 parameters and timers | `config.rs`, `virtual_address.rs`, `timers.rs` |
//! | 6.4 state machine | `router/`, `event.rs`, `announce_plan.rs` |
//! | sync groups, priority tracking (not in the RFC) | `group.rs`, `tracking.rs` |
//! | 8.1.2 gratuitous ARP, 8.2.2 neighbour advertisements | `announce.rs`, `neighbour.rs` |
//! | 5.1.1, 5.1.2 sockets, storms, duplicate addresses | `link/`, `channel.rs`, `storm.rs` |
//! | the thread around all of it | `speaker.rs`, `engine/`, `realtime.rs`, `status.rs` |
//! | interfaces and virtual addresses on them | `port.rs`, `interface.rs`, `addresses.rs`, `watch.rs`, `netlink.rs` |
//! | what a killed process leaves behind | `guardian/` |
//! | whether a neighbour such as the gateway answers | `reachability.rs` |
//!
//! ```no_run
//! use std::{net::IpAddr, sync::mpsc::channel};
//!
//! let address = IpAddr::from([192, 0, 2, 10]);
//! let router = vrrp::RouterConfig::new("eth0", 51, vec![address])?;
//! let config = vrrp::SpeakerConfig::new(vec![router])?;
//! let (sender, reports) = channel();
//! let speaker = vrrp::Speaker::spawn(config, Box::new(move |report| drop(sender.send(report))), None)?;
//! for report in reports {
//!     println!("{} -> {}: {}", report.from, report.to, report.reason);
//! }
//! speaker.stop();
//! # Ok::<(), vrrp::Error>(())
//! ```
//!
//! Deliberate deviations: never the owner of an address, so never priority 255; always
//! Accept_Mode; the MAC address of the interface unless a virtual one is asked for, with repeated
//! announcements; a last advertisement from an Active that gives way; an Active answers losing
//! advertisements at once in version 2 as well; whoever slept over its timers listens, or gives way,
//! before it goes on (see `router/`); preempt delay, weights and sync groups as in keepalived; IPv6 addresses are advertised
//! as configured, also when the first is not link-local, as keepalived does and accepts.

#![warn(missing_docs)]

mod addresses;
mod announce;
mod announce_plan;
mod channel;
mod checksum;
mod config;
mod dialect;
mod engine;
mod error;
mod event;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
pub mod guardian;
mod interface;
mod link;
#[cfg_attr(not(feature = "mutants"), doc(hidden))]
pub mod mutation;
mod neighbour;
mod netlink;
mod packet;
mod password;
mod port;
mod reachability;
mod realtime;
mod router;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod speaker;
mod status;
mod storm;
mod sys;
mod terms;
mod timers;
mod tracking;
mod virtual_address;
mod virtual_mac;
mod watch;

pub use addresses::release;
pub use announce::{ArpFrame, Mac, gratuitous_arp};
pub use checksum::{ChecksumForm, PROTOCOL};
pub use config::{Family, Interval, Priority, RouterConfig, Vrid};
pub use dialect::{ChecksumChoice, Dialect, Unicast};
pub use error::{ConfigError, Error, PacketError, PacketErrors};
pub use event::{Action, Anomalies, Event, Lateness, Opinion, Peer, Reason, State, Transition};
pub use group::{Group, Member, Order, orders};
pub use neighbour::{NeighbourFrame, unsolicited_advertisement};
pub use packet::{Advertisement, Authentication, Datagram, Format, GROUP, GROUP_V6, TTL, Version};
pub use password::Password;
pub use reachability::Neighbour;
pub use router::VirtualRouter;
pub use speaker::{Counsel, Speaker, SpeakerConfig, SpeakerHandle};
pub use status::{PeerStatus, Report, RouterStatus};
pub use timers::{Timing, active_down_interval, skew_time};
pub use tracking::{Adjustment, Cause, Tracked, Tracker};
pub use virtual_address::VirtualAddress;
