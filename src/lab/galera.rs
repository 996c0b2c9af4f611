//! A real MariaDB Galera cluster of three nodes, each a machine of its own: what `[galera]` of the
//! lab's nodes names. Its servers give up root, so their data lies in a directory of its own, which
//! goes with the lab's; they listen in the lab's namespaces only.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use super::Error;
use super::configs::{DATABASE_PORT, DATABASES, Files, MONITOR, VIP};
use super::console::Console;
use super::namespaces::{Host, Lan};
use super::node::{start_logged, tail};
use super::topology::temporary_directory;
use super::transactions::{Access, TABLE, USER};
use crate::database::connection::{Connection, ConnectionError};
use crate::secret::Secret;

/// Where distributions put Galera itself.
const PROVIDERS: [&str; 3] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
];
/// Whom the package has the server run as.
const ACCOUNT: &str = "mysql";
/// How long the nodes may take until they have the same data.
const LIMIT: Duration = Duration::from_secs(120);
/// Rows read at once; an answer is bounded.
const ROWS: usize = 200;
/// `wsrep_local_state` of a node that has everything.
const SYNCED: &str = "4";
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The programs it needs, looked for before anything is built.
pub(super) struct Programs {
    provider: &'static str,
}

impl Programs {
    /// Looks for them.
    ///
    /// # Errors
    /// One is missing.
    pub(super) fn find() -> Result<Self, Error> {
        for missing in ["mariadbd", "mariadb-install-db", "rsync"] {
            let found = Command::new(missing).arg("--help").stdin(Stdio::null()).output();
            if found.is_err() {
                return Err(Error::NoGalera { missing });
            }
        }
        let provider = PROVIDERS.into_iter().find(|path| Path::new(path).exists());
        provider
            .map(|provider| Self { provider })
            .ok_or(Error::NoGalera { missing: "the library libgalera_smm.so" })
    }
}

/// A cluster that runs until dropped.
pub(super) struct Galera {
    servers: Vec<Server>,
    password: Secret,
    /// The number of the next row.
    numbers: Arc<AtomicU64>,
    /// After the servers.
    directory: TempDir,
}

struct Server {
    process: Option<Child>,
    host: Host,
    directory: PathBuf,
    /// Its configuration.
    defaults: PathBuf,
}

impl Galera {
    /// Makes the first node from nothing; the others get everything from it.
    pub(super) async fn start(
        programs: &Programs,
        lan: &Lan,
        files: &Files,
        client: &Host,
        console: &Console,
    ) -> Result<Self, Error> {
        console.progress("making a Galera cluster: db1, db2, db3");
        let mut galera = Self {
            servers: Vec::new(),
            password: Secret::new(files.key()),
            numbers: Arc::new(AtomicU64::new(1)),
            directory: database_directory()?,
        };
        for (name, address) in DATABASES {
            let server = Server::new(
                programs,
                lan,
                files,
                &galera.directory.path().join(name),
                (name, address),
            )
            .await?;
            galera.servers.push(server);
        }
        let [first, others @ ..] = &mut galera.servers[..] else { return Ok(galera) };
        let first_words = files.directory("first.sql");
        files.write(&first_words, &first_sql(files.key()))?;
        first.install(&first_words).await?;
        first.start(&["--wsrep-new-cluster"])?;
        wait_synced(client, std::slice::from_mut(first), 1, files.key()).await?;
        for other in others {
            other.start(&[])?;
        }
        wait_synced(client, &mut galera.servers, 3, files.key()).await?;
        Ok(galera)
    }

    /// Through the virtual address, for those who write.
    pub(super) fn access(&self) -> Access {
        Access {
            address: SocketAddr::from((VIP, DATABASE_PORT)),
            password: self.password.clone(),
            numbers: Arc::clone(&self.numbers),
        }
    }

    /// Fails if a server has ended.
    pub(super) fn check_alive(&mut self) -> Result<(), Error> {
        self.servers.iter_mut().try_for_each(Server::check_alive)
    }

    /// How many of the `committed` rows are not on every node.
    pub(super) async fn missing(
        &self,
        client: &Host,
        committed: BTreeSet<u64>,
    ) -> Result<u64, Error> {
        let password = self.password.clone();
        let count = move || async move {
            let mut everywhere = committed.clone();
            for (_, address) in DATABASES {
                let rows = rows((address, DATABASE_PORT).into(), &password, &committed).await?;
                everywhere.retain(|id| rows.contains(id));
            }
            Ok((committed.len() - everywhere.len()) as u64)
        };
        let counting = client.enter_thread(count).map_err(Error::network("client"))?;
        let unread = |reason| Error::Database { what: "the rows could not be read back", reason };
        match counting.result().await {
            Some(counted) => counted.map_err(|error: ConnectionError| unread(error.to_string())),
            None => Err(unread("the reader ended".into())),
        }
    }

