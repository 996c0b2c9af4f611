//! Names of the control API's endpoints for counters: ours, never what a caller typed. Sans-io.

/// The calls under `/docker/exapp/`.
const DOCKER: [(&str, &str); 8] = [
    ("exists", "docker/exists"),
    ("create", "docker/create"),
    ("start", "docker/start"),
    ("stop", "docker/stop"),
    ("wait_for_start", "docker/wait_for_start"),
    ("remove", "docker/remove"),
    ("image_remove", "docker/image_remove"),
    ("install_certificates", "docker/install_certificates"),
];

/// The endpoint of a path without the `/exapps/app_api` prefix.
pub fn endpoint(path: &str) -> &'static str {
    if let Some(call) = path.strip_prefix("/docker/exapp/") {
        return DOCKER.iter().find(|(known, _)| *known == call).map_or("other", |(_, word)| word);
    }
    match path {
        "/heartbeat" => "heartbeat",
        "/info" => "info",
        _ if path.starts_with("/exapp_storage/") => "exapp_storage",
        _ if path.starts_with("/k8s/") => "k8s",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_invent_an_endpoint() {
        for (path, word) in [
            ("/info", "info"),
            ("/exapp_storage/demo", "exapp_storage"),
            ("/docker/exapp/create", "docker/create"),
            ("/docker/exapp/anything", "other"),
            ("/docker/other", "other"),
            ("/k8s/exapp/create", "k8s"),
            ("/info/", "other"),
        ] {
            assert_eq!(endpoint(path), word, "{path}");
        }
    }
}
