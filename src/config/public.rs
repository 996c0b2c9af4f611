//! The section `[public]`: the listener for the name visitors type.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::file::Section;
use crate::acme;
use crate::frontend;
use crate::frontend::public::Config;
use crate::http::tls::Files;
use crate::http::tls::certificates::Certificates;

/// None without the section.
pub(super) fn read(mut section: Section<'_, '_>, beside: &frontend::Config) -> Option<Config> {
    if !section.is_present() {
        return None;
    }
    let listen: SocketAddr = section.optional("listen").unwrap_or(Config::LISTEN);
    let http_listen = read_http_listen(&mut section);
    let taken = [Some(beside.listen), beside.tls.as_ref().map(|tls| tls.listen)];
    for (key, address) in [("listen", Some(listen)), ("http_listen", http_listen)] {
        if let Some(address) = address.filter(|it| taken.contains(&Some(*it))) {
            section.wrong(key, address.to_string(), "another port than those of [exapps]");
        }
    }
    if http_listen == Some(listen) {
        section.wrong("http_listen", listen.to_string(), "another port than that of public.listen");
    }
    let certificates = read_certificates(&mut section);
    let acme = read_acme(section.section("acme"), http_listen.is_some());
    if certificates.is_empty() && acme == Acme::None {
        let expected = "a section [[public.certificates]] for the public name, or [public.acme]";
        section.wrong("certificates", "nothing", expected);
    }
    let redirect_http = section.optional("redirect_http").unwrap_or(true);
    let hsts = section.optional("hsts").unwrap_or(Config::HSTS);
    let trusted_proxies = section.list("trusted_proxies");
    let announcers = section.list("accept_proxy_protocol_from");
    let most = section.positive("connections_per_client");
    section.finish();
    Some(Config {
        listen,
        http_listen,
        certificates,
        redirect_http,
        hsts,
        trusted_proxies,
        announcers,
        connections_per_client: most.unwrap_or(Config::CONNECTIONS_PER_CLIENT),
        acme: match acme {
            Acme::Whole(acme) => Some(acme),
            Acme::None | Acme::Wrong => None,
        },
    })
}

#[derive(PartialEq)]
enum Acme {
    None,
    Wrong,
    Whole(acme::Config),
}

fn read_acme(mut section: Section<'_, '_>, has_http: bool) -> Acme {
    if !section.is_present() {
        return Acme::None;
    }
    if !has_http {
        let expected = "public.http_listen as well: the authority asks over plain HTTP";
        section.wrong("names", "public.http_listen = \"off\"", expected);
    }
    let directory = section.optional("directory");
    let mut names: Vec<String> = section.list("names");
    names.iter_mut().for_each(|name| name.make_ascii_lowercase());
    if names.is_empty() {
        section.wrong("names", "nothing", "a list of host names such as [\"cloud.example.org\"]");
    } else if names.len() > cluster::record::MAX_ACME_NAMES {
        let found = format!("{} names", names.len());
        section.wrong("names", found, "100 at most: a certificate holds no more");
    }
    for name in names.iter().filter(|name| !is_host(name)) {
        let expected = "a host name such as \"cloud.example.org\"; for wildcards and addresses the \
                        authority wants other proofs than can be given here";
        section.wrong("names", format!("\"{name}\""), expected);
    }
    let contact = section.optional::<String>("contact");
    let contact = contact.map(|it| it.strip_prefix("mailto:").map(str::to_owned).unwrap_or(it));
    if let Some(contact) = contact.as_ref().filter(|contact| !contact.contains('@')) {
        let expected = "a mail address such as \"admin@example.org\"";
        section.wrong("contact", format!("\"{contact}\""), expected);
    }
    let config = acme::Config {
        directory: directory.unwrap_or_else(|| acme::Config::DIRECTORY.to_owned()),
        names,
        contact,
        authorities: section.optional("authorities"),
    };
    match acme::Keeper::check(&config) {
        Err(acme::Error::Url(url)) => {
            section.wrong("directory", format!("\"{url}\""), "a URL that begins with https://");
        }
        Err(error) => section.complaint("public.acme.authorities", error.to_string()),
        Ok(()) => {}
    }
    section.finish();
    if config.names.is_empty() { Acme::Wrong } else { Acme::Whole(config) }
}

/// A name with a dot that a certificate can be ordered for.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(is_label)
        && name.parse::<std::net::IpAddr>().is_err()
}

fn read_http_listen(section: &mut Section<'_, '_>) -> Option<SocketAddr> {
    let Some(text) = section.optional::<String>("http_listen") else {
        return Some(Config::HTTP_LISTEN);
    };
    if text == "off" {
        return None;
    }
    let address = text.parse().ok();
    if address.is_none() {
        let expected = "an address and port such as \"0.0.0.0:80\", or \"off\"";
        section.wrong("http_listen", format!("\"{text}\""), expected);
    }
    address
}

