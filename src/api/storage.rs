//! `POST` and `DELETE /exapp_storage/{id}`: Nextcloud pushes or takes back a record.
//!
//! AppAPI calls once, at the end of enable and disable, and only logs a failure. So the record is
//! on the cluster before the 204; without a quorum it is in force on this node, proposed again
//! until recorded, and the answer is 204 all the same (contract 10.3, rule 1).

use crate::access::AppId;
use crate::exapps::Directory;
use crate::exapps::directory::Recorded;
use crate::nextcloud::messages;

/// How a storage call ended.
#[derive(Debug)]
pub enum Stored {
    /// The change is in force.
    Done,
    /// There was no record to delete.
    Unknown,
    /// The body is not a record.
    Malformed(messages::MessageError),
}

/// Puts the pushed record in force.
pub async fn post(directory: &Directory, id: &AppId, body: &[u8]) -> Stored {
    match messages::exapp(id.as_str(), body) {
        Ok(record) => {
            let recorded = directory.push(record).await;
            tracing::info!(app_id = %id, synced = recorded == Recorded::Cluster, "record pushed");
            Stored::Done
        }
        Err(error) => Stored::Malformed(error),
    }
}

/// Takes the record back.
pub async fn delete(directory: &Directory, id: &AppId) -> Stored {
    let (recorded, had) = directory.delete(id).await;
    tracing::info!(app_id = %id, synced = recorded == Recorded::Cluster, had, "record deleted");
    if had { Stored::Done } else { Stored::Unknown }
}
