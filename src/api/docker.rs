//! `POST /docker/exapp/…`: AppAPI has an ExApp's container made, started, stopped and removed
//! (contract 3.3). What is done to the engine is in `docker`; here are the calls, their bodies and
//! their statuses.

use std::sync::Arc;

use cluster::record::Tenant;
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::answer;
use crate::docker::containers::{self, Changed, Patience};
use crate::docker::payload::{self, PayloadError};
use crate::docker::{ClientFiles, Engine, Engines, Error, Names, certificates, images};
use crate::http::body::Body;
use crate::observe::metrics::metrics;

/// The certificates an ExApp's frpc logs in with, once there are any.
pub type ClientCertificates = Box<dyn Fn() -> Option<ClientFiles> + Send + Sync>;

/// What the environment of a new container is changed by: the ExApp and its `K=V` lines.
/// An error is told to the caller, and no container is made.
pub type ChangeEnvironment =
    Box<dyn Fn(&Names, &mut Vec<String>) -> Result<(), String> + Send + Sync>;

/// The calls below `/docker/exapp/`.
pub struct Docker {
    tenant: Tenant,
    engines: Engines,
    client_certificates: Arc<ClientCertificates>,
    change_environment: ChangeEnvironment,
}

/// One of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Exists,
    Create,
    Start,
    Stop,
    WaitForStart,
    Remove,
    ImageRemove,
    InstallCertificates,
}

/// Why a call has no success to report.
enum Failure {
    Payload(PayloadError),
    Environment(String),
    Engine(Error),
}

impl Call {
    /// The call of this name, which stands behind `/docker/exapp/`.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "exists" => Self::Exists,
            "create" => Self::Create,
            "start" => Self::Start,
            "stop" => Self::Stop,
            "wait_for_start" => Self::WaitForStart,
            "remove" => Self::Remove,
            "image_remove" => Self::ImageRemove,
            "install_certificates" => Self::InstallCertificates,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Exists => "exists",
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::WaitForStart => "wait_for_start",
            Self::Remove => "remove",
            Self::ImageRemove => "image_remove",
            Self::InstallCertificates => "install_certificates",
        }
    }
}

impl Docker {
    /// The calls of one tenant, over these engines.
    pub fn new(
        tenant: Tenant,
        engines: Engines,
        client_certificates: ClientCertificates,
        change_environment: ChangeEnvironment,
    ) -> Self {
        Self {
            tenant,
            engines,
            client_certificates: Arc::new(client_certificates),
            change_environment,
        }
    }

    /// The engines it calls.
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// Whether there is any engine to call.
    pub(super) fn has_engine(&self) -> bool {
        self.engines.any()
    }

    /// Answers a call for the engine of `port`.
    pub(super) async fn handle(&self, call: Call, port: u16, body: &[u8]) -> Response<Body> {
        let carried_out = self.carry_out(call, port, body).await;
        metrics().docker_called(
            call.name(),
            match &carried_out {
                Ok(_) => "success",
                Err(Failure::Payload(_) | Failure::Environment(_)) => "refused",
                Err(Failure::Engine(_)) => "failure",
            },
        );
        carried_out.unwrap_or_else(|failure| match failure {
            Failure::Payload(error) => {
                answer::text(StatusCode::BAD_REQUEST, format!("400: {error}"))
            }
            Failure::Environment(error) => {
                answer::text(StatusCode::BAD_REQUEST, format!("400: {error}"))
            }
            Failure::Engine(error) => {
                tracing::warn!(?call, port, %error, "a call to a Docker engine failed");
                failed(call, &error)
            }
        })
    }

