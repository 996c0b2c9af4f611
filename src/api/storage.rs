//! `POST` and `DELETE /exapp_storage/{id}`: Nextcloud pushes or takes back a record.
//!
//! AppAPI calls once, at the end of enable and disable, and only logs a failure. So the record is
//! on the cluster before the 204; without a quorum it is in force on this node and proposed again
//! until recorded (contract 10.3, rule 1), and the 503 puts that into Nextcloud's log.

use crate::access::AppId;
use crate::exapps::Directory;
use crate::exapps::directory::Recorded;
use crate::nextcloud::messages;

/// How a storage call ended.
#[derive(Debug)]
pub enum Stored {
    /// The change is in force on every node.
    Done,
    /// The cluster did not confirm it in time: it is in force here and will be proposed again.
    Here,
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
            match recorded {
                Recorded::Cluster => Stored::Done,
                Recorded::Here => Stored::Here,
            }
        }
        Err(error) => Stored::Malformed(error),
    }
}

/// Takes the record back.
pub async fn delete(directory: &Directory, id: &AppId) -> Stored {
    let (recorded, had) = directory.delete(id).await;
    tracing::info!(app_id = %id, synced = recorded == Recorded::Cluster, had, "record deleted");
    match recorded {
        Recorded::Here => Stored::Here,
        Recorded::Cluster if had => Stored::Done,
        Recorded::Cluster => Stored::Unknown,
    }
}
