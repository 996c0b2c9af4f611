//! What can be asked of the replicated state, and what it answers. Sans-io.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::group::Group;
use crate::pair::{Merge, Parent};
use crate::record::{
    Acme, Announcement, Applicant, Ban, ClusterAuthority, Event, Founders, FrpPki, Millis, NodeId,
    Refusal, SealedExApp, SessionKey, Strike, Subnet, Tenant, Token, TokenId, Tunnel, TunnelStamp,
    User, Writer,
};
use crate::state::State;

/// A change of the replicated state. A command this build does not know stops the node; it is
/// never skipped, because skipping would make the replicas differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Nextcloud pushed a record (`POST exapp_storage`): it wins over any fetch still under way.
    PushExApp {
        /// Whose.
        tenant: Tenant,
        /// The record as pushed.
        record: SealedExApp,
    },
    /// A fetched record, kept only if nothing was pushed or deleted since `revision` was read.
    CacheExApp {
        /// Whose.
        tenant: Tenant,
        /// The record as fetched.
        record: SealedExApp,
        /// [`State::exapp_revision`](crate::State::exapp_revision) before the fetch began.
        revision: u64,
    },
    /// Nextcloud removed the record (`DELETE exapp_storage`).
    DeleteExApp {
        /// Whose.
        tenant: Tenant,
        /// Lower-cased id.
        id: String,
    },
    /// A tunnel was registered; kept only if it [replaces](Tunnel::replaces) what is known of the
    /// port.
    TunnelUp(Tunnel),
    /// A registration is taken back. Ignored when the port was registered again since.
    TunnelDown {
        /// Whose.
        tenant: Tenant,
        /// Registered port.
        port: u16,
        /// The node that made the registration.
        node: NodeId,
        /// Which one of that node's.
        stamp: TunnelStamp,
    },
    /// The FRP certificates, kept only if they [follow](FrpPki::follows) the ones there are.
    SetPki(FrpPki),
    /// Many small changes that may be lost without harm.
    Soft(SoftBatch),
    /// An admin bans a client or a network; replaces an earlier ban of the same one.
    SetBan(Ban),
    /// An admin lifts every ban within a subnet and forgives the failures that led to them.
    Pardon {
        /// Whom.
        subnet: Subnet,
        /// When; later failures count.
        at: Millis,
    },
    /// The first entry of a branch that leaves another one: everything known until then.
    Genesis(Box<Genesis>),
    /// A part of what a branch that ended gives to this one.
    Merge(Merge),
    /// The first leader brings the founding members and the authority; kept only if there are
    /// none yet.
    Found(Founders),
    /// An admin makes a token that admits new members.
    CreateToken(Token),
    /// An admin takes a token back.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// A machine shows a token: it is checked and spent here, and the machine gets its number.
    Admit(Applicant),
    /// A member is taken out for ever.
    RemoveMember {
        /// Its number.
        id: NodeId,
    },
    /// A member says what has changed about itself.
    Announce(Announcement),
    /// One step of changing the authority of the peer port; ignored when it is not the next one.
    Authority(AuthorityStep),
    /// Every member understands this level; ignored unless that is so.
    RaiseFeature {
        /// The level.
        to: u16,
    },
    /// Another key for hashing cookies. Ignored unless it is the next one.
    RotateSessionKey {
        /// One more than the number of the key in force.
        epoch: u64,
        /// The key, sealed.
        key: Vec<u8>,
        /// When it was made.
        at: Millis,
    },
    /// Things that happened on nodes. Each is kept once, by its node and id; one that is not
    /// [sound](Event::is_sound) is left out.
    Happened(Vec<Event>),
    /// Account, certificate and order of the public names, kept only if they
    /// [follow](Acme::follows) the ones there are.
    SetAcme(Box<Acme>),
    /// Database writes go to this node from now on; kept only if it [follows](Writer::follows) the
    /// agreement there is.
    SetWriter(Writer),
}

/// How a branch begins, see [`Command::Genesis`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Genesis {
    /// The branch that begins.
    pub group: Group,
    /// Where it leaves the one before.
    pub parent: Parent,
    /// The state at that place.
    pub state: State,
}

/// The steps of changing the authority of the peer port, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorityStep {
    /// Trust this one too.
    Add(ClusterAuthority),
    /// Everybody trusts it: it signs from now on.
    Sign(u32),
    /// Nobody has a certificate of this one any more.
    Drop(u32),
}

impl AuthorityStep {
    /// The authority it is about.
    pub fn serial(&self) -> u32 {
        match self {
            Self::Add(authority) => authority.serial,
            Self::Sign(serial) | Self::Drop(serial) => *serial,
        }
    }
}

