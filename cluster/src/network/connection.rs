//! One TLS connection to or from a peer, read and written in messages.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::frame::{self, FrameError, HEADER, MAX_FRAME};

/// Memory taken before the bytes of a frame have really come.
const FIRST_BUFFER: usize = 64 << 10;

/// Why a connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("message is malformed or from a newer build: {0}")]
    Message(#[from] postcard::Error),
    #[error("peer closed the connection")]
    Closed,
}

/// Sends one message.
pub(crate) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), ConnectionError> {
    let mut bytes = postcard::to_extend(message, vec![0; HEADER])?;
    let header = frame::header(bytes.len() - HEADER)?;
    bytes.splice(..HEADER, header);
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// Receives one message; [`ConnectionError::Closed`] at an orderly end between two of them.
pub(crate) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, ConnectionError> {
    read_within(stream, MAX_FRAME).await
}

/// The same for messages of at most `limit` bytes.
pub(crate) async fn read_within<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<T, ConnectionError> {
    let mut header = [0; HEADER];
    if stream.read(&mut header[..1]).await? == 0 {
        return Err(ConnectionError::Closed);
    }
    stream.read_exact(&mut header[1..]).await?;
    let length = frame::length(header)?;
    if length > limit {
        return Err(FrameError::TooLarge { found: length, limit }.into());
    }
    let mut bytes = Vec::with_capacity(length.min(FIRST_BUFFER));
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(postcard::from_bytes(&bytes)?)
}
