//! The few packets of the MySQL protocol a monitor needs: greeting, login, a query and its rows as
//! text. Sans-io.
//!
//! Every packet is `length (3 bytes) · sequence (1) · payload`. What a server may say is bounded
//! here; nothing it says is trusted.

use super::proof::{self, NoProof};
use crate::secret::Secret;

/// Longest payload read, in bytes. A node's provider options are some four thousand.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Most rows of an answer, and most columns.
const MAX_ROWS: usize = 256;
const MAX_COLUMNS: u64 = 16;

const OK: u8 = 0x00;
const MORE: u8 = 0x01;
const NULL: u8 = 0xfb;
const LOCAL_INFILE: u8 = 0xfb;
const EOF: u8 = 0xfe;
const ERR: u8 = 0xff;

/// Protocol 4.1, long passwords, authentication by plugin.
const CAPABILITIES: u32 = 0x0000_0001 | 0x0000_0200 | 0x0000_8000 | 0x0008_0000;
const UTF8MB4: u8 = 45;

/// What is wrong with what a server says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It speaks something else, or cut a packet short.
    #[error("it does not speak the MySQL protocol: {0}")]
    Garbage(&'static str),
    /// It wants the user to log in another way.
    #[error(
        "the user logs in by {0}, and only mysql_native_password and ed25519 are supported; create \
         it with IDENTIFIED VIA one of them"
    )]
    Plugin(String),
    /// It refuses, in its own words.
    #[error("error {code}: {text}")]
    Refused {
        /// MariaDB's number.
        code: u16,
        /// Its text, shortened and on one line.
        text: String,
    },
}

type Result<T> = std::result::Result<T, WireError>;

/// The head of a packet: the length of its payload and its number.
///
/// # Errors
/// It is longer than [`MAX_PAYLOAD`].
pub fn head(head: [u8; 4]) -> Result<(usize, u8)> {
    let [a, b, c, sequence] = head;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    if length > MAX_PAYLOAD {
        return Err(WireError::Garbage("a packet that is far too long"));
    }
    Ok((length, sequence))
}

/// A packet with its head. What is sent from here is always short.
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut bytes = vec![length[0], length[1], length[2], sequence];
    bytes.extend_from_slice(payload);
    bytes
}

/// The refusal of a session before it began: what a server sends in place of its greeting.
pub fn refusal(code: u16, text: &str) -> Vec<u8> {
    let mut payload = vec![ERR];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(text.as_bytes());
    packet(0, &payload)
}

/// A query as text.
pub fn query(text: &str) -> Vec<u8> {
    let mut payload = vec![0x03];
    payload.extend_from_slice(text.as_bytes());
    packet(0, &payload)
}

/// A server's first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// What it says it is.
    pub version: String,
    scramble: Vec<u8>,
}

impl Greeting {
    /// Reads protocol version 10.
    ///
    /// # Errors
    /// The server refuses (blocked host, too many connections), or is none.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let mut rest = Reader(payload);
        match rest.byte()? {
            10 => {}
            ERR => return Err(refused(rest)),
            _ => return Err(WireError::Garbage("no greeting of protocol version 10")),
        }
        let version = String::from_utf8_lossy(rest.until_nul()?).chars().take(80).collect();
        rest.take(4)?;
        let mut scramble = rest.take(8)?.to_vec();
        rest.take(1)?;
        // Lower flags, character set, status, higher flags, length of the scramble, reserved.
        rest.take(2 + 1 + 2 + 2 + 1 + 10)?;
        let more = rest.take(12).map_err(|_| WireError::Garbage("a greeting of before 4.1"))?;
        scramble.extend_from_slice(more);
        Ok(Self { version, scramble })
    }

    /// The answer that logs `user` in.
    pub fn login(&self, user: &str, password: &Secret) -> Vec<u8> {
        let mut payload = CAPABILITIES.to_le_bytes().to_vec();
        payload.extend_from_slice(&(1_u32 << 24).to_le_bytes());
        payload.push(UTF8MB4);
        payload.extend_from_slice(&[0; 23]);
        payload.extend_from_slice(user.as_bytes());
        payload.push(0);
        let proof = proof::native(password, &self.scramble);
        payload.push(u8::try_from(proof.len()).unwrap_or(0));
        payload.extend_from_slice(&proof);
        payload.extend_from_slice(proof::NATIVE);
        payload.push(0);
        packet(1, &payload)
    }
}

/// What a server says to a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginReply {
    /// The user is in.
    In,
    /// It wants this proof instead.
    Prove(Vec<u8>),
}

