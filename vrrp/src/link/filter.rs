//! Programs in classic BPF that let the kernel throw away what nobody here wants. Sans-io.
//!
//! One for the receiving socket during a storm of refused packets, one for the sockets that watch
//! for others who claim a virtual address. All of them only narrow what arrives: every packet that
//! passes is judged again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Loads into the accumulator, from an absolute offset or behind the IPv4 header.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const LOAD_BYTE_BEHIND: u16 = 0x50;
/// Loads the length of the IPv4 header at this offset into the index register.
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Offsets from here on count from the network header (SKF_NET_OFF). An IPv6 socket counts from the
/// message otherwise.
const NETWORK_HEADER: u32 = 0xfff0_0000;
/// The kernel takes no longer programs (BPF_MAXINSNS).
const LONGEST: usize = 4096;

/// One instruction, the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    /// How many instructions to skip when a comparison holds.
    pub(crate) if_true: u8,
    /// How many to skip when it does not.
    pub(crate) if_false: u8,
    pub(crate) operand: u32,
}

const fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> Instruction {
    Instruction { code, if_true, if_false, operand }
}

/// Drops whatever arrives: for sockets that only send.
pub(crate) const DROP_ALL: [Instruction; 1] = [instruction(RETURN, 0, 0, 0)];
/// Lets everything through.
pub(crate) const PASS_ALL: [Instruction; 1] = [instruction(RETURN, 0, 0, u32::MAX)];

/// What the virtual routers behind one receiving socket have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Their VRIDs.
    pub(crate) vrids: Vec<u8>,
    /// The only TTL any of them takes, if they agree on one.
    pub(crate) ttl: Option<u8>,
    /// Everybody any of them listens to; empty: at least one listens to everybody.
    pub(crate) sources: Vec<IpAddr>,
}

/// The program for a raw IPv4 socket, where packets begin with the IP header.
pub(crate) fn wanted_over_ipv4(wanted: &Wanted) -> Vec<Instruction> {
    let mut program = Program::default();
    if let Some(ttl) = wanted.ttl {
        program.load(LOAD_BYTE, 8);
        program.only([u32::from(ttl)]);
    }
    program.load(LOAD_HEADER_LENGTH, 0);
    program.load(LOAD_BYTE_BEHIND, 1);
    program.only(wanted.vrids.iter().map(|vrid| u32::from(*vrid)));
    if !wanted.sources.is_empty() {
        program.load(LOAD_WORD, 12);
        program.only(wanted.sources.iter().filter_map(|source| match source {
            IpAddr::V4(source) => Some(u32::from(*source)),
            IpAddr::V6(_) => None,
        }));
    }
    program.finish()
}

/// The program for a raw IPv6 socket, where packets begin with the VRRP message.
pub(crate) fn wanted_over_ipv6(wanted: &Wanted) -> Vec<Instruction> {
    let mut program = Program::default();
    if let Some(ttl) = wanted.ttl {
        program.load(LOAD_BYTE, NETWORK_HEADER + 7);
        program.only([u32::from(ttl)]);
    }
    program.load(LOAD_BYTE, 1);
    program.only(wanted.vrids.iter().map(|vrid| u32::from(*vrid)));
    if !wanted.sources.is_empty() {
        let sources = wanted.sources.iter().filter_map(|source| match source {
            IpAddr::V6(source) => Some(*source),
            IpAddr::V4(_) => None,
        });
        program.only_address(NETWORK_HEADER + 8, sources);
    }
    program.finish()
}

