//! Files of a container, read and written through the engine's archive calls: the container need
//! not run, and nothing in it is executed.

use bollard::query_parameters::{
    ContainerArchiveInfoOptions, DownloadFromContainerOptions, UploadToContainerOptions,
};

use super::archive::{self, Access, Archive, Entry};
use super::containers::unless;
use super::engine::Engine;
use super::error::Error;
use super::trust::{MOST_LINKS, follow};

/// Longest file that is read, bytes: bundles of authorities are a few hundred kilobytes.
const LONGEST_FILE: u64 = 8 * 1024 * 1024;

/// A file, and where it was found after following links.
pub(super) struct Found {
    pub(super) path: String,
    pub(super) content: Vec<u8>,
}

/// Reads a file by its absolute path; `None` if there is none.
pub(super) async fn read(
    engine: &Engine,
    container: &str,
    path: &str,
) -> Result<Option<Found>, Error> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Some(bytes) = unless(&[404], folder(engine, container, &path).await)? else {
            return Ok(None);
        };
        let first = archive::first(&bytes, LONGEST_FILE);
        match first.map_err(|error| garbled(engine, &error))? {
            Entry::File(content) => return Ok(Some(Found { path, content })),
            Entry::Link(target) => path = follow(&path, &target),
            Entry::Other => return Ok(None),
        }
    }
    Ok(None)
}

/// A file or a folder with everything in it, as an archive whose paths begin with its name.
pub(super) async fn folder(engine: &Engine, container: &str, path: &str) -> Result<Vec<u8>, Error> {
    let options = DownloadFromContainerOptions { path: path.to_owned() };
    engine.whole(engine.api().download_from_container(container, Some(options))).await
}

/// Unpacks an archive in an existing folder.
pub(super) async fn put(
    engine: &Engine,
    container: &str,
    folder: &str,
    archive: Vec<u8>,
) -> Result<(), Error> {
    let options = UploadToContainerOptions {
        path: folder.to_owned(),
        // A link in the image where we expect a folder stays what it is.
        no_overwrite_dir_non_dir: Some("1".to_owned()),
        copy_uidgid: None,
    };
    let archive = bollard::body_full(archive.into());
    engine.call(engine.api().upload_to_container(container, Some(options), archive)).await
}

/// An archive for the container's root that begins with those folders on the way to `path` that
/// are missing. Docker would make them too, but open to everybody; and a folder that exists would
/// get our owner and mode.
pub(super) async fn rooted(engine: &Engine, container: &str, path: &str) -> Result<Archive, Error> {
    let mut missing = Vec::new();
    let mut rest = path;
    while !rest.is_empty() && !exists(engine, container, rest).await? {
        missing.push(rest);
        rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    let mut made = missing.iter().rev();
    made.try_fold(Archive::new(), |archive, folder| archive.folder(folder, Access::FOLDER))
        .map_err(|error| garbled(engine, &error))
}

/// The bytes of an archive of ours.
pub(super) fn packed(engine: &Engine, archive: std::io::Result<Archive>) -> Result<Vec<u8>, Error> {
    archive.and_then(Archive::finish).map_err(|error| garbled(engine, &error))
}

async fn exists(engine: &Engine, container: &str, path: &str) -> Result<bool, Error> {
    let options = ContainerArchiveInfoOptions { path: format!("/{path}") };
    let info = engine.api().get_container_archive_info(container, Some(options));
    match unless(&[404], engine.call(info).await) {
        Ok(info) => Ok(info.is_some()),
        // What the engine says about it does not matter, only that there is something.
        Err(Error::Garbled { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

fn garbled(engine: &Engine, error: &std::io::Error) -> Error {
    Error::Garbled { port: engine.port(), why: error.to_string() }
}
