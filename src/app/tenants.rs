//! The Nextclouds a node serves, as the frontend wants them: each with its own calls to Docker
//! engines and its own tunnels.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use cluster::record::Tenant;

use crate::config::{Serve, TenantConfig};
use crate::docker::{ClientFiles, Engines, Names};
use crate::frontend::Served;
use crate::{api, frp, nextcloud};

/// The certificates that frpc in a container logs in with; none until they exist.
pub(super) type ClientCertificates = Arc<ArcSwapOption<frp::pki::InForce>>;

/// The Nextcloud of `[nextcloud]`.
pub(super) fn first(
    serve: &Serve,
    tunnels: &frp::Tunnels,
    certificates: &ClientCertificates,
) -> Result<Served, nextcloud::Error> {
    Ok(Served {
        tenant: Tenant::default(),
        hosts: Vec::new(),
        nextcloud: nextcloud::Client::new(serve.nextcloud.clone())?,
        docker: docker(&Tenant::default(), serve, tunnels, certificates),
        dial: Arc::new(tunnels.clone()),
    })
}

/// One of `[[tenants]]`.
pub(super) fn further(
    one: &TenantConfig,
    serve: &Serve,
    tunnels: &frp::Tunnels,
    certificates: &ClientCertificates,
) -> Result<Served, nextcloud::Error> {
    Ok(Served {
        tenant: one.tenant.clone(),
        hosts: one.hosts.clone(),
        nextcloud: nextcloud::Client::new(one.nextcloud.clone())?,
        docker: docker(&one.tenant, serve, tunnels, certificates),
        dial: Arc::new(tunnels.of(&one.tenant)),
    })
}

/// A tenant's calls to Docker engines: the local one's socket, and whatever tunnel is registered
/// with its key for one.
fn docker(
    tenant: &Tenant,
    serve: &Serve,
    tunnels: &frp::Tunnels,
    certificates: &ClientCertificates,
) -> api::Docker {
    let tunnels = tunnels.of(tenant);
    let dial = Arc::new(tunnels.clone());
    let is_registered = Box::new(move |port| tunnels.is_known(port));
    let ports = serve.frp.engines.clone();
    let engines = Engines::new(serve.docker.clone(), ports, dial, is_registered);
    let certificates = Arc::clone(certificates);
    let client_certificates = Box::new(move || certificates.load().as_deref().map(client_files));
    api::Docker::new(tenant.clone(), engines, client_certificates, environment(tenant, serve))
}

/// What a container installed now is given.
fn client_files(certificates: &frp::pki::InForce) -> ClientFiles {
    let pki = certificates.pki.borrow();
    ClientFiles {
        ca: pki.ca_certificates(),
        certificate: pki.client_certificate().to_owned(),
        key: pki.client_key().clone(),
    }
}

/// What becomes of a new container's variables: the shared key gives way to a token for the
/// ExApp's own tunnel (weakness W3).
fn environment(tenant: &Tenant, serve: &Serve) -> api::docker::ChangeEnvironment {
    if !serve.frp.app_credentials {
        return Box::new(|_app, _variables| Ok(()));
    }
    let (tenant, keys) = (tenant.clone(), serve.guard.keys.clone());
    let credentials = frp::Credentials::new(&keys);
    Box::new(move |app: &Names, variables: &mut Vec<String>| {
        match credentials.replace_key(&keys, &tenant, variables) {
            Ok(None) => Ok(()),
            Ok(Some(credential)) => {
                let port = credential.port;
                tracing::info!(app_id = app.app(), port, "container gets a tunnel token");
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    })
}
