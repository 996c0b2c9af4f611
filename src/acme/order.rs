//! One order, from the account to the certificate. Every step is in the shared record before the
//! authority hears of it, so another node may answer for this one, and begin anew should this one
//! be gone.

use std::sync::Arc;
use std::time::Duration;

use cluster::record::{
    Acme, AcmeAccount, AcmeCertificate, AcmeFailure, AcmeOrder, MAX_ACME_REASON, Millis,
};
use cluster::{Command, Handle, Kek, Reply};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount,
    NewOrder, Order, OrderStatus,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::{Instant, sleep};
use x509_parser::pem::parse_x509_pem;

use super::plan::HOLD;
use super::transport::Transport;
use super::{Config, Error};
use crate::secret::Secret;

const PROPOSE_WITHIN: Duration = Duration::from_secs(10);

/// How often the authority is asked how far it is.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Longest wait for the authority to come to an end with challenges, and with the certificate.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the authority says when the account is none of its.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// An order under way, with the record as it was confirmed last.
pub(super) struct Job<'j> {
    pub(super) cluster: &'j Handle,
    pub(super) config: &'j Config,
    pub(super) kek: &'j Kek,
    pub(super) transport: &'j Transport,
    pub(super) record: Acme,
}

impl Job<'_> {
    /// Goes through it. A failure is written into the record, for whoever would be next.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        self.hold(Vec::new()).await?;
        let error = match Box::pin(self.order()).await {
            Ok(()) => return Ok(()),
            Err(error @ (Error::Taken | Error::Unconfirmed(_))) => return Err(error),
            Err(error) => error,
        };
        let mut next = self.record.next();
        let before = next.failure.take().filter(|before| before.names == self.config.names);
        next.failure = Some(AcmeFailure {
            names: self.config.names.clone(),
            at: cluster::clock::now(),
            times: before.map_or(0, |before| before.times).saturating_add(1),
            reason: shortened(error.to_string()),
        });
        next.order = None;
        self.set(next).await?;
        Err(error)
    }

    async fn order(&mut self) -> Result<(), Error> {
        let account = self.account().await?;
        let names: Vec<_> = self.config.names.iter().cloned().map(Identifier::Dns).collect();
        let mut order = match account.new_order(&NewOrder::new(&names)).await {
            Ok(order) => order,
            Err(error) => {
                if matches!(&error, instant_acme::Error::Api(it) if it.r#type.as_deref() == Some(NO_ACCOUNT))
                {
                    let next = Acme { account: None, ..self.record.next() };
                    self.set(next).await?;
                }
                return Err(Error::Authority(error));
            }
        };
        let answers = self.answers(&mut order).await?;
        self.hold(answers).await?;
        ready(&mut order).await?;
        self.until(&mut order, |status| status != OrderStatus::Pending).await?;

        let key = KeyPair::generate().map_err(unusable)?;
        let mut params = CertificateParams::new(self.config.names.clone()).map_err(unusable)?;
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(unusable)?;
        order.finalize_csr(request.der()).await.map_err(Error::Authority)?;
        self.until(&mut order, |status| status == OrderStatus::Valid).await?;
        let pem = order.certificate().await.map_err(Error::Authority)?;
        let pem = pem.ok_or_else(|| Error::Certificate("nothing was issued".to_owned()))?;
        let (from, until) = life(&pem)
            .ok_or_else(|| Error::Certificate("what was issued cannot be read".to_owned()))?;
        let key = self.kek.seal(&key_of(&pem), key.serialize_pem().as_bytes());
        let mut next = self.record.next();
        next.certificate = Some(AcmeCertificate {
            directory: self.config.directory.clone(),
            names: self.config.names.clone(),
            pem,
            key,
            from,
            until,
        });
        (next.order, next.failure) = (None, None);
        self.set(next).await
    }

    /// The cluster's account, made if there is none with this authority.
    async fn account(&mut self) -> Result<Account, Error> {
        let builder = Account::builder_with_http(Box::new(self.transport.clone()));
        if let Some(credentials) = self.credentials() {
            return builder.from_credentials(credentials).await.map_err(Error::Authority);
        }
        let directory = self.config.directory.clone();
        let contact = self.config.contact.as_ref().map(|contact| format!("mailto:{contact}"));
        let contact: Vec<_> = contact.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let made = builder.create(&wanted, directory.clone(), None).await;
        let (account, credentials) = made.map_err(Error::Authority)?;
        let json = serde_json::to_vec(&credentials)
            .map_err(|error| Error::Authority(instant_acme::Error::Json(error)))?;
        let credentials = self.kek.seal(&account_of(&directory), &json);
        let mut next = self.record.next();
        next.account = Some(AcmeAccount { directory, credentials });
        self.set(next).await?;
        Ok(account)
    }

    fn credentials(&self) -> Option<AccountCredentials> {
        let account = self.record.account.as_ref()?;
        if account.directory != self.config.directory {
            return None;
        }
        let json = self.kek.open(&account_of(&account.directory), &account.credentials)?;
        serde_json::from_slice(json.expose()).ok()
    }

    /// What the authority will ask for, of every name it does not know yet to lead here.
    async fn answers(&self, order: &mut Order) -> Result<Vec<(String, String)>, Error> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(Error::Authority)?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(challenge) = authorization.challenge(ChallengeType::Http01) else {
                return Err(Error::NoChallenge(name));
            };
            let answer = challenge.key_authorization().as_str().to_owned();
            answers.push((challenge.token.clone(), answer));
        }
        Ok(answers)
    }

    /// Asks until the order stands as wanted; meanwhile this node goes on seeing to it.
    async fn until(
        &mut self,
        order: &mut Order,
        is_there: impl Fn(OrderStatus) -> bool,
    ) -> Result<(), Error> {
        let (begun, mut held) = (Instant::now(), Instant::now());
        loop {
            let state = order.refresh().await.map_err(Error::Authority)?;
            match state.status {
                OrderStatus::Invalid => return Err(Error::NotValid(why_invalid(order).await)),
                status if is_there(status) => return Ok(()),
                _ if begun.elapsed() > PATIENCE => return Err(Error::TimedOut),
                _ => {}
            }
            if held.elapsed() > Duration::from_millis(HOLD / 3) {
                let answers = self.record.order.as_ref().map(|order| order.answers.clone());
                self.hold(answers.unwrap_or_default()).await?;
                held = Instant::now();
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Says that this node sees to the order, and what the authority will ask for.
    async fn hold(&mut self, answers: Vec<(String, String)>) -> Result<(), Error> {
        let until = cluster::clock::now().saturating_add(HOLD);
        let order = AcmeOrder { node: self.cluster.node_id(), until, answers };
        let next = Acme { order: Some(order), ..self.record.next() };
        self.set(next).await
    }

    async fn set(&mut self, next: Acme) -> Result<(), Error> {
        let command = Command::SetAcme(Box::new(next.clone()));
        match self.cluster.propose(command, PROPOSE_WITHIN).await {
            Ok(Reply::Done) => {
                self.record = next;
                Ok(())
            }
            Ok(_not_the_next) => Err(Error::Taken),
            Err(error) => Err(Error::Unconfirmed(error)),
        }
    }
}

/// Tells the authority that every name may be looked at.
async fn ready(order: &mut Order) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization.map_err(Error::Authority)?;
        if authorization.status == AuthorizationStatus::Pending
            && let Some(mut challenge) = authorization.challenge(ChallengeType::Http01)
        {
            challenge.set_ready().await.map_err(Error::Authority)?;
        }
    }
    Ok(())
}

