//! The replicated state under any log. A replica that starts from a snapshot in the middle ends
//! with the same bytes as one that read the whole log, and every table keeps its limit.

#![no_main]

use cluster::command::{SessionPut, SoftBatch, SoftPart};
use cluster::fuzzing::{VERSION, command, command_bytes, restore, snapshot};
use cluster::record::{
    AccessLevel, Ban, FrpAuthority, FrpCertificate, FrpPki, MAX_STRIKES_PER_KEY, Moment,
    SealedExApp, SessionKey, Strike, Subnet, Tenant, Tunnel, TunnelStamp, User,
};
use cluster::{Command, State};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Push(u8),
    Cache {
        id: u8,
        revision: u8,
    },
    /// A fetch that began just now.
    CacheFresh(u8),
    Delete(u8),
    Up {
        port: u8,
        run: u8,
    },
    Down {
        port: u8,
        run: u8,
    },
    Pki(u8),
    Soft {
        seq: u8,
        now: u32,
        sessions: Vec<(u8, u32)>,
        strikes: Vec<(u8, u8, u32)>,
    },
    Ban {
        address: u8,
        since: u32,
        until: Option<u32>,
    },
    Pardon {
        address: u8,
        at: u32,
    },
    /// Whatever the bytes of a log entry decode to.
    Raw(&'a [u8]),
}

fuzz_target!(|input: (u8, Vec<Step<'_>>)| {
    let (cut, steps) = input;
    let mut whole = State::default();
    let mut late = None;
    for (index, step) in steps.iter().enumerate() {
        if index == usize::from(cut) {
            late = restore(&snapshot(&whole));
            assert!(late.is_some(), "an own snapshot is read");
        }
        let Some(command) = command_for(&whole, step) else { continue };
        let stored = command_bytes(&command);
        let command = cluster::fuzzing::command(&stored).expect("what is stored is read");
        assert_eq!(command_bytes(&command), stored);
        let reply = whole.apply(&command);
        if let Some(late) = &mut late {
            assert_eq!(late.apply(&command), reply, "replicas answer alike");
        }
        check(&whole, step);
    }
    if let Some(late) = late {
        assert_eq!(snapshot(&late), snapshot(&whole), "replicas are alike");
    }
});

fn check(state: &State, step: &Step<'_>) {
    match step {
        Step::Push(id) => assert!(state.exapp(&Tenant::default(), &id.to_string()).is_some()),
        Step::Delete(id) => assert!(state.exapp(&Tenant::default(), &id.to_string()).is_none()),
        Step::Up { port, .. } => {
            assert!(state.tunnel(&Tenant::default(), (*port).into()).is_some())
        }
        Step::Down { port, run } => {
            let left = state.tunnel(&Tenant::default(), (*port).into());
            assert!(left.is_none_or(|tunnel| tunnel.run_id != run.to_string()));
        }
        Step::Soft { now, sessions, strikes, .. } => {
            assert!(state.clock() >= u64::from(*now));
            let at = Moment { wall: (*now).into(), local: 0 };
            for (key, _) in sessions {
                let found = state.session(&SessionKey([*key; 16]), at);
                assert!(found.is_none_or(|session| session.expires_at > state.clock()));
            }
            for (node, address, _) in strikes {
                let address = [192, 0, 2, *address].into();
                let all = state.strikes(address, 0, u64::MAX);
                assert!(state.strikes(address, 0, u64::from(*node)) <= all);
                assert!(all <= 256 * MAX_STRIKES_PER_KEY);
            }
        }
        Step::Pardon { address, at } => {
            let address = [192, 0, 2, *address].into();
            assert!(state.pardoned(address) >= Some(u64::from(*at)));
            assert_eq!(state.ban(address, 0), None);
        }
        _ => {}
    }
}

/// Runs come in any order, so that late registrations do too.
fn stamp(run: u8) -> TunnelStamp {
    TunnelStamp { epoch: u64::from(run / 4), count: u64::from(run % 4) }
}

fn command_for(state: &State, step: &Step<'_>) -> Option<Command> {
    let tenant = Tenant::default();
    Some(match step {
        Step::Push(id) => Command::PushExApp { tenant, record: record(*id) },
        Step::Cache { id, revision } => {
            Command::CacheExApp { tenant, record: record(*id), revision: (*revision).into() }
        }
        Step::CacheFresh(id) => {
            let revision = state.exapp_revision(&tenant, &id.to_string());
            Command::CacheExApp { tenant, record: record(*id), revision }
        }
        Step::Delete(id) => Command::DeleteExApp { tenant, id: id.to_string() },
        Step::Up { port, run } => Command::TunnelUp(Tunnel {
            tenant,
            port: (*port).into(),
            proxy: port.to_string(),
            run_id: run.to_string(),
            node: 1,
            client: ([192, 0, 2, *run], 40_000).into(),
            server: ([192, 0, 2, 1], 8782).into(),
            since: 0,
            stamp: stamp(*run),
        }),
        Step::Down { port, run } => {
            Command::TunnelDown { tenant, port: (*port).into(), node: 1, stamp: stamp(*run) }
        }
        Step::Pki(mark) => {
            let certificate =
                FrpCertificate { pem: mark.to_string(), key: vec![*mark], from: 0, until: 1 };
            let authority = FrpAuthority { own: certificate.clone(), crossed: None };
            Command::SetPki(FrpPki {
                revision: state.pki().map_or(0, |known| known.revision) + u64::from(mark % 3),
                authorities: vec![authority; usize::from(mark % 6)],
                server: certificate.clone(),
                client: certificate,
            })
        }
        Step::Soft { seq, now, sessions, strikes } => soft(
            *now,
            SoftPart {
                origin: 1,
                boot: 1,
                seq: (*seq).into(),
                sent: (*now).into(),
                sessions: sessions.iter().map(|(key, lifetime)| put(*key, *lifetime)).collect(),
                strikes: strikes
                    .iter()
                    .map(|(node, address, at)| Strike {
                        node: (*node).into(),
                        address: [192, 0, 2, *address].into(),
                        at: (*at).into(),
                    })
                    .collect(),
            },
        ),
        Step::Ban { address, since, until } => Command::SetBan(Ban {
            subnet: Subnet::of([192, 0, 2, *address].into()),
            since: (*since).into(),
            until: until.map(u64::from),
            node: 1,
            reason: String::new(),
        }),
        Step::Pardon { address, at } => {
            Command::Pardon { subnet: Subnet::of([192, 0, 2, *address].into()), at: (*at).into() }
        }
        Step::Raw(bytes) => command(&[&[VERSION], *bytes].concat())?,
    })
}

fn record(id: u8) -> SealedExApp {
    SealedExApp {
        id: id.to_string(),
        token: "token".into(),
        version: "1".into(),
        host: "127.0.0.1".into(),
        port: 23000,
        routes: Vec::new(),
    }
}

fn soft(now: u32, part: SoftPart) -> Command {
    Command::Soft(SoftBatch { now: now.into(), parts: vec![part] })
}

fn put(key: u8, lifetime: u32) -> SessionPut {
    let user = User { id: "alice".into(), level: AccessLevel::User };
    SessionPut { key: SessionKey([key; 16]), user, age: 0, lifetime }
}
