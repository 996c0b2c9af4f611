//! The configuration as an admin meets it: what is told when it is wrong, and that the reference
//! names exactly the keys that exist.

use std::collections::BTreeSet;
use std::path::Path;

use trigon::config::parse::parse;

const REFERENCE: &str = include_str!("../docs/reference/config.md");

/// A file in which every section holds one unknown key, so that the answer lists the known ones.
const NOSY: &str = r#"
[node]
zz = 1
[log]
zz = 1
[metrics]
zz = 1
[status_page]
zz = 1
[nextcloud]
zz = 1
[[tenants]]
zz = 1
[exapps]
zz = 1
[public]
zz = 1
[[public.certificates]]
zz = 1
[public.acme]
zz = 1
[web]
zz = 1
[[web.backends]]
zz = 1
[[web.routes]]
zz = 1
[docker]
zz = 1
[frp]
zz = 1
[galera]
zz = 1
[[galera.nodes]]
zz = 1
[failover]
zz = 1
[cluster]
zz = 1
[[vrrp]]
zz = 1
[[vrrp.track]]
zz = 1
"#;

fn problems(text: &str) -> Vec<String> {
    match parse("trigon.toml", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// What the package installs as the configuration.
const SAMPLE: &str = include_str!("../packaging/trigon.toml");

#[test]
fn the_sample_lacks_what_an_operator_has_to_fill_in_and_nothing_else() {
    let missing = problems(SAMPLE);
    let lacks = |key: &str| missing.iter().any(|problem| problem.contains(key));
    assert!(lacks("nextcloud.url") && lacks("exapps.shared_key_file"), "{missing:?}");
    assert_eq!(missing.len(), 2, "{missing:?}");
}

#[test]
fn every_key_the_sample_shows_is_one_with_a_good_value() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shared.key"), "k\n").unwrap();
    let etc = dir.path().display().to_string();
    // A key stands right behind its `#`, an explanation after a blank.
    let is_key = |line: &&str| !line.starts_with("# ") && !line.starts_with("#tls_");
    let keys: Vec<_> = SAMPLE.lines().filter(is_key).map(|l| l.trim_start_matches('#')).collect();
    let text = keys.join("\n").replace("/etc/trigon", &etc);
    assert!(text.contains("[[vrrp]]") && text.contains("role"), "{text}");
    assert_eq!(
        problems(&format!("[node]\nstate_dir = '{etc}'\n{}", text.replacen("[node]", "", 1))),
        [""; 0]
    );
}

#[test]
fn the_reference_names_exactly_the_keys_that_exist() {
    let mut known = BTreeSet::new();
    for problem in parse("t", NOSY).unwrap_err().0 {
        let Some(keys) = problem.expected.strip_prefix("one of: ") else { continue };
        let section = problem.key.strip_suffix(".zz").unwrap().replace("[0]", "[]");
        known.extend(keys.split(", ").map(|key| format!("{section}.{key}")));
    }
    // Sections below sections have rows for their own keys.
    let below = [
        "vrrp[].track",
        "public.certificates",
        "public.acme",
        "galera.nodes",
        "web.backends",
        "web.routes",
    ];
    for section in below {
        known.remove(section);
    }
    let documented: BTreeSet<String> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect();
    assert_eq!(known, documented);
}

fn good(dir: &Path) -> String {
    format!(
        "[nextcloud]\nurl = 'https://cloud.example.org'\n[exapps]\nshared_key_file = '{}'\n",
        dir.join("key").display()
    )
}

#[test]
fn the_smallest_configuration_is_two_keys() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    assert_eq!(problems(&good(dir.path())), [""; 0]);
}

#[test]
fn a_wrong_value_is_told_with_file_line_key_found_and_expected() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let good = good(dir.path());
    for (extra, line) in [
        (
            "[frp]\nlisten = '8782'\n",
            "trigon.toml:6: frp.listen: found '8782', expected an address",
        ),
        ("[frp]\nport = 1\n", "trigon.toml:6: frp.port: found a key trigon does not know"),
        (
            "[node]\nrole = 'boss'\n",
            "trigon.toml:6: node.role: found \"boss\", expected \"node\" or",
        ),
        (
            "[[vrrp]]\ninterface = 'eth0'\nvrid = 0\naddresses = ['192.0.2.1']\n",
            "trigon.toml:7: vrrp[0].vrid: 0 is not a virtual router id; use 1-255",
        ),
        (
            "[[vrrp]]\ninterface = 'eth0'\nvrid = 1\naddresses = ['192.0.2']\n",
            "trigon.toml:8: vrrp[0].addresses: found '192.0.2', expected an address of one host",
        ),
        (
            "[[vrrp]]\ninterface='eth0'\nvrid=1\npriority=255\naddresses=['192.0.2.1']\n",
            "trigon.toml:8: vrrp[0].priority: 255 is not allowed",
        ),
    ] {
        let found = problems(&format!("{good}{extra}"));
        assert!(found.iter().any(|problem| problem.starts_with(line)), "{line}\n{found:#?}");
    }
}

