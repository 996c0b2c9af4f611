//! A registry with one image, just enough of the distribution API for `docker pull`: manifests,
//! and blobs by their digests.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Content by the last two segments of its path, with its type.
type Content = HashMap<String, (&'static str, Bytes)>;

/// Serves an image of one layer as `name:tag` until the runtime ends.
pub(crate) async fn serve(at: SocketAddr, tag: &str, layer: Bytes, command: &[&str]) {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": command },
        "rootfs": { "type": "layers", "diff_ids": [name(&layer)] },
    });
    let config = Bytes::from(config.to_string());
    let described = |kind: &str, content: &Bytes| json!({ "mediaType": kind, "size": content.len(), "digest": name(content) });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(CONFIG, &config),
        "layers": [described(LAYER, &layer)],
    });
    let manifest = Bytes::from(manifest.to_string());
    let content: Content = HashMap::from([
        (format!("manifests/{tag}"), (MANIFEST, manifest.clone())),
        (format!("manifests/{}", name(&manifest)), (MANIFEST, manifest)),
        (format!("blobs/{}", name(&config)), ("application/octet-stream", config)),
        (format!("blobs/{}", name(&layer)), ("application/octet-stream", layer)),
    ]);
    let content = Arc::new(content);
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let content = Arc::clone(&content);
            let service = service_fn(move |request| {
                let answer = answer(&content, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // The engine tries TLS first; such a connection just ends.
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
}

fn answer<B>(content: &Content, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let mut segments = path.rsplit('/');
    let (last, before) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    let found = content.get(&format!("{before}/{last}"));
    let (status, kind, body) = match found {
        Some((kind, body)) => (200, *kind, body.clone()),
        None if path == "/v2/" => (200, "application/json", Bytes::from_static(b"{}")),
        None => {
            // Without a detail the engine would not tell "unknown" from "broken".
            let unknown = json!({ "errors": [{
                "code": "MANIFEST_UNKNOWN",
                "message": "manifest unknown",
                "detail": { "asked": last },
            }] });
            (404, "application/json", unknown.to_string().into())
        }
    };
    let answer = Response::builder().status(status).header(CONTENT_TYPE, kind);
    answer.header("docker-content-digest", name(&body)).body(Full::new(body)).unwrap()
}

fn name(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest.as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
