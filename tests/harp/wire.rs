//! HTTP/1.1 as bytes on a plain socket: what a library would tidy up must arrive as written, and
//! what comes back is judged byte by byte.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client meets after it has sent its bytes.
pub(crate) enum Outcome {
    /// A whole response.
    Answer(Answer),
    /// The connection ended without a byte.
    Closed,
    /// Nothing came within the time.
    Silence,
    /// The connection ended within a response, or what came is none.
    Broken(String),
}

/// A response, interim ones skipped.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer(answer) => answer.fmt(f),
            Self::Closed => f.write_str("a closed connection"),
            Self::Silence => f.write_str("silence"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.text().chars().take(160).collect();
        write!(f, "{} {text:?}", self.status)
    }
}

impl Answer {
    /// The last value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().rfind(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends `bytes` on a connection of its own and reads one response. `head` says that its body
/// will not come. A subject that answers before it has read everything is listened to as well.
pub(crate) async fn exchange(
    to: SocketAddr,
    bytes: &[u8],
    head: bool,
    within: Duration,
) -> Outcome {
    timeout(within, converse(to, bytes, head)).await.unwrap_or(Outcome::Silence)
}

async fn converse(to: SocketAddr, bytes: &[u8], head: bool) -> Outcome {
    let mut stream = match TcpStream::connect(to).await {
        Ok(stream) => stream,
        Err(error) => return Outcome::Broken(format!("not connected: {error}")),
    };
    let (mut read, mut write) = stream.split();
    let mut reader = Reader { stream: &mut read, bytes: Vec::new(), ended: false };
    let send = async {
        let _ = write.write_all(bytes).await;
        // Stays open: a closed write side is a client that has gone.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = send => Outcome::Silence,
        outcome = reader.response(head) => outcome,
    }
}

struct Reader<R> {
    stream: R,
    bytes: Vec<u8>,
    ended: bool,
}

impl<R: AsyncReadExt + Unpin> Reader<R> {
    async fn response(&mut self, head: bool) -> Outcome {
        loop {
            let answer = match self.head().await {
                Ok(Some(answer)) => answer,
                Ok(None) if self.bytes.is_empty() => return Outcome::Closed,
                Ok(None) => return self.broken("ended within a head"),
                Err(error)
                    if self.bytes.is_empty() && error.kind() == io::ErrorKind::ConnectionReset =>
                {
                    return Outcome::Closed;
                }
                Err(error) => return self.broken(&error.to_string()),
            };
            if answer.status < 200 && answer.status != 101 {
                continue;
            }
            return self.with_body(answer, head).await;
        }
    }

    fn broken(&self, why: &str) -> Outcome {
        Outcome::Broken(format!("{why}: {:?}", String::from_utf8_lossy(&self.bytes)))
    }

    async fn head(&mut self) -> io::Result<Option<Answer>> {
        let end = loop {
            if let Some(at) = find(&self.bytes, b"\r\n\r\n") {
                break at;
            }
            if self.ended {
                return Ok(None);
            }
            self.more().await?;
        };
        let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.bytes.drain(..end + 4);
        let mut lines = text.split("\r\n");
        let bad = || io::Error::other(format!("not a response: {text:?}"));
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(bad)?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<io::Result<_>>()?;
        Ok(Some(Answer { status, headers, body: Vec::new() }))
    }

    async fn with_body(&mut self, mut answer: Answer, head: bool) -> Outcome {
        if head || matches!(answer.status, 101 | 204 | 304) {
            return Outcome::Answer(answer);
        }
        let chunked = answer.header("transfer-encoding").is_some_and(|value| value == "chunked");
        let length = answer.header("content-length").map(str::parse::<usize>);
        let body = match length {
            _ if chunked => self.chunks().await,
            Some(Ok(length)) => self.exactly(length).await,
            Some(Err(_)) => return self.broken("unreadable content-length"),
            None => self.rest().await,
        };
        match body {
            Ok(body) => answer.body = body,
            Err(error) => return self.broken(&format!("body: {error}")),
        }
        Outcome::Answer(answer)
    }

    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await?;
            let digits = line.split(';').next().unwrap_or_default().trim().to_owned();
            let length = usize::from_str_radix(&digits, 16)
                .map_err(|_| io::Error::other(format!("chunk length {digits:?}")))?;
            if length == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(length).await?);
            self.line().await?;
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = find(&self.bytes, b"\r\n") {
                let line = String::from_utf8_lossy(&self.bytes[..at]).into_owned();
                self.bytes.drain(..at + 2);
                return Ok(line);
            }
            self.more_or_fail().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() < length {
            self.more_or_fail().await?;
        }
        Ok(self.bytes.drain(..length).collect())
    }

    async fn rest(&mut self) -> io::Result<Vec<u8>> {
        while !self.ended {
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.bytes))
    }

    async fn more_or_fail(&mut self) -> io::Result<()> {
        if self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.more().await
    }

    async fn more(&mut self) -> io::Result<()> {
        self.ended = self.stream.read_buf(&mut self.bytes).await? == 0;
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
