//! Why the cluster could not do what it was asked.

/// A proposal that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// No leader with a quorum was reached in time. The command may or may not be applied later.
    #[error("cluster: no quorum confirmed the change in time")]
    NoQuorum,
    /// Too many proposals are waiting already.
    #[error("cluster: too many changes are waiting")]
    Busy,
    /// This node has stopped.
    #[error("cluster: this node has stopped")]
    Stopped,
}
