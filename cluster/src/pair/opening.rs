//! Carrying a plan out, at once or after a crash: see `generation` for the steps.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::generation::{Kind, Parent, Plan};
use super::plan_file::{self, Opening};
use crate::command::{Command, Genesis};
use crate::error::StartError;
use crate::passport::Passport;
use crate::running::{Ground, Running};
use crate::types::Proposal;

/// Longest the first entries of a group may take.
const FOUND_LIMIT: Duration = Duration::from_secs(10);

/// Why a plan was not carried out.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Self(text)
    }
}

/// Opens what a start finds: the present group, or one a crash kept from being opened.
pub(crate) async fn open(ground: &Ground, passport: Passport) -> Result<Running, StartError> {
    let (disk, dir) = (&ground.world.disk, &ground.config.state_dir);
    match plan_file::resume(disk, dir, passport.group)? {
        Opening::Present => ground.open(passport, false).await,
        Opening::Founding(plan) | Opening::Following(plan) => {
            tracing::warn!(generation = plan.group.generation, "going on with a {}", plan.kind);
            let opened = carry_out(ground, passport, plan).await;
            opened.map_err(|Failure(text)| StartError::Engine(text))
        }
    }
}

/// Comes to the planned group. The engine of the present one is stopped. Nothing it has begun
/// goes yet.
pub(crate) async fn carry_out(
    ground: &Ground,
    passport: Passport,
    plan: Plan,
) -> Result<Running, Failure> {
    let (disk, dir) = (ground.world.disk.clone(), ground.config.state_dir.clone());
    let work = {
        let (disk, dir) = (disk.clone(), dir.clone());
        move || plan_file::store(&disk, &dir, &plan)
    };
    disk.work(work).await??;
    let mut there = passport.clone();
    (there.group, there.begun) = (plan.group, false);
    if plan.kind == Kind::Rejoining {
        return Ok(ground.open(there, false).await?);
    }
    let (state, entries) =
        plan_file::export(&ground.storage, &dir, passport.group, passport.raft_id()).await?;
    let wipe = {
        let (disk, dir) = (disk.clone(), dir.clone());
        move || plan_file::wipe(&disk, &dir, plan.group)
    };
    disk.work(wipe).await??;
    let running = ground.open(there, true).await?;
    let engine = &running.engine;
    engine.raft.initialize(BTreeSet::from([engine.own.raft_id])).await?;
    let parent = Parent { group: passport.group, entries };
    let genesis = Box::new(Genesis { group: plan.group, parent, state });
    let proposal = Proposal {
        ticket: None,
        at: (engine.clock)(),
        command: Arc::new(Command::Genesis(genesis)),
    };
    let first = async {
        let mut metrics = engine.raft.metrics();
        metrics.wait_for(|metrics| metrics.current_leader.is_some()).await?;
        engine.raft.client_write(proposal).await.map_err(Failure::from)?;
        Ok::<(), Failure>(())
    };
    timeout(FOUND_LIMIT, first).await??;
    // From here on a start finds the new group.
    let adopted = engine.passport.lock().await.clone();
    let work = {
        let (disk, dir) = (disk.clone(), dir.clone());
        move || adopted.store_on(&disk, &dir)
    };
    disk.work(work).await??;
    Ok(running)
}
