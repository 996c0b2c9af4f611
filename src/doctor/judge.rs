//! What an observation means, and what to do about it: the rules of the doctor as far as they
//! concern this machine and its listeners; `nextcloud_rules` has those about Nextcloud. Sans-io.

use std::io;

use http::{HeaderMap, StatusCode};

use super::report::Verdict;
use crate::admin::Status;
use crate::admin::nodes::Part;
use crate::admin::status::Certificate;
use crate::admin::vrrp::Router;
use crate::frp::client::Loss;

/// A certificate that ends sooner is worth a look.
const SOON_DAYS: i64 = 30;

/// An HTTP answer, its body cut to what is worth looking at.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Connect(#[source] io::Error),
    #[error("no answer in time")]
    Silent,
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("no HTTP answer: {0}")]
    Broken(String),
}

/// The running process, asked over its admin socket.
pub(super) fn node(answer: Result<&Status, String>) -> Verdict {
    match answer {
        Err(error) => Verdict::fail(
            error,
            "start it (systemctl start trigon), or see why it ended (journalctl -u trigon); the \
             doctor has to run as root on the node itself",
        ),
        Ok(status) if !status.ready => Verdict::fail(
            format!("{} runs and waits for {}", status.name, status.waiting_for.join(", ")),
            "the first start of a cluster needs a majority of its members: start them; trigon \
             node list names them",
        ),
        Ok(status) => {
            let Status { role, name, version, .. } = status;
            Verdict::ok(format!("{role} {name}, version {version}, is ready"))
        }
    }
}

/// The cluster, when there is more than this node.
pub(super) fn cluster(status: &Status) -> Verdict {
    let cluster = &status.cluster;
    let ids = |ids: &[u64]| ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if !cluster.quorum {
        return Verdict::fail(
            "no quorum: what is known is served, nothing new is recorded",
            "start the other members, and see whether cluster.listen is reachable from them",
        );
    }
    if !cluster.silent.is_empty() {
        return Verdict::warn(
            format!("member {} does not answer", ids(&cluster.silent)),
            "one more lost member may cost the quorum",
        );
    }
    let joining = cluster.members.0.iter().filter(|member| member.part == Part::Joining);
    let joining: Vec<_> = joining.map(|member| member.id).collect();
    if !joining.is_empty() {
        return Verdict::warn(
            format!("member {} has joined and does not take part", ids(&joining)),
            "start it; if its machine is gone, trigon node remove takes it out",
        );
    }
    Verdict::ok(format!("quorum of {}, this node is {}", ids(&cluster.voters), cluster.state))
}

/// A certificate of the control link: a member's lasts 30 days and is renewed after 20, so one
/// that is nearly over was not.
pub(super) fn link_certificate(certificate: &Certificate) -> Verdict {
    const OVERDUE_DAYS: u64 = 7;
    let days = certificate.ends_in_seconds / 86_400;
    let advice = "it is renewed by itself while a quorum is reached: see what the log says, and \
                  whether the clock is right";
    match days {
        _ if certificate.ends_in_seconds == 0 => Verdict::fail("has ended", advice),
        0..OVERDUE_DAYS => Verdict::warn(format!("ends in {days} days"), advice),
        _ => Verdict::ok(format!("valid for {days} days")),
    }
}

/// One virtual router.
pub(super) fn virtual_address(router: &Router) -> Verdict {
    let since = router.since_seconds;
    match router.state.as_str() {
        "active" => Verdict::ok(format!("held here for {since} s")),
        "backup" if router.adverts_in > 0 => {
            Verdict::ok(format!("held by another node, this one is Backup for {since} s"))
        }
        "backup" => Verdict::warn(
            "this node is Backup and has never heard the Active",
            "see whether VRRP (IP protocol 112, multicast 224.0.0.18) passes between the nodes",
        ),
        "fault" => Verdict::fail(
            router.faults.join(", "),
            "it takes part again by itself once that has ended; trigon vrrp tells more",
        ),
        other => Verdict::fail(
            format!("{other}: {}", router.last_reason),
            format!("see whether interface {} is up and has an address", router.interface),
        ),
    }
}

/// The heartbeat of our own HTTP port, asked with the shared key of the configuration.
pub(super) fn heartbeat(answer: &Result<Answer, CallError>, running: bool) -> Verdict {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Verdict::ok("200"),
        Ok(answer) if answer.status == StatusCode::UNAUTHORIZED => Verdict::fail(
            "401: the running node has another shared key than this configuration",
            "restart the node if the key was changed; give every node the same key",
        ),
        Ok(answer) => Verdict::fail(
            format!("{} from something that is not this node", answer.status),
            "another program listens here; stop it, or change exapps.listen",
        ),
        Err(CallError::Connect(error)) if running => Verdict::fail(
            error.to_string(),
            "the running node listens elsewhere: restart it if exapps.listen was changed, and see \
             whether a packet filter stops connections of this machine to itself",
        ),
        Err(CallError::Connect(error)) => {
            Verdict::fail(error.to_string(), "nobody listens: start the node")
        }
        Err(CallError::Tls(error)) => Verdict::fail(
            format!("TLS: {error}"),
            "the port does not speak TLS: restart the node if exapps.tls_listen was changed",
        ),
        Err(error @ (CallError::Silent | CallError::Broken(_))) => Verdict::fail(
            format!("{error}: refused without a word"),
            "the shared key differs from the running node's and this address failed too often: \
             restart the node, or wait for the ban to end (exapps.ban_window)",
        ),
    }
}

