//! Tar archives in memory, the form in which an engine takes and gives files. Sans-io.

use std::io::{self, Read};

use tar::{Archive as Reader, Builder, EntryType, Header};

/// An archive to be unpacked in a container.
pub struct Archive {
    builder: Builder<Vec<u8>>,
}

/// Who may do what with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
}

impl Access {
    /// Root's, readable by everybody.
    pub const PUBLIC: Self = Self { mode: 0o644, uid: 0, gid: 0 };
    /// A folder of root's, open to everybody.
    pub const FOLDER: Self = Self { mode: 0o755, uid: 0, gid: 0 };
}

/// What stands first in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file and its content.
    File(Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
    /// Anything else.
    Other,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self { builder: Builder::new(Vec::new()) }
    }

    /// Adds a folder; `path` is relative to where the archive is unpacked.
    ///
    /// # Errors
    /// A path that cannot stand in an archive.
    pub fn folder(mut self, path: &str, access: Access) -> io::Result<Self> {
        let mut header = header(EntryType::Directory, access, 0);
        self.builder.append_data(&mut header, format!("{path}/"), io::empty())?;
        Ok(self)
    }

    /// Adds a file.
    ///
    /// # Errors
    /// A path that cannot stand in an archive.
    pub fn file(mut self, path: &str, access: Access, content: &[u8]) -> io::Result<Self> {
        let mut header = header(EntryType::Regular, access, content.len() as u64);
        self.builder.append_data(&mut header, path, content)?;
        Ok(self)
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// None; writing to memory does not fail.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.builder.into_inner()
    }
}

impl Default for Archive {
    fn default() -> Self {
        Self::new()
    }
}

/// The first entry of an archive that an engine sent; a file's content up to `most` bytes.
///
/// # Errors
/// What is no archive, holds nothing, or holds a longer file.
pub fn first(archive: &[u8], most: u64) -> io::Result<Entry> {
    let mut reader = Reader::new(archive);
    let mut entries = reader.entries()?;
    let entry = entries.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous => {
            let (size, mut content) = (entry.size(), Vec::new());
            if size > most {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "file in an archive"));
            }
            entry.take(most).read_to_end(&mut content)?;
            if content.len() as u64 != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Entry::File(content))
        }
        EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap_or_default();
            Ok(Entry::Link(String::from_utf8_lossy(&target).into_owned()))
        }
        _ => Ok(Entry::Other),
    }
}

fn header(kind: EntryType, access: Access, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(access.mode);
    header.set_uid(access.uid);
    header.set_gid(access.gid);
    header.set_mtime(0);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_arrive_with_owner_and_mode() {
        let key = Access { mode: 0o600, uid: 33, gid: 44 };
        let bytes = Archive::new()
            .folder("certs", Access::FOLDER)
            .and_then(|archive| archive.file("certs/client.key", key, b"secret"))
            .and_then(Archive::finish)
            .unwrap();
        let mut reader = Reader::new(&bytes[..]);
        let seen: Vec<_> = reader
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                (
                    entry.path().unwrap().display().to_string(),
                    header.mode().unwrap(),
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.entry_type(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("certs/".to_owned(), 0o755, 0, 0, EntryType::Directory),
                ("certs/client.key".to_owned(), 0o600, 33, 44, EntryType::Regular),
            ]
        );
    }

    #[test]
    fn paths_cannot_leave_the_folder() {
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert!(Archive::new().file(path, Access::PUBLIC, b"").is_err(), "{path}");
        }
    }

    #[test]
    fn the_first_entry_is_read_and_bounded() {
        let bytes =
            Archive::new().file("f", Access::PUBLIC, b"12345").and_then(Archive::finish).unwrap();
        assert_eq!(first(&bytes, 5).unwrap(), Entry::File(b"12345".to_vec()));
        assert!(first(&bytes, 4).is_err());
        assert!(first(&bytes[..512], 5).is_err(), "cut off");
        assert!(first(b"", 5).is_err());
        assert!(first(b"HTTP/1.1 garbage", 5).is_err());

        let mut link = header(EntryType::Symlink, Access::PUBLIC, 0);
        let mut builder = Builder::new(Vec::new());
        builder.append_link(&mut link, "os-release", "../usr/lib/os-release").unwrap();
        let bytes = builder.into_inner().unwrap();
        assert_eq!(first(&bytes, 0).unwrap(), Entry::Link("../usr/lib/os-release".to_owned()));
    }
}
