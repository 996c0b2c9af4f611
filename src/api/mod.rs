//! The control API AppAPI calls under `/exapps/app_api/` (contract 3). The shared key has been
//! checked by the access decision before a request gets here.

mod answer;
pub mod docker;
pub mod endpoint;
pub mod info;
mod kubernetes;
pub mod routes;
pub mod storage;

pub use docker::Docker;
pub use routes::Api;