    /// Their machines.
    pub(super) fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.servers.iter().map(|server| &server.host)
    }
}

impl Server {
    async fn new(
        programs: &Programs,
        lan: &Lan,
        files: &Files,
        directory: &Path,
        (name, address): (&str, Ipv4Addr),
    ) -> Result<Self, Error> {
        for part in ["data", "tmp"].map(|part| directory.join(part)) {
            fs::create_dir_all(&part).map_err(|reason| Error::File {
                path: part,
                what: "could not be made",
                reason,
            })?;
        }
        let defaults = directory.join("my.cnf");
        files.write(&defaults, &server_config(programs, name, address, directory))?;
        let host = lan.host(name, address).map_err(Error::network(format!("host {name}")))?;
        let server = Self { process: None, host, directory: directory.to_owned(), defaults };
        let mut chown = server.host.command("chown");
        chown.arg("-R").arg(format!("{ACCOUNT}:")).arg(directory);
        server.carry_out(chown).await?;
        Ok(server)
    }

    fn defaults(&self) -> String {
        format!("--defaults-file={}", self.defaults.display())
    }

    /// Makes a database that has heard the `first_words`.
    async fn install(&self, first_words: &Path) -> Result<(), Error> {
        let mut command = self.host.command("mariadb-install-db");
        command.arg(self.defaults()).arg(format!("--extra-file={}", first_words.display())).args([
            &format!("--user={ACCOUNT}"),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]);
        self.carry_out(command).await
    }

    /// Runs a program on the machine, so that nothing of it outlives the lab.
    async fn carry_out(&self, command: Command) -> Result<(), Error> {
        let mut command = tokio::process::Command::from(command);
        let output = command.kill_on_drop(true).stdin(Stdio::null()).output().await;
        let output = output.map_err(|reason| self.failed("installed", reason))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(self.failed("installed", io::Error::other(said)))
    }

    fn start(&mut self, arguments: &[&str]) -> Result<(), Error> {
        let mut command = self.host.command("mariadbd");
        command.arg(self.defaults()).args(arguments);
        let process = start_logged(command, &self.log());
        self.process = Some(process.map_err(|reason| self.failed("started", reason))?);
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), Error> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Error::Died {
                who: format!("mariadbd on {}", self.host.name()),
                how: status.to_string(),
                logs: self.log_tail(),
            }),
            Err(reason) => Err(self.failed("watched", reason)),
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn log_tail(&self) -> String {
        tail(self.host.name(), &self.log())
    }

    fn failed(&self, what: &'static str, reason: io::Error) -> Error {
        Error::Process { program: format!("MariaDB on {}", self.host.name()), what, reason }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn database_directory() -> Result<TempDir, Error> {
    let directory = temporary_directory("db-")?;
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).map_err(|reason| Error::File {
        path: directory.path().to_owned(),
        what: "could not be opened to the database's account",
        reason,
    })?;
    Ok(directory)
}

/// Waits until all of these have the whole state, in a cluster of `size`.
async fn wait_synced(
    client: &Host,
    servers: &mut [Server],
    size: usize,
    password: &str,
) -> Result<(), Error> {
    let password = Secret::new(password);
    let addresses: Vec<SocketAddr> =
        servers.iter().map(|server| (server.host.address(), DATABASE_PORT).into()).collect();
    let asking = client
        .enter_thread(move || async move {
            for address in addresses {
                while !is_synced(address, &password, size).await {
                    sleep(Duration::from_millis(200)).await;
                }
            }
        })
        .map_err(Error::network("client"))?;
    let end = Instant::now() + LIMIT;
    let mut synced = std::pin::pin!(asking.result());
    loop {
        if timeout(Duration::from_millis(100), &mut synced).await.is_ok() {
            return Ok(());
        }
        servers.iter_mut().try_for_each(Server::check_alive)?;
        if Instant::now() >= end {
            return Err(Error::NotHealthy {
                waited_for: format!("a database of {size} nodes with the same data"),
                seconds: LIMIT.as_secs(),
                logs: servers.iter().map(Server::log_tail).collect(),
            });
        }
    }
}

async fn is_synced(address: SocketAddr, password: &Secret, size: usize) -> bool {
    let asked = async {
        let mut open = Connection::open(address, MONITOR, password).await?;
        open.query(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN \
             ('WSREP_CLUSTER_SIZE', 'WSREP_LOCAL_STATE') ORDER BY VARIABLE_NAME",
        )
        .await
    };
    let Ok(Ok(rows)) = timeout(ASK_LIMIT, asked).await else { return false };
    rows.into_iter().flatten().eq([size.to_string(), SYNCED.to_owned()])
}

