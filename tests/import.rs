//! Coming from HaRP: `trigon import harp` and `--from-env` as real processes, which must mean the
//! same, and tell what they cannot take over.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]
#![expect(clippy::print_stderr, reason = "the log of a failed test is worth reading")]

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::{eventually, free_port, http};
use trigon::config;
use trigon::config::env::{Environment, file};

const KEY: &str = "the key nobody may read";

/// What `docker inspect` shows of a HaRP container that was given five variables: the image's own
/// defaults stand among them.
const INSPECTED: &str = "HP_SHARED_KEY=\"the key nobody may read\"
NC_INSTANCE_URL='https://cloud.example.org/index.php/'
HP_TRUSTED_PROXY_IPS=“10.0.0.0/8”, 192.0.2.7
HP_TIMEOUT_SERVER=900s
HP_FRP_DISABLE_TLS=true
PATH=/usr/local/bin:/usr/bin
HP_EXAPPS_ADDRESS=0.0.0.0:8780
HP_EXAPPS_HTTPS_ADDRESS=0.0.0.0:8781
HP_FRP_ADDRESS=0.0.0.0:8782
HP_LOG_LEVEL=warning
HP_VERBOSE_START=1
HP_SESSION_LIFETIME=3
HP_BLACKLIST_COUNT=10
HP_BLACKLIST_WINDOW=300
HP_TIMEOUT_CONNECT=30s
HP_TIMEOUT_CLIENT=30000
HP_SPOA_ADDRESS=127.0.0.1:9600
";

/// Runs trigon with exactly these variables: exit code and everything it said.
fn trigon(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trigon"));
    let output = command.args(arguments).env_clear().envs(variables.to_vec()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains(KEY) && !said.contains("panicked"), "{said}");
    (output.status.code().unwrap(), said)
}

fn import(dir: &Path, variables: &str) -> (i32, String) {
    let (env_file, out) = (dir.join("harp.env"), dir.join("etc/trigon.toml"));
    std::fs::write(&env_file, variables).unwrap();
    let paths = [&env_file, &out].map(|path| path.to_str().unwrap());
    trigon(&["import", "harp", "--env-file", paths[0], "--out", paths[1]], &[])
}

#[test]
fn the_imported_file_means_the_same_as_the_variables() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = import(dir.path(), INSPECTED);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not taken over: HP_SPOA_ADDRESS: ignored: "), "{said}");

    let out = dir.path().join("etc/trigon.toml");
    let (code, checked) = trigon(&["check", "--config", out.to_str().unwrap()], &[]);
    assert_eq!(code, 0, "{checked}");

    let text = std::fs::read_to_string(&out).unwrap();
    assert!(!text.contains(KEY), "{text}");
    assert!(text.contains("# HP_TIMEOUT_CLIENT\ntimeout_client = \"30s\"\n"), "{text}");
    let key = dir.path().join("etc/shared.key");
    assert_eq!(std::fs::read_to_string(&key).unwrap().trim_end(), KEY);
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let from_file = config::load(&out).unwrap();
    let environment = Environment::new(file::variables(INSPECTED));
    let (from_env, _) = config::from_env::load(&environment, Path::new("/nowhere")).unwrap();
    // `written`, by which a reload tells changed keys, knows where the key came from.
    let meaning = |config: &config::Config| {
        format!("{:?} {:?} {:?} {:?}", config.node, config.log, config.cluster, config.serve)
    };
    assert_eq!(meaning(&from_file), meaning(&from_env));
    let [ours, theirs] = [from_file, from_env].map(|config| config.serve.unwrap().shared_key);
    assert!(ours.matches(KEY.as_bytes()) && theirs.matches(KEY.as_bytes()));
}

#[test]
fn harps_certificates_are_named_where_their_copy_lies() {
    let dir = tempfile::tempdir().unwrap();
    let certs = dir.path().join("harp-certs");
    std::fs::create_dir_all(certs.join("frp")).unwrap();
    std::fs::write(certs.join("frp/ca.crt"), "").unwrap();
    std::fs::write(dir.path().join("harp.env"), INSPECTED).unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (env_file, certs, out) = (path("harp.env"), path("harp-certs"), path("trigon.toml"));
    let import = ["import", "harp", "--env-file", &env_file, "--certs", &certs, "--out", &out];
    let (code, said) = trigon(&import, &[]);
    assert_eq!(code, 0, "{said}");
    let serve = config::load(Path::new(&out)).unwrap().serve.unwrap();
    assert_eq!(serve.frp.certificates_from, Some(dir.path().join("harp-certs/frp")));
    assert!(serve.frontend.tls.is_none());
}

#[test]
fn nothing_is_overwritten_and_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let (code, said) = import(dir.path(), &format!("HP_SHARED_KEY={KEY}\nHP_LOG_LEVEL=loud\n"));
    assert_eq!(code, 2, "{said}");
    for told in ["HP_LOG_LEVEL: found \"loud\"", "NC_INSTANCE_URL: found nothing"] {
        assert!(said.contains(told), "{told}\n{said}");
    }
    assert!(!dir.path().join("etc").exists());

    assert_eq!(import(dir.path(), INSPECTED).0, 0);
    let before = std::fs::read(dir.path().join("etc/trigon.toml")).unwrap();
    assert!(String::from_utf8_lossy(&before).contains("cloud.example.org"));
    let other = "HP_SHARED_KEY=other\nNC_INSTANCE_URL=http://other.example\n";
    let (code, said) = import(dir.path(), other);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("trigon.toml: exists already and is never overwritten"), "{said}");
    assert_eq!(std::fs::read(dir.path().join("etc/trigon.toml")).unwrap(), before);
    std::fs::remove_file(dir.path().join("etc/trigon.toml")).unwrap();
    let (code, said) = import(dir.path(), other);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("shared.key: exists already"), "{said}");
    assert!(!dir.path().join("etc/trigon.toml").exists());
}

