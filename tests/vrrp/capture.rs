//! What a host sees on the wire, read by tshark's dissectors.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    process::{Command, Stdio},
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lan::Host;

/// Ethernet in a capture file.
const LINK_TYPE: u32 = 1;
const LONGEST: usize = 2048;
/// Enough for the longest test.
const BUFFER: usize = 16 << 20;

/// Fields whose value a test may ask for.
const FIELDS: [&str; 21] = [
    "_ws.malformed",
    "_ws.expert.severity",
    "eth.src",
    "ip.src",
    "ip.dst",
    "ip.ttl",
    "ip.dsfield",
    "ipv6.src",
    "ipv6.dst",
    "ipv6.hlim",
    "vrrp.version",
    "vrrp.prio",
    "vrrp.virt_rtr_id",
    "vrrp.checksum.status",
    "vrrp.auth_type",
    "vrrp.auth_string",
    "vrrp.ip_addr",
    "vrrp.ipv6_addr",
    "arp.isgratuitous",
    "icmpv6.checksum.status",
    "icmpv6.nd.na.target_address",
];

/// A dissected frame: those of [`FIELDS`] it has, a field that occurs more often joined by `,`.
pub(crate) type Frame = BTreeMap<&'static str, String>;

/// Everything that reaches a host or leaves it from [`Self::start`] on.
#[derive(Debug)]
pub(crate) struct Capture(Socket);

impl Capture {
    pub(crate) fn start(host: &Host) -> Self {
        let every_protocol = Protocol::from(i32::from(0x0003_u16.to_be()));
        let open = || Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol));
        let socket = host.run(open).expect("root may capture");
        socket.set_nonblocking(true).expect("a socket can be non-blocking");
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)
            .expect("root may exceed the limit");
        Self(socket)
    }

    /// The frames captured since the last call, as they are.
    pub(crate) fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = [0; LONGEST];
        while let Ok(length) = (&self.0).read(&mut buffer) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }

    /// The frames captured since the last call that `filter` (in tshark's language) lets pass.
    pub(crate) fn dissect(&self, filter: &str) -> Vec<Frame> {
        let mut file = Vec::new();
        for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, LINK_TYPE] {
            file.extend(u32::to_ne_bytes(word));
        }
        for frame in self.frames() {
            let length = u32::try_from(frame.len()).expect("frames are short");
            for word in [0, 0, length, length] {
                file.extend(u32::to_ne_bytes(word));
            }
            file.extend(frame);
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("capture.pcap");
        fs::write(&path, file).expect("a writable directory");
        let output = Command::new("tshark")
            .args(["-n", "-T", "fields", "-E", "separator=|", "-Y", filter, "-r"])
            .arg(&path)
            .args(FIELDS.iter().flat_map(|field| ["-e", field]))
            .args(["-o", "vrrp.v3_checksum_as_in_v2:FALSE", "-o", "ip.check_checksum:TRUE"])
            .stdin(Stdio::null())
            .output()
            .expect("tshark can be run (is it installed?)");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tshark: {complaint}");
        String::from_utf8_lossy(&output.stdout).lines().map(read).collect()
    }
}

fn read(line: &str) -> Frame {
    let values = line.split('|');
    let present = FIELDS.into_iter().zip(values).filter(|(_, value)| !value.is_empty());
    present.map(|(field, value)| (field, value.to_owned())).collect()
}
