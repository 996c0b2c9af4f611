//! Random lives of the stores beside a model that cannot be wrong: whatever is done, in whatever
//! order, with clean restarts and power cuts in between, both hold the same.

use std::collections::BTreeMap;

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use proptest::prelude::*;

use super::*;
use crate::disk::Loss;
use crate::log_store::LogStore;
use crate::types::Vote;

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
    },
    /// Cuts off this share of what is not applied, in percent, and begins a term.
    Truncate {
        share: u64,
    },
    /// Applies this share of what is left to apply, and stores a snapshot.
    Snapshot {
        share: u64,
    },
    /// Drops this share of what the newest snapshot covers.
    Purge {
        share: u64,
    },
    Vote {
        committed: bool,
    },
    /// A snapshot of somebody who is this far ahead.
    Install {
        ahead: u64,
    },
    Restart,
    PowerCut(Loss),
}

fn step() -> impl Strategy<Value = Step> {
    let share = || 0..=100u64;
    prop_oneof![
        4 => (1..40u64).prop_map(|count| Step::Append { count }),
        2 => share().prop_map(|share| Step::Truncate { share }),
        2 => share().prop_map(|share| Step::Snapshot { share }),
        2 => share().prop_map(|share| Step::Purge { share }),
        1 => any::<bool>().prop_map(|committed| Step::Vote { committed }),
        1 => (1..30u64).prop_map(|ahead| Step::Install { ahead }),
        1 => Just(Step::Restart),
        2 => any::<u64>().prop_map(|seed| Step::PowerCut(match seed % 4 {
            0 => Loss::All,
            1 => Loss::Nothing,
            2 => Loss::Torn { seed },
            _ => Loss::Scattered { seed },
        })),
    ]
}

#[derive(Default)]
struct Model {
    term: u64,
    vote: Option<Vote>,
    purged: Option<LogId>,
    log: BTreeMap<u64, LogId>,
    applied: Option<LogId>,
    snapshot: Option<LogId>,
}

fn next(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.log.values().next_back().copied().or(self.purged)
    }

    fn id(&self, index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(self.term, 1), index)
    }
}

fn entry_with(id: LogId) -> Entry {
    Entry { log_id: id, ..entry(id.index) }
}

async fn take(step: Step, model: &mut Model, log: &mut LogStore, state: &mut StateStore) {
    match step {
        Step::Append { count } => {
            let start = next(model.last());
            let ids: Vec<_> = (start..start + count).map(|index| model.id(index)).collect();
            model.log.extend(ids.iter().map(|id| (id.index, *id)));
            log.blocking_append(ids.into_iter().map(entry_with)).await.unwrap();
        }
        Step::Truncate { share } => {
            let (low, high) = (next(model.applied), next(model.last()));
            let from = low + high.saturating_sub(low) * share / 100;
            if from >= high {
                return;
            }
            let id = model.log[&from];
            model.log.retain(|index, _| *index < from);
            model.term += 1;
            log.truncate(id).await.unwrap();
        }
        Step::Snapshot { share } => {
            let (low, high) = (next(model.applied), next(model.last()));
            let upto = low + high.saturating_sub(low) * share / 100;
            let ids: Vec<_> = model.log.range(low..upto.max(low)).map(|(_, id)| *id).collect();
            model.applied = ids.last().copied().or(model.applied);
            model.snapshot = model.applied;
            state.apply(ids.into_iter().map(entry_with)).await.unwrap();
            state.get_snapshot_builder().await.build_snapshot().await.unwrap();
        }
        Step::Purge { share } => {
            let (low, high) = (next(model.purged), next(model.snapshot));
            let upto = low + high.saturating_sub(low) * share / 100;
            let Some(id) = upto.checked_sub(1).and_then(|upto| model.log.get(&upto)).copied()
            else {
                return;
            };
            model.log.retain(|index, _| *index > id.index);
            model.purged = Some(id);
            log.purge(id).await.unwrap();
        }
        Step::Vote { committed } => {
            model.term += 1;
            let term = model.term;
            let vote = if committed { Vote::new_committed(term, 2) } else { Vote::new(term, 2) };
            model.vote = Some(vote);
            log.save_vote(&vote).await.unwrap();
        }
        Step::Install { ahead } => {
            let id = model.id(next(model.last()) + ahead);
            let meta = SnapshotMeta { last_log_id: Some(id), ..SnapshotMeta::default() };
            let bytes = snapshot::encode(Group::sample(1), &meta, &State::default()).unwrap();
            state.install_snapshot(&meta, Box::new(Cursor::new(bytes))).await.unwrap();
            log.purge(id).await.unwrap();
            model.log.clear();
            (model.purged, model.applied, model.snapshot) = (Some(id), Some(id), Some(id));
        }
        Step::Restart | Step::PowerCut(_) => unreachable!("the life of the stores, not a step"),
    }
}

async fn check(model: &Model, log: &mut LogStore, state: &StateStore) {
    let ends = log.get_log_state().await.unwrap();
    assert_eq!((ends.last_purged_log_id, ends.last_log_id), (model.purged, model.last()));
    assert_eq!(log.read_vote().await.unwrap(), model.vote);
    let entries = log.try_get_log_entries(0..u64::MAX).await.unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry.log_id).collect();
    assert_eq!(ids, model.log.values().copied().collect::<Vec<_>>());
    assert_eq!(state.last_applied, model.applied);
}

async fn live(steps: Vec<Step>) {
    let memory = MemoryDisk::default();
    let disk = Disk::Memory(memory.clone());
    let mut model = Model::default();
    let (mut log, mut state) = open_on(&disk, Path::new("/state"));
    for step in steps {
        let restart = match step {
            Step::Restart => true,
            Step::PowerCut(loss) => {
                memory.power_off(loss);
                true
            }
            step => {
                take(step, &mut model, &mut log, &mut state).await;
                false
            }
        };
        if restart {
            drop((log, state));
            memory.power_on();
            model.applied = model.snapshot;
            (log, state) = open_on(&disk, Path::new("/state"));
        }
        check(&model, &mut log, &state).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_stores_hold_what_a_plain_map_holds(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(live(steps));
    }
}
