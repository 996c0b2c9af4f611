//! The image of the test's ExApp: our static binary (`tests/docker/exapp`), stock frpc, and
//! nothing else. It is imported from a tar archive; no registry takes part.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tar::{Builder, EntryType, Header};

use super::engine::Engine;
use super::{frpc, http};

/// What the container runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Init {
    /// PID 1 ends at SIGTERM.
    Polite,
    /// PID 1 does not hear SIGTERM, as with many real ExApps: it ends when it is killed.
    Deaf,
}

/// Imports the image as `name:tag`.
pub(crate) async fn import(engine: &Engine, name: &str, tag: &str, init: Init) {
    let command = match init {
        Init::Polite => "CMD%20%5B%22%2Fexapp%22%5D",
        Init::Deaf => "CMD%20%5B%22%2Fexapp%22%2C%22--deaf%22%5D",
    };
    let path = format!("/images/create?fromSrc=-&repo={name}&tag={tag}&changes={command}");
    let answer = engine.call(http::request("POST", &path, &[], archive())).await;
    let told = String::from_utf8_lossy(answer.body());
    assert!(answer.status() == 200 && !told.contains("error"), "{}: {told}", answer.status());
}

/// Gives an image one more name, as a new version of an app has.
pub(crate) async fn tag(engine: &Engine, from: &str, name: &str, tag: &str) {
    let path = format!("/images/{from}/tag?repo={name}&tag={tag}");
    let answer = engine.call(http::request("POST", &path, &[], "")).await;
    assert_eq!(answer.status(), 201, "{}", String::from_utf8_lossy(answer.body()));
}

/// The root of the image, made once for each test binary.
pub(crate) fn archive() -> &'static [u8] {
    static ARCHIVE: OnceLock<Vec<u8>> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut tree = Tree(Builder::new(Vec::new()));
        tree.folder("tmp/", 0o1777);
        tree.folder("etc/ssl/certs/", 0o755);
        tree.file("exapp", 0o755, &compiled());
        let frpc = std::fs::read(frpc::binary(frpc::VERSIONS[0])).unwrap();
        assert!(is_static(&frpc), "frpc must not need libraries the image does not have");
        tree.file("usr/local/bin/frpc", 0o755, &frpc);
        // For a server that looks into the container to learn where its certificates belong.
        tree.file("etc/os-release", 0o644, b"ID=debian\nPRETTY_NAME=\"Trigon test\"\n");
        for name in ["bin/cat", "bin/mkdir", "usr/sbin/update-ca-certificates"] {
            tree.link(name, "/exapp");
        }
        tree.0.into_inner().unwrap()
    })
}

fn compiled() -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/exapp/main.rs");
    let place = tempfile::tempdir().unwrap();
    let binary: PathBuf = place.path().join("exapp");
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "-Ctarget-feature=+crt-static", "-O", "-Cstrip=symbols"])
        .args(["-Dwarnings", "-o"])
        .arg(&binary)
        .arg(&source)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not compile:\n{told}", source.display());
    let bytes = std::fs::read(&binary).unwrap();
    assert!(is_static(&bytes), "the ExApp must not need libraries the image does not have");
    bytes
}

/// Whether no interpreter is asked for: a 64-bit ELF file without a PT_INTERP segment (elf(5)).
fn is_static(elf: &[u8]) -> bool {
    const PT_INTERP: usize = 3;
    let number = |at: usize, bytes: usize| {
        let field = elf[at..at + bytes].iter().rev();
        field.fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    assert_eq!(&elf[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF file");
    let (start, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).all(|index| number(start + index * size, 4) != PT_INTERP)
}

struct Tree(Builder<Vec<u8>>);

impl Tree {
    fn folder(&mut self, name: &str, mode: u32) {
        self.entry(EntryType::Directory, name, mode, &[]);
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entry(EntryType::Regular, name, mode, content);
    }

    fn link(&mut self, name: &str, to: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        self.0.append_link(&mut header, name, to).unwrap();
    }

    fn entry(&mut self, kind: EntryType, name: &str, mode: u32, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        self.0.append_data(&mut header, name, content).unwrap();
    }
}
