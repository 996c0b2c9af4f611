//! Two nodes and a witness as processes on loopback.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use trigon::admin;
use trigon::admin::Status;
use trigon::lab::nextcloud::{Directory, Nextcloud};
use trigon::secret::Secret;

use crate::support::node::KEY;
use crate::support::{eventually, free_port};

/// The cluster; members are numbered 1, 2 (nodes) and 3 (witness).
pub(crate) struct Trio {
    pub(crate) nextcloud: Nextcloud,
    dir: TempDir,
    http: [SocketAddr; 2],
    control: [SocketAddr; 3],
    processes: [Option<Child>; 3],
    task: JoinHandle<()>,
}

impl Trio {
    /// Starts all three and waits until both nodes can serve.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nextcloud = Nextcloud::new(Directory::new(Secret::new(KEY)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stand_in = nextcloud.clone();
        let task = tokio::spawn(async move {
            stand_in.serve(listener).await;
        });
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (http, control) = ([address(), address()], [address(), address(), address()]);
        fs::write(dir.path().join("shared.key"), KEY).unwrap();
        let certs = dir.path().join("certs");
        let made = Command::new(env!("CARGO_BIN_EXE_trigon"))
            .args(["certs", "--nodes", "1,2,3", "--out"])
            .arg(&certs)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let processes = [None, None, None];
        let mut trio = Self { nextcloud, dir, http, control, processes, task };
        for member in [1, 2, 3] {
            fs::write(trio.config(member), trio.text(member, &url)).unwrap();
            trio.launch(member);
        }
        for member in [1, 2] {
            eventually("both nodes are ready", || async {
                trio.status(member).await?.ready.then_some(())
            })
            .await;
        }
        trio
    }

    pub(crate) fn http(&self, member: usize) -> SocketAddr {
        self.http[member - 1]
    }

    pub(crate) fn control(&self, member: usize) -> SocketAddr {
        self.control[member - 1]
    }

    pub(crate) async fn status(&self, member: usize) -> Option<Status> {
        admin::client::status(&self.socket(member)).await.ok()
    }

    pub(crate) fn socket(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("{member}.sock"))
    }

    pub(crate) async fn has_record(&self, member: usize, app: &str) {
        eventually(&format!("member {member} knows {app}"), || async {
            let status = self.status(member).await?;
            status.exapps.iter().any(|id| id == app).then_some(())
        })
        .await;
    }

    /// The node that leads; a witness that leads hands over by itself.
    pub(crate) async fn leader_among_nodes(&self) -> usize {
        eventually("a node leads", || async {
            let leader = usize::try_from(self.status(1).await?.cluster.leader?).ok()?;
            (leader <= 2).then_some(leader)
        })
        .await
    }

    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.processes[member - 1].take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn launch(&mut self, member: usize) {
        let log = File::options().create(true).append(true).open(self.log(member)).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_trigon"))
            .args(["run", "--config"])
            .arg(self.config(member))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes[member - 1] = Some(process);
    }

    fn config(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("{member}.toml"))
    }

    fn log(&self, member: usize) -> PathBuf {
        self.dir.path().join(format!("{member}.log"))
    }

    fn text(&self, member: usize, nextcloud: &str) -> String {
        let dir = self.dir.path().display();
        let role = |id| if id == 3 { "witness" } else { "node" };
        let mut text = format!(
            "[node]\nid = {member}\nrole = \"{}\"\nstate_dir = \"{dir}/state-{member}\"\n\
             admin_socket = \"{dir}/{member}.sock\"\n\
             [cluster]\nlisten = \"{}\"\nca = \"{dir}/certs/ca.crt\"\n\
             certificate = \"{dir}/certs/node-{member}.crt\"\n\
             key = \"{dir}/certs/node-{member}.key\"\n",
            role(member),
            self.control(member),
        );
        for id in [1, 2, 3] {
            text += &format!(
                "[[cluster.members]]\nid = {id}\naddress = \"{}\"\nrole = \"{}\"\n",
                self.control(id),
                role(id),
            );
        }
        if member < 3 {
            text += &format!(
                "[nextcloud]\nurl = \"{nextcloud}\"\n\
                 [exapps]\nlisten = \"{}\"\nshared_key_file = \"{dir}/shared.key\"\n\
                 [frp]\nlisten = \"127.0.0.1:{}\"\n",
                self.http(member),
                free_port(),
            );
        }
        text
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for member in [1, 2, 3] {
            self.kill(member);
        }
        self.task.abort();
        for member in [1, 2, 3] {
            let log = fs::read_to_string(self.log(member)).unwrap_or_default();
            if std::thread::panicking() {
                eprintln!("--- log of member {member}:\n{log}");
            } else {
                assert!(!log.contains("panicked"), "member {member} panicked:\n{log}");
            }
        }
    }
}
