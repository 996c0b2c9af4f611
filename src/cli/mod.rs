//! The command line: one file per subcommand. Everything a command does is below this floor;
//! here is only what is typed, what is printed, and the exit code.

mod ask;
mod backend;
mod backup;
mod bans;
mod certs;
mod check;
mod cluster;
mod doctor;
mod drain;
mod drill;
mod events;
mod exapps;
mod failover;
mod import;
mod init;
mod join;
mod lab;
mod node;
mod pages;
mod place;
mod reload;
mod restore;
mod run;
mod status;
mod token;
mod tunnels;
mod vip_guard;
mod vip_release;
mod vrrp;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config;
use crate::config::env::Note;

/// Exit code for a wrong configuration or wrong arguments.
const USAGE: u8 = 2;

/// Keeps Nextcloud's external apps reachable when a load balancer dies.
#[derive(Debug, Parser)]
#[command(name = "trigon", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node or a witness until it is told to stop.
    Run(Source),
    /// Check a configuration and say everything that is wrong with it.
    Check(Source),
    /// Try every leg from this node's configuration to the ExApps and say which one fails.
    ///
    /// Run it as root on the node itself. Nothing is changed. Exit code 0: no leg failed, 1: one
    /// did, 2: the configuration is wrong.
    Doctor(doctor::Options),
    /// Found a cluster: this machine becomes its first node.
    ///
    /// Works on the state directory of a node that does not run. With the same name again it
    /// changes nothing and succeeds.
    Init(init::Options),
    /// Join a cluster: this machine becomes a member of it.
    ///
    /// Works on the state directory of a node that does not run and was in no cluster. Exit code
    /// 3: the token is not good, 4: the cluster cannot take anybody in now.
    Join(join::Options),
    /// Write the replicated state of the node on this machine into a file.
    Backup(backup::Options),
    /// Begin the cluster again from a backup: this machine becomes its only member.
    ///
    /// Works on the state directory of a node that does not run. The other members have to join
    /// again, with empty state directories.
    Restore(restore::Options),
    /// Leave the cluster: the node on this machine is removed from it and stops.
    Leave(ask::Socket),
    /// Who may join the cluster.
    #[command(subcommand)]
    Token(token::Command),
    /// Who belongs to the cluster.
    #[command(subcommand)]
    Node(node::Command),
    /// How the cluster stands, and what a pair of load balancers is told to do.
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Show the state of the node on this machine.
    ///
    /// With `--check` one line for monitoring, and its codes: 0 OK, 1 WARNING, 2 CRITICAL (also when
    /// no node runs here), 3 UNKNOWN.
    Status(status::Options),
    /// Read the configuration again, as SIGHUP does, and say what that has changed.
    ///
    /// It is checked whole before anything changes; a wrong one changes nothing. Exit code 0: in
    /// force, as far as no restart is needed, 2: the configuration is wrong, 3: no node runs here.
    Reload(ask::Question),
    /// Take the node on this machine out of service, as before work on it.
    ///
    /// Requests in flight end, the virtual addresses go to a peer that is ready, and leadership of
    /// the cluster with them. The node keeps running and holds no address until `trigon undrain` or
    /// a restart; only if no other node can, it takes them again. Refused when no other node is
    /// ready to take over. Exit code 0: drained, 3: no node runs here, 4: refused, 75: drained, but
    /// requests had not ended in time.
    Drain(drain::Options),
    /// Put the node on this machine back into service.
    ///
    /// With `preempt` on and the higher priority it takes its addresses back at once. Succeeds also
    /// when there is nothing to undo.
    Undrain(ask::Socket),
    /// Move virtual addresses to another node; both stay in service.
    ///
    /// Run it on any node. Refused when the other node is not ready. They stay there: the node that
    /// gave them away keeps its priority just below the other's, also with `preempt` on, until it
    /// holds them again, is asked to take them, or restarts. Exit code 0: moved, 3: no node runs
    /// here, 4: refused.
    Failover(failover::Options),
    /// Move a virtual address to the other node and back, and measure what that costs.
    ///
    /// A planned failover on the live cluster, with a probe asking the address all the while. Run it
    /// on any node. Refused when the other node is not ready or the address does not answer before.
    /// The address always ends where it was, also after Ctrl-C. Exit code 0: service came back in
    /// time each way and the address is where it was, 1: not, 3: no node runs here, 4: refused.
    Drill(drill::Options),
    /// What happened lately, anywhere in the cluster: failovers with their outage, leaders, tunnels.
    Events(events::Options),
    /// List, set and lift bans.
    #[command(subcommand)]
    Bans(bans::Command),
    /// What the node on this machine knows about ExApps.
    #[command(subcommand, name = "exapps")]
    ExApps(exapps::Command),
    /// The tunnels the node on this machine knows.
    #[command(subcommand)]
    Tunnels(tunnels::Command),
    /// The servers behind this node: Nextcloud's web nodes and those of the database.
    #[command(subcommand)]
    Backend(backend::Command),
    /// Every virtual router of the node on this machine: state, priority, peers, alarms.
    Vrrp(ask::Question),
    /// Remove the configured virtual addresses from this machine.
    ///
    /// For the service manager, after the process has ended in whatever way (systemd:
    /// `ExecStopPost=`). Harmless when there is nothing to remove.
    VipRelease(ConfigFile),
    /// Ends in order what a killed node leaves behind; `trigon run` starts it.
    #[command(hide = true)]
    VipGuard(vip_guard::Options),
    /// The certificates of the tunnel port: when they end, and new ones.
    #[command(subcommand)]
    Certs(certs::Command),
    /// Write a configuration from another program's.
    Import(import::Options),
    /// Build a whole cluster on this machine, inject a fault, and measure.
    Lab(crate::lab::Options),
    /// Print what makes a shell complete this command line.
    Completions(pages::Completions),
    /// Write a man page for every command into a directory.
    #[command(hide = true)]
    Man(pages::Man),
}

