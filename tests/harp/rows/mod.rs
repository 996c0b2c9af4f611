//! The tables, by what they are about. Facts are HaRP 0.4.4's, as measured; where a row says
//! `harp`, Trigon differs on purpose and the text says why.

pub(crate) mod bans;
pub(crate) mod clients;
pub(crate) mod control;
pub(crate) mod decision;
pub(crate) mod engine;
pub(crate) mod headers;
pub(crate) mod malformed;
pub(crate) mod nextcloud;
pub(crate) mod paths;
pub(crate) mod routes;
pub(crate) mod sessions;
pub(crate) mod signed;
pub(crate) mod storage;
pub(crate) mod streams;
