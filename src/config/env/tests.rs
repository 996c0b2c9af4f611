use proptest::prelude::*;

use super::*;
use crate::config::parse::parse_with_key;

fn translate(variables: &[(&str, &str)], key_file: Option<&[u8]>) -> Translation {
    let own = |text: &&str| (*text).to_owned();
    let environment = Environment::new(variables.iter().map(|(n, v)| (own(n), own(v))));
    environment
        .translate(&Files { key: key_file.map(|content| Ok(content.to_vec())), ..Files::default() })
}

/// The same with the two variables that must be there.
fn with(variables: &[(&str, &str)]) -> Translation {
    let mut all = vec![(KEY, "k3y"), (URL, "https://cloud.example.org")];
    all.extend(variables);
    translate(&all, None)
}

fn told(translation: &Translation) -> Vec<String> {
    translation.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_smallest_environment_is_two_variables() {
    let made = with(&[]);
    assert_eq!(told(&made), [""; 0]);
    assert_eq!(
        made.document.toml(),
        "\n[nextcloud]\n# NC_INSTANCE_URL\nurl = \"https://cloud.example.org\"\n"
    );
    assert!(made.key.unwrap().secret.matches(b"k3y"));
}

#[test]
fn every_variable_of_harp_becomes_its_key() {
    let made = with(&[
        ("HP_EXAPPS_ADDRESS", "*:8780"),
        ("HP_FRP_ADDRESS", "0.0.0.0:8782"),
        ("HP_FRP_DISABLE_TLS", "true"),
        ("HP_FRP_CERT_VALIDITY_DAYS", "365"),
        ("HP_TRUSTED_PROXY_IPS", "10.0.0.0/8, “192.0.2.1”"),
        ("HP_LOG_LEVEL", "warning"),
        ("HP_SESSION_LIFETIME", "2.5"),
        ("HP_BLACKLIST_COUNT", "5"),
        ("HP_BLACKLIST_WINDOW", "60"),
        ("HP_TIMEOUT_CONNECT", "10s"),
        ("HP_TIMEOUT_CLIENT", "1m"),
        ("HP_TIMEOUT_SERVER", "1h"),
        ("HP_TIMEOUT_TUNNEL", "0"),
        ("TRIGON_STATE_DIR", "/data"),
    ]);
    assert_eq!(told(&made), [""; 0]);
    assert_eq!(made.notes, []);
    let toml = made.document.toml();
    let table: toml::Table = toml.parse().unwrap();
    let expected: toml::Table = r#"
        [node]
        state_dir = "/data"
        [log]
        level = "warn"
        [nextcloud]
        url = "https://cloud.example.org"
        [exapps]
        listen = "0.0.0.0:8780"
        trusted_proxies = ["10.0.0.0/8", "192.0.2.1/32"]
        session_lifetime = "2500ms"
        ban_count = 5
        ban_window = "60s"
        timeout_connect = "10s"
        timeout_client = "60s"
        timeout_server = "3600s"
        timeout_tunnel = "24d"
        [frp]
        listen = "0.0.0.0:8782"
        tls = false
        certificate_days = 365
    "#
    .parse()
    .unwrap();
    assert_eq!(table, expected);
}

#[test]
fn every_bad_value_is_told_at_once_with_its_variable() {
    let made = translate(
        &[
            ("NC_INSTANCE_URL", "cloud.example.org"),
            ("HP_SHARED_KEY", "schl\u{fc}ssel"),
            ("HP_EXAPPS_ADDRESS", "localhost:8780"),
            ("HP_FRP_DISABLE_TLS", "True"),
            ("HP_FRP_CERT_VALIDITY_DAYS", "0"),
            ("HP_TIMEOUT_SERVER", "soon"),
            ("HP_SESSION_LIFETIME", "11"),
            ("HP_BLACKLIST_COUNT", "0"),
            ("HP_LOG_LEVEL", "loud"),
            ("HP_TRUSTED_PROXY_IPS", "10.0.0.1, proxy, 10.0.0.0/99"),
            ("HP_K8S_ENABLED", "Yes"),
        ],
        None,
    );
    let mut told: Vec<_> = told(&made).iter().map(|t| t.replace("environment: ", "")).collect();
    told.sort();
    let starts = [
        "HP_BLACKLIST_COUNT: found \"0\", expected a whole number, 1 or more",
        "HP_EXAPPS_ADDRESS: found \"localhost:8780\", expected one IP address and port",
        "HP_FRP_CERT_VALIDITY_DAYS: found \"0\", expected whole days",
        "HP_FRP_DISABLE_TLS: found \"True\", expected exactly true or false",
        "HP_K8S_ENABLED: found \"Yes\", expected false: Trigon serves Docker engines",
        "HP_LOG_LEVEL: found \"loud\", expected debug",
        "HP_SESSION_LIFETIME: found \"11\", expected seconds from 0 to 10",
        "HP_SHARED_KEY: found other bytes than printable ASCII",
        "HP_TIMEOUT_SERVER: found \"soon\", expected a time",
        "HP_TRUSTED_PROXY_IPS: found \"10.0.0.0/99\", expected addresses",
        "HP_TRUSTED_PROXY_IPS: found \"proxy\", expected addresses",
        "NC_INSTANCE_URL: found \"cloud.example.org\", expected a URL",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{start}\n{told}");
    }
}

#[test]
fn a_quoted_proxy_works_and_host_bits_are_masked_with_a_note() {
    let made = with(&[("HP_TRUSTED_PROXY_IPS", "\"10.1.2.3/8\",'192.0.2.1',")]);
    assert_eq!(told(&made), [""; 0]);
    assert!(made.document.toml().contains("[\"10.0.0.0/8\", \"192.0.2.1/32\"]"));
    assert_eq!(
        made.notes[0].to_string(),
        "HP_TRUSTED_PROXY_IPS: \"10.1.2.3/8\" is taken as 10.0.0.0/8"
    );
}

#[test]
fn what_trigon_does_not_need_is_ignored_with_one_note_each() {
    let made = with(&[
        ("HP_SPOA_ADDRESS", "127.0.0.1:9600"),
        ("HP_WATCHDOG_FAILS", "12"),
        ("HP_WAIT_FRP", "30"),
        ("HP_VERBOSE_START", "1"),
        ("HP_K8S_ENABLED", "false"),
        ("HP_K8S_BEARER_TOKEN", "a-token"),
        ("HP_EXAPP_ADDRESS", "a typing error"),
        ("HP_TIMEOUT_CLIENT", "  "),
        ("TRIGON_LOG", "debug"),
        ("NC_OTHER", "x"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(told(&made), [""; 0]);
    let notes: Vec<_> = made.notes.iter().map(|n| (n.variable.as_str(), n.warn)).collect();
    assert_eq!(
        notes,
        [
            ("HP_EXAPP_ADDRESS", true),
            ("HP_K8S_BEARER_TOKEN", false),
            ("HP_SPOA_ADDRESS", false),
            ("HP_VERBOSE_START", false),
            ("HP_WAIT_FRP", false),
            ("HP_WATCHDOG_FAILS", false),
        ]
    );
    assert!(!format!("{:?}", made.notes).contains("a-token"));
}

#[test]
fn the_key_is_read_by_harps_rules() {
    type Expect = Result<(&'static str, bool), &'static str>;
    type Row = (Option<&'static str>, Option<&'static [u8]>, Expect);
    let rows: [Row; 14] = [
        (Some("plain"), None, Ok(("plain", false))),
        (Some("\"quoted\""), None, Ok(("quoted", false))),
        (Some("ends-in'"), None, Ok(("ends-in", false))),
        (Some("a b$c"), None, Ok(("a b$c", false))),
        (Some("a\"b"), None, Err("HP_SHARED_KEY: found a \" or a \\ in the key")),
        (Some("a\\b"), None, Err("HP_SHARED_KEY: found a \" or a \\ in the key")),
        (Some("a\tb"), None, Err("HP_SHARED_KEY: found other bytes")),
        (Some("\"\""), None, Err("HP_SHARED_KEY: found an empty key")),
        (None, Some(b"key\r\n\n"), Ok(("key", true))),
        (None, Some(b"'key'\n"), Ok(("key", false))),
        (None, Some(b"\n"), Err("HP_SHARED_KEY_FILE: found an empty key")),
        (None, Some(b"k\xff"), Err("HP_SHARED_KEY_FILE: found other bytes")),
        (Some("key"), Some(b"key"), Err("HP_SHARED_KEY: found HP_SHARED_KEY_FILE beside it")),
        (None, None, Err("HP_SHARED_KEY: found nothing, expected the shared key, or")),
    ];
    for (variable, file, expect) in rows {
        let mut all = vec![(URL, "https://cloud.example.org")];
        all.extend(variable.map(|key| (KEY, key)));
        all.extend(file.map(|_| (KEY_FILE, "/run/key")));
        let made = translate(&all, file);
        match expect {
            Ok((key, usable)) => {
                assert_eq!(told(&made), [""; 0]);
                let found = made.key.unwrap();
                assert!(found.secret.matches(key.as_bytes()), "{key}");
                assert_eq!(found.file_is_usable, usable, "{key}");
            }
            Err(text) => {
                let told = told(&made);
                assert_eq!(told.len(), 1, "{told:#?}");
                assert!(told[0].starts_with(&format!("environment: {text}")), "{}", told[0]);
                assert!(made.key.is_none());
            }
        }
    }
}

#[test]
fn certificates_that_lie_there_are_taken_and_https_needs_its_own() {
    let variables = [(KEY, "k"), (URL, "https://cloud.example.org"), (HTTPS, "*:8443")];
    let own = |text: &str| text.to_owned();
    let environment = Environment::new(variables.map(|(n, v)| (own(n), own(v))));
    let made = environment.translate(&Files {
        key: None,
        certificate: Some("/certs/cert.pem".into()),
        frp_certificates: Some("/certs/frp".into()),
    });
    let expected: toml::Table = r#"
        [nextcloud]
        url = "https://cloud.example.org"
        [exapps]
        tls_listen = "0.0.0.0:8443"
        tls_certificate = "/certs/cert.pem"
        [frp]
        certificates_from = "/certs/frp"
    "#
    .parse()
    .unwrap();
    assert_eq!(made.document.toml().parse::<toml::Table>().unwrap(), expected);
    assert_eq!((told(&made), made.notes), (Vec::new(), Vec::new()));
    let bare = environment.translate(&Files::default());
    assert_eq!(
        bare.notes[0].to_string(),
        "HP_EXAPPS_HTTPS_ADDRESS: no HTTPS: there is no /certs/cert.pem"
    );
    assert!(!bare.document.toml().contains("tls"));
    let wrong = with(&[(HTTPS, "0.0.0.0:8781 ssl")]);
    assert!(told(&wrong)[0].starts_with("environment: HP_EXAPPS_HTTPS_ADDRESS: found "));
}

#[test]
fn an_unreadable_key_file_is_named() {
    let environment = Environment::new([
        (KEY_FILE.to_owned(), "\"/run/key\"".to_owned()),
        (URL.to_owned(), "https://cloud.example.org".to_owned()),
    ]);
    assert_eq!(environment.key_file(), Some("/run/key"));
    let made =
        environment.translate(&Files { key: Some(Err("no such file".into())), ..Files::default() });
    let text = "environment: HP_SHARED_KEY_FILE: found /run/key: no such file, expected a file \
                that holds the shared key";
    assert_eq!(told(&made), [text]);
}

#[test]
fn the_parsers_problems_get_the_name_of_the_variable_and_nothing_is_told_twice() {
    let problem = |key: &str| Problem {
        file: NAME.into(),
        line: 7,
        key: key.into(),
        found: "x".into(),
        expected: "y".into(),
    };
    let made = translate(&[("HP_FRP_ADDRESS", "0.0.0.0:1"), ("HP_LOG_LEVEL", "loud")], None);
    let merged = made.merge(vec![
        problem("frp.listen"),
        problem("nextcloud.url"),
        problem("exapps.shared_key_file"),
    ]);
    let keys: Vec<_> = merged.iter().map(|p| (p.key.as_str(), p.line)).collect();
    assert_eq!(
        keys,
        [("HP_LOG_LEVEL", 0), (URL, 0), (KEY, 0), ("HP_FRP_ADDRESS", 0)],
        "{merged:#?}"
    );
}

#[test]
fn hostile_values_cannot_break_out_of_the_document() {
    let made = with(&[("TRIGON_STATE_DIR", "/a\"\n[exapps]\nlisten=\"1.1.1.1:1\"#'''")]);
    let text = made.document.file("x\n[y]", ("/k'\"\n", KEY), &made.notes);
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["node"]["state_dir"].as_str().unwrap().lines().count(), 3);
    assert!(table["exapps"].get("listen").is_none() && table.get("y").is_none());
    assert_eq!(table["exapps"]["shared_key_file"].as_str(), Some("/k'\"\n"));
}

proptest! {
    #[test]
    fn whatever_the_variables_hold_the_parser_agrees_with_the_translation(
        values in proptest::collection::vec(("[ -~\n“é]{0,12}|[0-9]{1,6}[smh]?|[0-9.:*]{1,14}", 0..19_usize), 0..8),
        file in proptest::option::of("[ -~\n]{0,12}"),
    ) {
        let more = [KEY, KEY_FILE, PROXIES, KUBERNETES];
        let name = |at: usize| more.get(at).copied().unwrap_or_else(|| ROWS[at - 4].0);
        let mut all: Vec<_> = vec![(URL, "http://x.example")];
        all.extend(values.iter().map(|(value, at)| (name(*at), value.as_str())));
        let made = translate(&all, file.as_deref().map(str::as_bytes));
        made.document.file("x", ("/key", KEY), &made.notes).parse::<toml::Table>().unwrap();
        let key = made.key.as_ref().map(|key| key.secret.clone());
        let parsed = parse_with_key(NAME, &made.document.toml(), key);
        prop_assert!(!made.problems.is_empty() || parsed.is_ok(), "{parsed:?}");
    }
}
