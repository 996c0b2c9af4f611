//! The listener for the public name.

use cluster::Command;
use cluster::record::{Acme, AcmeOrder};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::acme;
use crate::balance::pool::Terms;
use crate::http::tls::Files;
use crate::net::Target;
use crate::web::{Check, Checks, PoolConfig, ServerConfig};

struct Public {
    bed: Bed,
    https: SocketAddr,
    http: SocketAddr,
    roots: Vec<CertificateDer<'static>>,
    _dir: tempfile::TempDir,
}

impl Public {
    /// For `cloud.example` and `office.example`, each with a certificate of its own.
    async fn start(change: impl FnOnce(&mut public::Config)) -> Self {
        Self::before(None, change).await
    }

    /// The same in front of one web node of Nextcloud.
    async fn before(
        web_node: Option<SocketAddr>,
        change: impl FnOnce(&mut public::Config),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut roots = Vec::new();
        let certificates = ["cloud.example", "office.example"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let path = dir.path().join(name);
            std::fs::write(&path, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
            roots.push(made.cert.der().clone());
            Files { certificate: path, key: None }
        });
        let mut config = public::Config {
            listen: public::Config::LISTEN,
            http_listen: Some(public::Config::HTTP_LISTEN),
            certificates: certificates.to_vec(),
            redirect_http: true,
            hsts: public::Config::HSTS,
            trusted_proxies: Vec::new(),
            announcers: Vec::new(),
            connections_per_client: public::Config::CONNECTIONS_PER_CLIENT,
            acme: Some(acme::Config {
                directory: acme::Config::DIRECTORY.to_owned(),
                names: vec!["cloud.example".to_owned()],
                contact: None,
                authorities: None,
            }),
        };
        change(&mut config);
        let bed = Bed::with(|all| {
            all.public = Some(config);
            all.web = web_node.map(web_pool);
            all.timeouts.client = Duration::from_millis(500);
        })
        .await;
        let [https, http] = bed.public.unwrap();
        Self { bed, https, http, roots, _dir: dir }
    }

    async fn handshake(&self, name: &str, alpn: &str, tcp: TcpStream) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots.add(root.clone()).unwrap();
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
    }

    async fn tls(&self, name: &str, alpn: &str) -> TlsStream<TcpStream> {
        self.handshake(name, alpn, TcpStream::connect(self.https).await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Response<Incoming> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.tls("cloud.example", "http/1.1").await))
                .await
                .unwrap();
        tokio::spawn(connection);
        let asked = request("GET", path, &[("host", "cloud.example"), ("connection", "close")]);
        sender.send_request(asked).await.unwrap()
    }

    async fn get_by_http2(&self, path: &str) -> Response<Incoming> {
        let (mut sender, connection) = http2::handshake(
            TokioExecutor::new(),
            TokioIo::new(self.tls("cloud.example", "h2").await),
        )
        .await
        .unwrap();
        tokio::spawn(connection);
        let path = format!("https://cloud.example{path}");
        sender.send_request(request("GET", &path, &[])).await.unwrap()
    }
}

fn web_pool(node: SocketAddr) -> web::Config {
    let pool = PoolConfig {
        name: "web".into(),
        servers: vec![ServerConfig {
            name: "web1".into(),
            target: Target::Tcp { host: node.ip().to_string().into(), port: node.port() },
        }],
        check: Check::Off,
        terms: Terms::default(),
    };
    web::Config {
        pool,
        routes: Vec::new(),
        checks: Checks::default(),
        connect: LONG,
        response: LONG,
        request_body: LONG,
        queue: LONG,
        retry_percent: 0,
    }
}

fn header<'r>(answer: &'r Response<Incoming>, name: &str) -> Option<&'r str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn one_name_leads_to_exapps_and_to_nextcloud_in_both_versions_of_http() {
    let public = Public::start(|_| {}).await;
    for (path, status, location) in [
        ("/exapps/demo/public", 200, None),
        ("/exapps/demo/user", 403, None),
        ("/.well-known/caldav", 301, Some("/remote.php/dav/")),
        ("/index.php/login", 503, None),
    ] {
        for answer in [public.get(path).await, public.get_by_http2(path).await] {
            assert_eq!((answer.status().as_u16(), header(&answer, "location")), (status, location));
            assert_eq!(header(&answer, "strict-transport-security"), Some("max-age=15552000"));
        }
    }
    let seen = json_of(public.get_by_http2("/exapps/demo/public").await).await;
    assert_eq!(seen["headers"]["x-forwarded-proto"], "https");
    assert_eq!(seen["headers"]["x-forwarded-host"], "cloud.example");
    assert_eq!(seen["headers"]["x-forwarded-for"], "127.0.0.1");
}

