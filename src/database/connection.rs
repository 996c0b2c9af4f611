//! One kept connection to a database node.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::wire::{self, Answer, Greeting, LoginReply, WireError};
use crate::secret::Secret;

/// A user that is logged in. Whoever uses it sets the deadlines.
#[derive(Debug)]
pub struct Connection {
    stream: BufStream<TcpStream>,
    sequence: u8,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The network's answer.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server's, or it is none.
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// The node cannot be reached or does not let the user in.
    pub async fn open(
        address: SocketAddr,
        user: &str,
        password: &Secret,
    ) -> Result<Self, ConnectionError> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut open = Self { stream: BufStream::new(stream), sequence: 0 };
        let greeting = Greeting::parse(&open.read().await?)?;
        open.write(&greeting.login(user, password)).await?;
        let reply = open.read().await?;
        if let LoginReply::Prove(proof) = LoginReply::parse(&reply, password)? {
            let proof = wire::packet(open.sequence.wrapping_add(1), &proof);
            open.write(&proof).await?;
            let reply = open.read().await?;
            if LoginReply::parse(&reply, password)? != LoginReply::In {
                return Err(WireError::Garbage("it asks for a proof over and over").into());
            }
        }
        Ok(open)
    }

    /// Asks and waits for all rows. After an error the connection is of no more use.
    ///
    /// # Errors
    /// The connection broke, or the server refuses the query.
    pub async fn query(&mut self, text: &str) -> Result<Vec<Vec<String>>, ConnectionError> {
        self.write(&wire::query(text)).await?;
        let mut answer = Answer::default();
        loop {
            if let Some(rows) = answer.feed(&self.read().await?)? {
                return Ok(rows);
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn read(&mut self) -> Result<Vec<u8>, ConnectionError> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).await?;
        let (length, sequence) = wire::head(head)?;
        self.sequence = sequence;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }
}