/// The rows of a node that are among these, whatever it has still to apply first.
async fn rows(
    node: SocketAddr,
    password: &Secret,
    committed: &BTreeSet<u64>,
) -> Result<BTreeSet<u64>, ConnectionError> {
    let mut found = BTreeSet::new();
    let Some(mut from) = committed.first().copied() else { return Ok(found) };
    let mut open = Connection::open(node, USER, password).await?;
    open.query("SET SESSION wsrep_sync_wait = 1").await?;
    loop {
        let query = format!("SELECT id FROM {TABLE} WHERE id >= {from} ORDER BY id LIMIT {ROWS}");
        let page = open.query(&query).await?;
        let ids = page.iter().flatten().filter_map(|id| id.parse::<u64>().ok());
        found.extend(ids);
        match found.last() {
            Some(last) if page.len() == ROWS => from = last + 1,
            _ => return Ok(found),
        }
    }
}

/// What the first node is told as it is made.
fn first_sql(password: &str) -> String {
    let user = |name| {
        format!(
            "CREATE USER '{name}'@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}');\n"
        )
    };
    let database = TABLE.split('.').next().unwrap_or_default();
    // Users can be made only once the tables of the users are in use.
    let mut text = format!("FLUSH PRIVILEGES;\nCREATE DATABASE {database};\n");
    text += &format!("CREATE TABLE {TABLE} (id BIGINT PRIMARY KEY) ENGINE=InnoDB;\n");
    text += &user(MONITOR);
    text += &user(USER);
    text += &format!("GRANT ALL ON {database}.* TO '{USER}'@'%';\n");
    text
}

fn server_config(programs: &Programs, name: &str, address: Ipv4Addr, directory: &Path) -> String {
    let all = DATABASES.map(|(_, address)| address.to_string()).join(",");
    let (dir, provider) = (directory.display(), programs.provider);
    format!(
        r#"[mariadbd]
user={ACCOUNT}
datadir={dir}/data
tmpdir={dir}/tmp
socket={dir}/socket
pid-file={dir}/pid
bind-address={address}
port={DATABASE_PORT}
skip-name-resolve
performance_schema=OFF
max_connections=300
table_open_cache=200
key_buffer_size=1M
aria_pagecache_buffer_size=1M
innodb_buffer_pool_size=32M
innodb_log_file_size=16M
innodb_flush_log_at_trx_commit=2
innodb_autoinc_lock_mode=2
binlog_format=ROW
default_storage_engine=InnoDB
transaction_isolation=READ-COMMITTED
log_warnings=1
wsrep_on=ON
wsrep_provider={provider}
wsrep_cluster_name=trigon-lab
wsrep_cluster_address=gcomm://{all}
wsrep_node_name={name}
wsrep_node_address={address}
wsrep_node_incoming_address={address}:{DATABASE_PORT}
wsrep_slave_threads=2
wsrep_sst_method=rsync
wsrep_sst_receive_address={address}:4444
wsrep_provider_options="gmcast.listen_addr=tcp://{address}:4567;ist.recv_addr={address}:4568;ist.recv_bind={address}:4568;gcache.size=16M;gcache.page_size=16M"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_listens_on_its_own_machine_only_and_its_file_holds_no_password() {
        let programs = Programs { provider: PROVIDERS[0] };
        let (name, address) = DATABASES[1];
        let text = server_config(&programs, name, address, Path::new("/tmp/lab/db2"));
        for line in [
            "bind-address=10.77.0.32",
            "wsrep_node_name=db2",
            "wsrep_sst_receive_address=10.77.0.32:4444",
            "wsrep_cluster_address=gcomm://10.77.0.31,10.77.0.32,10.77.0.33",
            "datadir=/tmp/lab/db2/data",
            "user=mysql",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
        assert!(text.contains("gmcast.listen_addr=tcp://10.77.0.32:4567;"));
        assert!(!text.contains("0.0.0.0") && !text.contains("password"));
    }

    #[test]
    fn the_database_begins_with_a_table_its_writer_and_a_monitor_without_rights() {
        let text = first_sql("a-key");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FLUSH PRIVILEGES;", "or no user can be made");
        assert!(lines.iter().all(|line| line.ends_with(';')), "one statement a line: {text}");
        assert_eq!(text.matches("IDENTIFIED VIA mysql_native_password").count(), 2);
        let grants: Vec<_> = lines.iter().filter(|line| line.starts_with("GRANT")).collect();
        assert_eq!(grants, [&"GRANT ALL ON lab.* TO 'lab'@'%';"]);
    }
}
