use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const SAMPLE: &str = include_str!("../../../tests/fixtures/keepalived/keepalived.conf");
const EXPECTED: &str = include_str!("../../../tests/fixtures/keepalived/trigon.toml");

fn notes(made: &Imported) -> Vec<String> {
    made.notes.iter().map(ToString::to_string).collect()
}

/// An instance with these further lines, beginning at line 6.
fn instance(lines: &str) -> Imported {
    let text = format!(
        "vrrp_instance VI {{\ninterface eth0\nvirtual_router_id 7\nvirtual_ipaddress {{ 192.0.2.9 \
         }}\n# five\n{lines}\n}}\n"
    );
    import(&text, "lb1")
}

fn toml(made: &Imported) -> toml::Table {
    made.toml("keepalived.conf", "/etc/trigon").parse().unwrap()
}

/// A key of the only router.
fn key(made: &Imported, key: &str) -> Option<String> {
    toml(made)["vrrp"][0].get(key).map(ToString::to_string)
}

#[test]
fn the_sample_becomes_the_file_beside_it() {
    let made = import(SAMPLE, "lb1");
    assert_eq!(made.toml("keepalived.conf", "/etc/trigon"), EXPECTED);
    let passwords = made.passwords();
    assert_eq!(passwords.len(), 1);
    assert_eq!(passwords[0].file, "vrrp-LEGACY.password");
    assert_eq!(passwords[0].secret.expose(), b"s3cr#t-a");
    assert!(!EXPECTED.contains("s3cr"), "the password stands in the file");
}

#[test]
fn the_other_node_of_the_sample_differs_as_its_keepalived_does() {
    let second = toml(&import(SAMPLE, "lb2"));
    let routers = second["vrrp"].as_array().unwrap();
    assert_eq!(routers[0]["priority"].as_integer(), Some(253));
    assert_eq!(routers[2]["unicast_source"].as_str(), Some("10.0.0.2"));
    let peers = routers[2]["unicast_peers"].as_array().unwrap();
    assert_eq!(
        peers.iter().map(|p| p.as_str().unwrap()).collect::<Vec<_>>(),
        ["10.0.0.1", "10.0.0.3"]
    );
}

#[test]
fn keepaliveds_defaults_are_written_out() {
    let made = instance("");
    assert_eq!(notes(&made), [""; 0]);
    for (name, value) in [
        ("name", "\"VI\""),
        ("interface", "\"eth0\""),
        ("vrid", "7"),
        ("version", "2"),
        ("addresses", "[\"192.0.2.9\"]"),
        ("priority", "100"),
        ("advert_interval", "\"1s\""),
        ("preempt", "true"),
    ] {
        assert_eq!(key(&made, name).as_deref(), Some(value), "{name}");
    }
    for absent in ["preempt_delay", "unicast_peers", "password_file", "track"] {
        assert_eq!(key(&made, absent), None, "{absent}");
    }
}

#[test]
fn each_keyword_becomes_its_key() {
    for (lines, name, value) in [
        ("priority 9", "priority", "9"),
        ("version 3\nadvert_int 0.1", "advert_interval", "\"100ms\""),
        ("advert_int 0.1\nversion 3", "advert_interval", "\"100ms\""),
        ("advert_int 2", "advert_interval", "\"2s\""),
        ("nopreempt", "preempt", "false"),
        ("preempt_delay 1.5", "preempt_delay", "\"1500ms\""),
        ("unicast_src_ip 192.0.2.1\nunicast_peer { 192.0.2.2 }", "unicast_source", "\"192.0.2.1\""),
        ("unicast_peer { 192.0.2.2 }", "unicast_peers", "[\"192.0.2.2\"]"),
        (
            "unicast_peer {\n192.0.2.2 min_ttl 254\n192.0.2.3\n}",
            "unicast_peers",
            "[\"192.0.2.2\", \"192.0.2.3\"]",
        ),
        (
            "virtual_ipaddress { 192.0.2.8/24 dev eth0 scope global }",
            "addresses",
            "[\"192.0.2.9\", \"192.0.2.8/24\"]",
        ),
        ("virtual_ipaddress { 192.0.2.8/32 }", "addresses", "[\"192.0.2.9\", \"192.0.2.8\"]"),
        (
            "virtual_ipaddress_excluded { 2001:db8::1/64 }",
            "extra_addresses",
            "[\"2001:db8::1/64\"]",
        ),
        (
            "authentication {\nauth_type PASS\nauth_pass x\n}",
            "password_file",
            "\"/etc/trigon/vrrp-VI.password\"",
        ),
    ] {
        let made = instance(lines);
        assert_eq!(key(&made, name).as_deref(), Some(value), "{lines}");
        assert_eq!(notes(&made), [""; 0], "{lines}");
    }
}

