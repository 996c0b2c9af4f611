//! The status page: what `trigon status` and its neighbours tell, in a browser, and the few orders
//! an admin gives there. Every node serves its own, from the same rooms as the admin socket.
//!
//! Readable without JavaScript: the server renders everything, forms are posted. A script of one
//! page then replaces the parts that have changed (`live`). Who may come in is decided in
//! `doorman`, `sessions` and `origin`, what an order is in `orders`; `site` is the one place that
//! turns requests into answers.

mod config;
mod doorman;
mod form;
mod frame;
mod live;
mod look;
mod orders;
mod origin;
mod parts;
mod server;
mod sessions;
mod site;

pub use config::{Config, MIN_TOKEN};
pub use orders::Audit;
pub use server::serve;
pub use site::Site;