impl LoginReply {
    /// Reads it; `password` makes the proof it may ask for.
    ///
    /// # Errors
    /// The server refuses, or wants a way to log in that is not known here.
    pub fn parse(payload: &[u8], password: &Secret) -> Result<Self> {
        let mut rest = Reader(payload);
        match rest.byte()? {
            OK => Ok(Self::In),
            ERR => Err(refused(rest)),
            EOF if rest.0.is_empty() => Err(WireError::Plugin("mysql_old_password".to_owned())),
            EOF => {
                let plugin = rest.until_nul()?;
                let proof = proof::by(plugin, rest.0, password);
                proof.map(Self::Prove).map_err(|why| match why {
                    NoProof::Plugin => WireError::Plugin(one_line(plugin, 40)),
                    NoProof::Short => WireError::Garbage("a nonce cut short"),
                })
            }
            MORE => Err(WireError::Plugin("more than one step".to_owned())),
            _ => Err(WireError::Garbage("an unknown answer to the login")),
        }
    }
}

/// The rows of an answer, packet by packet.
#[derive(Debug, Default)]
pub struct Answer {
    stage: Stage,
    rows: Vec<Vec<String>>,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Head,
    Columns {
        left: u64,
        all: u64,
    },
    Rows {
        columns: u64,
    },
}

impl Answer {
    /// Takes the next packet; the rows once it was the last one. No value is an empty text.
    ///
    /// # Errors
    /// The server refuses the query, or says something that is no answer to it.
    pub fn feed(&mut self, payload: &[u8]) -> Result<Option<Vec<Vec<String>>>> {
        let mut rest = Reader(payload);
        let first = payload.first().copied().ok_or(WireError::Garbage("an empty packet"))?;
        if first == ERR {
            rest.byte()?;
            return Err(refused(rest));
        }
        let is_eof = first == EOF && payload.len() < 9;
        match &mut self.stage {
            Stage::Head if first == OK => return Ok(Some(Vec::new())),
            Stage::Head if first == LOCAL_INFILE => {
                return Err(WireError::Garbage("it asks for a file"));
            }
            Stage::Head => match rest.number()? {
                all @ 1..=MAX_COLUMNS => self.stage = Stage::Columns { left: all, all },
                _ => return Err(WireError::Garbage("far too many columns")),
            },
            // What the columns are called is known from the query.
            Stage::Columns { left, .. } if *left > 0 => *left -= 1,
            Stage::Columns { all, .. } if is_eof => self.stage = Stage::Rows { columns: *all },
            Stage::Columns { .. } => return Err(WireError::Garbage("no end of the columns")),
            Stage::Rows { .. } if is_eof => return Ok(Some(std::mem::take(&mut self.rows))),
            Stage::Rows { .. } if self.rows.len() >= MAX_ROWS => {
                return Err(WireError::Garbage("far too many rows"));
            }
            Stage::Rows { columns } => {
                let row = (0..*columns).map(|_| rest.text()).collect::<Result<_>>()?;
                self.rows.push(row);
            }
        }
        Ok(None)
    }
}

fn refused(mut rest: Reader<'_>) -> WireError {
    let Ok(code) = rest.take(2) else { return WireError::Garbage("a refusal cut short") };
    let code = u16::from(code[0]) | u16::from(code[1]) << 8;
    // `#` and five letters of SQL state, unless it refuses before the login.
    let text = match rest.0 {
        [b'#', _, _, _, _, _, text @ ..] => text,
        text => text,
    };
    WireError::Refused { code, text: one_line(text, 200) }
}

/// What a server says, fit for a log.
fn one_line(text: &[u8], length: usize) -> String {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(length).collect()
}

/// What is left of a payload.
struct Reader<'p>(&'p [u8]);

