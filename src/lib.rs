//! Trigon: a highly available front for Nextcloud's external apps (ExApps).
//!
//! Rooms stand on floors; an import may only point to a lower floor, and `tests/architecture.rs`
//! refuses anything else. From the top:
//!
//! | floor | rooms |
//! |---|---|
//! | 10 | `main` |
//! | 9 | [`cli`] |
//! | 8 | [`app`], [`lab`], [`doctor`], [`drill`] |
//! | 7 | [`config`] |
//! | 6 | [`frontend`], [`page`]: one listener, four destinations; the status page |
//! | 5 | [`proxy`], [`api`], [`admin`]: carry requests, answer AppAPI, answer `trigon status` |
//! | 4 | [`exapps`], [`web`]: what Nextcloud knows, remembered; its web nodes |
//! | 3 | [`frp`], [`nextcloud`], [`failover`], [`acme`], [`database`]: tunnels, two HTTP calls, who holds the address, certificates, sessions of the database |
//! | 2 | [`access`], [`guard`], [`http`], [`balance`], [`docker`]: rules and crafts |
//! | 1 | `vrrp`, `cluster` (own crates), [`net`], [`observe`], [`secret`] |

pub mod access;
pub mod acme;
pub mod admin;
pub mod api;
pub mod app;
pub mod balance;
pub mod cli;
pub mod config;
pub mod database;
pub mod docker;
pub mod doctor;
pub mod drill;
pub mod exapps;
pub mod failover;
pub mod frontend;
pub mod frp;
pub mod guard;
pub mod http;
pub mod lab;
pub mod net;
pub mod nextcloud;
pub mod observe;
pub mod page;
pub mod proxy;
pub mod secret;
pub mod web;