/// The program for a packet socket of ARP: senders that claim one of `addresses`.
pub(crate) fn claims_by_arp(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Vec<Instruction> {
    let mut program = Program::default();
    program.load(LOAD_WORD, 28);
    program.only(addresses.into_iter().map(u32::from));
    program.finish()
}

/// The program for a packet socket of IPv6: neighbour advertisements of one of `addresses`.
pub(crate) fn claims_by_neighbour(
    addresses: impl IntoIterator<Item = Ipv6Addr>,
) -> Vec<Instruction> {
    let mut program = Program::default();
    program.load(LOAD_BYTE, 20);
    program.only([58]);
    program.load(LOAD_BYTE, 54);
    program.only([136]);
    program.only_address(62, addresses);
    program.finish()
}

#[derive(Default)]
struct Program(Vec<Instruction>);

impl Program {
    fn load(&mut self, code: u16, offset: u32) {
        self.0.push(instruction(code, 0, 0, offset));
    }

    /// Goes on if the accumulator is one of `values`.
    fn only(&mut self, values: impl IntoIterator<Item = u32>) {
        let values: Vec<_> = values.into_iter().collect();
        for (index, value) in values.iter().enumerate() {
            self.0.push(instruction(JUMP_IF_EQUAL, 0, 1, *value));
            // Over the pairs of the other values and the return.
            self.jump(2 * (values.len() - index - 1) + 1);
        }
        self.0.push(instruction(RETURN, 0, 0, 0));
    }

    /// Goes on if the sixteen bytes at `offset` are one of `addresses`.
    fn only_address(&mut self, offset: u32, addresses: impl IntoIterator<Item = Ipv6Addr>) {
        let addresses: Vec<_> = addresses.into_iter().collect();
        for (index, address) in addresses.iter().enumerate() {
            let bits = u128::from(*address);
            for (word, at) in (0_u8..4).zip((offset..).step_by(4)) {
                self.load(LOAD_WORD, at);
                #[expect(clippy::cast_possible_truncation, reason = "one word after the other")]
                let value = (bits >> (96 - 32 * u32::from(word))) as u32;
                // On to the next address: over the other words, two instructions each, and the
                // jump.
                self.0.push(instruction(JUMP_IF_EQUAL, 0, 2 * (3 - word) + 1, value));
            }
            self.jump(9 * (addresses.len() - index - 1) + 1);
        }
        self.0.push(instruction(RETURN, 0, 0, 0));
    }

    fn jump(&mut self, over: usize) {
        // Beyond the limit of the kernel `finish` gives the program up.
        let over = u32::try_from(over).unwrap_or(u32::MAX);
        self.0.push(instruction(JUMP, 0, 0, over));
    }

    fn finish(mut self) -> Vec<Instruction> {
        self.0.extend(PASS_ALL);
        if self.0.len() > LONGEST { PASS_ALL.to_vec() } else { self.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with a program; `network` are the bytes of the network header.
    fn passes(program: &[Instruction], packet: &[u8], network: &[u8]) -> bool {
        let (mut accumulator, mut index, mut at) = (0_u32, 0_u32, 0_usize);
        let load = |offset: u32, size: usize| -> Option<u32> {
            let bytes = match offset.checked_sub(NETWORK_HEADER) {
                Some(offset) => network.get(offset as usize..)?.get(..size)?,
                None => packet.get(offset as usize..)?.get(..size)?,
            };
            Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
        };
        loop {
            let Instruction { code, if_true, if_false, operand } = program[at];
            at += 1;
            let loaded = match code {
                LOAD_WORD => load(operand, 4),
                LOAD_BYTE => load(operand, 1),
                LOAD_BYTE_BEHIND => load(operand + index, 1),
                LOAD_HEADER_LENGTH => {
                    index = load(operand, 1).map_or(0, |byte| (byte & 0xf) * 4);
                    Some(accumulator)
                }
                JUMP => {
                    at += operand as usize;
                    continue;
                }
                JUMP_IF_EQUAL => {
                    at += usize::from(if accumulator == operand { if_true } else { if_false });
                    continue;
                }
                RETURN => return operand != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            // A load beyond the packet ends the program with 0.
            let Some(value) = loaded else { return false };
            accumulator = value;
        }
    }

    fn wanted(ttl: Option<u8>, sources: &[&str]) -> Wanted {
        let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
        Wanted { vrids: vec![7, 51], ttl, sources }
    }

    #[test]
    fn over_ipv4_vrid_ttl_and_source_are_looked_at() {
        let packet = |header: u8, ttl: u8, source: u8, vrid: u8| {
            let mut packet = vec![0x40 | (header / 4), 0, 0, 0, 0, 0, 0, 0, ttl, 112, 0, 0];
            packet.extend([10, 99, 0, source, 224, 0, 0, 18]);
            packet.resize(header.into(), 0);
            packet.extend([0x31, vrid, 100, 1]);
            packet
        };
        let strict = wanted_over_ipv4(&wanted(Some(255), &["10.99.0.1", "10.99.0.2"]));
        let open = wanted_over_ipv4(&wanted(None, &[]));
        let table = [
            (packet(20, 255, 1, 7), true, true),
            (packet(20, 255, 2, 51), true, true),
            (packet(60, 255, 2, 51), true, true),
            (packet(20, 255, 2, 52), false, false),
            (packet(20, 64, 2, 51), false, true),
            (packet(20, 255, 3, 51), false, true),
            (packet(20, 255, 1, 7)[..21].to_vec(), false, false),
            (vec![], false, false),
        ];
        for (packet, by_strict, by_open) in table {
            assert_eq!(passes(&strict, &packet, &[]), by_strict, "{packet:?}");
            assert_eq!(passes(&open, &packet, &[]), by_open, "{packet:?}");
        }
    }

    #[test]
    fn over_ipv6_the_header_is_found_before_the_message() {
        let header = |hops: u8, source: &str| {
            let mut header = vec![0x60, 0, 0, 0, 0, 24, 112, hops];
            header.extend(source.parse::<Ipv6Addr>().unwrap().octets());
            header
        };
        let program = wanted_over_ipv6(&wanted(Some(255), &["fe80::1", "fe80::2"]));
        let table = [
            (header(255, "fe80::1"), 7, true),
            (header(255, "fe80::2"), 51, true),
            (header(255, "fe80::2"), 52, false),
            (header(255, "fe80::3"), 51, false),
            (header(255, "fe80:1::2"), 51, false),
            (header(1, "fe80::2"), 51, false),
        ];
        for (header, vrid, expected) in table {
            assert_eq!(passes(&program, &[0x31, vrid], &header), expected, "{header:?} {vrid}");
        }
    }

    #[test]
    fn claims_pass_for_our_addresses_only() {
        let [_, reply] = crate::announce::gratuitous_arp([2; 6], Ipv4Addr::new(10, 99, 0, 100));
        let arp = |last: u8| passes(&claims_by_arp([Ipv4Addr::new(10, 99, 0, last)]), &reply, &[]);
        assert!(arp(100));
        assert!(!arp(101));
        let ours: [Ipv6Addr; 2] = ["fe80::100".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let program = claims_by_neighbour(ours);
        for (address, expected) in [(ours[0], true), (ours[1], true), (Ipv6Addr::LOCALHOST, false)]
        {
            let frame = crate::neighbour::unsolicited_advertisement([2; 6], address, false);
            assert_eq!(passes(&program, &frame, &[]), expected, "{address}");
            let question = crate::neighbour::probe([2; 6], Ipv6Addr::LOCALHOST, address);
            assert!(!passes(&program, &question, &[]));
        }
    }

    #[test]
    fn a_list_beyond_the_kernels_limit_is_left_to_the_parser() {
        let many = (0..2_100).map(Ipv4Addr::from);
        assert_eq!(claims_by_arp(many).len(), 1);
    }
}
