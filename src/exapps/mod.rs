//! What Nextcloud knows, remembered: ExApp records, their targets, and validated sessions.
//!
//! Records live in the cluster view and are fetched when it has none; sessions are kept for
//! seconds. Who may do what with them is decided in `access`.

pub mod directory;
mod session_keys;
pub mod sessions;
pub mod upstream;

pub use directory::Directory;
pub use sessions::Sessions;
