//! Removing an ExApp's image (contract 3.3).

use std::time::Duration;

use bollard::query_parameters::RemoveImageOptions;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::containers::unless;
use super::engine::Engine;
use super::error::Error;

const REMOVE_WITHIN: Duration = Duration::from_secs(30);

/// All of a reference is one segment of the path, slashes included.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The answer to `image_remove`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Whether the image is gone.
    pub deleted: bool,
    /// What its layers took, if they went with it; absent when it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_freed: Option<i64>,
    /// Why nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// Removes an image, or this name of it.
///
/// # Errors
/// An engine that cannot be asked or refuses for another reason than that the image is in use.
pub async fn remove(engine: &Engine, reference: &str) -> Result<Removed, Error> {
    engine.within(REMOVE_WITHIN, remove_it(engine, reference)).await
}

async fn remove_it(engine: &Engine, reference: &str) -> Result<Removed, Error> {
    let reference = utf8_percent_encode(reference, SEGMENT).to_string();
    let size = match engine.call(engine.api().inspect_image(&reference)).await {
        Ok(image) => image.size.unwrap_or(0),
        // Only the figure is lost; whether the image can go is for the engine to say.
        Err(Error::Refused { .. } | Error::Garbled { .. }) => 0,
        Err(error) => return Err(error),
    };
    let removed = engine.api().remove_image(&reference, None::<RemoveImageOptions>, None);
    match engine.call(removed).await {
        Err(error) if error.status() == Some(409) => {
            Ok(Removed { deleted: false, bytes_freed: None, reason: Some("in_use") })
        }
        answer => Ok(match unless(&[404], answer)? {
            Some(items) => {
                let layers_went = items.iter().any(|item| item.deleted.is_some());
                let freed = if layers_went { size } else { 0 };
                Removed { deleted: true, bytes_freed: Some(freed), reason: None }
            }
            None => Removed { deleted: true, bytes_freed: Some(0), reason: Some("not_found") },
        }),
    }
}