#[test]
fn the_front_of_a_database_needs_a_user_who_asks_and_nodes_to_ask() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "p\n").unwrap();
    let set_mode = |mode| {
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let section = format!("password_file = '{}'\n", password.display());
    let user = format!("user = 'trigon'\n{section}");
    let node = |name: &str, last: u8| {
        format!("[[galera.nodes]]\nname = '{name}'\naddress = '10.0.0.{last}:3306'\n")
    };
    let found = |text: String| problems(&format!("{}[galera]\n{text}", good(dir.path())));
    set_mode(0o600);
    let nodes = node("db1", 1) + &node("db2", 2);
    assert_eq!(found(format!("{user}{nodes}")), [""; 0]);
    for (text, expect) in [
        (format!("{section}{nodes}"), "galera.user: found no monitor user, expected a database"),
        (format!("user = 'trigon'\n{nodes}"), "galera.password_file: found nothing"),
        (user.clone(), "galera.nodes: found no node"),
        (
            format!("{user}{}{}", node("db1", 1), node("db1", 2)),
            "nodes[1].name: found \"db1\" again",
        ),
        (format!("{user}{}{}", node("db1", 1), node("db2", 1)), "nodes[1].address: found"),
        (format!("{user}{}", node("a b", 1)), "nodes[0].name: found \"a b\""),
        (format!("{user}check_interval = '1ms'\n{nodes}"), "galera.check_interval: found 1ms"),
        (format!("{user}wait = '5m'\n{nodes}"), "galera.wait: found 300s"),
        (format!("{user}max_sessions = 0\n{nodes}"), "galera.max_sessions: found 0"),
        (format!("{user}reader_listen = '0.0.0.0:3306'\n{nodes}"), "galera.reader_listen: found"),
    ] {
        let problems = found(text);
        assert_eq!(problems.len(), 1, "{expect}: {problems:#?}");
        assert!(problems[0].contains(expect), "{expect}: {problems:#?}");
    }
    let alone = format!("{}[galera]\n{user}{}", good(dir.path()), node("db1", 1));
    let hints = parse("trigon.toml", &alone).unwrap().hints;
    assert!(hints[0].to_string().contains("only db1: nothing takes over"), "{hints:?}");
    set_mode(0o644);
    assert!(found(format!("{user}{nodes}"))[0].contains("mode 0644"));
}

#[test]
fn an_unreadable_or_empty_key_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = problems(&good(dir.path()));
    assert_eq!(missing.len(), 1, "{missing:#?}");
    assert!(missing[0].contains("trigon.toml:4: exapps.shared_key_file: found "), "{missing:#?}");
    assert!(missing[0].contains("No such file"), "{missing:#?}");
    std::fs::write(dir.path().join("key"), "\n").unwrap();
    assert!(problems(&good(dir.path()))[0].contains("an empty file"));
    std::fs::write(dir.path().join("key"), "schl\u{fc}ssel\n").unwrap();
    assert!(problems(&good(dir.path()))[0].contains("printable ASCII"));
}

#[test]
fn the_static_list_of_members_is_refused_with_what_replaces_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let cluster = "[node]\nid = 3\n[cluster]\nlisten='10.0.0.1:7443'\nca='c'\n\
                   [[cluster.members]]\nid=1\naddress='10.0.0.1:7443'\n";
    let found = problems(&format!("{}{cluster}", good(dir.path())));
    assert_eq!(found.len(), 3, "{found:#?}");
    for key in ["node.id", "cluster.ca", "cluster.members"] {
        let told =
            |p: &&String| p.contains(&format!("{key}: found")) && p.contains("`trigon join`");
        assert!(found.iter().find(told).is_some(), "{key}: {found:#?}");
    }
}

