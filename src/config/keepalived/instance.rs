//! One `vrrp_instance` as a virtual router. Sans-io.

use std::net::IpAddr;
use std::time::Duration;

use super::syntax::Statement;
use super::tracking::{Definitions, Groups, Subject, Track};
use super::{Globals, Note, left_out, value};
use crate::secret::Secret;

/// keepalived's priority when nothing is said.
const PRIORITY: u8 = 100;

/// Longest password of version 2; keepalived cuts longer ones.
const PASSWORD: usize = 8;

/// A virtual router, everything that has a default in keepalived filled in.
#[derive(Debug)]
pub(super) struct Router {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) interface: String,
    pub(super) vrid: u8,
    pub(super) version: u8,
    pub(super) addresses: Vec<String>,
    pub(super) extra_addresses: Vec<String>,
    pub(super) priority: u8,
    pub(super) advert_interval: Duration,
    pub(super) preempt: bool,
    pub(super) preempt_delay: Duration,
    pub(super) unicast_source: Option<IpAddr>,
    pub(super) unicast_peers: Vec<IpAddr>,
    pub(super) password: Option<Secret>,
    pub(super) sync_group: Option<String>,
    pub(super) tracks: Vec<Track>,
}

/// What instances refer to.
pub(super) struct Context<'c> {
    pub(super) globals: &'c Globals,
    pub(super) definitions: &'c Definitions,
    pub(super) groups: &'c Groups,
}

/// What can only be judged once the whole instance is read.
#[derive(Default)]
struct Draft<'s> {
    version: Option<u8>,
    interval: Option<(&'s Statement, Duration)>,
    addresses: Vec<(usize, IpAddr, String)>,
    password: Option<(usize, Secret)>,
}

impl Router {
    /// `None` when what is missing makes it no instance for keepalived either; then a note says so.
    pub(super) fn read(
        one: &Statement,
        context: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> Option<Self> {
        let mut router = Self {
            line: one.line,
            name: one.value().to_owned(),
            interface: context.globals.interface.clone().unwrap_or_default(),
            vrid: 0,
            version: 3,
            addresses: Vec::new(),
            extra_addresses: Vec::new(),
            priority: PRIORITY,
            advert_interval: Duration::from_secs(1),
            preempt: true,
            preempt_delay: Duration::ZERO,
            unicast_source: None,
            unicast_peers: Vec::new(),
            password: None,
            sync_group: None,
            tracks: Vec::new(),
        };
        // The interface first: addresses and trackers are compared with it.
        if let Some(own) = one.block.iter().rfind(|inner| inner.word() == "interface") {
            router.interface = own.value().to_owned();
        }
        let mut draft = Draft::default();
        for inner in &one.block {
            router.take(inner, &mut draft, context, notes);
        }
        router.group(context, notes);
        router.finish(draft, context, notes)
    }

    fn take<'s>(
        &mut self,
        one: &'s Statement,
        draft: &mut Draft<'s>,
        context: &Context<'_>,
        notes: &mut Vec<Note>,
    ) {
        match one.word() {
            "interface" => {}
            "virtual_router_id" => {
                self.vrid = value::number(one, 1, 255, notes).unwrap_or(self.vrid)
            }
            "priority" => self.priority = priority(one, notes).unwrap_or(PRIORITY),
            "version" => draft.version = value::version(one, notes),
            "advert_int" => {
                draft.interval = value::seconds(one, notes).map(|interval| (one, interval));
            }
            "nopreempt" => self.preempt = false,
            "preempt_delay" => {
                self.preempt_delay = value::seconds(one, notes).unwrap_or_default();
            }
            "unicast_src_ip" | "mcast_src_ip" => match one.value().parse() {
                Ok(source) => self.unicast_source = Some(source),
                Err(_) => value::wrong(one, "an address", notes),
            },
            "unicast_peer" => self.peers(one, notes),
            "virtual_ipaddress" => draft.addresses.extend(self.addresses(one, notes)),
            "virtual_ipaddress_excluded" => {
                let extra = self.addresses(one, notes).into_iter().map(|(_, _, text)| text);
                self.extra_addresses.extend(extra);
            }
            "authentication" => draft.password = authentication(one, notes),
            "track_interface" | "track_script" | "track_file" => {
                self.tracks.extend(context.definitions.tracks(one, notes));
            }
            _ => left_out::in_instance(one, notes),
        }
    }

    /// `min_ttl` and `max_ttl` behind a peer are not read: nothing but 255 is accepted.
    fn peers(&mut self, block: &Statement, notes: &mut Vec<Note>) {
        for one in &block.block {
            match one.word().parse() {
                Ok(peer) => self.unicast_peers.push(peer),
                Err(_) => notes.push(Note::new(one.line, one.word(), "no address; left out")),
            }
        }
    }

    /// The addresses of a block that can be held on this router's interface, as Trigon writes them.
    fn addresses(&self, block: &Statement, notes: &mut Vec<Note>) -> Vec<(usize, IpAddr, String)> {
        let mut found = Vec::new();
        for one in &block.block {
            let mut note = |text: String| notes.push(Note::new(one.line, one.word(), text));
            let Some((address, prefix)) = value::address(one.word()) else {
                note("no address; left out".into());
                continue;
            };
            let mut words = one.words.iter().skip(1).map(String::as_str);
            let mut elsewhere = None;
            while let Some(word) = words.next() {
                match word {
                    "-nodad" => {}
                    "dev" => elsewhere = words.next().filter(|device| *device != self.interface),
                    "scope" if words.clone().next() == Some("global") => drop(words.next()),
                    "scope" | "label" | "brd" | "broadcast" | "peer" | "preferred_lft"
                    | "track_group" => {
                        let value = words.next().unwrap_or_default();
                        note(format!("`{word} {value}` is not carried over; the address is"));
                    }
                    word => note(format!("`{word}` is not carried over; the address is")),
                }
            }
            if let Some(device) = elsewhere {
                note(format!("an address on {device} needs a router of its own there; left out"));
                continue;
            }
            let text = prefix.map_or(address.to_string(), |prefix| format!("{address}/{prefix}"));
            found.push((one.line, address, text));
        }
        found
    }