#[test]
fn what_is_not_carried_over_is_named_by_line_with_the_reason() {
    for (lines, expect) in [
        ("use_vmac", "line 6: `use_vmac`: set virtual_mac = true by hand"),
        ("notify_master /bin/x", "line 6: `notify_master`: no program is run"),
        ("smtp_alert", "line 6: `smtp_alert`: no mail is sent"),
        (
            "authentication {\nauth_type AH\nauth_pass x\n}",
            "line 7: `auth_type`: authentication AH",
        ),
        (
            "version 3\nauthentication {\nauth_pass x\n}",
            "line 8: `auth_pass`: version 3 has no passw",
        ),
        ("authentication {\nauth_pass 123456789\n}", "line 7: `auth_pass`: only the first eight"),
        (
            "virtual_routes {\n0.0.0.0/0 via 192.0.2.1\n}",
            "line 6: `virtual_routes`: routes and rules",
        ),
        ("virtual_ipaddress {\n2001:db8::1\n}", "line 7: `2001:db8::1`: not of the family"),
        ("virtual_ipaddress {\n192.0.2.8 dev eth9\n}", "line 7: `192.0.2.8`: an address on eth9"),
        (
            "virtual_ipaddress {\n192.0.2.8 label eth0:1\n}",
            "line 7: `192.0.2.8`: `label eth0:1` is",
        ),
        ("virtual_ipaddress {\nvip.example\n}", "line 7: `vip.example`: no address"),
        ("priority 255", "line 6: `priority`: 255 is for the owner"),
        ("priority 0", "line 6: `priority`: \"0\" is not a whole number from 1 to 255"),
        ("priority high", "line 6: `priority`: \"high\" is not a whole number"),
        ("advert_int 0.1", "line 6: `advert_int`: version 2 has steps of 1000 ms"),
        ("version 3\nadvert_int 0.015", "line 7: `advert_int`: version 3 has steps of 10 ms"),
        ("track_script {\ngone\n}", "line 7: `gone`: track_script: nothing usable"),
        (
            "track_interface {\neth1 weight 5 reverse\n}",
            "line 7: `eth1`: track_interface: a reversed",
        ),
        ("track_interface {\neth1 weight 999\n}", "line 7: `eth1`: track_interface: weight 999 is"),
        ("track_process {\np\n}", "line 6: `track_process`: not watched"),
        ("frobnicate 1", "line 6: `frobnicate`: not known"),
        ("include more.conf", "line 6: `include`: the file is not followed"),
        ("}\nvirtual_server 192.0.2.9 80 {", "line 7: `virtual_server`: load balancing by LVS"),
        (
            "}\nvrrp_instance VI {\ninterface eth0\nvirtual_router_id 8\nvirtual_ipaddress {192.0.2.1}",
            "line 7: `VI`: an instance of this name",
        ),
        (
            "}\nvrrp_instance W {\nvirtual_router_id 8\nvirtual_ipaddress {192.0.2.1}",
            "line 7: `vrrp_instance`: W lacks interface",
        ),
        (
            "}\nvrrp_instance W {\ninterface eth0\nvirtual_ipaddress {192.0.2.1}",
            "line 7: `vrrp_instance`: W lacks virtual_router_id",
        ),
        (
            "}\nvrrp_instance W {\ninterface eth0\nvirtual_router_id 8",
            "line 7: `vrrp_instance`: W lacks virtual_ipaddress",
        ),
        ("}\nvrrp_sync_group G {\ngroup {\nVI\n}", "line 7: `vrrp_sync_group`: a group of fewer"),
        ("}\nvrrp_script s {\ninterval 1", "line 7: `s`: a script without a command"),
        ("}\ntrack_file f {\nfile relative", "line 7: `f`: a file without an absolute path"),
        ("}\nglobal_defs {\nvrrp_strict", "line 8: `vrrp_strict`: the standard is kept"),
    ] {
        let made = instance(lines);
        let told = notes(&made);
        assert!(told.len() == 1 && told[0].starts_with(expect), "{lines}: {told:?}");
        assert_eq!(key(&made, "vrid").as_deref(), Some("7"), "{lines}");
        let shown = made.toml("f", "/d");
        assert!(shown.contains(&format!("# {}", told[0])), "{shown}");
    }
}

#[test]
fn trackers_carry_keepaliveds_defaults_and_weights() {
    let made = instance(
        "track_script {\na\nb weight -9\n}\ntrack_file {\nf\n}\ntrack_interface {\neth0\neth1\neth2 \
         weight 4\n}\n}\nvrrp_script a {\nscript \"x 'y z'\"\n}\nvrrp_script b {\nscript /bin/b \
         c\ninterval 5\ntimeout 3\nrise 2\nfall 4\nweight 7\nuser joe\ninit_fail\n}\ntrack_file f \
         {\nfile \"/run/f\"",
    );
    assert_eq!(notes(&made), [""; 0]);
    let table = toml(&made);
    let tracks: Vec<_> = table["vrrp"][0]["track"].as_array().unwrap().iter().collect();
    let told: Vec<String> =
        tracks.iter().map(|track| toml::to_string(track).unwrap().replace('\n', " ")).collect();
    assert_eq!(
        told,
        [
            "fall = 1 interval = \"1s\" rise = 1 script = [\"x\", \"y z\"] timeout = \"1s\" weight = 0 ",
            "fall = 4 init_fail = true interval = \"5s\" rise = 2 script = [\"/bin/b\", \"c\"] \
             timeout = \"3s\" user = \"joe\" weight = -9 ",
            "file = \"/run/f\" weight = 1 ",
            "interface = \"eth1\" weight = 0 ",
            "interface = \"eth2\" weight = 4 ",
        ]
    );
}

