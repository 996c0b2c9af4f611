//! Control of Docker engines through any [`Dial`](crate::net::Dial): containers, images and the
//! certificates inside containers (contract 3.2, 3.3 and 8.3).
//!
//! [`payload`] reads what AppAPI sends, [`names`] and [`spec`] turn it into what an engine is told,
//! [`waiting`], [`trust`], [`user`] and [`archive`] decide what goes where; [`engines`] knows which
//! port leads to which engine, [`engine`] speaks to one, and the rest are calls over it. Answers in
//! HTTP are `api::docker`'s, the passthrough is `proxy::docker_engine`'s.

pub mod archive;
pub mod certificates;
pub mod containers;
pub mod engine;
pub mod engines;
pub mod error;
mod files;
mod helper;
pub mod images;
pub mod names;
pub mod owner;
pub mod payload;
pub mod spec;
pub mod trust;
pub mod user;
pub mod version;
pub mod waiting;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use certificates::ClientFiles;
pub use engine::Engine;
pub use engines::{Config, Engines};
pub use error::Error;
pub use names::Names;
