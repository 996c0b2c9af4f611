//! The public name of a pair and a witness in network namespaces, with a certificate of a real
//! ACME server: `tests/run --public` builds pebble and runs it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "how long things took is for people")]

mod authority;
#[path = "../failover/vips.rs"]
mod vips;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trigon::admin::Status;
use trigon::admin::public::Orders;
use trigon::lab::namespaces::Lan;

use authority::Authority;
use vips::{Member, VIPS};

/// The name that is ordered, and one with a certificate in a file.
const NAME: &str = "cloud.example";
const FILED: &str = "office.example";

fn peer(version: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/peers/frpc-{version}"));
    path.display().to_string()
}

fn config(index: usize, dir: &Path) -> String {
    let member = vips::config(index, dir);
    if index == 2 {
        return member;
    }
    let dir = dir.display();
    format!(
        "{member}[public]\nlisten = '0.0.0.0:443'\nhttp_listen = '0.0.0.0:80'\n\
         [[public.certificates]]\ncertificate = '{dir}/filed.pem'\n\
         [public.acme]\nnames = ['{NAME}']\ncontact = 'admin@example.org'\n\
         directory = 'https://{}:14000/dir'\nauthorities = '{dir}/authorities.pem'\n",
        vips::CLOUD
    )
}

fn orders(status: &Status) -> Option<&Orders> {
    status.public.as_ref()?.orders.as_ref()
}

/// Whether the ordered certificate is in force.
fn is_issued(status: &Status) -> bool {
    let public = status.public.as_ref();
    public.is_some_and(|public| public.certificates.iter().any(|one| one.names == [NAME]))
}

/// A connection to the name at an address, as a browser that trusts `root` makes it.
async fn connect(
    at: Ipv4Addr,
    name: &str,
    root: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect((at, 443)).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

fn shown(stream: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
}

/// Asks on a connection that stays open, for what is no failure to be banned for; the status.
async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<u16> {
    stream.write_all(b"GET /.well-known/caldav HTTP/1.1\r\nhost: cloud.example\r\n\r\n").await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut body).await?;
    Ok(head.split(' ').nth(1).unwrap().parse().unwrap())
}

