//! (room being built)

pub mod crypto;
pub mod message;
pub mod mux;
pub mod preface;
pub mod wire;
