use super::super::report::Outcome;
use super::*;
use crate::admin::status::Cluster;

fn answer(status: u16) -> Result<Answer, CallError> {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Answer { status, headers: HeaderMap::new(), body: b"cause\nmore".to_vec() })
}

fn refused() -> io::Error {
    io::ErrorKind::ConnectionRefused.into()
}

/// Asserts outcome, and words of what was found or advised.
fn expect(verdict: &Verdict, outcome: Outcome, words: &str) {
    assert_eq!(verdict.outcome, outcome, "{verdict:?}");
    assert!(
        format!("{} {}", verdict.found, verdict.advice).contains(words),
        "{words}: {verdict:?}"
    );
}

fn status(ready: bool, quorum: bool, silent: &[u64]) -> Status {
    let cluster =
        Cluster { quorum, silent: silent.to_vec(), voters: vec![1, 2, 3], ..Cluster::default() };
    let json = serde_json::json!({
        "version": "1", "name": "a", "role": "node", "uptime_seconds": 1, "ready": ready,
        "waiting_for": ["frp certificates"], "vrrp": [], "cluster": cluster, "tunnels": [],
        "exapps": [],
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_node_is_well_only_when_it_is_ready() {
    expect(&node(Err("nobody".into())), Outcome::Fail, "systemctl start trigon");
    expect(&node(Ok(&status(false, true, &[]))), Outcome::Fail, "waits for frp certificates");
    expect(&node(Ok(&status(true, true, &[]))), Outcome::Ok, "node a, version 1, is ready");
}

#[test]
fn a_cluster_without_quorum_fails_and_a_silent_member_warns() {
    expect(&cluster(&status(true, false, &[])), Outcome::Fail, "no quorum");
    expect(&cluster(&status(true, true, &[3])), Outcome::Warn, "member 3 does not answer");
    expect(&cluster(&status(true, true, &[])), Outcome::Ok, "quorum of 1, 2, 3");
}

#[test]
fn a_member_that_never_came_and_a_certificate_nobody_renewed_warn() {
    let mut well = status(true, true, &[]);
    well.cluster.members.0.push(crate::admin::nodes::Node {
        id: 4,
        name: "d".into(),
        role: ::cluster::Role::Node,
        address: None,
        part: Part::Joining,
        this_node: false,
        reachable: None,
        lag: None,
        since_seconds: 1,
    });
    expect(&cluster(&well), Outcome::Warn, "member 4 has joined and does not take part");
    for (days, outcome, told) in [
        (0, Outcome::Fail, "has ended"),
        (3, Outcome::Warn, "ends in 3 days"),
        (29, Outcome::Ok, "valid for 29 days"),
    ] {
        let certificate = Certificate { name: "cluster".into(), ends_in_seconds: days * 86_400 };
        expect(&link_certificate(&certificate), outcome, told);
    }
}

#[test]
fn an_address_is_somewhere_or_the_interface_is_to_blame() {
    let router = |state: &str, adverts_in| Router {
        interface: "eth0".into(),
        state: state.into(),
        since_seconds: 9,
        adverts_in,
        faults: vec!["interface eth1 is down".into()],
        last_reason: "link down".into(),
        ..Router::default()
    };
    expect(&virtual_address(&router("active", 0)), Outcome::Ok, "held here for 9 s");
    expect(&virtual_address(&router("backup", 5)), Outcome::Ok, "held by another node");
    expect(&virtual_address(&router("backup", 0)), Outcome::Warn, "never heard the Active");
    expect(&virtual_address(&router("initialize", 0)), Outcome::Fail, "eth0 is up");
    expect(&virtual_address(&router("fault", 0)), Outcome::Fail, "interface eth1 is down");
}

#[test]
fn the_heartbeat_tells_a_stopped_node_from_another_key_and_another_program() {
    for (answer, running, outcome, words) in [
        (answer(200), true, Outcome::Ok, "200"),
        (answer(401), true, Outcome::Fail, "another shared key"),
        (answer(404), true, Outcome::Fail, "another program listens here"),
        (Err(CallError::Connect(refused())), true, Outcome::Fail, "listens elsewhere"),
        (Err(CallError::Connect(refused())), false, Outcome::Fail, "start the node"),
        (Err(CallError::Broken("eof".into())), true, Outcome::Fail, "failed too often"),
    ] {
        expect(&heartbeat(&answer, running), outcome, words);
    }
}

#[test]
fn https_is_well_when_a_certificate_is_shown() {
    let tls = |text: &str| Err::<(), _>(CallError::Tls(io::Error::other(text.to_owned())));
    expect(&https(&tls("invalid peer certificate: UnknownIssuer")), Outcome::Ok, "speaks TLS");
    expect(&https(&tls("received corrupt message")), Outcome::Fail, "another program");
    expect(&https(&Err::<(), _>(CallError::Connect(refused()))), Outcome::Fail, "nobody listens");
}

#[test]
fn certificates_warn_a_month_ahead() {
    for (days, outcome) in [
        (-1, Outcome::Fail),
        (0, Outcome::Warn),
        (29, Outcome::Warn),
        (30, Outcome::Ok),
        (5000, Outcome::Ok),
    ] {
        assert_eq!(certificate(days, "renew").outcome, outcome, "{days}");
    }
}

#[test]
fn a_login_that_works_only_the_other_way_round_names_the_mismatch() {
    let closed = || Err(Loss::Closed);
    let refusal = || Err(Loss::Login("send Login request to plugin error".into()));
    for (tls, first, other, outcome, words) in [
        (true, Ok(()), None, Outcome::Ok, "with TLS"),
        (false, Ok(()), None, Outcome::Warn, "frp.tls = false"),
        (true, closed(), Some(Ok(())), Outcome::Fail, "the port speaks no TLS"),
        (false, closed(), Some(Ok(())), Outcome::Fail, "the running node demands TLS"),
        (true, closed(), Some(closed()), Outcome::Fail, "plain TCP"),
        (true, refusal(), None, Outcome::Fail, "another shared key"),
        (true, Err(Loss::Login("banned".into())), None, Outcome::Fail, "failed too often"),
        (true, Err(Loss::Io(refused())), None, Outcome::Fail, "nobody listens"),
    ] {
        expect(&login(tls, &first, other.as_ref()), outcome, words);
    }
}

#[test]
fn an_engine_that_is_away_is_told_in_the_nodes_words() {
    expect(&engine(&answer(503)), Outcome::Fail, "503 cause");
    let mut there = answer(200).unwrap();
    there.headers.insert("api-version", "1.41".parse().unwrap());
    expect(&engine(&Ok(there)), Outcome::Ok, "API 1.41");
}

#[test]
fn connections_need_two_open_files_each() {
    expect(&descriptors(16_640, 8192), Outcome::Ok, "16640");
    expect(&descriptors(1024, 8192), Outcome::Warn, "LimitNOFILE=16640");
}
