//! A line of the access log. Sans-io.
//!
//! What a stranger sent is escaped, what may be secret left out: of a query only that there was
//! one is told, of a referrer neither, of a user only a keyed digest.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use http::header::{HOST, HeaderMap, HeaderName, REFERER, USER_AGENT};
use http::{Method, Request, Uri, Version};
use serde::Serialize;

/// Longest piece of a request that is repeated, in characters.
const MAX: usize = 1024;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object.
    Json,
    /// The combined log format of Apache.
    Combined,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the head of the request was there.
    pub at: SystemTime,
    /// The TCP peer.
    pub remote: SocketAddr,
    /// Who asked, once the proxies in front were seen through.
    pub client: IpAddr,
    /// As it was sent.
    pub method: Method,
    /// The host that was asked for.
    pub host: Option<String>,
    /// Path, and `?***` for a query.
    pub path: String,
    /// Version of HTTP.
    pub proto: &'static str,
    /// Status; none when there was no answer.
    pub status: Option<u16>,
    /// Bytes of the request's body that were taken.
    pub received: u64,
    /// Bytes of the answer's body that were sent.
    pub sent: u64,
    /// Until the last byte of the answer.
    pub took: Duration,
    /// Until a connection to the ExApp was there; none if none had to be made.
    pub connect: Option<Duration>,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Where it was sent to.
    pub upstream: Option<String>,
    /// What it was for.
    pub route: &'static str,
    /// The app id as typed.
    pub exapp: Option<String>,
    /// Digest of the user id.
    pub user: Option<String>,
    /// As the client or a proxy gave it.
    pub request_id: Option<String>,
    /// Version of TLS, if there was TLS.
    pub tls: Option<&'static str>,
    /// How it was decided.
    pub reason: &'static str,
    /// How it ended.
    pub end: &'static str,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Where the client comes from, without its query.
    pub referrer: Option<String>,
}

impl Record {
    /// What is known from the head.
    pub(in crate::observe) fn begin<B>(
        request: &Request<B>,
        remote: SocketAddr,
        tls: Option<&'static str>,
        request_id: Option<String>,
    ) -> Self {
        let (uri, headers) = (request.uri(), request.headers());
        let host = uri.host().map(ToOwned::to_owned).or_else(|| text_of(headers, HOST));
        Self {
            at: SystemTime::UNIX_EPOCH,
            remote,
            client: remote.ip().to_canonical(),
            method: request.method().clone(),
            host: host.map(|host| short(&host)),
            path: masked(uri),
            proto: proto(request.version()),
            status: None,
            received: 0,
            sent: 0,
            took: Duration::ZERO,
            connect: None,
            first_byte: None,
            upstream: None,
            route: "refused",
            exapp: None,
            user: None,
            request_id,
            tls,
            reason: "bad_request",
            end: "",
            user_agent: text_of(headers, USER_AGENT).map(|text| short(&text)),
            referrer: text_of(headers, REFERER)
                .map(|text| short(text.split(['?', '#']).next().unwrap_or_default())),
        }
    }

    /// Appends the line and its end.
    pub(super) fn write(&self, style: Style, to: &mut String) {
        match style {
            Style::Json => self.write_json(to),
            Style::Combined => self.write_combined(to),
        }
        to.push('\n');
    }

    fn write_json(&self, to: &mut String) {
        let shown = Json {
            ts: self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            remote: self.remote,
            client_ip: self.client,
            method: self.method.as_str(),
            host: self.host.as_deref(),
            path: &self.path,
            proto: self.proto,
            status: self.status,
            bytes_in: self.received,
            bytes_out: self.sent,
            duration: self.took.as_secs_f64(),
            connect: self.connect.map(|took| took.as_secs_f64()),
            ttfb: self.first_byte.map(|took| took.as_secs_f64()),
            upstream: self.upstream.as_deref(),
            route: self.route,
            exapp: self.exapp.as_deref(),
            user: self.user.as_deref(),
            request_id: self.request_id.as_deref(),
            tls: self.tls,
            reason: self.reason,
            end: self.end,
            user_agent: self.user_agent.as_deref(),
        };
        // Writing numbers and text to a string does not fail.
        to.push_str(&serde_json::to_string(&shown).unwrap_or_default());
    }

    fn write_combined(&self, to: &mut String) {
        let Self { client, user, at, method, path, proto, sent, .. } = self;
        let user = user.as_deref().unwrap_or("-");
        let status = self.status.map_or_else(|| "000".to_owned(), |status| status.to_string());
        let (referrer, agent) =
            (escaped(self.referrer.as_deref()), escaped(self.user_agent.as_deref()));
        let (date, path) = (clf_date(*at), escaped(Some(path)));
        let _ = write!(
            to,
            "{client} - {user} [{date}] \"{method} {path} {proto}\" {status} {sent} \
             \"{referrer}\" \"{agent}\""
        );
    }
}

