//! All pools, and which paths go where.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config::Config;
use super::pool::Pool;
use crate::balance::{Admin, Member};
use crate::http::client::{self, Client};
use crate::net::{Dial, TcpDial};

/// See the module.
pub struct Pools {
    web: Arc<Pool>,
    routes: Vec<Route>,
    client: Client,
}

struct Route {
    path: String,
    strip_prefix: bool,
    pool: Arc<Pool>,
}

/// Where a path goes.
pub struct Found<'p> {
    /// Who gets it.
    pub pool: &'p Arc<Pool>,
    /// How many bytes of it the server does not get.
    pub strip: usize,
}

impl Pools {
    /// Pools of which nothing is known yet. Call it within a runtime.
    pub fn new(config: &Config) -> Self {
        let dial = |within| -> Arc<dyn Dial> {
            // The configuration alone names servers, and may mean this machine.
            Arc::new(TcpDial { within, refuse_loopback: false })
        };
        let limits = client::Config {
            connect: config.connect,
            response: config.response,
            request_body: config.request_body,
            ..client::Config::default()
        };
        let checking = dial(config.checks.timeout);
        let pool = |of| Pool::new(of, config, Arc::clone(&checking));
        let routes = config.routes.iter().map(|route| Route {
            path: route.path.clone(),
            strip_prefix: route.strip_prefix,
            pool: pool(&route.pool),
        });
        let mut routes: Vec<_> = routes.collect();
        // The longest that fits is the first that fits.
        routes.sort_by_key(|route| std::cmp::Reverse(route.path.len()));
        Self { web: pool(&config.pool), routes, client: Client::new(dial(config.connect), limits) }
    }

    /// Who gets a path.
    pub fn find(&self, path: &str) -> Found<'_> {
        let route = self.routes.iter().find(|route| path.starts_with(&route.path));
        match route {
            None => Found { pool: &self.web, strip: 0 },
            Some(route) => {
                let strip = if route.strip_prefix { route.path.len() - 1 } else { 0 };
                Found { pool: &route.pool, strip }
            }
        }
    }

    /// The connections to all servers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Every pool, that of the web nodes first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pool>> {
        std::iter::once(&self.web).chain(self.routes.iter().map(|route| &route.pool))
    }

    /// How all servers are.
    pub fn members(&self) -> Vec<Member> {
        self.all().flat_map(|pool| pool.members()).collect()
    }

    /// Gives the servers of this name an order; says how many there are.
    pub fn set(&self, name: &str, admin: Admin) -> usize {
        let mut told = 0;
        for pool in self.all() {
            for (at, member) in pool.members().iter().enumerate() {
                if member.is_called(name) {
                    pool.set(at, admin);
                    told += 1;
                }
            }
        }
        told
    }

    /// Checks all servers until `stop`.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut watching: JoinSet<()> =
            self.all().map(|pool| Arc::clone(pool).watch(stop.clone())).collect();
        while watching.join_next().await.is_some() {}
    }
}