impl<'p> Reader<'p> {
    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|one| one[0])
    }

    fn take(&mut self, length: usize) -> Result<&'p [u8]> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(WireError::Garbage("a packet cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn until_nul(&mut self) -> Result<&'p [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.take(end.ok_or(WireError::Garbage("a text without its end"))?)?;
        self.take(1)?;
        Ok(text)
    }

    /// A number whose first byte says how long it is.
    fn number(&mut self) -> Result<u64> {
        let length = match self.byte()? {
            small @ 0..=0xfa => return Ok(small.into()),
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            _ => return Err(WireError::Garbage("no number where one belongs")),
        };
        let bytes = self.take(length)?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn text(&mut self) -> Result<String> {
        if self.0.first() == Some(&NULL) {
            self.byte()?;
            return Ok(String::new());
        }
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        self.take(length).map(|text| String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As MariaDB 10.11 sends it.
    fn greeting() -> Vec<u8> {
        let mut bytes = vec![10];
        bytes.extend_from_slice(b"5.5.5-10.11.19-MariaDB-0+deb12u1\0");
        bytes.extend_from_slice(&[7, 0, 0, 0]);
        bytes.extend_from_slice(b"abcdefgh\0");
        bytes.extend_from_slice(&[0xfe, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        bytes
    }

    #[test]
    fn a_login_proves_the_password_and_does_not_hold_it() {
        let hello = Greeting::parse(&greeting()).unwrap();
        assert_eq!(hello.version, "5.5.5-10.11.19-MariaDB-0+deb12u1");
        assert_eq!(hello.scramble, b"abcdefghijklmnopqrst");
        let login = hello.login("monitor", &Secret::new("hunter2"));
        let (length, sequence) = head([login[0], login[1], login[2], login[3]]).unwrap();
        assert_eq!((length, sequence), (login.len() - 4, 1));
        assert!(!login.windows(7).any(|part| part == b"hunter2"));
        let proof = proof::native(&Secret::new("hunter2"), b"abcdefghijklmnopqrst");
        assert_eq!(login[4 + 32 + 8 + 1..][..20], proof);
    }

    #[test]
    fn what_a_server_says_to_a_login_is_told_apart() {
        let password = Secret::new("x");
        let read = |payload: &[u8]| LoginReply::parse(payload, &password);
        assert_eq!(read(&[0, 0, 0, 2, 0, 0, 0]), Ok(LoginReply::In));
        let again = read(b"\xfemysql_native_password\0ABCDEFGHIJKLMNOPQRST\0").unwrap();
        assert_eq!(again, LoginReply::Prove(proof::native(&password, b"ABCDEFGHIJKLMNOPQRST")));
        let other = [b"\xfeclient_ed25519\0", &[7; 32][..]].concat();
        assert!(matches!(read(&other), Ok(LoginReply::Prove(proof)) if proof.len() == 64));
        for (payload, expect) in [
            (&b"\xff\x15\x04#28000Access denied\nfor"[..], "error 1045: Access denied for"),
            (b"\xfeclient_ed25519\0abc", "a nonce cut short"),
            (b"\xfecaching_sha2_password\0abc", "caching_sha2_password, and only mysql_native"),
            (b"\xfe", "logs in by mysql_old_password"),
            (b"HTTP/1.1 400", "does not speak the MySQL protocol"),
            (b"", "cut short"),
        ] {
            let told = read(payload).unwrap_err().to_string();
            assert!(told.contains(expect), "{told}");
        }
        let blocked = Greeting::parse(b"\xff\x69\x04Host '10.0.0.1' is blocked").unwrap_err();
        assert_eq!(blocked.to_string(), "error 1129: Host '10.0.0.1' is blocked");
        assert_eq!(refusal(1040, "full")[4..], *b"\xff\x10\x04full");
    }

    #[test]
    fn rows_come_packet_by_packet() {
        let mut answer = Answer::default();
        for packet in [&b"\x02"[..], b"column", b"column", b"\xfe\0\0\x02\0", b"\x01a\x03xyz"] {
            assert_eq!(answer.feed(packet), Ok(None));
        }
        assert_eq!(answer.feed(b"\x01b\xfb"), Ok(None));
        let long = [b"\x01c\xfc\x00\x02", &[b'v'; 512][..]].concat();
        assert_eq!(answer.feed(&long), Ok(None));
        let rows = answer.feed(b"\xfe\0\0\x02\0").unwrap().unwrap();
        let text = |row: &[&str]| row.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(rows, [text(&["a", "xyz"]), text(&["b", ""]), text(&["c", &"v".repeat(512)])]);
        let refused = Answer::default().feed(b"\xff\x17\x04#08S01WSREP has not yet prepared");
        assert!(matches!(refused, Err(WireError::Refused { code: 1047, .. })), "{refused:?}");
        assert!(Answer::default().feed(b"\xfb/etc/passwd").is_err());
        assert_eq!(Answer::default().feed(&[0, 1, 0, 2, 0, 0, 0]), Ok(Some(Vec::new())));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(packets: Vec<Vec<u8>>, start in any::<[u8; 4]>()) {
            let _ = head(start);
            let mut answer = Answer::default();
            for packet in &packets {
                let _ = Greeting::parse(packet);
                let _ = LoginReply::parse(packet, &Secret::new("x"));
                let _ = answer.feed(packet);
            }
        }
    }
}
