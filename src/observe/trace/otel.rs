//! With the feature `otel`: spans go to the collector that the standard variables name
//! (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, else `OTEL_EXPORTER_OTLP_ENDPOINT`), in batches, by a thread
//! of the library. Without one of them nothing is traced. `OTEL_TRACES_SAMPLER` and
//! `OTEL_RESOURCE_ATTRIBUTES` mean what they mean everywhere.
//!
//! Requests to the collector are ours: the library's own clients bring a second HTTP stack.

use std::pin::Pin;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::Ended;

/// Where spans are made; set once.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// How long one request to the collector may take, and the last ones at the stop.
const SEND_WITHIN: Duration = Duration::from_secs(10);
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Largest answer of a collector that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The way to the collector; none without one.
pub struct Traces(Option<SdkTracerProvider>);

/// Starts sending spans, if a collector is named. Call it within a runtime.
///
/// # Errors
/// The collector's address cannot be used; the text says why.
pub fn start() -> Result<Traces, String> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let base = || {
        let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Some(format!("{}/v1/traces", base.trim_end_matches('/')))
    };
    match variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(base) {
        Some(endpoint) => start_towards(&endpoint),
        None => Ok(Traces(None)),
    }
}

fn start_towards(endpoint: &str) -> Result<Traces, String> {
    let wrong = |why: String| format!("OTEL_EXPORTER_OTLP_ENDPOINT: found {endpoint}: {why}");
    let uri: Uri = endpoint.parse().map_err(|error| wrong(format!("{error}")))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(wrong("expected http://HOST:PORT of a collector nearby".to_owned()));
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client(Handle::current()))
        .with_endpoint(endpoint)
        .with_timeout(SEND_WITHIN)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_service_name("trigon").with_attribute(version).build();
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let _ = TRACER.set(provider.tracer("trigon"));
    Ok(Traces(Some(provider)))
}

impl Traces {
    /// Sends what is left. Blocks for at most two seconds; the runtime must still run.
    pub fn stop(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(STOP_WITHIN)
        {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

/// One request; none while nothing is traced.
pub struct Span(Option<Box<opentelemetry_sdk::trace::Span>>);

impl Span {
    /// Begins with the head of a request.
    pub fn begin<B>(request: &Request<B>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let headers = HeaderExtractor(request.headers());
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let method = request.method().as_str().to_owned();
        let span = tracer
            .span_builder(method.clone())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("url.path", request.uri().path().to_owned()),
            ])
            .start_with_context(tracer, &parent);
        Self(Some(Box::new(span)))
    }

    /// Makes what happens elsewhere for this request a child of it.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let Some(span) = &self.0 else { return };
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    }

    /// The request is over.
    pub fn end(&mut self, ended: Ended) {
        let Some(mut span) = self.0.take() else { return };
        let Ended { status, route, end } = ended;
        span.set_attribute(KeyValue::new("http.route", route));
        span.set_attribute(KeyValue::new("trigon.end", end));
        if let Some(status) = status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if status.is_some_and(|status| status >= 500) {
            span.set_status(Status::error(end));
        }
        span.end();
    }
}

/// Speaks with the collector, from whatever thread the library asks on.
#[derive(Debug)]
struct Client(Handle);

impl HttpClient for Client {
    fn send_bytes<'c, 'f>(
        &'c self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'f>>
    where
        'c: 'f,
        Self: 'f,
    {
        // The timer as well belongs to the runtime, which this thread is not one of.
        let sent =
            self.0.spawn(async move { tokio::time::timeout(SEND_WITHIN, send(request)).await });
        Box::pin(async move { sent.await?? })
    }
}

async fn send(mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let uri = request.uri().clone();
    let host = uri.host().ok_or("no host")?.trim_matches(['[', ']']).to_owned();
    let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Whoever sent the request hears of it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    if let Some(authority) = uri.authority() {
        request.headers_mut().insert(HOST, HeaderValue::try_from(authority.as_str())?);
    }
    let path = uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A collector that takes one request and answers it.
    async fn collect(listener: TcpListener) -> Vec<u8> {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            let length = stream.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..length]);
            let text = String::from_utf8_lossy(&read).to_lowercase();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let announced = head.split_once("content-length: ").unwrap().1;
                let announced: usize = announced.lines().next().unwrap().trim().parse().unwrap();
                let begins = read.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                if read.len() >= begins + announced {
                    break;
                }
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        read
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_request_becomes_a_span_within_the_callers_trace() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let collector = tokio::spawn(collect(listener));
        let traces = start_towards(&endpoint).unwrap();
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let request = Request::get("/exapps/demo/a?token=secret")
            .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
            .body(())
            .unwrap();
        let mut span = Span::begin(&request);
        let mut headers = HeaderMap::new();
        span.inject(&mut headers);
        let passed_on = headers["traceparent"].to_str().unwrap().to_owned();
        assert!(passed_on.starts_with(&format!("00-{trace}-")), "{passed_on}");
        assert!(!passed_on.contains("00f067aa0ba902b7"), "the span itself is the parent");
        span.end(Ended { status: Some(503), route: "exapp", end: "upstream_abort" });
        tokio::task::spawn_blocking(move || traces.stop()).await.unwrap();
        let told = tokio::time::timeout(SEND_WITHIN, collector).await.expect("no span").unwrap();
        let text = String::from_utf8_lossy(&told);
        assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{text}");
        for word in ["trigon", "/exapps/demo/a", "upstream_abort", "http.response.status_code"] {
            assert!(text.contains(word), "{word}: {text}");
        }
        assert!(!text.contains("secret"), "{text}");
        let trace: Vec<u8> =
            (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap()).collect();
        assert!(told.windows(16).any(|sixteen| sixteen == trace), "not the caller's trace");
    }

    #[tokio::test]
    async fn a_collector_that_cannot_be_reached_by_http_is_refused_at_once() {
        for endpoint in ["https://collector:4318", "collector:4318", "http:///v1"] {
            let Err(why) = start_towards(endpoint) else { panic!("{endpoint} was taken") };
            assert!(why.contains(endpoint), "{why}");
        }
    }
}
