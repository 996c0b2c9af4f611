//! How messages travel: framing per wire version, and one [`Codec`] that adds the control cipher.
//! What the messages mean is `control`'s concern.

pub mod codec;
pub mod v1;

pub use codec::{Codec, WireError};