#[test]
fn the_first_address_decides_the_family() {
    for (list, version, kept) in [
        ("2001:db8::1\n192.0.2.9", "3", "[\"2001:db8::1\"]"),
        ("192.0.2.9\n2001:db8::1", "2", "[\"192.0.2.9\"]"),
    ] {
        let text = format!(
            "vrrp_instance V {{\ninterface e\nvirtual_router_id 1\nvirtual_ipaddress {{\n{list}\n}}\n}}"
        );
        let made = import(&text, "");
        assert_eq!(key(&made, "version").as_deref(), Some(version), "{list}");
        assert_eq!(key(&made, "addresses").as_deref(), Some(kept), "{list}");
        assert_eq!(made.notes.len(), 1, "{list}");
    }
}

#[test]
fn members_of_a_group_lose_their_own_weights_unless_told_otherwise() {
    let text = |more: &str| {
        let one = |name: &str, vrid: u8| {
            format!(
                "vrrp_instance {name} {{\ninterface e\nvirtual_router_id {vrid}\nvirtual_ipaddress \
                 {{ 192.0.2.{vrid} }}\ntrack_script {{\ns\n}}\n}}\n"
            )
        };
        format!(
            "{}{}vrrp_script s {{\nscript x\nweight 5\n}}\nvrrp_sync_group G {{\ngroup {{ A B \
             }}\n{more}\n}}\n",
            one("A", 1),
            one("B", 2)
        )
    };
    let weights = |made: &Imported| -> Vec<i64> {
        let table = toml(made);
        let routers = table["vrrp"].as_array().unwrap();
        assert!(routers.iter().all(|router| router["sync_group"].as_str() == Some("G")));
        let tracks = routers.iter().flat_map(|router| router["track"].as_array().unwrap());
        tracks.map(|track| track["weight"].as_integer().unwrap()).collect()
    };
    let made = import(&text(""), "");
    assert_eq!((weights(&made), made.notes.len()), (vec![0, 0], 2));
    let made = import(&text("sync_group_tracking_weight"), "");
    assert_eq!((weights(&made), notes(&made)), (vec![5, 5], vec![]));
    let made = import(&text("track_interface {\neth9 weight 3\n}"), "");
    assert_eq!(weights(&made), [0, 3, 0, 3]);
}

/// Whatever the text, the result is TOML whose values are what keepalived could have meant.
fn is_sound(text: &str) {
    let made = import(text, "lb1");
    let table: toml::Table = made.toml(text, "/etc/trigon").parse().expect("TOML");
    let none = Vec::new();
    let routers = table.get("vrrp").map_or(&none, |routers| routers.as_array().unwrap());
    assert_eq!(routers.len(), made.names().count());
    for router in routers {
        let v6 = |address: &toml::Value| {
            let text = address.as_str().unwrap().split('/').next().unwrap();
            text.parse::<IpAddr>().unwrap().is_ipv6()
        };
        let families: BTreeSet<_> =
            router["addresses"].as_array().unwrap().iter().map(v6).collect();
        assert_eq!(families.len(), 1, "{router}");
        assert!((1..=254).contains(&router["priority"].as_integer().unwrap()));
    }
}

/// Words that mean something, and some that do not.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "vrrp_instance",
        "vrrp_script",
        "vrrp_sync_group",
        "track_file",
        "global_defs",
        "group",
        "{",
        "}",
        "\n",
        "\n",
        "interface",
        "virtual_router_id",
        "7",
        "priority",
        "255",
        "advert_int",
        "0.1",
        "virtual_ipaddress",
        "192.0.2.1/24",
        "2001:db8::1",
        "dev",
        "weight",
        "-5",
        "\"",
        "#",
        "!",
        "$A=$B",
        "$B=$A",
        "${A}",
        "@lb1",
        "@^lb1",
        "\\",
        "script",
        "authentication",
        "auth_pass",
        "track_script",
        "track_interface",
        "version",
        "2",
        "A",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "\\PC{0,6}"]
}

proptest! {
    #[test]
    fn no_text_breaks_the_import(text in "(?s).{0,400}") {
        is_sound(&text);
    }

    #[test]
    fn no_order_of_known_words_breaks_the_import(words in prop::collection::vec(word(), 0..120)) {
        is_sound(&words.join(" "));
    }

    #[test]
    fn no_change_of_the_sample_breaks_the_import(at in 0..SAMPLE.len(), length in 0_usize..40, put in "\\PC{0,8}") {
        let end = (at + length).min(SAMPLE.len());
        if let (Some(head), Some(tail)) = (SAMPLE.get(..at), SAMPLE.get(end..)) {
            is_sound(&format!("{head}{put}{tail}"));
        }
    }
}
