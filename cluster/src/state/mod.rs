//! The replicated state and how commands change it. Sans-io: deterministic, no clock; the same
//! log gives the same bytes on every node.
//!
//! Every table has a hard limit and one rule for what makes room, so no log can grow it without
//! bound: [`exapps`], [`tunnels`], [`strikes`], [`bans`], [`sessions`]. [`once`] keeps a repeated proposal from being
//! applied twice, [`parts`] does it for soft changes.
//!
//! Time is the cluster's clock: the stamps leaders put on soft batches, never going back. What
//! expires is forgotten by it, and only while a command is applied, so on every node alike.

mod authority;
mod bans;
mod by_tenant;
mod certificates;
mod events;
mod exapps;
mod journal;
mod members;
mod merge;
mod once;
mod parts;
mod session_keys;
mod sessions;
mod strikes;
mod table;
mod tokens;
mod tunnels;
mod writer;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::{AuthorityStep, Command, Genesis, Reply, SoftBatch};
use crate::mutation::mutated;
use crate::pair::Parent;
use crate::record::{
    Acme, Applicant, Ban, ClusterAuthority, FrpPki, MAX_REASON, Member, Millis, Moment, NodeId,
    Refusal, SLACK, SealedExApp, Session, SessionKey, Strike, Tenant, Token, Tunnel, Writer,
};
use crate::types::Proposal;

use authority::Authorities;
use bans::Bans;
use events::Events;
use exapps::ExApps;
use journal::Journal;
use members::Members;
use once::Once;
pub(crate) use once::{Ticket, WINDOW};
use parts::Parts;
pub use session_keys::Epoch;
use session_keys::SessionKeys;
pub(crate) use session_keys::{SealedKey, is_due};
use sessions::Sessions;
use strikes::Strikes;
use tokens::{Tokens, Verdict};
use tunnels::Tunnels;

/// Everything the nodes share. Cloning is cheap: the tables are persistent maps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    exapps: ExApps,
    tunnels: Tunnels,
    pki: Option<Arc<FrpPki>>,
    strikes: Strikes,
    bans: Bans,
    once: Once,
    journal: Journal,
    parts: Parts,
    members: Members,
    tokens: Tokens,
    authorities: Authorities,
    session_keys: SessionKeys,
    events: Events,
    acme: Option<Arc<Acme>>,
    /// The cluster's clock.
    clock: Millis,
    writer: Option<Arc<Writer>>,
    /// This node's monotonic clock when it began to apply, see [`Self::begin`].
    #[serde(skip)]
    local: Millis,
    /// Left out of snapshots: a replica without them only asks Nextcloud again.
    #[serde(skip)]
    sessions: Sessions,
}

impl State {
    /// Says what time it is on this node's monotonic clock while the next commands are applied.
    /// It decides nothing that is replicated; readers compare with it (`Session::is_usable`).
    pub(crate) fn begin(&mut self, local: Millis) {
        self.local = local;
    }

    /// From now on sessions are not kept: a witness is never asked for one, and they are most of
    /// what changes. They are no part of what nodes have to agree on.
    pub(crate) fn forgo_sessions(&mut self) {
        self.sessions = Sessions::forgone();
    }

    /// The cluster's clock: the newest stamp of a leader.
    pub fn clock(&self) -> Millis {
        self.clock
    }

