//! The control API AppAPI calls under `/exapps/app_api/` (contract 3). The shared key has been
//! checked by the access decision before a request gets here.

pub mod info;
pub mod routes;
pub mod storage;

pub use routes::Api;
