//! Byte streams: how they are dialled, accepted and carried. Knows no protocol above TCP.

pub mod dial;
pub mod listen;
pub mod splice;
pub mod stream;

pub use dial::{BoxFuture, Dial, Target, TcpDial};
pub use stream::Stream;