    /// The body is read before the engine is looked for: a wrong one is told even where no engine
    /// is.
    async fn carry_out(
        &self,
        call: Call,
        port: u16,
        body: &[u8],
    ) -> Result<Response<Body>, Failure> {
        let tenant = self.tenant.as_str();
        let ok = StatusCode::OK;
        match call {
            Call::Exists => {
                let names = payload::exapp(body)?;
                let found = containers::exists(&self.engines.get(port)?, &names).await?;
                Ok(answer::json(
                    ok,
                    &match found {
                        Some(image) => json!({ "exists": true, "image_ref": image }),
                        None => json!({ "exists": false }),
                    },
                ))
            }
            Call::Create => {
                let mut create = payload::create(body)?;
                let mut environment = std::mem::take(&mut create.environment);
                (self.change_environment)(&create.names, &mut environment)
                    .map_err(Failure::Environment)?;
                let engine = self.engines.get(port)?;
                let id = containers::create(&engine, tenant, &create, environment).await?;
                told(&engine, &create.names, "container created");
                let name = create.names.container();
                Ok(answer::json(StatusCode::CREATED, &json!({ "id": id, "name": name })))
            }
            Call::Start => {
                let names = payload::exapp(body)?;
                let engine = self.engines.get(port)?;
                let changed = containers::start(&engine, tenant, &names).await?;
                told(&engine, &names, "container started");
                Ok(changed_to(changed, "Container already started"))
            }
            Call::Stop => {
                let names = payload::exapp(body)?;
                let engine = self.engines.get(port)?;
                let changed = containers::stop(&engine, tenant, &names).await?;
                told(&engine, &names, "container stopped");
                Ok(changed_to(changed, "Container already stopped"))
            }
            Call::WaitForStart => {
                let names = payload::exapp(body)?;
                let engine = self.engines.get(port)?;
                let patience = Patience::default();
                let waited = containers::wait_for_start(&engine, &names, patience).await?;
                Ok(answer::json(ok, &waited))
            }
            Call::Remove => {
                let remove = payload::remove(body)?;
                let engine = self.engines.get(port)?;
                containers::remove(&engine, tenant, &remove.names, remove.remove_data).await?;
                told(&engine, &remove.names, "container removed");
                Ok(answer::nothing())
            }
            Call::ImageRemove => {
                let reference = payload::image_remove(body)?;
                let removed = images::remove(&self.engines.get(port)?, &reference).await?;
                tracing::info!(port, image = reference, deleted = removed.deleted, "image removal");
                Ok(answer::json(ok, &removed))
            }
            Call::InstallCertificates => {
                let wanted = payload::install_certificates(body)?;
                let engine = self.engines.get(port)?;
                let client = (self.client_certificates)();
                let readable_key = self.engines.config().readable_client_key;
                // Goes on when the caller is gone: a helper container has to be removed.
                let tenant = self.tenant.clone();
                let work = tokio::spawn(async move {
                    let (tenant, client) = (tenant.as_str(), client.as_ref());
                    certificates::install(&engine, tenant, &wanted, client, readable_key).await?;
                    told(&engine, &wanted.names, "certificates installed");
                    Ok::<(), Error>(())
                });
                match work.await {
                    Ok(installed) => installed?,
                    Err(broken) => {
                        tracing::error!(%broken, "a certificate install broke");
                        let status = StatusCode::INTERNAL_SERVER_ERROR;
                        return Ok(answer::text(status, "500: the certificate install broke"));
                    }
                }
                Ok(answer::nothing())
            }
        }
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The port in `docker-engine-port`.
pub(super) fn engine_port(headers: &HeaderMap) -> Result<u16, &'static str> {
    let value = headers.get_all("docker-engine-port").iter().next_back();
    let text = value.map(|value| value.as_bytes().trim_ascii()).unwrap_or_default();
    if text.is_empty() {
        return Err("400: the header docker-engine-port is missing: it names the Docker engine");
    }
    let port = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    port.filter(|port| *port != 0)
        .ok_or("400: the header docker-engine-port is not a port from 1 to 65535")
}

fn changed_to(changed: Changed, already: &'static str) -> Response<Body> {
    match changed {
        Changed::Done => answer::nothing(),
        Changed::Already => answer::text(StatusCode::OK, already),
    }
}

/// The statuses AppAPI knows; everything else an engine refuses is 503 (contract 3.3).
fn failed(call: Call, error: &Error) -> Response<Body> {
    let status = match (error, error.status()) {
        (Error::Silent { .. }, _) => StatusCode::GATEWAY_TIMEOUT,
        (Error::Garbled { .. }, _) => StatusCode::BAD_GATEWAY,
        (Error::Foreign { .. }, _) => StatusCode::CONFLICT,
        (_, Some(409)) if matches!(call, Call::Create | Call::Remove) => StatusCode::CONFLICT,
        (_, Some(404)) if call != Call::Create && call != Call::ImageRemove => {
            StatusCode::NOT_FOUND
        }
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    answer::text(status, format!("{}: {error}", status.as_u16()))
}

fn told(engine: &Engine, names: &Names, what: &'static str) {
    tracing::info!(app_id = names.app(), container = %names, port = engine.port(), "{what}");
}
