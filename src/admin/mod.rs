//! The admin socket: what `trigon status` asks and what answers it. HTTP and JSON over a unix
//! socket that only root may open. What is told is assembled in `app`.

pub mod client;
pub mod server;
pub mod status;

pub use status::Status;