/// What several nodes collected, in one log entry. One without parts is a tick: it only moves the
/// cluster's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoftBatch {
    /// The leader's stamp. The cluster's clock moves here, never back, and with it the state
    /// forgets what has expired.
    pub now: Millis,
    /// At most one entry's worth.
    pub parts: Vec<SoftPart>,
}

/// What one node collected. Applied the first time its name (origin, boot, seq) is seen, so it may
/// be sent again when nobody knows what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SoftPart {
    /// The node that collected it.
    pub origin: NodeId,
    /// How often that node has started.
    pub boot: u64,
    /// Counts its parts since then.
    pub seq: u64,
    /// The node's wall clock when it was sent.
    pub sent: Millis,
    /// Validated sessions.
    pub sessions: Vec<SessionPut>,
    /// Failures.
    pub strikes: Vec<Strike>,
}

/// A validated session on its way. Ages instead of moments, because only the cluster's clock says
/// when something expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPut {
    /// Which.
    pub key: SessionKey,
    /// Whom the credentials belong to.
    pub user: User,
    /// Milliseconds since Nextcloud said so.
    pub age: u32,
    /// Milliseconds it holds from then on.
    pub lifetime: u32,
}

/// One soft change, handed to [`Handle::share`](crate::Handle::share).
#[derive(Clone, Debug, PartialEq)]
pub enum Soft {
    /// A session was validated just now.
    Session {
        /// Which.
        key: SessionKey,
        /// Whom the credentials belong to.
        user: User,
        /// How long it holds.
        lifetime: Duration,
    },
    /// A client failed.
    Strike(Strike),
}

