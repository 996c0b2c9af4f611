//! Three web nodes of Nextcloud, each a machine of its own: what `[web]` of the lab's nodes names.

use std::convert::Infallible;
use std::io;

use super::Error;
use super::configs::{NEXTCLOUD_PORT, WEB_NODES};
use super::namespaces::{Entered, Host, Lan};
use super::nextcloud::{Directory, Nextcloud};
use crate::net::listen;
use crate::secret::Secret;

/// Web nodes that serve until dropped.
pub(super) struct WebNodes {
    /// Before their machines, which are dropped after them.
    _serving: Vec<Entered<io::Result<Infallible>>>,
    hosts: Vec<Host>,
}

impl WebNodes {
    /// Starts them; `key` is that of the ExApps, for which nobody asks here.
    pub(super) fn start(lan: &Lan, key: &str) -> Result<Self, Error> {
        let mut web = Self { _serving: Vec::new(), hosts: Vec::new() };
        for (name, address) in WEB_NODES {
            let failed = |reason| Error::network(format!("host {name}"))(reason);
            let host = lan.host(name, address).map_err(failed)?;
            let nextcloud = Nextcloud::new(Directory::new(Secret::new(key)));
            let serve = move || async move {
                let listener = listen::bind((address, NEXTCLOUD_PORT).into())?;
                Ok(nextcloud.serve(listener).await)
            };
            web._serving.push(host.enter_thread(serve).map_err(failed)?);
            web.hosts.push(host);
        }
        Ok(web)
    }

    /// Their machines.
    pub(super) fn hosts(&self) -> &[Host] {
        &self.hosts
    }
}
