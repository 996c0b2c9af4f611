//! Who is who in the lab, and the files its programs read: node configurations, the shared key,
//! frpc's configuration. Everything lies below one private directory.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::namespaces::INTERFACE;
use super::{Error, Options};

/// The virtual IP.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The stand-in Nextcloud.
pub(super) const NEXTCLOUD: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 20);
pub(super) const NEXTCLOUD_PORT: u16 = 8080;
/// The web nodes of `--web`.
pub(super) const WEB_NODES: [(&str, Ipv4Addr); 3] = [
    ("web1", Ipv4Addr::new(10, 77, 0, 21)),
    ("web2", Ipv4Addr::new(10, 77, 0, 22)),
    ("web3", Ipv4Addr::new(10, 77, 0, 23)),
];
/// The nodes of the database of `--galera`.
pub(super) const DATABASES: [(&str, Ipv4Addr); 3] = [
    ("db1", Ipv4Addr::new(10, 77, 0, 31)),
    ("db2", Ipv4Addr::new(10, 77, 0, 32)),
    ("db3", Ipv4Addr::new(10, 77, 0, 33)),
];
pub(super) const DATABASE_PORT: u16 = 3306;
/// The database user who asks the nodes how they are.
pub(super) const MONITOR: &str = "monitor";
/// The machine with the ExApp and its tunnel client.
pub(super) const APP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 30);
/// The machine of the visitors.
pub(super) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// Where `/exapps/` is served.
pub(super) const EXAPPS_PORT: u16 = 8780;
pub(super) const FRP_PORT: u16 = 8782;
/// The ExApp's id, the name of its proxy, and its remote port.
pub(super) const APP_ID: &str = "labapp";
pub(super) const APP_PORT: u16 = 23_000;
/// Name of the cluster.
pub(super) const CLUSTER: &str = "lab";
/// Where its members meet.
pub(super) const CLUSTER_PORT: u16 = 7443;

/// One trigon of the lab.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) address: Ipv4Addr,
    /// `None` for the witness, which speaks no VRRP.
    priority: Option<u8>,
}

/// Node a, preferred for the address.
pub(super) const A: Member =
    Member { name: "a", address: Ipv4Addr::new(10, 77, 0, 11), priority: Some(254) };
/// Node b.
pub(super) const B: Member =
    Member { name: "b", address: Ipv4Addr::new(10, 77, 0, 12), priority: Some(253) };
/// The voter without an address.
pub(super) const WITNESS: Member =
    Member { name: "witness", address: Ipv4Addr::new(10, 77, 0, 13), priority: None };

impl Member {
    /// What it is for, as `trigon` spells it.
    pub(super) fn role(self) -> &'static str {
        if self.priority.is_some() { "node" } else { "witness" }
    }
}

/// The lab's files.
pub(super) struct Files {
    root: PathBuf,
    key: String,
    options: Options,
}

impl Files {
    /// Makes the shared key; `root` is an empty private directory.
    pub(super) fn new(root: &Path, options: &Options) -> Result<Self, Error> {
        let files = Self { root: root.to_owned(), key: random_key(), options: options.clone() };
        files.write(&files.key_file(), &files.key)?;
        Ok(files)
    }

    /// The key shared by Nextcloud, the nodes and the tunnel client, and the password of the
    /// database.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The directory of one machine.
    pub(super) fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where a node exports what a tunnel client needs for TLS.
    pub(super) fn frp_certificates(&self, member: Member) -> PathBuf {
        self.directory(member.name).join("state/frp")
    }

    /// The ExApp's unix socket.
    pub(super) fn exapp_socket(&self) -> PathBuf {
        self.directory("app").join("exapp.sock")
    }