/// A state directory of node 2 of a cluster, with the role witness if it is one.
fn member(dir: &Path, witness: bool) -> String {
    let role = if witness { cluster::Role::Witness } else { cluster::Role::Node };
    let at = |last: u8| std::net::SocketAddr::from(([192, 0, 2, last], 7443));
    let (first, second) = (dir.join("first"), dir.join("second"));
    let founding = cluster::Founding {
        cluster_name: "alpha".into(),
        node_name: "a".into(),
        advertise: Some(at(1)),
    };
    cluster::found(&first, &founding).expect("a new directory");
    let admission = cluster::Admission { node_name: "b".into(), role, advertise: at(2) };
    cluster::admit(&first, &second, &admission).expect("a founder that never ran");
    format!("[node]\nstate_dir = '{}'\n", second.display())
}

#[test]
fn the_second_load_balancer_of_a_cluster_comes_second_for_the_address() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let router = "[[vrrp]]\ninterface = 'eth0'\nvrid = 1\naddresses = ['192.0.2.10']\n";
    let priority = |node: &str| {
        let text = format!("{}{node}{router}", good(dir.path()));
        let config = parse("trigon.toml", &text).unwrap();
        format!("{:?}", config.serve.unwrap().routers[0].priority())
    };
    assert_eq!(priority("[node]\nstate_dir = '/no/such/directory'\n"), "Priority(254)");
    let second = member(dir.path(), false);
    assert_eq!(priority(&second), "Priority(253)");
    assert_eq!(parse("t", &format!("{}{second}", good(dir.path()))).unwrap().node.name, "b");
}

