//! The server's side of a WebSocket (RFC 6455) that echoes what it hears.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use crate::encoding::{base64, sha1};
use crate::http::{Answer, Request};

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Accepts the handshake (section 4.2.2).
pub fn accept(request: &Request) -> Answer {
    let key = request.header("sec-websocket-key");
    if key.is_empty() {
        let text = "a WebSocket handshake is expected here\n".to_owned();
        return Answer::Page("400 Bad Request", "text/plain", text);
    }
    let accept = base64(&sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes()));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    Answer::Upgrade(head, echo)
}

/// Sends each frame back unmasked, until the closing handshake (section 5.2).
fn echo(mut stream: BufReader<UnixStream>) -> io::Result<()> {
    loop {
        let [first, second] = read(&mut stream)?;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(read(&mut stream)?)),
            127 => u64::from_be_bytes(read(&mut stream)?),
            short => u64::from(short),
        };
        let mask: [u8; 4] = read(&mut stream)?;
        let mut payload = Vec::new();
        (&mut stream).take(length).read_to_end(&mut payload)?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let opcode = first & 0x0f;
        let first = if opcode == PING { first & 0xf0 | PONG } else { first };
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(short as u8),
            medium @ ..65_536 => {
                frame.push(126);
                frame.extend((medium as u16).to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        stream.get_mut().write_all(&frame)?;
        if opcode == CLOSE {
            return Ok(());
        }
    }
}

fn read<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
