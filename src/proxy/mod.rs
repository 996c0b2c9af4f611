//! Requests for ExApps, and for Nextcloud itself: from the decision to the response's last byte.
//!
//! Control API and Docker engine calls are recognised here and handed back to `frontend`, which
//! has the latter carried by [`docker_engine`].

pub mod answer;
pub mod docker_engine;
pub mod exapp;
pub mod exchange;
pub mod forward;
pub mod nextcloud;
pub mod policy;
pub mod realm;
pub mod rewrite;
pub mod well_known;

#[cfg(test)]
pub(crate) mod testing;