/// What curl says about a page: version of HTTP, status, where it is sent.
async fn curl(root: &Path, options: &[&str], url: &str) -> String {
    let resolve = |port| format!("{NAME}:{port}:{}", VIPS[0]);
    let mut command = std::process::Command::new("curl");
    command
        .args(["-s", "-o", "/dev/null", "-w", "%{http_version} %{http_code} %{redirect_url}"])
        .args(["--resolve", &resolve(443), "--resolve", &resolve(80), "--cacert"])
        .arg(root)
        .args(options)
        .arg(url);
    // On a thread of its own: the Nextcloud it leads to runs on this one.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// The authority may ask now: which node orders.
async fn ordering(members: &[Member; 3]) -> usize {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        for member in &members[..2] {
            let status = member.status().await;
            let order = status.as_ref().and_then(orders).filter(|order| order.challenges > 0);
            if let Some(node) = order.and_then(|order| order.ordered_by) {
                return usize::try_from(node).unwrap() - 1;
            }
        }
        let logs = || members[..2].iter().map(Member::log).collect::<Vec<_>>().join("\n---\n");
        assert!(Instant::now() < limit, "no node orders a certificate:\n{}", logs());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn life_of_a_certificate(lan: Lan) {
    vips::nextcloud().await;
    let authority = Authority::start();
    let mut members = vips::members(&lan, config);
    let filed = rcgen::generate_simple_self_signed([FILED.to_owned()]).unwrap();
    for member in &mut members {
        let pem = filed.cert.pem() + &filed.signing_key.serialize_pem();
        std::fs::write(member.dir.path().join("filed.pem"), pem).unwrap();
        std::fs::write(member.dir.path().join("authorities.pem"), authority.api_root()).unwrap();
        member.start();
    }

    // One node orders. The name leads to the address it is Active for, and its power goes while
    // the authority is about to look.
    let orderer = ordering(&members).await;
    let other = 1 - orderer;
    authority.name_leads_to(VIPS[orderer]);
    // Whoever is left must be a majority, and know it: a witness that has just come has no vote.
    let votes_are_given =
        |status: &Status| status.cluster.voters.len() == 3 && !status.cluster.changing;
    for member in &members {
        member.until("three votes", votes_are_given).await;
    }
    members[other].until("the other node holds out", |status| status.ready).await;
    members[orderer].power_cut();
    let cut = Instant::now();
    members[other].until("a certificate in spite of that", is_issued).await;
    println!("power cut to certificate: {:.1} s", cut.elapsed().as_secs_f64());
    let root = authority.root();
    let first = shown(&connect(VIPS[orderer], NAME, &root).await.unwrap());

    // The other one comes back and shows it too, without an order of its own.
    members[orderer].host.reboot().unwrap();
    members[orderer].start();
    members[orderer].until("it is shown by both", is_issued).await;
    members[orderer].until("the node serves", |status| status.ready).await;
    // Each has its own address again: from here on nothing moves.
    for (index, member) in members[..2].iter().enumerate() {
        member.holds(&[index == 0, index == 1]).await;
    }
    for vip in VIPS {
        assert_eq!(shown(&connect(vip, NAME, &root).await.unwrap()), first);
    }

    for (options, url, expected) in [
        (&["--http2"][..], "https://cloud.example/exapps/none", "2 404 "),
        (&["--http1.1"], "https://cloud.example/exapps/none", "1.1 404 "),
        (&[], "http://cloud.example/a%2Fb?c", "1.1 301 https://cloud.example/a%2Fb?c"),
        (
            &["-X", "PROPFIND"],
            "https://cloud.example/.well-known/caldav",
            "2 301 https://cloud.example/remote.php/dav/",
        ),
    ] {
        let said = curl(authority.root_file(), options, url).await;
        assert_eq!(said, expected, "{options:?} {url}");
    }
    strangers(&members, &root, filed.cert.der()).await;
    renewal(&root, &first).await;
    let failures = members[..2].iter().map(|member| member.status());
    for status in futures_util::future::join_all(failures).await {
        assert_eq!(orders(&status.unwrap()).unwrap().failed, None);
    }
}

/// Floods, garbage, unknown names and a rubbish file: each is survived, and told where it can be.
async fn strangers(
    members: &[Member; 3],
    root: &CertificateDer<'static>,
    filed: &CertificateDer<'static>,
) {
    let to = SocketAddr::from((VIPS[0], 443));
    let mut half_open = Vec::new();
    for _ in 0..500 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        half_open.push(stream);
    }
    for garbage in [&[0xff; 4000][..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(garbage).await.unwrap();
    }
    assert!(connect(VIPS[0], "nobody.example", root).await.is_err());
    assert_eq!(shown(&connect(VIPS[0], FILED, filed).await.unwrap()), *filed);
    for member in &members[..2] {
        std::fs::write(member.dir.path().join("filed.pem"), "rubbish").unwrap();
    }
    for member in &members[..2] {
        let is_told = |status: &Status| {
            let public = status.public.as_ref().unwrap();
            public.certificates.iter().any(|one| one.trouble.is_some())
        };
        member.until("the rubbish is told", is_told).await;
    }
    assert_eq!(shown(&connect(VIPS[0], FILED, filed).await.unwrap()), *filed, "the old one stays");
    let counted = members[0].status().await.unwrap().public.unwrap().unknown_names;
    assert!(counted > 0, "the unknown name is counted");
    let mut page = connect(VIPS[0], NAME, root).await.unwrap();
    assert_eq!(ask(&mut page).await.unwrap(), 301);
}

/// Both nodes show the next certificate, and connections that were open stay so.
async fn renewal(root: &CertificateDer<'static>, first: &CertificateDer<'static>) {
    let mut open =
        [connect(VIPS[0], NAME, root).await.unwrap(), connect(VIPS[1], NAME, root).await.unwrap()];
    let limit = Instant::now() + Duration::from_secs(240);
    let mut renewed = [false; 2];
    while renewed != [true; 2] {
        assert!(Instant::now() < limit, "never renewed: {renewed:?}");
        for (index, stream) in open.iter_mut().enumerate() {
            assert_eq!(ask(stream).await.unwrap(), 301, "the connection of before");
            let now = shown(&connect(VIPS[index], NAME, root).await.unwrap());
            renewed[index] |= now != *first;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for stream in &mut open {
        assert_eq!(ask(stream).await.unwrap(), 301, "and after");
    }
}

#[tokio::test]
async fn a_certificate_comes_in_spite_of_a_power_cut_is_shown_by_both_and_renewed() {
    let lan = Lan::new("trigon-public").unwrap();
    let cloud = lan.host("cloud", vips::CLOUD).unwrap();
    let test = cloud.enter_thread(move || life_of_a_certificate(lan)).unwrap();
    assert!(test.result().await.is_some(), "the test on the machine panicked, see above");
}

/// The first certificate of a PEM file.
fn certificate(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).unwrap()
}