#[derive(Serialize)]
struct Json<'r> {
    ts: f64,
    remote: SocketAddr,
    client_ip: IpAddr,
    method: &'r str,
    host: Option<&'r str>,
    path: &'r str,
    proto: &'static str,
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    duration: f64,
    connect: Option<f64>,
    ttfb: Option<f64>,
    upstream: Option<&'r str>,
    route: &'static str,
    exapp: Option<&'r str>,
    user: Option<&'r str>,
    request_id: Option<&'r str>,
    tls: Option<&'static str>,
    reason: &'static str,
    end: &'static str,
    user_agent: Option<&'r str>,
}

fn masked(uri: &Uri) -> String {
    let mut path = short(uri.path());
    if uri.query().is_some() {
        path.push_str("?***");
    }
    path
}

fn short(text: &str) -> String {
    text.chars().take(MAX).collect()
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned())
}

fn proto(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Within quotation marks nothing ends them or the line.
fn escaped(text: Option<&str>) -> String {
    let mut safe = String::new();
    for character in text.unwrap_or("-").chars() {
        match character {
            '"' | '\\' => safe.extend(['\\', character]),
            ' '..='~' => safe.push(character),
            _ => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(safe, "\\x{byte:02x}");
                }
            }
        }
    }
    safe
}

/// `29/Nov/2026:05:00:16 +0000`, from `Sun, 29 Nov 2026 05:00:16 GMT`.
fn clf_date(at: SystemTime) -> String {
    let date = httpdate::fmt_http_date(at);
    let mut words = date.split(' ').skip(1);
    let mut next = || words.next().unwrap_or_default();
    let (day, month, year, time) = (next(), next(), next(), next());
    format!("{day}/{month}/{year}:{time} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let request = Request::get("/exapps/demo/a%20b?token=secret")
            .header("host", "cloud.example.org")
            .header("user-agent", "curl/8 \"x\" \\ \t")
            .header("referer", "https://cloud.example.org/apps?code=secret#part")
            .header("authorization", "Basic secret")
            .header("cookie", "nc_session=secret")
            .body(())
            .unwrap();
        let peer = "10.0.0.9:5123".parse().unwrap();
        let mut record = Record::begin(&request, peer, Some("TLSv1.3"), Some("id-1".into()));
        record.at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
        record.client = "203.0.113.7".parse().unwrap();
        record.status = Some(200);
        (record.received, record.sent) = (3, 1234);
        record.took = Duration::from_millis(1500);
        record.first_byte = Some(Duration::from_millis(250));
        record.connect = Some(Duration::from_micros(500));
        record.upstream = Some("tunnel 23000".into());
        (record.route, record.reason, record.end) = ("exapp", "allowed", "ok");
        record.exapp = Some("demo".into());
        record.user = Some("0123456789abcdef".into());
        record
    }

    fn written(style: Style) -> String {
        let mut text = String::new();
        record().write(style, &mut text);
        assert!(!text.contains("secret"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    #[test]
    fn a_json_line_has_every_field_and_no_secret() {
        let line: serde_json::Value = serde_json::from_str(&written(Style::Json)).unwrap();
        let expected = serde_json::json!({
            "ts": 1_700_000_000.25, "remote": "10.0.0.9:5123", "client_ip": "203.0.113.7",
            "method": "GET", "host": "cloud.example.org", "path": "/exapps/demo/a%20b?***",
            "proto": "HTTP/1.1", "status": 200, "bytes_in": 3, "bytes_out": 1234,
            "duration": 1.5, "connect": 0.0005, "ttfb": 0.25, "upstream": "tunnel 23000",
            "route": "exapp", "exapp": "demo", "user": "0123456789abcdef", "request_id": "id-1",
            "tls": "TLSv1.3", "reason": "allowed", "end": "ok",
            "user_agent": "curl/8 \"x\" \\ \t",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn a_combined_line_cannot_be_broken_by_what_the_client_calls_itself() {
        assert_eq!(
            written(Style::Combined),
            "203.0.113.7 - 0123456789abcdef [14/Nov/2023:22:13:20 +0000] \
             \"GET /exapps/demo/a%20b?*** HTTP/1.1\" 200 1234 \
             \"https://cloud.example.org/apps\" \"curl/8 \\\"x\\\" \\\\ \\x09\"\n"
        );
    }

    #[test]
    fn a_request_without_an_answer_has_status_zero() {
        let mut text = String::new();
        Record { status: None, ..record() }.write(Style::Combined, &mut text);
        assert!(text.contains("\" 000 1234 "), "{text}");
    }

    #[test]
    fn the_reference_names_every_field() {
        let reference = include_str!("../../../docs/reference/log-fields.md");
        let line: serde_json::Value = serde_json::from_str(&written(Style::Json)).unwrap();
        for field in line.as_object().unwrap().keys() {
            assert!(reference.contains(&format!("| `{field}` |")), "{field}");
        }
    }
}