/// A TLS session with our own HTTPS port under a name that is nobody's: that the certificate is
/// for another name or of an unknown authority is as it should be, because it was shown.
pub(super) fn https<T>(session: &Result<T, CallError>) -> Verdict {
    match session {
        Ok(_) => Verdict::ok("speaks TLS"),
        Err(CallError::Tls(error)) if error.to_string().contains("peer certificate") => {
            Verdict::ok("speaks TLS")
        }
        Err(CallError::Connect(error)) => {
            Verdict::fail(error.to_string(), "nobody listens: start the node, or restart it")
        }
        Err(error) => Verdict::fail(
            error.to_string(),
            "another program listens here; stop it, or change exapps.tls_listen",
        ),
    }
}

/// Whole days a certificate has left.
pub(super) fn certificate(days: i64, renew: &str) -> Verdict {
    match days {
        ..0 => Verdict::fail(format!("expired {} days ago", -days), renew),
        0..SOON_DAYS => Verdict::warn(format!("expires in {days} days"), renew),
        _ => Verdict::ok(format!("valid for {days} days")),
    }
}

/// A login as a tunnel client: with TLS or without, as the configuration wants it, and after a
/// failure once more the other way round.
pub(super) fn login(
    tls: bool,
    first: &Result<(), Loss>,
    other_way: Option<&Result<(), Loss>>,
) -> Verdict {
    let error = match first {
        Ok(()) if tls => return Verdict::ok("logged in with TLS and client certificate"),
        Ok(()) => {
            return Verdict::warn(
                "logged in without TLS",
                "frp.tls = false lets everybody on the way read the shared key; ExApps get \
                 certificates from AppAPI's deployment and need no plain connections",
            );
        }
        Err(error) => error,
    };
    match (tls, other_way) {
        (true, Some(Ok(()))) => Verdict::fail(
            format!("TLS fails ({error}) and a plain login works: the port speaks no TLS"),
            "something in between ends TLS, or another server (frps) listens here: ExApps with \
             certificates cannot log in; let the FRP port pass as plain TCP",
        ),
        (false, Some(Ok(()))) => Verdict::fail(
            format!("a plain login fails ({error}) and one with TLS works"),
            "the running node demands TLS: restart it if frp.tls was changed; ExApps without \
             /certs/frp see their connections reset",
        ),
        _ => match error {
            Loss::Login(text) if text == "banned" => Verdict::fail(
                "refused: this address failed too often lately",
                "the running node has another shared key; restart it, or wait for the ban to end",
            ),
            Loss::Login(text) => Verdict::fail(
                format!("refused: {text}"),
                "the running node has another shared key: restart it if the key was changed",
            ),
            Loss::Closed | Loss::Silent => Verdict::fail(
                error.to_string(),
                "something between here and the node holds connections of the FRP port back; it \
                 has to pass as plain TCP, not through an HTTP proxy",
            ),
            Loss::Io(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
                Verdict::fail(error.to_string(), "nobody listens: start the node, see frp.listen")
            }
            _ => Verdict::fail(
                error.to_string(),
                "if the certificate is of another authority, another server listens here or \
                 node.state_dir is not the running node's",
            ),
        },
    }
}

/// An engine's answer to `_ping`, sent through the running node.
pub(super) fn engine(answer: &Result<Answer, CallError>) -> Verdict {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => {
            let api = answer.headers.get("api-version").and_then(|value| value.to_str().ok());
            Verdict::ok(api.map_or_else(|| "answers".into(), |api| format!("answers, API {api}")))
        }
        Ok(answer) => {
            let said = String::from_utf8_lossy(&answer.body);
            let said: String = said.lines().next().unwrap_or_default().chars().take(160).collect();
            // Trigon's own answers begin with it.
            let status = answer.status.as_u16().to_string();
            let told = if said.starts_with(&status) { said } else { format!("{status} {said}") };
            Verdict::fail(
                told,
                "a local engine: is Docker running, and may trigon open its socket; a remote one: \
                 is its frpc running and logged in (trigon status)",
            )
        }
        Err(error) => Verdict::fail(error.to_string(), "ask again once the node answers"),
    }
}

/// Open files the node may have, against the connections it is to serve: each needs two.
pub(super) fn descriptors(limit: u64, connections: usize) -> Verdict {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_mul(2) + 256;
    if limit >= needed {
        return Verdict::ok(format!("{limit} open files allowed, {needed} needed at most"));
    }
    Verdict::warn(
        format!("{limit} open files allowed, {needed} needed with {connections} connections"),
        format!("set LimitNOFILE={needed} in the service, or lower exapps.max_connections"),
    )
}

#[cfg(test)]
mod tests;