/// Each is read here, so that what is wrong with it is told before anything starts.
fn read_certificates(section: &mut Section<'_, '_>) -> Vec<Files> {
    let mut known: Vec<String> = Vec::new();
    let mut all = Vec::new();
    for mut one in section.sections("certificates") {
        let certificate = one.required("certificate");
        let key = one.optional("key");
        let Some(certificate) = certificate else {
            one.finish();
            continue;
        };
        let files = Files { certificate, key };
        match Certificates::open(vec![files.clone()]) {
            Err(error) => {
                let of_key = error.is_key && files.key.is_some();
                one.wrong(if of_key { "key" } else { "certificate" }, error.to_string(), "");
            }
            Ok(opened) => hint(&one, &opened, &mut known),
        }
        one.finish();
        all.push(files);
    }
    all
}

/// What is allowed and hardly meant.
fn hint(section: &Section<'_, '_>, opened: &Certificates, known: &mut Vec<String>) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    for shown in opened.shown() {
        if shown.names.is_empty() {
            let text = "the certificate is for no DNS name: no client will accept it";
            section.hint("certificate", text.to_owned());
        }
        if shown.ends_at.is_some_and(|end| end <= now.as_secs()) {
            section.hint("certificate", "the certificate has ended".to_owned());
        }
        let twice = shown.names.iter().filter(|name| known.contains(name));
        let twice: Vec<_> = twice.map(String::as_str).collect();
        if !twice.is_empty() {
            let text = format!("an earlier certificate is for {} too, and shown", twice.join(", "));
            section.hint("certificate", text);
        }
        known.extend(shown.names);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::parse::parse;

    /// What is wrong with a file whose `[public]` holds this, or worth a second look.
    fn told(dir: &Path, public: &str) -> Vec<String> {
        let etc = dir.display();
        std::fs::write(dir.join("key"), "k").unwrap();
        let text = format!(
            "[node]\nstate_dir = '{etc}'\n[nextcloud]\nurl = 'http://nc'\n[exapps]\n\
             shared_key_file = '{etc}/key'\n[public]\n{}",
            public.replace("DIR", &etc.to_string())
        );
        match parse("t", &text) {
            Ok(config) => config.hints.iter().map(ToString::to_string).collect(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_is_wrong_with_the_public_listener_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let text = made.cert.pem() + &made.signing_key.serialize_pem();
            std::fs::write(dir.path().join(file), text).unwrap();
        };
        write("good", &["cloud.example"]);
        write("nameless", &[]);
        std::fs::write(dir.path().join("rubbish"), "rubbish").unwrap();
        let good = "[[public.certificates]]\ncertificate = 'DIR/good'\n";
        let acme = "[public.acme]\nnames = ['Cloud.example.org']\n";
        for (public, parts) in [
            (good.to_owned(), &[][..]),
            (format!("http_listen = 'off'\nhsts = '0s'\n{good}"), &[]),
            (String::new(), &["public.certificates: found nothing"]),
            (format!("http_listen = 'on'\n{good}"), &["public.http_listen: found \"on\""]),
            (format!("http_listen = '0.0.0.0:443'\n{good}"), &["that of public.listen"]),
            (format!("listen = '0.0.0.0:8780'\n{good}"), &["than those of [exapps]"]),
            (format!("connections_per_client = 0\n{good}"), &["public.connections_per_client"]),
            (
                good.replace("good", "rubbish"),
                &["public.certificates[0].certificate: ", "holds no certificate"],
            ),
            (good.replace("good", "nameless"), &["is for no DNS name"]),
            (acme.to_owned(), &[]),
            (format!("http_listen = 'off'\n{acme}"), &["asks over plain HTTP"]),
            (acme.replace("Cloud", "*"), &["found \"*.example.org\", expected a host name"]),
            (acme.replace("Cloud.example.org", "192.0.2.1"), &["found \"192.0.2.1\""]),
            ("[public.acme]\n".to_owned(), &["public.acme.names: found nothing"]),
            (format!("{acme}directory = 'http://ca'\n"), &["begins with https://"]),
            (format!("{acme}contact = 'me'\n"), &["public.acme.contact"]),
            (format!("{acme}authorities = 'DIR/good'\n"), &[]),
            (format!("{acme}authorities = 'DIR/rubbish'\n"), &["holds no certificate"]),
            (format!("{good}{good}"), &["an earlier certificate is for cloud.example too"]),
        ] {
            let told = told(dir.path(), &public);
            assert_eq!(told.len(), usize::from(!parts.is_empty()), "{public}: {told:?}");
            assert!(parts.iter().all(|part| told[0].contains(part)), "{public}: {told:?}");
        }
    }
}
