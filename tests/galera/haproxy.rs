//! What the front is measured beside: HAProxy with `mysql-check`, as it is usually set up, with
//! the same pace of checks.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::cluster::Galera;

pub(crate) struct HaProxy(Child);

impl HaProxy {
    pub(crate) fn start(galera: &Galera, listen: SocketAddr, dir: &Path) -> Self {
        let mut text = format!(
            "global\n  maxconn 2000\ndefaults\n  mode tcp\n  timeout connect 1s\n\
             \x20 timeout client 9h\n  timeout server 9h\n  option redispatch\n\
             listen galera\n  bind {listen}\n  option mysql-check user haproxy\n\
             \x20 default-server inter 500ms fall 2 rise 2 on-marked-down shutdown-sessions\n"
        );
        for (index, node) in galera.nodes.iter().enumerate() {
            let backup = if index > 0 { " backup" } else { "" };
            writeln!(text, "  server {} {} check{backup}", node.name, node.address()).unwrap();
        }
        let config = dir.join("haproxy.cfg");
        std::fs::write(&config, text).unwrap();
        let mut command = galera.balancer.command("haproxy");
        command.args(["-db", "-f"]).arg(config);
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap())
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
