//! An ExApp's routes, compiled once per record: which one decides about a path. Sans-io.
//! What a single pattern means is in `pattern`.

use cluster::record::{AccessLevel, Route};

use super::pattern::{Match, Pattern};

/// The routes of one record in stored order. Build it once per record; it is not cheap.
#[derive(Debug, Default)]
pub struct CompiledRoutes {
    routes: Vec<CompiledRoute>,
}

#[derive(Debug)]
struct CompiledRoute {
    pattern: Pattern,
    access_level: AccessLevel,
    bruteforce_protection: Vec<u16>,
}

/// What the routes say about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling<'c> {
    /// The first matching route.
    Route { access_level: AccessLevel, bruteforce_protection: &'c [u16] },
    /// No route matches.
    NoRoute,
    /// A pattern ran out of steps before any route matched, so the first match is unknown.
    TooCostly,
}

impl CompiledRoutes {
    /// Compiles the routes. As HaRP does, a route whose pattern does not compile is left out;
    /// that is logged here, once per record.
    pub fn new(routes: &[Route]) -> Self {
        let compile = |route: &Route| match Pattern::new(&route.url) {
            Ok(pattern) => Some(CompiledRoute {
                pattern,
                access_level: route.access_level,
                bruteforce_protection: route.bruteforce_protection.clone(),
            }),
            Err(error) => {
                tracing::warn!(route = route.url, %error, "route pattern skipped");
                None
            }
        };
        Self { routes: routes.iter().filter_map(compile).collect() }
    }

    /// The route that decides about `path`.
    pub(super) fn ruling(&self, path: &str) -> Ruling<'_> {
        for route in &self.routes {
            match route.pattern.matches(path) {
                Match::No => {}
                Match::Yes => {
                    return Ruling::Route {
                        access_level: route.access_level,
                        bruteforce_protection: &route.bruteforce_protection,
                    };
                }
                Match::GaveUp => return Ruling::TooCostly,
            }
        }
        Ruling::NoRoute
    }
}

#[cfg(test)]
mod tests;
