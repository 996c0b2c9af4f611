//! Byte streams: how they are dialled, accepted and carried. Knows no protocol above TCP.

pub mod dial;
pub mod listen;
mod numbers;
pub mod proxy_protocol;
pub mod socket;
pub mod splice;
pub mod stream;

pub use dial::{BoxFuture, Dial, Target, TcpDial};
pub use numbers::Numbers;
pub use socket::{Grip, Socket, Sockets};
pub use stream::Stream;