#[test]
fn a_key_file_is_named_as_it_is_unless_harp_reads_it_differently() {
    for (content, own) in
        [("the key nobody may read\n", false), ("'the key nobody may read'\n", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("harp.key");
        std::fs::write(&key_file, content).unwrap();
        let variables = format!(
            "NC_INSTANCE_URL=http://cloud.example\nHP_SHARED_KEY_FILE={}\n",
            key_file.display()
        );
        let (code, said) = import(dir.path(), &variables);
        assert_eq!(code, 0, "{said}");
        assert_eq!(dir.path().join("etc/shared.key").exists(), own);
        let serve = config::load(&dir.path().join("etc/trigon.toml")).unwrap().serve.unwrap();
        assert!(serve.shared_key.matches(KEY.as_bytes()));
    }
}

#[test]
fn check_takes_the_variables_or_a_file_and_not_both() {
    let good = [("HP_SHARED_KEY", KEY), ("NC_INSTANCE_URL", "http://cloud.example")];
    let (code, said) = trigon(&["check", "--from-env"], &good);
    assert_eq!((code, said.trim()), (0, "environment: no problem found"));
    let (code, said) = trigon(&["check", "--from-env"], &[("HP_SHARED_KEY", KEY)]);
    assert_eq!(code, 2, "{said}");
    assert!(said.starts_with("trigon: environment: NC_INSTANCE_URL: found nothing, "), "{said}");
    let (code, said) = trigon(&["run", "--from-env", "--config", "x.toml"], &good);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("cannot be used with"), "{said}");
}

/// `trigon run --from-env` on loopback, ended with the value.
struct Running {
    http: SocketAddr,
    process: Child,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let http = local();
        let process = Command::new(env!("CARGO_BIN_EXE_trigon"))
            .args(["run", "--from-env"])
            .env_clear()
            .env("HP_SHARED_KEY", KEY)
            .env("NC_INSTANCE_URL", "http://127.0.0.1:9")
            .env("HP_EXAPPS_ADDRESS", http.to_string())
            .env("HP_FRP_ADDRESS", local().to_string())
            .env("HP_SPOA_ADDRESS", "127.0.0.1:9600")
            .env("TRIGON_STATE_DIR", dir.join("state"))
            .env("TRIGON_ADMIN_SOCKET", dir.join("admin.sock"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { http, process }
    }

    async fn answers(&self) {
        eventually("the heartbeat answers", || async {
            let key = [("harp-shared-key", KEY)];
            let beat = http::get("/exapps/app_api/heartbeat", &key);
            (http::send(self.http, beat).await?.status() == 200).then_some(())
        })
        .await;
    }

    fn stop(&mut self) {
        let id = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// HaRP goes on with the configuration it generated at its first start.
#[tokio::test]
async fn w23_changed_variables_are_in_force_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Running::start(dir.path());
    first.answers().await;
    first.stop();
    let mut second = Running::start(dir.path());
    second.answers().await;
    assert_ne!(first.http, second.http);
    let old = http::get("/exapps/app_api/heartbeat", &[]);
    assert!(http::send(first.http, old).await.is_none(), "nobody listens at the old address");
    second.stop();
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("HP_SPOA_ADDRESS"), "{log}");
    assert!(!log.contains(KEY), "{log}");
}

/// Everything else a configuration needs.
fn base(dir: &Path) -> String {
    let key = dir.join("shared.key");
    std::fs::write(&key, KEY).unwrap();
    format!(
        "[nextcloud]\nurl = 'http://nc.example'\n[exapps]\nshared_key_file = '{}'\n",
        key.display()
    )
}

#[test]
fn a_keepalived_conf_becomes_sections_that_check_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/keepalived/keepalived.conf");
    let out = path("vrrp.toml");
    let import = ["import", "keepalived", sample, "--config-id", "lb1", "--out", &out];
    let (code, said) = trigon(&import, &[]);
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("keepalived.conf: line 18: `include`: the file is not followed"),
        "{said}"
    );
    assert!(!said.contains("s3cr"), "{said}");

    let password = dir.path().join("vrrp-LEGACY.password");
    assert_eq!(std::fs::read_to_string(&password).unwrap(), "s3cr#t-a\n");
    assert_eq!(password.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let config = path("trigon.toml");
    let text = base(dir.path()) + &std::fs::read_to_string(&out).unwrap();
    std::fs::write(&config, text).unwrap();
    let (code, checked) = trigon(&["check", "--config", &config], &[]);
    assert_eq!(code, 0, "{checked}");
    // Traps are told, and are no problem.
    assert!(checked.contains("note: ") && checked.contains("51 is what routers and"), "{checked}");
    assert!(checked.contains("trackers can lower it from 150 to"), "{checked}");

    let (code, said) = trigon(&import, &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("exists already"), "{said}");
}

#[test]
fn a_file_without_a_virtual_router_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keepalived.conf");
    std::fs::write(&file, "vrrp_instance V {\n priority 1\n}\n").unwrap();
    let (code, said) = trigon(&["import", "keepalived", file.to_str().unwrap()], &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("line 1: `vrrp_instance`: V lacks virtual_router_id"), "{said}");
    assert!(said.contains("no usable vrrp_instance"), "{said}");
}