#[tokio::test]
async fn what_is_not_for_an_exapp_goes_to_the_web_nodes_with_the_clients_address() {
    let web_node = ExApp::start().await;
    let public = Public::before(Some(web_node.address), |_| {}).await;
    for path in ["/", "/index.php/login?a=%2F"] {
        for answer in [public.get(path).await, public.get_by_http2(path).await] {
            assert_eq!(header(&answer, "strict-transport-security"), Some("max-age=15552000"));
            let seen = json_of(answer).await;
            assert_eq!(seen["target"], path);
            for (name, value) in [
                ("host", "cloud.example"),
                ("x-forwarded-for", "127.0.0.1"),
                ("x-real-ip", "127.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "cloud.example"),
            ] {
                assert_eq!(seen["headers"][name], value, "{name}");
            }
        }
    }
    assert_eq!(calls(&web_node.requests), 4);
    let seen = json_of(public.get("/exapps/demo/public").await).await;
    assert_eq!(seen["target"], "/public", "the ExApp got it");
    assert_eq!(calls(&web_node.requests), 4);
}

#[tokio::test]
async fn plain_http_leads_to_https_and_answers_challenges_of_either_nodes_order() {
    let public = Public::start(|_| {}).await;
    let host = [("host", "cloud.example")];
    let answer = send(public.http, request("GET", "/a%2Fb?c", &host)).await;
    assert_eq!(answer.status(), 301);
    assert_eq!(header(&answer, "location"), Some("https://cloud.example/a%2Fb?c"));
    assert_eq!(header(&answer, "strict-transport-security"), None, "not over plain HTTP");
    let answer = send(public.http, request("PUT", "/x", &host)).await;
    assert_eq!(answer.status(), 308, "what was sent is to be sent again");

    let path = "/.well-known/acme-challenge/tok";
    assert_eq!(send(public.http, request("GET", path, &host)).await.status(), 404);
    let answers = vec![("tok".to_owned(), "tok.thumbprint".to_owned())];
    let order = Some(AcmeOrder { node: 2, until: u64::MAX, answers });
    let acme = Command::SetAcme(Box::new(Acme { revision: 1, order, ..Acme::default() }));
    public.bed.cluster.propose(acme, LONG).await.unwrap();
    let answer = send(public.http, request("GET", path, &host)).await;
    assert_eq!(body_of(answer).await, "tok.thumbprint");
}

#[tokio::test]
async fn each_name_has_its_certificate_and_strangers_break_nothing() {
    let public = Public::start(|_| {}).await;
    for (name, shown) in [("cloud.example", 0), ("office.example", 1)] {
        let stream = public.tls(name, "http/1.1").await;
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(chain[0], public.roots[shown], "{name}");
    }
    // Garbage, plain HTTP, and a hello that never ends.
    for rubbish in
        [&[0xff; 600][..], b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", b"\x16\x03\x01\x40\x00\x01"]
    {
        let mut stream = TcpStream::connect(public.https).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        let mut end = Vec::new();
        // Whether it is closed or reset, it ends.
        let _ = timeout(LONG, stream.read_to_end(&mut end)).await.unwrap();
    }
    assert_eq!(public.get("/exapps/demo/public").await.status(), 200);
}

#[tokio::test]
async fn a_flood_of_one_address_is_turned_away_and_half_open_connections_end() {
    let public = Public::start(|config| config.connections_per_client = 3).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(TcpStream::connect(public.https).await.unwrap());
    }
    let mut turned_away = TcpStream::connect(public.https).await.unwrap();
    assert_eq!(timeout(LONG, turned_away.read(&mut [0])).await.unwrap().unwrap(), 0);
    // Nothing was said on these: the time for a handshake ends them.
    for stream in &mut open {
        assert_eq!(timeout(LONG, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    }
    assert_eq!(public.get("/exapps/demo/public").await.status(), 200);
}

#[tokio::test]
async fn a_balancer_in_front_says_whose_connection_it_is() {
    let loopback = || vec!["127.0.0.0/8".parse().unwrap()];
    let public = Public::start(|config| config.announcers = loopback()).await;
    let mut tcp = TcpStream::connect(public.https).await.unwrap();
    tcp.write_all(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 443\r\n").await.unwrap();
    let stream = public.handshake("cloud.example", "http/1.1", tcp).await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let forged = [("host", "cloud.example"), ("x-forwarded-for", "203.0.113.1")];
    let asked = request("GET", "/exapps/demo/public", &forged);
    let seen = json_of(sender.send_request(asked).await.unwrap()).await;
    assert_eq!(seen["headers"]["x-forwarded-for"], "198.51.100.7");

    let mut bare = TcpStream::connect(public.http).await.unwrap();
    bare.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LONG, bare.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty(), "without the header nobody is served");
}
