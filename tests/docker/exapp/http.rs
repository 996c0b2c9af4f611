//! Just enough HTTP/1.1 for a server behind a proxy: one thread for each connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// Longest body that is read.
const LONGEST: u64 = 1 << 20;

pub struct Request {
    pub method: String,
    /// With the query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

pub enum Answer {
    /// Status with its reason, content type, body.
    Page(&'static str, &'static str, String),
    /// The response head; the connection is then handed over.
    Upgrade(String, fn(BufReader<UnixStream>) -> io::Result<()>),
}

/// Answers the requests of a connection until its end.
pub fn serve(stream: UnixStream, answer: &dyn Fn(&Request) -> Answer) {
    // A client that goes away in the middle is nobody's fault.
    let _ = exchange(BufReader::new(stream), answer);
}

fn exchange(
    mut reader: BufReader<UnixStream>,
    answer: &dyn Fn(&Request) -> Answer,
) -> io::Result<()> {
    while let Some(request) = read_request(&mut reader)? {
        let head = request.method == "HEAD";
        match answer(&request) {
            Answer::Page(status, kind, body) => {
                let shown = if head { "" } else { &body };
                let length = body.len();
                let text = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{shown}"
                );
                reader.get_mut().write_all(text.as_bytes())?;
            }
            Answer::Upgrade(head, go_on) => {
                reader.get_mut().write_all(head.as_bytes())?;
                return go_on(reader);
            }
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<UnixStream>) -> io::Result<Option<Request>> {
    let Some(first) = read_line(reader)? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut headers = Vec::new();
    while let Some(line) = read_line(reader)?.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let request = Request { method, target, headers };
    let length = request.header("content-length").parse().unwrap_or(0);
    if length > LONGEST || !request.header("transfer-encoding").is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Some(request))
}

fn read_line(reader: &mut BufReader<UnixStream>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = reader.read_line(&mut line)?;
    Ok((length > 0).then(|| line.trim_end().to_owned()))
}