/// What applying a [`Command`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Done,
    /// There was nothing to do it to (delete of an unknown record, an outdated fetch or port).
    Nothing,
    /// There is no room for it.
    Full,
    /// The machine is a member, under this number.
    Admitted(NodeId),
    /// It is not done, for this reason.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::pair::{Item, Stamp};
    use crate::record::{
        AccessLevel, AcmeAccount, AcmeCertificate, AcmeFailure, AcmeOrder, Attempt, FrpAuthority,
        FrpCertificate, Member, Papers, Role, Route,
    };

    fn acme() -> Acme {
        let names = vec!["cloud.example".to_owned()];
        let directory = "https://ca.example/dir".to_owned();
        let reason = "why".to_owned();
        Acme {
            revision: 300,
            account: Some(AcmeAccount { directory: directory.clone(), credentials: vec![1, 2] }),
            certificate: Some(AcmeCertificate {
                directory,
                names: names.clone(),
                pem: "chain".into(),
                key: vec![3],
                from: 1000,
                until: 301_000,
            }),
            order: Some(AcmeOrder {
                node: 2,
                until: 1006,
                answers: vec![("token".into(), "answer".into())],
            }),
            failure: Some(AcmeFailure { names, at: 1007, times: 3, reason }),
        }
    }

    /// One of each command, in the order of the enum.
    fn every_command() -> Vec<Command> {
        let record = SealedExApp {
            id: "app".into(),
            token: "secret".into(),
            version: "1.2.3".into(),
            host: "127.0.0.1".into(),
            port: 23000,
            routes: vec![Route {
                url: "^/api/.*$".into(),
                access_level: AccessLevel::User,
                bruteforce_protection: vec![401, 403],
            }],
        };
        let tenant = Tenant::new("second");
        let group = crate::pair::group(2);
        let parent = Parent { group: crate::pair::group(1), entries: 300 };
        let tunnel = Tunnel {
            tenant: tenant.clone(),
            port: 23000,
            proxy: "app".into(),
            run_id: "0123456789abcdef".into(),
            node: 2,
            client: "192.0.2.9:40000".parse().unwrap(),
            server: "[2001:db8::1]:8782".parse().unwrap(),
            since: 1_790_000_000_000,
            stamp: TunnelStamp { epoch: 301, count: 5 },
        };
        let certificate = |pem: &str, key: &[u8]| FrpCertificate {
            pem: pem.into(),
            key: key.into(),
            from: 1000,
            until: 301_000,
        };
        let crossed = |crossed: Option<&str>| FrpAuthority {
            own: certificate("ca", &[1, 2]),
            crossed: crossed.map(str::to_owned),
        };
        let pki = FrpPki {
            revision: 300,
            authorities: vec![crossed(None), crossed(Some("by the one before"))],
            server: certificate("server", &[3]),
            client: certificate("client", &[]),
        };
        let user = User { id: "alice".into(), level: AccessLevel::Admin };
        let session = SessionPut { key: SessionKey([7; 16]), user, age: 40, lifetime: 3000 };
        let authority = ClusterAuthority { serial: 1, certificate: "pem".into(), key: vec![1, 2] };
        let strike = Strike { node: 3, address: "192.0.2.7".parse().unwrap(), at: 999 };
        vec![
            Command::PushExApp { tenant: Tenant::default(), record: record.clone() },
            Command::CacheExApp { tenant: tenant.clone(), record, revision: 300 },
            Command::DeleteExApp { tenant: tenant.clone(), id: "app".into() },
            Command::TunnelUp(tunnel),
            Command::TunnelDown {
                tenant,
                port: 23000,
                node: 2,
                stamp: TunnelStamp { epoch: 301, count: 5 },
            },
            Command::SetPki(pki),
            Command::Soft(SoftBatch {
                now: 1001,
                parts: vec![SoftPart {
                    origin: 3,
                    boot: 2,
                    seq: 300,
                    sent: 1000,
                    sessions: vec![session],
                    strikes: vec![strike],
                }],
            }),
            Command::SetBan(Ban {
                subnet: "10.1.0.0/16".parse().unwrap(),
                since: 999,
                until: Some(1002),
                node: 2,
                reason: "why".into(),
            }),
            Command::Pardon { subnet: "2001:db8::1".parse().unwrap(), at: 1003 },
            Command::Genesis(Box::new(Genesis { group, parent, state: State::default() })),
            Command::Merge(Merge {
                from: group,
                items: vec![
                    Item::Pardon { subnet: "192.0.2.7".parse().unwrap(), at: 1004 },
                    Item::ExApp {
                        tenant: Tenant::default(),
                        id: "app".into(),
                        stamp: Stamp { generation: 1, at: 1005, node: 2 },
                        record: None,
                    },
                ],
            }),
            Command::Found(Founders {
                authority: authority.clone(),
                members: vec![Member {
                    id: 1,
                    name: "lb1".into(),
                    role: Role::Node,
                    address: Some("192.0.2.11:7443".parse().unwrap()),
                    incarnation: 0,
                    feature: 1,
                    since: 900,
                    papers: None,
                }],
            }),
            Command::CreateToken(Token {
                id: TokenId([1, 2, 3, 4, 5]),
                hash: [6; 32],
                role: Role::Witness,
                by: 1,
                since: 1000,
                expires_at: 2000,
                uses_left: 3,
                admitted: vec![(Attempt([7; 16]), 2)],
            }),
            Command::RevokeToken { id: TokenId([1, 2, 3, 4, 5]) },
            Command::Admit(Applicant {
                token: TokenId([1, 2, 3, 4, 5]),
                hash: [6; 32],
                attempt: Attempt([7; 16]),
                name: "w".into(),
                role: Role::Witness,
                address: "[2001:db8::2]:7443".parse().unwrap(),
                feature: 1,
                at: 1500,
            }),
            Command::RemoveMember { id: 2 },
            Command::Announce(Announcement {
                id: 1,
                name: "lb1".into(),
                address: None,
                feature: 2,
                papers: Some(Papers { trusts: 2, issued_by: 1 }),
            }),
            Command::Authority(AuthorityStep::Add(authority)),
            Command::Authority(AuthorityStep::Sign(2)),
            Command::Authority(AuthorityStep::Drop(1)),
            Command::RaiseFeature { to: 2 },
            Command::RotateSessionKey { epoch: 2, key: vec![1, 2, 3], at: 1004 },
            Command::Happened(vec![Event {
                node: 2,
                id: 300,
                at: 1005,
                kind: "vrrp_active".into(),
                text: "web".into(),
                outage_ms: Some(301),
            }]),
            Command::SetAcme(Box::new(acme())),
            Command::SetWriter(Writer { epoch: 3, name: "db2".into(), by: 1, at: 1006 }),
        ]
    }

    #[test]
    fn the_bytes_of_commands_never_change() {
        // A line that differs would make nodes of two releases read different things from one
        // log. New commands go to the end; a changed one needs a new format version.
        let golden = include_str!("../tests/golden/commands.hex");
        let lines: Vec<_> = every_command()
            .iter()
            .map(|command| {
                let bytes = codec::encode(command).unwrap();
                bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
            })
            .collect();
        assert_eq!(lines.join("\n"), golden.trim_end());
    }

    #[test]
    fn stored_commands_are_read_back_and_unknown_ones_are_refused() {
        for command in every_command() {
            let bytes = codec::encode(&command).unwrap();
            assert_eq!(codec::decode::<Command>("command", &bytes), Ok(command));
        }
        let unknown = [codec::VERSION, 100, 0, 0];
        let refused = codec::decode::<Command>("command", &unknown).unwrap_err().to_string();
        assert!(refused.contains("a command this build does not know"), "{refused}");
    }
}
