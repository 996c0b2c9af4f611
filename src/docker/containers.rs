//! An ExApp's container and volume: made, started, watched, stopped, removed (contract 3.3).
//!
//! Everything that changes something first looks at the labels: what another tenant made is not
//! touched.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions, RemoveVolumeOptions,
    StartContainerOptions, StopContainerOptions,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::engine::Engine;
use super::error::Error;
use super::names::Names;
use super::owner::{Labels, is_foreign};
use super::payload::Create;
use super::spec;
use super::waiting::{self, Look, Waited};

const EXISTS_WITHIN: Duration = Duration::from_secs(15);
const CREATE_WITHIN: Duration = Duration::from_secs(60);
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

/// How long and how often a starting container is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time between two looks.
    pub every: Duration,
    /// Most looks.
    pub looks: usize,
    /// Longest time for all of them.
    pub within: Duration,
}

impl Default for Patience {
    /// HaRP's.
    fn default() -> Self {
        Self { every: Duration::from_millis(500), looks: 180, within: Duration::from_secs(105) }
    }
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was made.
    Done,
    /// It had been made before.
    Already,
}

/// Whether the container exists: the reference of its image, or `None`.
///
/// # Errors
/// What kept the engine from saying so.
pub async fn exists(engine: &Engine, names: &Names) -> Result<Option<String>, Error> {
    let found = engine.within(EXISTS_WITHIN, inspect(engine, names.container())).await?;
    Ok(found.map(|container| {
        let configured = container.config.and_then(|config| config.image);
        configured.filter(|image| !image.is_empty()).or(container.image).unwrap_or_default()
    }))
}

/// Makes volume and container; tells the container's id. `environment` takes the place of the
/// payload's.
///
/// # Errors
/// Status 409 when the name is taken, [`Error::Foreign`] when the volume is another tenant's.
pub async fn create(
    engine: &Engine,
    tenant: &str,
    create: &Create,
    environment: Vec<String>,
) -> Result<String, Error> {
    let container = spec::container(create, tenant, environment);
    let name = Some(create.names.container().to_owned());
    let options = Some(CreateContainerOptions { name, ..CreateContainerOptions::default() });
    let work = async {
        ensure_volume(engine, tenant, &create.names).await?;
        engine.call(engine.api().create_container(options, container)).await
    };
    Ok(engine.within(CREATE_WITHIN, work).await?.id)
}

/// Starts the container.
///
/// # Errors
/// Status 404 when there is none.
pub async fn start(engine: &Engine, tenant: &str, names: &Names) -> Result<Changed, Error> {
    let options = None::<StartContainerOptions>;
    let start = engine.call(engine.api().start_container(names.container(), options));
    change(engine, tenant, names, start).await
}

/// Stops the container, with Docker's own grace of ten seconds.
///
/// # Errors
/// Status 404 when there is none.
pub async fn stop(engine: &Engine, tenant: &str, names: &Names) -> Result<Changed, Error> {
    let options = None::<StopContainerOptions>;
    let stop = engine.call(engine.api().stop_container(names.container(), options));
    change(engine, tenant, names, stop).await
}

/// Looks at the container time and again until it runs, cannot run any more, or the time is
/// up. Drop the future to stop.
///
/// # Errors
/// An engine that cannot be asked.
pub async fn wait_for_start(
    engine: &Engine,
    names: &Names,
    patience: Patience,
) -> Result<Waited, Error> {
    let end = Instant::now() + patience.within;
    let mut last = waiting::unknown();
    for look in 0..patience.looks {
        if look > 0 {
            sleep(patience.every).await;
        }
        let asked = engine.within(EXISTS_WITHIN, inspect(engine, names.container()));
        let Ok(found) = timeout_at(end, asked).await else {
            return Ok(Waited { reason: Some("overall timeout".to_owned()), ..last });
        };
        let Some(container) = found? else { return Ok(waiting::gone()) };
        match waiting::judge(container.state.as_ref()) {
            Look::Over(waited) => return Ok(waited),
            Look::Waiting(waited) => last = waited,
        }
    }
    Ok(Waited { reason: Some("timeout after max tries".to_owned()), ..last })
}

