//! The ciphers of the control channel. They hide, they do not prove: frp's v1 cipher has no MAC
//! and, with an empty token, a public key. Whom to trust is settled by TLS and `login`.

pub mod cfb;

pub use cfb::Key;