    /// When the first thing expires that only a later stamp removes.
    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        let expiries =
            [self.sessions.next_expiry(), self.strikes.next_expiry(), self.bans.next_expiry()];
        expiries.into_iter().flatten().min()
    }

    /// Carries out one command.
    pub fn apply(&mut self, command: &Command) -> Reply {
        match command {
            Command::PushExApp { tenant, record } => {
                self.exapps.push(tenant, record);
                Reply::Done
            }
            Command::CacheExApp { tenant, record, revision } => {
                done_if(self.exapps.cache(tenant, record, *revision))
            }
            Command::DeleteExApp { tenant, id } => done_if(self.exapps.delete(tenant, id)),
            Command::TunnelUp(tunnel) => self.tunnels.up(tunnel),
            Command::TunnelDown { tenant, port, node, stamp } => {
                done_if(self.tunnels.down(tenant, *port, *node, *stamp))
            }
            Command::SetPki(pki) => self.set_pki(pki),
            Command::SetAcme(acme) => self.set_acme(acme),
            Command::RotateSessionKey { epoch, key, at } => {
                done_if(self.session_keys.rotate(*epoch, key, *at))
            }
            Command::Happened(events) => self.happened(events),
            Command::Soft(batch) => {
                self.apply_soft(batch);
                Reply::Done
            }
            Command::SetBan(ban) => {
                self.bans.forget(self.clock);
                if ban.reason.len() > MAX_REASON {
                    return Reply::Nothing;
                }
                if self.bans.set(ban) { Reply::Done } else { Reply::Full }
            }
            Command::Pardon { subnet, at } => {
                self.bans.forget(self.clock);
                let struck = self.strikes.pardon(subnet, *at);
                done_if(self.bans.pardon(*subnet, *at) || struck)
            }
            Command::Genesis(genesis) => {
                let Genesis { group, parent, state } = &**genesis;
                let sessions = std::mem::take(&mut self.sessions);
                *self = Self { sessions, local: self.local, ..state.clone() };
                self.journal.fork(group.generation, *parent);
                Reply::Done
            }
            Command::Merge(merge) => self.merge(merge),
            Command::Found(founders) => {
                let founded = self.members.found(&founders.members);
                if founded {
                    self.authorities.found(&founders.authority);
                }
                done_if(founded)
            }
            Command::CreateToken(token) => done_or(self.tokens.create(token)),
            Command::RevokeToken { id } => done_if(self.tokens.revoke(*id)),
            Command::Admit(applicant) => {
                self.admit(applicant).map_or_else(Reply::Refused, Reply::Admitted)
            }
            Command::RemoveMember { id } => {
                let removed = self.members.remove(*id);
                if removed.is_ok() {
                    self.session_keys.expose();
                }
                done_or(removed)
            }
            Command::Announce(said) => {
                self.members.announce(said).map_or_else(Reply::Refused, done_if)
            }
            Command::Authority(step) => done_if(self.authorities.step(step, &self.members)),
            Command::RaiseFeature { to } => done_if(self.members.raise(*to)),
            Command::SetWriter(writer) => self.set_writer(writer),
        }
    }

    /// Carries out a proposal, but only the first time its ticket is seen; then the first answer
    /// is given again.
    pub(crate) fn apply_once(&mut self, proposal: &Proposal) -> Reply {
        let Proposal { ticket, at, command } = proposal;
        let Some(ticket) = *ticket else { return self.apply(command) };
        if let Some(reply) = self.once.earlier(ticket) {
            return reply;
        }
        let reply = self.apply(command);
        if reply == Reply::Done {
            self.journal.note(command, *at, ticket.node);
        }
        if !mutated!(RepeatsApplied) {
            self.once.remember(ticket, reply);
        }
        reply
    }

    /// Where this state's history comes from, how many durable changes it has had since and when
    /// the last one was.
    pub(crate) fn history(&self) -> (Option<Parent>, u64, Millis) {
        (self.journal.parent, self.journal.changes, self.journal.changed_at)
    }

    /// The record of a tenant's ExApp, by lower-cased id.
    pub fn exapp(&self, tenant: &Tenant, id: &str) -> Option<&Arc<SealedExApp>> {
        self.exapps.record(tenant, id)
    }

    /// Every ExApp record, by tenant and id.
    pub fn exapps(&self) -> impl Iterator<Item = (&Tenant, &Arc<SealedExApp>)> {
        self.exapps.records()
    }

    /// The records of one tenant, by id.
    pub fn exapps_of(&self, tenant: &Tenant) -> impl Iterator<Item = &Arc<SealedExApp>> {
        self.exapps.records_of(tenant)
    }

    /// Whether Nextcloud has taken the record back and it has neither been pushed nor fetched
    /// since. Holds for the ids changed most recently.
    pub fn exapp_is_deleted(&self, tenant: &Tenant, id: &str) -> bool {
        self.exapps.is_deleted(tenant, id)
    }

    /// Changes with every push and delete of an id; read it before a fetch and hand it to
    /// [`Command::CacheExApp`].
    pub fn exapp_revision(&self, tenant: &Tenant, id: &str) -> u64 {
        self.exapps.revision(tenant, id)
    }

    /// The registration of a tenant's port.
    pub fn tunnel(&self, tenant: &Tenant, port: u16) -> Option<&Arc<Tunnel>> {
        self.tunnels.get(tenant, port)
    }

    /// Every registered tunnel, by tenant and port.
    pub fn tunnels(&self) -> impl Iterator<Item = &Arc<Tunnel>> {
        self.tunnels.iter()
    }

    /// The newest registration there ever was, in the cluster's own time: a node stamps the next
    /// one with the epoch after it.
    pub fn tunnel_epoch(&self) -> u64 {
        self.tunnels.epoch()
    }

    /// Which key cookies are hashed with.
    pub fn session_epoch(&self) -> Epoch {
        self.session_keys.epoch()
    }

    /// The keys of cookies, sealed.
    pub(crate) fn session_keys(&self) -> &SessionKeys {
        &self.session_keys
    }

    /// Sessions that are remembered, also those nobody believes any more.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// A session that may still be believed on the node where it is `at`.
    pub fn session(&self, key: &SessionKey, at: Moment) -> Option<&Arc<Session>> {
        self.sessions.get(key).filter(|session| session.is_usable(self.clock, at))
    }

    /// How often `address` (through [`ban_key`](crate::record::ban_key)) failed after `since` on
    /// nodes other than `except`, which counts its own at once and more exactly.
    pub fn strikes(&self, address: IpAddr, since: Millis, except: NodeId) -> usize {
        self.strikes.count(address, since, except)
    }

    /// Every failure on record, by address.
    pub fn every_strike(&self) -> impl Iterator<Item = Strike> {
        self.strikes.iter()
    }

    /// The ban an admin has set that keeps out the client at `address` at `now`.
    pub fn ban(&self, address: IpAddr, now: Millis) -> Option<&Arc<Ban>> {
        self.bans.find(address, now)
    }

    /// Every ban set by an admin; some may have ended.
    pub fn bans(&self) -> impl Iterator<Item = &Arc<Ban>> {
        self.bans.iter()
    }

    /// Failures of the client at `address` up to and including this moment are pardoned. Forgotten
    /// after [`MAX_STRIKE_AGE`](crate::record::MAX_STRIKE_AGE).
    pub fn pardoned(&self, address: IpAddr) -> Option<Millis> {
        self.bans.pardoned(address)
    }

    /// A member, by its number.
    pub fn member(&self, id: NodeId) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// Every member, by number.
    pub fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.iter()
    }

    /// Whether the number was a member's once and is none's any more.
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.members.is_removed(id)
    }

    /// Changes with every change of the members.
    pub(crate) fn members_version(&self) -> u64 {
        self.members.version()
    }

    /// Whether the founding members are in.
    pub(crate) fn is_founded(&self) -> bool {
        self.members.is_founded()
    }

    /// Feature level every member understands.
    pub fn feature(&self) -> u16 {
        self.members.level()
    }

    /// The level to raise to, if every member understands more than the cluster uses.
    pub(crate) fn next_feature(&self) -> Option<u16> {
        Some(self.members.lowest()).filter(|lowest| *lowest > self.members.level())
    }

    /// The number of the next member.
    pub(crate) fn next_number(&self) -> NodeId {
        self.members.next()
    }

    /// The state of a cluster that begins again from a backup with one member, in a generation
    /// that leaves the one of the backup. What was lost since may not come back: tokens may have
    /// been spent, tickets used, tunnels closed.
    #[must_use]
    pub(crate) fn begun_again(self, only: Member, generation: u64, parent: Parent) -> Self {
        let mut members = self.members;
        members.begin_again(only);
        let mut journal = self.journal;
        journal.fork(generation, parent);
        Self {
            journal,
            exapps: self.exapps,
            pki: self.pki,
            strikes: self.strikes,
            bans: self.bans,
            members,
            authorities: self.authorities,
            events: self.events,
            acme: self.acme,
            clock: self.clock,
            ..Self::default()
        }
    }

    /// Every token, spent and expired ones for a day.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.iter()
    }

    /// The authorities of the peer port, from the oldest to the newest.
    pub fn authorities(&self) -> &[Arc<ClusterAuthority>] {
        self.authorities.known()
    }

    /// The authority that signs.
    pub fn signing_authority(&self) -> Option<&Arc<ClusterAuthority>> {
        self.authorities.signer()
    }

    /// What the leader has to propose next while the authority is being changed.
    pub(crate) fn next_authority_step(&self) -> Option<AuthorityStep> {
        self.authorities.next_step(&self.members)
    }

    /// Whether the token would admit the applicant, without spending it.
    pub(crate) fn judge(&self, applicant: &Applicant) -> Result<(), Refusal> {
        self.tokens.judge(applicant, self.clock.max(applicant.at)).map(|_| ())
    }

    fn admit(&mut self, applicant: &Applicant) -> Result<NodeId, Refusal> {
        match self.tokens.judge(applicant, self.clock.max(applicant.at))? {
            Verdict::Again(id) if self.members.get(id).is_some() => Ok(id),
            // It was removed since.
            Verdict::Again(_) => Err(Refusal::SpentToken),
            Verdict::Admit => {
                self.members.has_room_for(applicant)?;
                let id = self.members.admit(applicant);
                self.tokens.spend(applicant, id);
                Ok(id)
            }
        }
    }

    fn apply_soft(&mut self, batch: &SoftBatch) {
        self.clock = self.clock.max(batch.now);
        let now = self.clock;
        self.sessions.forget(now);
        let mut validated = Vec::new();
        for part in &batch.parts {
            if !self.parts.admit(part) {
                continue;
            }
            // A part that was sent long ago, or by a clock that is off: how old its sessions are
            // cannot be believed.
            if part.sent.abs_diff(now) < SLACK {
                let on_its_way = now.saturating_sub(part.sent);
                let judge = |put| sessions::judge(put, on_its_way, now, self.local);
                validated.extend(part.sessions.iter().filter_map(judge));
            }
            for strike in &part.strikes {
                // One that was under way when its client was pardoned.
                if self.bans.pardoned(strike.address).is_none_or(|pardoned| strike.at > pardoned) {
                    self.strikes.insert(strike, now);
                }
            }
        }
        self.sessions.put(validated, now);
        self.strikes.forget(now);
        self.bans.forget(now);
    }
}

fn done_or(outcome: Result<(), Refusal>) -> Reply {
    outcome.map_or_else(Reply::Refused, |()| Reply::Done)
}

fn done_if(done: bool) -> Reply {
    if done { Reply::Done } else { Reply::Nothing }
}

#[cfg(test)]
mod tests;