#[test]
fn a_passport_that_does_not_fit_is_named_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let node = member(dir.path(), true);
    let found = problems(&format!("{}{node}role = 'node'\n", good(dir.path())));
    assert_eq!(found.len(), 1, "{found:#?}");
    for part in ["node.role: ", "belongs to a witness, node 2 of cluster \"alpha\"", "join with"] {
        assert!(found[0].contains(part), "{part}: {found:#?}");
    }
    // Without a word about the role, the passport decides: a witness needs no other section.
    let text = format!("{node}[cluster]\nlisten = '192.0.2.2:7443'\n");
    assert!(parse("t", &text).unwrap().serve.is_none());
    std::fs::write(dir.path().join("second/node.json"), "{}").unwrap();
    let found = problems(&format!("{}{node}", good(dir.path())));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("node.state_dir: ") && found[0].contains("node.json"), "{found:#?}");
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_with_the_key_to_look_at() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(at("key"), "k\n").unwrap();
    let made = rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap();
    std::fs::write(at("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(at("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (at("cert.pem"), at("key.pem"));
    for (keys, told) in [
        (format!("tls_certificate = '{cert}'\ntls_key = '{key}'"), None),
        (format!("tls_listen = '[::]:443'\ntls_certificate = '{cert}'\ntls_key = '{key}'"), None),
        ("tls_listen = '[::]:443'".to_owned(), None),
        (
            format!("tls_certificate = '{cert}'"),
            Some(":5: exapps.tls_certificate: CERT: holds no private key; add it to the file"),
        ),
        (
            format!("tls_certificate = '{cert}'\ntls_key = '{cert}'"),
            Some(":6: exapps.tls_key: CERT: holds no private key; expected PEM"),
        ),
        (
            format!("tls_certificate = '/nowhere'\ntls_key = '{key}'"),
            Some(":5: exapps.tls_certificate: /nowhere: cannot be read"),
        ),
        (
            format!("tls_key = '{key}'"),
            Some(":5: exapps.tls_key: found a key without a certificate, expected exapps.tls_cert"),
        ),
        (
            format!("tls_listen = '0.0.0.0:8780'\ntls_certificate = '{cert}'\ntls_key = '{key}'"),
            Some(":5: exapps.tls_listen: found 0.0.0.0:8780, expected another port"),
        ),
    ] {
        let found = problems(&format!("{}{keys}\n", good(dir.path())));
        match told {
            None => assert_eq!(found, [""; 0], "{keys}"),
            Some(told) => {
                let told = format!("trigon.toml{}", told.replace("CERT", &cert));
                assert!(found.len() == 1 && found[0].starts_with(&told), "{told}\n{found:#?}");
            }
        }
    }
}

/// The documents that say what became of HaRP's features and weaknesses.
const COMPAT: [(&str, &str); 2] = [
    ("harp.md", include_str!("../docs/compat/harp.md")),
    ("weaknesses.md", include_str!("../docs/compat/weaknesses.md")),
];

#[test]
fn every_row_about_harp_is_whole_and_its_tests_exist() {
    let mut sources = String::new();
    for folder in ["src", "tests", "cluster/src", "cluster/tests", "vrrp/src", "vrrp/tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut sources);
    }
    let mut problems = Vec::new();
    for (document, text) in COMPAT {
        for row in text.lines().filter(|line| line.starts_with("| ")) {
            let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
            if cells.iter().any(|cell| cell.is_empty()) {
                problems.push(format!("{document}: an empty cell in {row}"));
            }
            let names = cells.last().unwrap().split('`').skip(1).step_by(2);
            for name in names {
                // A plain test, or a table of `tests/harp`, whose macro makes it one.
                let known = [format!("fn {name}("), format!("\n    {name}: ")];
                if !known.iter().any(|declared| sources.contains(declared)) {
                    problems.push(format!("{document}: there is no test {name}"));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn collect(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).expect("source folders are readable") {
        let path = entry.expect("readable entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&std::fs::read_to_string(path).expect("source is UTF-8"));
        }
    }
}

#[test]
fn tenants_need_names_keys_and_hosts_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for (name, key) in [("key", "one\n"), ("two", "two\n"), ("same", "one\n")] {
        std::fs::write(dir.path().join(name), key).unwrap();
    }
    let tenant = |name: &str, key: &str, hosts: &str| {
        let key = dir.path().join(key);
        format!(
            "[[tenants]]\nname = '{name}'\nurl = 'https://b.example'\nshared_key_file = '{}'\n\
             hosts = {hosts}\n",
            key.display()
        )
    };
    let found = |tenants: &[String]| problems(&format!("{}{}", good(dir.path()), tenants.concat()));
    let fine = tenant("b", "two", "['b.example']");
    assert_eq!(found(std::slice::from_ref(&fine)), [""; 0]);
    for (second, problem) in [
        (tenant("b", "two", "['b.example']"), "tenants[1].name: found \"b\" again"),
        (tenant("B", "two", "['x']"), "tenants[1].name: found \"B\", expected 1 to 32"),
        (tenant("c", "two", "['x']"), "tenants[1].shared_key_file: found the key of another"),
        (tenant("c", "same", "['x']"), "tenants[1].shared_key_file: found the key of another"),
        (tenant("c", "two", "['B.Example']"), "tenants[1].hosts: found \"b.example\" again"),
        (tenant("c", "two", "['x', 'x']"), "tenants[1].hosts: found \"x\" again"),
        (tenant("c", "two", "['x:443']"), "tenants[1].hosts: found \"x:443\", expected a host"),
        (tenant("c", "two", "['https://x']"), "tenants[1].hosts: found \"https://x\""),
        (tenant("c", "two", "[]"), "tenants[1].hosts: found none"),
    ] {
        let found = found(&[fine.clone(), second]);
        assert!(found.iter().any(|found| found.contains(problem)), "{problem}\n{found:#?}");
    }
}

#[test]
fn what_is_wrong_with_a_virtual_router_is_told_by_key() {
    for (lines, told) in [
        ("version = 4", "vrrp[0].version: found 4, expected 2 or 3"),
        ("version = 2", "vrrp[0].advert_interval: 100 ms is not allowed in version 2"),
        (
            "password_file = '/x'",
            "vrrp[0].password_file: found a password, which version 3 does not",
        ),
        (
            "version = 2\nadvert_interval = '1s'\npassword_file = '/no/such'",
            "/no/such: No such file",
        ),
        (
            "version = 2\nadvert_interval = '1s'\nchecksum = 'auto'",
            "vrrp[0].checksum: found a choice",
        ),
        ("addresses = ['2001:db8::1', '192.0.2.1']", "vrrp[0].addresses: 192.0.2.1 is of another"),
        ("addresses = ['192.0.2.1/33']", "expected an address of one host"),
        ("extra_addresses = ['192.0.2.9']", "vrrp[0].addresses: 192.0.2.9 is listed twice"),
        ("priority = 255", "vrrp[0].priority: 255 is not allowed"),
        ("preempt_delay = '2h'", "vrrp[0].preempt_delay: 7200 s is not allowed"),
        ("unicast_source = '192.0.2.1'", "vrrp[0].unicast_source: found a source without peers"),
        ("unicast_peers = ['fe80::1']", "vrrp[0].unicast_peers: fe80::1 is not of the family"),
        (
            "unicast_peers = ['192.0.2.2']\nmembers = ['192.0.2.3']",
            "vrrp[0].members: 192.0.2.2 is a unicast peer and no member",
        ),
        ("[[vrrp.track]]\nweight = 5", "vrrp[0].track[0].script: found nothing to track"),
        ("[[vrrp.track]]\ninterface = 'a'\nfile = '/b'", "found several things to track"),
        ("[[vrrp.track]]\nfile = 'b'", "vrrp[0].track[0].file: found \"b\", expected an absolute"),
        ("[[vrrp.track]]\nfile = '/b'\nrise = 2", "vrrp[0].track[0].rise: found a key of scripts"),
        ("[[vrrp.track]]\nscript = ''", "vrrp[0].track[0].script: found '', expected a list"),
        ("[[vrrp.track]]\nscript = 'x'\nuser = 'no such'", "found \"no such\", expected a user"),
        ("[[vrrp.track]]\nhealth = 'all'", "vrrp[0].track[0].health: found \"all\", expected"),
        ("[[vrrp.track]]\nfile = '/b'\nweight = 300", "vrrp[0].track[0].weight: found 300"),
        (
            "[[vrrp.track]]\nfile = '/b'\n[[vrrp.track]]\nfile = '/b'",
            "vrrp[0].track: file /b is tracked twice",
        ),
        (
            "[[vrrp]]\ninterface = 'eth1'\nvrid = 8\naddresses = ['192.0.2.9']",
            "vrrp[1].addresses: 192.0.2.9 is listed twice",
        ),
        (
            "name = 'eth1-8'\n[[vrrp]]\ninterface = 'eth1'\nvrid = 8\naddresses = ['192.0.2.8']",
            "vrrp[1].name: eth1-8 is used by two",
        ),
    ] {
        let own = if lines.starts_with("addresses") { "" } else { "addresses = ['192.0.2.9']\n" };
        let found = problems(&format!("[[vrrp]]\ninterface = 'eth0'\nvrid = 7\n{own}{lines}\n"));
        assert!(found.iter().any(|problem| problem.contains(told)), "{lines}: {found:#?}");
    }
}

#[test]
fn a_password_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pw");
    std::fs::write(&path, "secret\n").unwrap();
    let text = format!(
        "[[vrrp]]\ninterface = 'eth0'\nvrid = 7\naddresses = ['192.0.2.9']\nversion = 2\n\
         advert_interval = '1s'\npassword_file = '{}'\n",
        path.display()
    );
    let about = || problems(&text).into_iter().find(|problem| problem.contains("password_file"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(about().unwrap().contains("found") && about().unwrap().contains("mode 0640"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(about(), None);
    std::fs::write(&path, "ninechars").unwrap();
    assert!(about().unwrap().contains("9 octets found"));
}

#[test]
fn the_status_page_wants_a_private_token_and_a_private_way() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let (good, token) = (good(dir.path()), dir.path().join("token"));
    std::fs::write(dir.path().join("key"), "k\n").unwrap();
    let (long, secret) = ("0123456789abcdef0123\n", 0o600);
    let loopback = "listen = '127.0.0.1:9109'\n";
    let everywhere = "listen = '0.0.0.0:9109'\n";
    let insecure = format!("{everywhere}insecure = true\n");
    let refused = "0.0.0.0:9109, expected status_page.certificate as well, an address of this";
    for (text, mode, rest, problem) in [
        (long, secret, loopback, None),
        (long, secret, "listen = '[::1]:9109'\n", None),
        (long, secret, &insecure, None),
        (long, secret, everywhere, Some(refused)),
        (long, 0o640, loopback, Some("mode 0640, expected 0600")),
        (long, 0o604, loopback, Some("mode 0604, expected 0600")),
        ("0123456789abcdef012\n", secret, loopback, Some("at least 20 printable")),
        ("0123456789 abcdef0123\n", secret, loopback, Some("without spaces")),
        ("", secret, loopback, Some("something else than a token")),
        (long, secret, "", Some("status_page.listen: found nothing")),
        (long, secret, "listen='[::1]:1'\nkey='k'\n", Some("a key without a certificate")),
    ] {
        std::fs::write(&token, text).unwrap();
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(mode)).unwrap();
        let section = format!("[status_page]\ntoken_file = '{}'\n{rest}", token.display());
        let found = problems(&format!("{good}{section}"));
        match problem {
            None => assert_eq!(found, [""; 0], "{rest}"),
            Some(problem) => {
                assert!(found.len() == 1 && found[0].contains(problem), "{problem}: {found:#?}");
            }
        }
    }
}
