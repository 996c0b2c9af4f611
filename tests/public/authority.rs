//! pebble, the test server of Let's Encrypt, and the names it asks for.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::vips::CLOUD;

const DNS_PORT: u16 = 5353;

/// Life of its certificates in seconds: renewed after two thirds.
const VALIDITY: u32 = 120;

/// Longest pause before it looks at a name, in seconds; how long it is each time is left to chance.
const HESITATION: &str = "8";

/// The running server. Ends with the value.
pub(crate) struct Authority {
    dir: TempDir,
    process: Child,
    leads_to: Arc<AtomicU32>,
}

impl Authority {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let api = rcgen::generate_simple_self_signed([CLOUD.to_string()]).unwrap();
        std::fs::write(path("api.pem"), api.cert.pem()).unwrap();
        std::fs::write(path("api.key"), api.signing_key.serialize_pem()).unwrap();
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("{CLOUD}:14000"),
            "managementListenAddress": format!("{CLOUD}:15000"),
            "certificate": path("api.pem"),
            "privateKey": path("api.key"),
            "httpPort": 80,
            "tlsPort": 443,
            "keyAlgorithm": "ecdsa",
            "profiles": { "default": { "description": "short", "validityPeriod": VALIDITY } },
        }});
        std::fs::write(path("config.json"), config.to_string()).unwrap();
        let leads_to = Arc::new(AtomicU32::new(Ipv4Addr::LOCALHOST.to_bits()));
        answer_names(Arc::clone(&leads_to));
        let log = File::create(path("log")).unwrap();
        let process = Command::new(binary())
            .arg("-config")
            .arg(path("config.json"))
            .args(["-dnsserver", &format!("{CLOUD}:{DNS_PORT}")])
            .env("PEBBLE_VA_SLEEPTIME", HESITATION)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let authority = Self { dir, process, leads_to };
        let limit = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((CLOUD, 14000)).is_err() {
            assert!(Instant::now() < limit, "pebble does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let root = authority.dir.path().join("root.pem");
        let fetched = Command::new("curl")
            .args(["-sk", &format!("https://{CLOUD}:15000/roots/0"), "-o"])
            .arg(&root)
            .status();
        assert!(fetched.unwrap().success());
        authority
    }

    /// PEM of what vouches for its API.
    pub(crate) fn api_root(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("api.pem")).unwrap()
    }

    /// PEM file of the root of what it issues.
    pub(crate) fn root_file(&self) -> &'static Path {
        // Lives as long as the test, which is the process.
        Box::leak(self.dir.path().join("root.pem").into_boxed_path())
    }

    /// That root.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        super::certificate(&std::fs::read(self.root_file()).unwrap())
    }

    /// Where every name leads from now on.
    pub(crate) fn name_leads_to(&self, address: Ipv4Addr) {
        self.leads_to.store(address.to_bits(), Ordering::SeqCst);
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            eprintln!("--- pebble:\n{log}");
        }
    }
}

fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/pebble");
    assert!(path.exists(), "{} is missing; tests/run --public builds it", path.display());
    path
}

/// A name server, as little of one as pebble needs: over TCP, every name has the same address.
fn answer_names(leads_to: Arc<AtomicU32>) {
    let listener = TcpListener::bind((CLOUD, DNS_PORT)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let leads_to = Arc::clone(&leads_to);
            std::thread::spawn(move || while answer_name(&stream, &leads_to).is_ok() {});
        }
    });
}

fn answer_name(mut stream: &TcpStream, leads_to: &AtomicU32) -> std::io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut asked)?;
    // Head of 12 bytes, then labels up to an empty one, type and class.
    let mut end = 12;
    while asked[end] != 0 {
        end += usize::from(asked[end]) + 1;
    }
    let question = &asked[12..end + 5];
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let mut answer = asked[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend(leads_to.load(Ordering::SeqCst).to_be_bytes());
    }
    stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes())?;
    stream.write_all(&answer)
}