/// Removes the container and, with `remove_data`, the volume; what is gone already is fine.
///
/// # Errors
/// Status 409 when the volume is in use, [`Error::Foreign`] when one of them is another tenant's.
pub async fn remove(
    engine: &Engine,
    tenant: &str,
    names: &Names,
    remove_data: bool,
) -> Result<(), Error> {
    let work = async {
        if let Some(container) = inspect(engine, names.container()).await? {
            check_owner(&container, tenant, names)?;
            let options =
                RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
            let removed = engine.api().remove_container(names.container(), Some(options));
            // 409: somebody else is removing it at this moment.
            unless(&[404, 409], engine.call(removed).await)?;
        }
        if remove_data && own_volume(engine, tenant, names).await? {
            let options = None::<RemoveVolumeOptions>;
            let removed = engine.api().remove_volume(names.volume(), options);
            unless(&[404], engine.call(removed).await)?;
        }
        Ok(())
    };
    engine.within(CHANGE_WITHIN, work).await
}

/// Whether a container belongs to another tenant; one that does not exist belongs to nobody.
///
/// # Errors
/// What kept the engine from saying so.
pub async fn is_foreign_container(
    engine: &Engine,
    tenant: &str,
    container: &str,
) -> Result<bool, Error> {
    let found = engine.within(EXISTS_WITHIN, inspect(engine, container)).await?;
    Ok(found.is_some_and(|container| is_foreign(labels(&container), tenant)))
}

/// The container, or `None` when there is none of that name.
pub(super) async fn inspect(
    engine: &Engine,
    container: &str,
) -> Result<Option<ContainerInspectResponse>, Error> {
    let options = None::<InspectContainerOptions>;
    unless(&[404], engine.call(engine.api().inspect_container(container, options)).await)
}

/// The container of this tenant.
///
/// # Errors
/// Status 404 when there is none, [`Error::Foreign`] when it is another tenant's.
pub(super) async fn owned(
    engine: &Engine,
    tenant: &str,
    names: &Names,
) -> Result<ContainerInspectResponse, Error> {
    let container = inspect(engine, names.container()).await?.ok_or_else(|| Error::Refused {
        port: engine.port(),
        status: 404,
        message: format!("no such container: {names}"),
    })?;
    check_owner(&container, tenant, names)?;
    Ok(container)
}

async fn change(
    engine: &Engine,
    tenant: &str,
    names: &Names,
    call: impl Future<Output = Result<(), Error>>,
) -> Result<Changed, Error> {
    let work = async {
        owned(engine, tenant, names).await?;
        Ok(unless(&[304], call.await)?.map_or(Changed::Already, |()| Changed::Done))
    };
    engine.within(CHANGE_WITHIN, work).await
}

fn check_owner(
    container: &ContainerInspectResponse,
    tenant: &str,
    names: &Names,
) -> Result<(), Error> {
    check_labels(labels(container), tenant, names.container())
}

fn labels(container: &ContainerInspectResponse) -> Option<&Labels> {
    container.config.as_ref()?.labels.as_ref()
}

fn check_labels(labels: Option<&Labels>, tenant: &str, name: &str) -> Result<(), Error> {
    if is_foreign(labels, tenant) {
        return Err(Error::Foreign { name: name.to_owned() });
    }
    Ok(())
}

async fn ensure_volume(engine: &Engine, tenant: &str, names: &Names) -> Result<(), Error> {
    if !own_volume(engine, tenant, names).await? {
        engine.call(engine.api().create_volume(spec::volume(names, tenant))).await?;
    }
    Ok(())
}

/// Whether the volume exists.
async fn own_volume(engine: &Engine, tenant: &str, names: &Names) -> Result<bool, Error> {
    let inspected = engine.call(engine.api().inspect_volume(names.volume())).await;
    let Some(volume) = unless(&[404], inspected)? else { return Ok(false) };
    check_labels(Some(&volume.labels), tenant, names.volume())?;
    Ok(true)
}

/// `None` when the engine answered one of these statuses.
pub(super) fn unless<T>(statuses: &[u16], answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.status().is_some_and(|status| statuses.contains(&status)) => Ok(None),
        Err(error) => Err(error),
    }
}
