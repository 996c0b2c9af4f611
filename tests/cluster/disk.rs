//! What the state directory of a machine lies on, and how that breaks.
//!
//! A disk of its own is an image mounted in the mount namespace `ip netns exec` makes for the
//! process: it goes when the process ends, also if the test is killed. From outside it is reached
//! through the process's root.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use trigon::lab::namespaces::Host;

/// Enough for a log, its ballast, and a journal.
const SIZE: u64 = 96 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// A directory of the machine the test runs on.
    Shared,
    /// A file system of its own.
    Own,
}

impl Disk {
    /// Makes what is to be mounted.
    pub(crate) fn make(self, dir: &Path) {
        if self == Self::Own {
            File::create(image(dir)).and_then(|file| file.set_len(SIZE)).unwrap();
            run(Command::new("mkfs.ext4").arg("-q").arg(image(dir)));
        }
    }

    /// A `trigon` on that host, with the disk mounted; arguments are to follow.
    pub(crate) fn command(self, host: &Host, dir: &Path) -> Command {
        match self {
            Self::Shared => host.command(env!("CARGO_BIN_EXE_trigon")),
            Self::Own => {
                let mut command = host.command("sh");
                let script = "mount -o loop \"$0\" \"$1\" && shift && exec \"$@\"";
                command.args(["-c", script]).arg(image(dir)).arg(dir.join("state"));
                command.arg(env!("CARGO_BIN_EXE_trigon"));
                command
            }
        }
    }

    /// The state directory as it is seen from outside the process.
    pub(crate) fn state_dir(self, process: Option<&Child>, dir: &Path) -> PathBuf {
        let path = dir.join("state");
        match (self, process) {
            (Self::Own, Some(process)) => {
                let root = Path::new("/proc").join(process.id().to_string()).join("root");
                root.join(path.strip_prefix("/").unwrap())
            }
            _ => path,
        }
    }

    /// Lets every write wait until [`thaw`](Self::thaw).
    pub(crate) fn freeze(self, process: Option<&Child>, dir: &Path) {
        run(Command::new("fsfreeze").arg("-f").arg(self.state_dir(process, dir)));
    }

    /// Lets them through. Does no harm if none waits.
    pub(crate) fn thaw(self, process: Option<&Child>, dir: &Path) {
        if self == Self::Own && process.is_some() {
            let state = self.state_dir(process, dir);
            // Not frozen is what is wanted.
            let _ = Command::new("fsfreeze").arg("-u").arg(state).stderr(Stdio::null()).status();
        }
    }

    /// Leaves no room on it. What is deleted afterwards makes room again.
    pub(crate) fn fill(self, process: Option<&Child>, dir: &Path) {
        let mut filler = File::create(self.filler(process, dir)).unwrap();
        for piece in [1 << 20, 4096] {
            let zeros = vec![0; piece];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// Makes room again.
    pub(crate) fn clear(self, process: Option<&Child>, dir: &Path) {
        fs::remove_file(self.filler(process, dir)).unwrap();
    }

    fn filler(self, process: Option<&Child>, dir: &Path) -> PathBuf {
        assert_eq!(self, Self::Own, "not on a disk that others need");
        self.state_dir(process, dir).join("filler")
    }

    /// From now on every write and every sync fails, as on a disk that is gone.
    pub(crate) fn fail(self, process: &Child, dir: &Path) {
        let target = process.id().to_string();
        run(Command::new("nsenter")
            .args(["--mount", "--target", &target, "mount", "-o", "remount,abort"])
            .arg(dir.join("state")));
    }
}

fn image(dir: &Path) -> PathBuf {
    dir.join("disk.img")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