/// Which name was not accepted, and what the authority says to that.
async fn why_invalid(order: &mut Order) -> String {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        let problem = state.challenges.iter().find_map(|challenge| challenge.error.as_ref());
        if let Some(problem) = problem {
            return format!("{name}: {problem}");
        }
    }
    "the order".to_owned()
}

/// The private key of an issued certificate, PEM; none when it cannot be opened here.
pub(super) fn open_key(kek: &Arc<Kek>, certificate: &AcmeCertificate) -> Option<Secret> {
    let key = kek.open(&key_of(&certificate.pem), &certificate.key)?;
    Some(Secret::new(key.expose()))
}

fn key_of(pem: &str) -> String {
    format!("acme key/{pem}")
}

fn account_of(directory: &str) -> String {
    format!("acme account/{directory}")
}

fn unusable(error: rcgen::Error) -> Error {
    Error::Certificate(error.to_string())
}

fn shortened(mut text: String) -> String {
    let end = (0..=MAX_ACME_REASON.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

/// When the first certificate of a chain begins and ends.
fn life(pem: &str) -> Option<(Millis, Millis)> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let millis = |seconds: i64| Millis::try_from(seconds).ok()?.checked_mul(1000);
    let validity = certificate.validity();
    Some((millis(validity.not_before.timestamp())?, millis(validity.not_after.timestamp())?))
}
