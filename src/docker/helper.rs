//! A short-lived container of the ExApp's own image that rebuilds its trust store.
//!
//! HaRP starts the ExApp itself for that and stops it again, which takes ten seconds and fails
//! where the ExApp cannot start yet (HaRP issue 67). The helper runs one program of the image, as
//! root, without network and mounts, and is removed whatever comes of it.

use std::time::Duration;

use bollard::errors::Error as Cause;
use bollard::models::{ContainerCreateBody, HealthConfig, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, RemoveContainerOptions, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;

use super::containers::unless;
use super::engine::Engine;
use super::error::Error;
use super::files;
use super::names::Names;
use super::owner::labels;
use super::trust::TrustStore;

/// Nextcloud's bundle holds some 140 authorities; on a busy machine with slow storage the program
/// was seen to take half a minute for them.
const REBUILD_WITHIN: Duration = Duration::from_secs(75);
const REMOVE_WITHIN: Duration = Duration::from_secs(10);

/// Label of helpers; its value says what for.
const HELPER: &str = "io.trigon.helper";

/// Why there is no rebuilt store.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    /// The engine did not do its part, which is also what happens when the image lacks the program.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The program failed.
    #[error("{program} ended with exit code {code}")]
    Failed { program: &'static str, code: i64 },
}

/// Runs the store's program over `anchors` in a container of `image`, and returns the folder it
/// wrote as an archive. Bounded in time; the helper is gone afterwards.
pub(super) async fn rebuild(
    engine: &Engine,
    tenant: &str,
    names: &Names,
    image: &str,
    store: &'static TrustStore,
    anchors: &[u8],
) -> Result<Vec<u8>, HelperError> {
    let helper = format!("trigon_certs_{names}");
    // One may be left over from a node that died in the middle of this.
    remove(engine, &helper).await?;
    let work = async { Ok(run(engine, tenant, names, image, store, anchors, &helper).await) };
    let rebuilt = engine.within(REBUILD_WITHIN, work).await;
    if let Err(error) = remove(engine, &helper).await {
        tracing::warn!(container = helper, %error, "a helper container was left behind");
    }
    rebuilt?
}

async fn run(
    engine: &Engine,
    tenant: &str,
    names: &Names,
    image: &str,
    store: &'static TrustStore,
    anchors: &[u8],
    helper: &str,
) -> Result<Vec<u8>, HelperError> {
    let mut labels = labels(tenant, names.app());
    labels.insert(HELPER.to_owned(), "certificates".to_owned());
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(store.rebuild.iter().map(ToString::to_string).collect()),
        user: Some("0".to_owned()),
        labels: Some(labels),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions { name: Some(helper.to_owned()), ..Default::default() };
    engine.call(engine.api().create_container(Some(options), body)).await?;
    files::put(engine, helper, "/", anchors.to_vec()).await?;
    let start = engine.api().start_container(helper, None::<StartContainerOptions>);
    engine.call(start).await?;
    let code = exit_code(engine, helper).await?;
    if code != 0 {
        let program = store.rebuild.first().copied().unwrap_or_default();
        return Err(HelperError::Failed { program, code });
    }
    Ok(files::folder(engine, helper, store.folder).await?)
}

async fn exit_code(engine: &Engine, helper: &str) -> Result<i64, Error> {
    let options = WaitContainerOptions { condition: "not-running".to_owned() };
    let mut ends = Box::pin(engine.api().wait_container(helper, Some(options)));
    let answer = match ends.next().await {
        Some(Ok(end)) => Ok(end.status_code),
        Some(Err(Cause::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(cause)) => Err(cause),
        None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
    };
    engine.call(async { answer }).await
}

async fn remove(engine: &Engine, helper: &str) -> Result<(), Error> {
    // Volumes the image declares were made for the helper alone.
    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    let remove = engine.call(engine.api().remove_container(helper, Some(options)));
    engine.within(REMOVE_WITHIN, async { unless(&[404, 409], remove.await) }).await?;
    Ok(())
}