    /// Makes the directory of one machine.
    pub(super) fn make_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory(name);
        fs::create_dir_all(&path).map_err(|reason| Error::File {
            path: path.clone(),
            what: "could not be made",
            reason,
        })?;
        Ok(path)
    }

    /// Writes everything a member starts with and returns the path of its configuration.
    pub(super) fn write_member(&self, member: Member) -> Result<PathBuf, Error> {
        let directory = self.make_directory(member.name)?;
        let config = directory.join("trigon.toml");
        self.write(&config, &self.member_config(member, &directory))?;
        Ok(config)
    }

    /// Writes frpc's configuration and returns its path. Certificates come from node a's export;
    /// they are replicated, so node b's are the same.
    pub(super) fn write_frpc(&self) -> Result<PathBuf, Error> {
        let config = self.make_directory("app")?.join("frpc.toml");
        self.write(&config, &self.frpc_config())?;
        Ok(config)
    }

    fn key_file(&self) -> PathBuf {
        self.root.join("shared.key")
    }

    fn member_config(&self, member: Member, directory: &Path) -> String {
        let mut text = format!(
            r#"[node]
name = "{name}"
role = "{role}"
state_dir = {state}
admin_socket = {admin}

[log]
level = "info"
format = "text"

[cluster]
listen = "{address}:{CLUSTER_PORT}"
"#,
            name = member.name,
            role = member.role(),
            address = member.address,
            state = quoted(&directory.join("state")),
            admin = quoted(&directory.join("admin.sock")),
        );
        if let Some(priority) = member.priority {
            text += &format!(
                r#"
[nextcloud]
url = "http://{NEXTCLOUD}:{NEXTCLOUD_PORT}"

[exapps]
listen = "0.0.0.0:{EXAPPS_PORT}"
shared_key_file = {key_file}
trusted_proxies = []
session_lifetime = "3s"
ban_count = 10
ban_window = "300s"

[frp]
listen = "0.0.0.0:{FRP_PORT}"
tls = true
tunnel_wait = "5s"

[[vrrp]]
interface = "{INTERFACE}"
vrid = 51
priority = {priority}
advert_interval = "{interval}ms"
preempt = {preempt}
addresses = ["{VIP}"]
"#,
                key_file = quoted(&self.key_file()),
                interval = self.options.advert_interval,
                preempt = self.options.fault.preempts(),
            );
            text += &self.appliance_config();
        }
        text
    }

    /// What else stands behind the nodes.
    fn appliance_config(&self) -> String {
        let mut text = String::new();
        if self.options.web {
            for (name, address) in WEB_NODES {
                text += &format!(
                    "\n[[web.backends]]\nname = \"{name}\"\naddress = \"{address}:{NEXTCLOUD_PORT}\"\n"
                );
            }
        }
        if self.options.galera {
            text += &format!(
                "\n[galera]\nlisten = \"0.0.0.0:{DATABASE_PORT}\"\nuser = \"{MONITOR}\"\n\
                 password_file = {}\n",
                quoted(&self.key_file())
            );
            for (name, address) in DATABASES {
                text += &format!(
                    "\n[[galera.nodes]]\nname = \"{name}\"\naddress = \"{address}:{DATABASE_PORT}\"\n"
                );
            }
        }
        text
    }

    /// As the start script of a stock ExApp writes it.
    fn frpc_config(&self) -> String {
        let certificates = self.frp_certificates(A);
        format!(
            r#"serverAddr = "{VIP}"
serverPort = {FRP_PORT}
loginFailExit = false
metadatas.token = "{key}"

[transport.tls]
enable = true
certFile = {certificate}
keyFile = {certificate_key}
trustedCaFile = {ca}
serverName = "harp.nc"

[[proxies]]
name = "{APP_ID}"
type = "tcp"
remotePort = {APP_PORT}

[proxies.plugin]
type = "unix_domain_socket"
unixPath = {socket}
"#,
            key = self.key,
            certificate = quoted(&certificates.join("client.crt")),
            certificate_key = quoted(&certificates.join("client.key")),
            ca = quoted(&certificates.join("ca.crt")),
            socket = quoted(&self.exapp_socket()),
        )
    }

    /// Every file may hold a key or name one: readable by its owner only.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|reason| Error::File {
            path: path.to_owned(),
            what: "could not be written",
            reason,
        })
    }
}

/// A TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn random_key() -> String {
    let mut bytes = [0u8; 16];
    // The system's generator only fails before it was ever seeded; a lab's key may then be weak.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Fault;
    use std::os::unix::fs::PermissionsExt;

    fn options() -> Options {
        Options {
            fault: Fault::Kill,
            rounds: 1,
            advert_interval: 30,
            soak: None,
            rate: 1000,
            frpc: None,
            pair: false,
            web: false,
            galera: false,
            keep: false,
            json: false,
        }
    }

    fn files(root: &Path) -> Files {
        Files::new(root, &options()).unwrap()
    }

    fn table(path: &Path) -> toml::Table {
        fs::read_to_string(path).unwrap().parse().unwrap()
    }

    #[test]
    fn a_node_gets_every_section_and_a_witness_only_three() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        let node = table(&files.write_member(A).unwrap());
        let mut sections: Vec<&String> = node.keys().collect();
        sections.sort();
        assert_eq!(sections, ["cluster", "exapps", "frp", "log", "nextcloud", "node", "vrrp"]);
        assert_eq!(node["vrrp"][0]["advert_interval"].as_str(), Some("30ms"));
        assert_eq!(node["cluster"]["listen"].as_str(), Some("10.77.0.11:7443"));
        let witness = table(&files.write_member(WITNESS).unwrap());
        let mut sections: Vec<&String> = witness.keys().collect();
        sections.sort();
        assert_eq!(sections, ["cluster", "log", "node"]);
        assert_eq!(witness["node"]["role"].as_str(), Some("witness"));
    }

    #[test]
    fn a_node_knows_the_web_nodes_and_databases_that_are_wanted() {
        for (web, galera) in [(true, false), (false, true), (true, true)] {
            let root = tempfile::tempdir().unwrap();
            let files = Files::new(root.path(), &Options { web, galera, ..options() }).unwrap();
            let node = table(&files.write_member(A).unwrap());
            let addresses = |section: &str, list: &str| {
                let all = node.get(section)?[list].as_array()?;
                all.iter().map(|one| one["address"].as_str()).collect::<Option<Vec<_>>>()
            };
            let at = |all: [&'static str; 3]| Some(Vec::from(all));
            let web_nodes = at(["10.77.0.21:8080", "10.77.0.22:8080", "10.77.0.23:8080"]);
            assert_eq!(addresses("web", "backends"), web_nodes.filter(|_| web));
            let databases = at(["10.77.0.31:3306", "10.77.0.32:3306", "10.77.0.33:3306"]);
            assert_eq!(addresses("galera", "nodes"), databases.filter(|_| galera));
            let witness = table(&files.write_member(WITNESS).unwrap());
            assert!(!witness.contains_key("web") && !witness.contains_key("galera"));
        }
    }

    #[test]
    fn files_with_keys_are_their_owners_alone() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        let config = files.write_member(B).unwrap();
        for path in [config, files.key_file()] {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn frpc_gets_the_key_and_the_exported_certificates() {
        let root = tempfile::tempdir().unwrap();
        let files = files(root.path());
        let config = table(&files.write_frpc().unwrap());
        assert_eq!(config["metadatas"]["token"].as_str(), Some(files.key()));
        assert_eq!(config["proxies"][0]["remotePort"].as_integer(), Some(23_000));
        let ca = config["transport"]["tls"]["trustedCaFile"].as_str().unwrap();
        assert!(ca.ends_with("/a/state/frp/ca.crt"), "{ca}");
    }
}