    /// What the sync group brings, and what it takes.
    fn group(&mut self, context: &Context<'_>, notes: &mut Vec<Note>) {
        let Some(group) = context.groups.of(&self.name) else { return };
        self.sync_group = Some(group.name.clone());
        if !group.keeps_weights {
            self.tracks.retain_mut(|track| {
                let own = matches!(track.subject, Subject::Interface(_)) || track.weight == 0;
                if own {
                    return true;
                }
                let text = "in a sync group keepalived takes the weight of a member's own tracker \
                            for 0, and so does this";
                notes.push(Note::new(track.line, &self.name, text));
                track.weight = 0;
                matches!(track.subject, Subject::Script(_))
            });
        }
        for block in &group.tracks {
            // Notes about the block would come once for each member.
            let tracks = context.definitions.tracks(block, &mut Vec::new());
            self.tracks.extend(tracks);
        }
    }

    fn finish(
        mut self,
        draft: Draft<'_>,
        context: &Context<'_>,
        notes: &mut Vec<Note>,
    ) -> Option<Self> {
        let first = draft.addresses.first().map(|(_, address, _)| *address);
        let is_v6 = first.is_some_and(|address| address.is_ipv6());
        for (line, address, text) in draft.addresses {
            if address.is_ipv6() == is_v6 {
                self.addresses.push(text);
            } else {
                let why = "not of the family of the first address, keepalived ignores it too; put \
                           it into extra_addresses, or into a router of its own";
                notes.push(Note::new(line, &text, why));
            }
        }
        // keepalived's default for IPv4; there is no version 2 for IPv6.
        let wanted = draft.version.or(context.globals.version).unwrap_or(2);
        self.version = if is_v6 { 3 } else { wanted };
        self.advert_interval = self.interval(draft.interval, notes);
        self.authenticate(draft.password, notes);
        if self.unicast_peers.is_empty() && self.unicast_source.take().is_some() {
            let text = "a source is taken over with unicast peers only; multicast is sent from the \
                        first address of the interface";
            notes.push(Note::new(self.line, &self.name, text));
        }
        // The own interface is watched in any case.
        self.tracks.retain(|track| match &track.subject {
            Subject::Interface(name) => *name != self.interface || track.weight != 0,
            _ => true,
        });
        let missing = match () {
            () if self.name.is_empty() => "a name",
            () if self.vrid == 0 => "virtual_router_id",
            () if self.interface.is_empty() => "interface",
            () if self.addresses.is_empty() => "virtual_ipaddress with an address on its interface",
            () => return Some(self),
        };
        let text = format!("{} lacks {missing}; left out", self.name);
        notes.push(Note::new(self.line, "vrrp_instance", text));
        None
    }

    fn interval(&self, found: Option<(&Statement, Duration)>, notes: &mut Vec<Note>) -> Duration {
        let second = Duration::from_secs(1);
        let Some((one, wanted)) = found else { return second };
        let step = if self.version == 2 { 1000 } else { 10 };
        let steps = (wanted.as_millis() / step).clamp(1, 40_950 / step);
        let interval = u64::try_from(steps * step).map_or(second, Duration::from_millis);
        if interval != wanted {
            let text = format!(
                "version {} has steps of {step} ms up to 40 s: {} ms; use the same on the peer",
                self.version,
                interval.as_millis()
            );
            notes.push(Note::new(one.line, one.word(), text));
        }
        interval
    }

    fn authenticate(&mut self, password: Option<(usize, Secret)>, notes: &mut Vec<Note>) {
        match password {
            Some((line, _)) if self.version == 3 => {
                let text = "version 3 has no passwords, keepalived ignores it too; left out";
                notes.push(Note::new(line, "auth_pass", text));
            }
            password => self.password = password.map(|(_, secret)| secret),
        }
    }
}

fn priority(one: &Statement, notes: &mut Vec<Note>) -> Option<u8> {
    let priority = value::number(one, 1, 255, notes)?;
    if priority == 255 {
        let text = "255 is for the owner of an address, which Trigon never is: 254";
        notes.push(Note::new(one.line, one.word(), text));
    }
    Some(priority.min(254))
}

/// The password, if there is one that can be sent.
fn authentication(block: &Statement, notes: &mut Vec<Note>) -> Option<(usize, Secret)> {
    let mut password = None;
    for one in &block.block {
        match one.word() {
            "auth_type" if matches!(one.value(), "PASS" | "pass") => {}
            "auth_type" => {
                let text = format!("authentication {} has no counterpart; left out", one.value());
                notes.push(Note::new(one.line, one.word(), text));
                return None;
            }
            "auth_pass" => {
                let bytes = one.value().as_bytes();
                if bytes.len() > PASSWORD {
                    let text = "only the first eight bytes count, as with keepalived";
                    notes.push(Note::new(one.line, one.word(), text));
                }
                let kept = bytes.get(..PASSWORD).unwrap_or(bytes);
                password = (!kept.is_empty()).then(|| (one.line, Secret::new(kept)));
            }
            // Whatever stands here may be the password.
            _ => notes.push(Note::new(one.line, block.word(), "not understood; left out")),
        }
    }
    password
}
