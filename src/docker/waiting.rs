//! When waiting for a container to start is over, and what AppAPI is told then (contract 3.3).
//! Sans-io.
//!
//! Each look at the container is judged for itself: a caller whose node died asks the next one and
//! waits on as if nothing had happened (weakness W25).

use bollard::models::{ContainerState, ContainerStateStatusEnum, HealthStatusEnum};
use serde::Serialize;

/// The answer to `wait_for_start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// Whether the container runs.
    pub started: bool,
    /// Docker's word for its state.
    pub status: String,
    /// Docker's word for its health; null without a health check.
    #[serde(skip_serializing_if = "Health::is_untold")]
    pub health: Health,
    /// Why it does not run, or what is wrong although it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Docker's word for the health of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Health {
    /// There is no container to be healthy.
    Untold,
    /// Null when it has no health check.
    Told(Option<String>),
}

impl Health {
    fn is_untold(&self) -> bool {
        *self == Self::Untold
    }
}

/// What one look at the container says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// The waiting is over.
    Over(Waited),
    /// Not yet; what it would be told if the time were up.
    Waiting(Waited),
}

/// The waiting before the first look.
pub fn unknown() -> Waited {
    waited(false, "unknown", None)
}

/// The container is gone.
pub fn gone() -> Waited {
    Waited {
        started: false,
        status: "not_found".to_owned(),
        health: Health::Untold,
        reason: Some("container not found".to_owned()),
    }
}

/// Judges the state of a container.
pub fn judge(state: Option<&ContainerState>) -> Look {
    use ContainerStateStatusEnum as Status;
    let status = state.and_then(|state| state.status).unwrap_or(Status::EMPTY);
    let health = state.and_then(|state| state.health.as_ref()).and_then(|health| health.status);
    // Engines write both for "has no health check"; one that waited for it waited for ever.
    let health =
        health.filter(|it| !matches!(it, HealthStatusEnum::EMPTY | HealthStatusEnum::NONE));
    let told = |started| waited(started, status.as_ref(), health);
    match (status, health) {
        (Status::RUNNING, None | Some(HealthStatusEnum::HEALTHY)) => Look::Over(told(true)),
        (Status::RUNNING, Some(HealthStatusEnum::UNHEALTHY)) => {
            Look::Over(Waited { reason: Some("unhealthy".to_owned()), ..told(true) })
        }
        (Status::PAUSED | Status::EXITED | Status::DEAD, _) => {
            let reason = Some(format!("non-recoverable state: {status}"));
            Look::Over(Waited { reason, ..told(false) })
        }
        _ => Look::Waiting(told(false)),
    }
}

fn waited(started: bool, status: &str, health: Option<HealthStatusEnum>) -> Waited {
    let health = Health::Told(health.map(|health| health.to_string()));
    Waited { started, status: status.to_owned(), health, reason: None }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn look(state: &Value) -> (bool, Value) {
        let state: ContainerState = serde_json::from_value(state.clone()).unwrap();
        let (over, waited) = match judge(Some(&state)) {
            Look::Over(waited) => (true, waited),
            Look::Waiting(waited) => (false, waited),
        };
        (over, serde_json::to_value(waited).unwrap())
    }

    #[test]
    fn each_state_is_told_in_harps_words() {
        let health = |status: &str| json!({ "Status": status });
        for (state, over, answer) in [
            (
                json!({ "Status": "running" }),
                true,
                json!({ "started": true, "status": "running", "health": null }),
            ),
            (
                json!({ "Status": "running", "Health": health("healthy") }),
                true,
                json!({ "started": true, "status": "running", "health": "healthy" }),
            ),
            (
                json!({ "Status": "running", "Health": health("unhealthy") }),
                true,
                json!({ "started": true, "status": "running", "health": "unhealthy",
                        "reason": "unhealthy" }),
            ),
            (
                json!({ "Status": "running", "Health": health("starting") }),
                false,
                json!({ "started": false, "status": "running", "health": "starting" }),
            ),
            // app_api issue 439: an empty word looped for ever.
            (
                json!({ "Status": "running", "Health": health("") }),
                true,
                json!({ "started": true, "status": "running", "health": null }),
            ),
            (
                json!({ "Status": "running", "Health": health("none") }),
                true,
                json!({ "started": true, "status": "running", "health": null }),
            ),
            (
                json!({ "Status": "exited", "Health": health("unhealthy") }),
                true,
                json!({ "started": false, "status": "exited", "health": "unhealthy",
                        "reason": "non-recoverable state: exited" }),
            ),
            (
                json!({ "Status": "paused" }),
                true,
                json!({ "started": false, "status": "paused", "health": null,
                        "reason": "non-recoverable state: paused" }),
            ),
            (
                json!({ "Status": "dead" }),
                true,
                json!({ "started": false, "status": "dead", "health": null,
                        "reason": "non-recoverable state: dead" }),
            ),
            (
                json!({ "Status": "created" }),
                false,
                json!({ "started": false, "status": "created", "health": null }),
            ),
            (
                json!({ "Status": "restarting" }),
                false,
                json!({ "started": false, "status": "restarting", "health": null }),
            ),
        ] {
            assert_eq!(look(&state), (over, answer), "{state}");
        }
    }

    #[test]
    fn a_container_that_is_gone_has_no_health() {
        assert_eq!(
            serde_json::to_value(gone()).unwrap(),
            json!({ "started": false, "status": "not_found", "reason": "container not found" })
        );
    }
}
