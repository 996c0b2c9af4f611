//! Whether Nextcloud can be reached at all, for the tracker of that name.

use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request};

use super::{AGENT, Client, read};
use crate::http::body::Body;

impl Client {
    /// Whether Nextcloud answers its status page, with anything but a fault of its own. The shared
    /// key is not shown. The caller decides how long that may take.
    pub async fn is_reachable(&self) -> bool {
        let inner = &*self.inner;
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}/status.php", inner.base))
            .header(HOST, &inner.host)
            .header(USER_AGENT, AGENT)
            .body(Body::empty());
        let Ok(request) = request else { return false };
        let Ok(response) = inner.client.send(&inner.target, request).await else { return false };
        let (head, body) = response.into_parts();
        // Read to the end, else the connection is lost to the pool.
        !head.status.is_server_error() && read(body).await.is_ok()
    }
}