/// Which configuration.
#[derive(Clone, Debug, clap::Args)]
struct ConfigFile {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/trigon/trigon.toml")]
    config: PathBuf,
}

/// Where the configuration comes from.
#[derive(Clone, Debug, clap::Args)]
struct Source {
    #[command(flatten)]
    file: ConfigFile,
    /// Take HaRP's environment variables (HP_*, NC_INSTANCE_URL) in place of a file.
    #[arg(long, conflicts_with = "config")]
    from_env: bool,
}

/// Runs the command line; the exit code is 0 for success, 1 for failure, 2 for wrong usage or a
/// wrong configuration.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(source) => run::run(&source),
        Command::Check(source) => check::run(&source),
        Command::Doctor(options) => doctor::run(&options),
        Command::Init(options) => init::run(&options),
        Command::Join(options) => join::run(&options),
        Command::Backup(options) => backup::run(&options),
        Command::Restore(options) => restore::run(&options),
        Command::Leave(socket) => node::leave(&socket),
        Command::Token(command) => token::run(&command),
        Command::Node(command) => node::run(&command),
        Command::Cluster(command) => cluster::run(&command),
        Command::Status(options) => status::run(&options),
        Command::Reload(question) => reload::run(&question),
        Command::Drain(options) => drain::run(&options),
        Command::Undrain(socket) => drain::undo(&socket),
        Command::Failover(options) => failover::run(&options),
        Command::Drill(options) => drill::run(&options),
        Command::Events(options) => events::run(&options),
        Command::Bans(command) => bans::run(&command),
        Command::ExApps(command) => exapps::run(&command),
        Command::Tunnels(command) => tunnels::run(&command),
        Command::Backend(command) => backend::run(&command),
        Command::Vrrp(question) => vrrp::run(&question),
        Command::VipRelease(file) => vip_release::run(&file),
        Command::VipGuard(options) => vip_guard::run(&options),
        Command::Certs(command) => certs::run(&command),
        Command::Import(options) => import::run(&options),
        Command::Lab(options) => lab::run(&options),
        Command::Completions(options) => pages::completions(&options),
        Command::Man(options) => pages::man(&options),
    }
}

/// Prints to standard output; a closed pipe ends the program quietly, as `head` expects.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints to standard error.
fn complain(text: &dyn std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "trigon: {text}");
}

/// Prints an error with everything that led to it.
fn complain_of(error: impl Into<anyhow::Error>) {
    complain(&format!("{:#}", error.into()));
}

impl ConfigFile {
    /// What a reader makes of the file, or every problem printed and the exit code for it.
    fn read<T>(&self, reader: fn(&Path) -> Result<T, config::Problems>) -> Result<T, ExitCode> {
        reader(&self.config).map_err(|problems| refuse(&problems))
    }
}

impl Source {
    /// The finished configuration and notes about variables, or every problem printed and the
    /// exit code for it.
    fn load(&self) -> Result<(config::Config, Vec<Note>), ExitCode> {
        self.read().map_err(|problems| refuse(&problems))
    }

    /// The same with nothing printed.
    fn read(&self) -> Result<(config::Config, Vec<Note>), config::Problems> {
        if self.from_env {
            let certs = Path::new(config::env::CERTS);
            config::from_env::load(&config::from_env::environment(), certs)
        } else {
            Ok((config::load(&self.file.config)?, Vec::new()))
        }
    }

    /// What it is called when it is told about.
    fn name(&self) -> String {
        if self.from_env {
            config::env::NAME.to_owned()
        } else {
            self.file.config.display().to_string()
        }
    }
}

/// Prints every problem; the exit code for them.
fn refuse(problems: &config::Problems) -> ExitCode {
    for problem in &problems.0 {
        complain(problem);
    }
    ExitCode::from(USAGE)
}

#[cfg(test)]
mod tests;
