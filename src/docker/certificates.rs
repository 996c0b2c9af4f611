//! Certificates for an ExApp's container: those frpc logs in with, and the authorities Nextcloud
//! trusts (contract 8.3).
//!
//! HaRP starts the container and runs programs in it. Here the files go in by archive, whether it
//! runs or not, so that AppAPI's `start` is the first one; the trust store is rebuilt in a helper.

use std::time::Duration;

use bollard::models::ContainerInspectResponse;

use super::archive::{Access, Archive};
use super::containers::owned;
use super::engine::Engine;
use super::error::Error;
use super::names::Names;
use super::payload::InstallCertificates;
use super::trust::{OS_RELEASE, TrustStore, certificates};
use super::user::User;
use super::{files, helper};
use crate::secret::Secret;

/// Where frpc looks for its certificates, without the leading slash.
const CLIENT_FOLDER: &str = "certs/frp";

// With those of `helper` at most 165 s, one after the other: AppAPI waits 180 s.
const CLIENT_WITHIN: Duration = Duration::from_secs(20);
const LOOK_WITHIN: Duration = Duration::from_secs(10);
const COPY_WITHIN: Duration = Duration::from_secs(15);

/// What frpc needs to log in, PEM.
#[derive(Clone, Debug)]
pub struct ClientFiles {
    /// `ca.crt`.
    pub ca: String,
    /// `client.crt`.
    pub certificate: String,
    /// `client.key`.
    pub key: Secret,
}

/// Installs what `wanted` names; `client` is missing as long as there are no certificates yet.
/// Takes less than AppAPI's three minutes. Once begun it should be let finish: a helper container may run.
///
/// # Errors
/// Status 404 when there is no container, or what kept the client's files out of it. Trouble with
/// the authorities is only logged, as with HaRP.
pub async fn install(
    engine: &Engine,
    tenant: &str,
    wanted: &InstallCertificates,
    client: Option<&ClientFiles>,
    readable_key: bool,
) -> Result<(), Error> {
    let names = &wanted.names;
    let container = engine.within(LOOK_WITHIN, owned(engine, tenant, names)).await?;
    let installed = match client {
        Some(client) if wanted.install_frp_certs => {
            let work = install_client(engine, &container, names, client, readable_key);
            engine.within(CLIENT_WITHIN, work).await
        }
        None if wanted.install_frp_certs => {
            tracing::warn!(app_id = names.app(), "there are no FRP certificates to install yet");
            Ok(())
        }
        _ => Ok(()),
    };
    if let Some(bundle) = &wanted.system_certs_bundle {
        let added = install_authorities(engine, tenant, &container, names, bundle).await;
        if let Err(error) = added {
            tracing::warn!(app_id = names.app(), %error, "certificate authorities not installed");
        }
    }
    installed
}

async fn install_client(
    engine: &Engine,
    container: &ContainerInspectResponse,
    names: &Names,
    client: &ClientFiles,
    readable_key: bool,
) -> Result<(), Error> {
    let container_name = names.container();
    let key_access = match runs_as(engine, container, container_name).await? {
        Some(User { uid, gid }) if !readable_key => Access { mode: 0o600, uid, gid },
        _ => Access::PUBLIC,
    };
    let archive = files::rooted(engine, container_name, CLIENT_FOLDER).await?;
    let path = |name: &str| format!("{CLIENT_FOLDER}/{name}");
    let archive = archive
        .file(&path("ca.crt"), Access::PUBLIC, client.ca.as_bytes())
        .and_then(|it| it.file(&path("client.crt"), Access::PUBLIC, client.certificate.as_bytes()))
        .and_then(|it| it.file(&path("client.key"), key_access, client.key.expose()));
    files::put(engine, container_name, "/", files::packed(engine, archive)?).await
}

/// The user the container's processes start as; `None` for a name that its `/etc/passwd` lacks.
async fn runs_as(
    engine: &Engine,
    container: &ContainerInspectResponse,
    container_name: &str,
) -> Result<Option<User>, Error> {
    let named = container.config.as_ref().and_then(|config| config.user.as_deref());
    let named = named.unwrap_or_default();
    if let Some(user) = User::numeric(named) {
        return Ok(Some(user));
    }
    let passwd = files::read(engine, container_name, "/etc/passwd").await?;
    Ok(passwd.and_then(|found| User::named(named, &String::from_utf8_lossy(&found.content))))
}

async fn install_authorities(
    engine: &Engine,
    tenant: &str,
    container: &ContainerInspectResponse,
    names: &Names,
    bundle: &str,
) -> Result<(), Error> {
    let certificates = certificates(bundle);
    let Some(store) = engine.within(LOOK_WITHIN, store(engine, names.container())).await? else {
        tracing::info!(app_id = names.app(), "no known trust store in the image: none changed");
        return Ok(());
    };
    if certificates.is_empty() {
        tracing::info!(app_id = names.app(), "no certificate in Nextcloud's bundle");
        return Ok(());
    }
    let anchors = async {
        let archive = files::rooted(engine, names.container(), store.anchors).await?;
        let anchors = files::packed(engine, anchors(archive, store, &certificates))?;
        files::put(engine, names.container(), "/", anchors.clone()).await?;
        Ok(anchors)
    };
    let anchors = engine.within(COPY_WITHIN, anchors).await?;
    let image = container.image.as_deref().unwrap_or_default();
    match helper::rebuild(engine, tenant, names, image, store, &anchors).await {
        Ok(folder) => {
            let copy = files::put(engine, names.container(), store.parent, folder);
            engine.within(COPY_WITHIN, copy).await
        }
        Err(error) => {
            tracing::info!(
                app_id = names.app(),
                %error,
                "the image could not rebuild its trust store: certificates are appended to it"
            );
            let append = append(engine, names.container(), store, &certificates);
            engine.within(COPY_WITHIN, append).await
        }
    }
}

/// How the container's distribution keeps its authorities.
async fn store(engine: &Engine, container: &str) -> Result<Option<&'static TrustStore>, Error> {
    let found = files::read(engine, container, OS_RELEASE).await?;
    Ok(found.and_then(|found| TrustStore::of(&String::from_utf8_lossy(&found.content))))
}

fn anchors(
    archive: Archive,
    store: &TrustStore,
    certificates: &[&str],
) -> std::io::Result<Archive> {
    certificates.iter().enumerate().try_fold(archive, |archive, (index, certificate)| {
        let path = format!("{}/custom_ca_cert_{index}.crt", store.anchors);
        archive.file(&path, Access::PUBLIC, format!("{certificate}\n").as_bytes())
    })
}

/// Adds to the bundle file what it does not hold yet.
async fn append(
    engine: &Engine,
    container: &str,
    store: &TrustStore,
    certificates: &[&str],
) -> Result<(), Error> {
    let found = files::read(engine, container, &format!("/{}", store.bundle)).await?;
    let (path, mut bundle) = match found {
        Some(found) => (found.path, String::from_utf8_lossy(&found.content).into_owned()),
        None => (format!("/{}", store.bundle), String::new()),
    };
    for certificate in certificates {
        if !bundle.contains(certificate) {
            if !bundle.is_empty() && !bundle.ends_with('\n') {
                bundle.push('\n');
            }
            bundle.push_str(certificate);
            bundle.push('\n');
        }
    }
    let path = path.trim_start_matches('/');
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let archive = files::rooted(engine, container, folder).await?;
    let archive = archive.file(path, Access::PUBLIC, bundle.as_bytes());
    files::put(engine, container, "/", files::packed(engine, archive)?).await
}
