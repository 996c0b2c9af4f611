//! Whether a browser sent a form because of one of our own pages. Sans-io.
//!
//! Two headers a page cannot set tell: `Sec-Fetch-Site` (every current browser, on HTTPS and on
//! loopback) and `Origin` (every browser, with every form). What has neither is no browser and is
//! refused as well: whoever has a cookie and no browser can use the admin socket.

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// Which scheme the page is served with.
pub(super) fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Whether the request comes from a page of this site. `authority` is the one of the target
/// (HTTP/2); HTTP/1.1 says it in `Host`.
///
/// # Errors
/// What speaks against it.
pub(super) fn is_own(
    headers: &HeaderMap,
    authority: Option<&str>,
    secure: bool,
) -> Result<(), &'static str> {
    let site = single(headers, "sec-fetch-site")?;
    if site.is_some_and(|site| site != "same-origin") {
        return Err("the request comes from another site");
    }
    let origin = single(headers, ORIGIN.as_str())?;
    let Some(origin) = origin else {
        return if site.is_some() {
            Ok(())
        } else {
            Err("the request does not say where it is from")
        };
    };
    let host = match authority {
        Some(authority) => Some(authority),
        None => single(headers, HOST.as_str())?,
    };
    let own = host.map(|host| format!("{}://{host}", scheme(secure)));
    if own.is_some_and(|own| own.eq_ignore_ascii_case(origin)) {
        Ok(())
    } else {
        Err("the request comes from a page of another origin")
    }
}

/// A header that may be there once.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err("a header is there twice");
    }
    first.map(|value| value.to_str().map_err(|_| "a header is no text")).transpose()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in list {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_our_own_pages_may_send_forms() {
        let host = ("host", "lb1:9109");
        for (list, secure, is_ours) in [
            (&[host, ("origin", "http://lb1:9109")][..], false, true),
            (&[host, ("origin", "https://lb1:9109")], true, true),
            (
                &[host, ("origin", "http://lb1:9109"), ("sec-fetch-site", "same-origin")],
                false,
                true,
            ),
            (&[host, ("sec-fetch-site", "same-origin")], false, true),
            (&[host, ("origin", "http://lb1:9109")], true, false),
            (&[host, ("origin", "http://lb1")], false, false),
            (&[host, ("origin", "http://evil.example")], false, false),
            (&[host, ("origin", "null")], false, false),
            (
                &[host, ("origin", "http://lb1:9109"), ("sec-fetch-site", "cross-site")],
                false,
                false,
            ),
            (&[host, ("origin", "http://lb1:9109"), ("sec-fetch-site", "same-site")], false, false),
            (&[host, ("sec-fetch-site", "none")], false, false),
            (&[host, ("sec-fetch-site", "")], false, false),
            (&[host], false, false),
            (&[("origin", "http://lb1:9109")], false, false),
            (&[host, host, ("origin", "http://lb1:9109")], false, false),
            (&[host, ("origin", "http://lb1:9109"), ("origin", "null")], false, false),
        ] {
            assert_eq!(is_own(&headers(list), None, secure).is_ok(), is_ours, "{list:?}");
        }
    }

    #[test]
    fn the_authority_of_http2_stands_for_the_host() {
        let headers = headers(&[("origin", "https://lb1:9109")]);
        assert!(is_own(&headers, Some("lb1:9109"), true).is_ok());
        assert!(is_own(&headers, Some("lb2:9109"), true).is_err());
    }
}
