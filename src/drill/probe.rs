//! Asks an address again and again while something is done to it: a TCP connection, or an HTTP
//! request, every few milliseconds, each on a connection of its own and with a deadline.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::timeline::Sample;

/// A probe that is not answered for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Most probes under way; further ones are left out, as when the machine is too slow.
const MOST: usize = 128;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Whether a connection is accepted.
    Tcp(SocketAddr),
    /// Whether an HTTP request gets an answer below 500.
    Http(http::Uri),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected http://HOST[:PORT]/PATH or tcp://IP:PORT";
        if let Some(address) = text.strip_prefix("tcp://") {
            return address.parse().map(Self::Tcp).map_err(|_| expected.to_owned());
        }
        let uri: http::Uri = text.parse().map_err(|_| expected.to_owned())?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(_)) => Ok(Self::Http(uri)),
            (Some("https"), _) => Err(format!("{expected}; https is not spoken")),
            _ => Err(expected.to_owned()),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Http(uri) => write!(f, "{uri}"),
        }
    }
}

/// A running train of probes; it ends with the value.
pub(super) struct Probe {
    samples: Arc<Mutex<Vec<Sample>>>,
    _train: JoinSet<()>,
}

impl Probe {
    /// Begins. Call it within a runtime.
    pub(super) fn start(target: Target, every: Duration) -> Self {
        let samples = Arc::<Mutex<Vec<Sample>>>::default();
        let mut train = JoinSet::new();
        train.spawn(send(target, every, Arc::clone(&samples)));
        Self { samples, _train: train }
    }

    /// Every probe that has ended.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn send(target: Target, every: Duration, samples: Arc<Mutex<Vec<Sample>>>) {
    let places = Arc::new(Semaphore::new(MOST));
    let mut probes = JoinSet::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        while probes.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (target, samples) = (target.clone(), Arc::clone(&samples));
        probes.spawn(async move {
            let sent = Instant::now();
            let is_answered = timeout(PATIENCE, ask(&target)).await.unwrap_or(false);
            let answered = is_answered.then(Instant::now);
            drop(place);
            let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push(Sample { sent, answered });
        });
    }
}

async fn ask(target: &Target) -> bool {
    match target {
        Target::Tcp(address) => TcpStream::connect(address).await.is_ok(),
        Target::Http(uri) => get(uri).await.is_some_and(|status| status < 500),
    }
}

async fn get(uri: &http::Uri) -> Option<u16> {
    let (host, port) = (uri.host()?, uri.port_u16().unwrap_or(80));
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.ok()?;
    let ask = async {
        let path = uri.path_and_query().map_or("/", |both| both.as_str());
        let request = Request::get(path)
            .header(HOST, uri.authority()?.as_str())
            .body(Empty::<bytes::Bytes>::new())
            .ok()?;
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status().as_u16();
        answer.into_body().collect().await.ok()?;
        Some(status)
    };
    let mut ask = std::pin::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        // The answer may have come whole before the connection ended.
        _ = connection => timeout(Duration::ZERO, ask).await.ok().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_probed() {
        for (text, ok) in [
            ("http://10.0.0.100:8780/exapps/x/", true),
            ("http://cloud.example.org/", true),
            ("tcp://10.0.0.100:8780", true),
            ("tcp://[2001:db8::1]:80", true),
            ("tcp://10.0.0.100", false),
            ("https://cloud.example.org/", false),
            ("10.0.0.100", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<Target>().is_ok(), ok, "{text}");
        }
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        assert!(ask(&target).await);
        drop(listener);
        assert!(!ask(&target).await);
    }
}
