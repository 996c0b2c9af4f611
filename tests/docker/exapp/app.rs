//! The app itself: its environment, its volume, its tunnel client, its socket.

use std::fs;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use crate::{http, pages};

const SOCKET: &str = "/tmp/exapp.sock";
const FRPC: &str = "/usr/local/bin/frpc";
const FRPC_CONFIG: &str = "/frpc.toml";
/// Where the server puts the client's certificates.
const CERTIFICATES: &str = "/certs/frp";

/// What AppAPI said about this app.
pub struct App {
    pub id: String,
    pub version: String,
    pub secret: String,
    pub data: PathBuf,
    /// The remote port of the tunnel.
    port: String,
}

impl App {
    /// Reads the variables AppAPI sets.
    pub fn from_environment() -> io::Result<Self> {
        Ok(Self {
            id: variable("APP_ID")?,
            version: variable("APP_VERSION")?,
            secret: variable("APP_SECRET")?,
            data: variable("APP_PERSISTENT_STORAGE")?.into(),
            port: variable("APP_PORT")?,
        })
    }

    /// Serves until the container ends.
    pub fn run(self) -> io::Result<()> {
        self.mark_volume()?;
        match fs::remove_file(SOCKET) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(SOCKET)?;
        let _frpc = self.start_frpc()?;
        println!("{} {} serves on {SOCKET}", self.id, self.version);
        let app = Arc::new(self);
        for stream in listener.incoming() {
            let (stream, app) = (stream?, Arc::clone(&app));
            thread::spawn(move || http::serve(stream, &|request| pages::answer(&app, request)));
        }
        Ok(())
    }

    /// The very first start on a volume leaves a mark there which no later start repeats.
    pub fn first_start(&self) -> io::Result<String> {
        fs::read_to_string(self.data.join("first-start"))
    }

    fn mark_volume(&self) -> io::Result<()> {
        let mark = self.data.join("first-start");
        if mark.exists() {
            return Ok(());
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        fs::write(mark, format!("{} at {} ns", self.version, now.as_nanos()))
    }

    /// Nothing without a shared key: such an app is reached directly.
    fn start_frpc(&self) -> io::Result<Option<Child>> {
        let Ok(key) = variable("HP_SHARED_KEY") else { return Ok(None) };
        let (address, port) = (variable("HP_FRP_ADDRESS")?, variable("HP_FRP_PORT")?);
        let tls = if Path::new(CERTIFICATES).is_dir() {
            format!(
                "transport.tls.certFile = \"{CERTIFICATES}/client.crt\"\n\
                 transport.tls.keyFile = \"{CERTIFICATES}/client.key\"\n\
                 transport.tls.trustedCaFile = \"{CERTIFICATES}/ca.crt\"\n\
                 transport.tls.serverName = \"harp.nc\"\n"
            )
        } else {
            "transport.tls.enable = false\n".to_owned()
        };
        let config = format!(
            "serverAddr = {address}\n\
             serverPort = {port}\n\
             loginFailExit = false\n\
             log.disablePrintColor = true\n\
             {tls}\
             metadatas.token = {key}\n\
             [[proxies]]\n\
             name = {id}\n\
             type = \"tcp\"\n\
             remotePort = {remote}\n\
             [proxies.plugin]\n\
             type = \"unix_domain_socket\"\n\
             unixPath = \"{SOCKET}\"\n",
            address = quoted(&address),
            key = quoted(&key),
            id = quoted(&self.id),
            remote = self.port,
        );
        fs::write(FRPC_CONFIG, config)?;
        Command::new(FRPC).args(["-c", FRPC_CONFIG]).spawn().map(Some)
    }
}

fn variable(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(|error| io::Error::other(format!("{name}: {error}")))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
