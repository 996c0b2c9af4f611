//! Where a Linux distribution keeps its certificate authorities, and which it is. Sans-io.
//!
//! HaRP looks for a distribution's name anywhere in `/etc/os-release`; so do we, because its
//! derivatives name their parent there.

/// Most links on the way to a file.
pub const MOST_LINKS: usize = 8;

/// Where the file stands that tells the distribution.
pub const OS_RELEASE: &str = "/etc/os-release";

/// How a family of distributions keeps its authorities.
#[derive(Debug, PartialEq, Eq)]
pub struct TrustStore {
    /// Folder for authorities of the administrator's own, without the leading slash.
    pub anchors: &'static str,
    /// The program that rebuilds the store from them.
    pub rebuild: &'static [&'static str],
    /// Parent of the folder it writes.
    pub parent: &'static str,
    /// That folder.
    pub folder: &'static str,
    /// The file programs read all authorities from, without the leading slash.
    pub bundle: &'static str,
}

const DEBIAN: TrustStore = TrustStore {
    anchors: "usr/local/share/ca-certificates",
    rebuild: &["update-ca-certificates"],
    parent: "/etc/ssl",
    folder: "/etc/ssl/certs",
    bundle: "etc/ssl/certs/ca-certificates.crt",
};

const RED_HAT: TrustStore = TrustStore {
    anchors: "etc/pki/ca-trust/source/anchors",
    rebuild: &["update-ca-trust", "extract"],
    parent: "/etc/pki/ca-trust",
    folder: "/etc/pki/ca-trust/extracted",
    bundle: "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
};

impl TrustStore {
    /// The store of the distribution that `/etc/os-release` describes; none if it is not known.
    pub fn of(os_release: &str) -> Option<&'static Self> {
        let text = os_release.to_ascii_lowercase();
        let mentions = |names: &[&str]| names.iter().any(|name| text.contains(name));
        if mentions(&["alpine", "debian", "ubuntu"]) {
            Some(&DEBIAN)
        } else if mentions(&["centos", "almalinux", "rhel", "fedora"]) {
            Some(&RED_HAT)
        } else {
            None
        }
    }
}

/// The certificates of a bundle, each with its armour; what stands between them is left out.
pub fn certificates(bundle: &str) -> Vec<&str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = bundle;
    while let Some(begin) = rest.find(BEGIN) {
        let Some(end) = rest[begin..].find(END) else { break };
        let end = begin + end + END.len();
        found.push(&rest[begin..end]);
        rest = &rest[end..];
    }
    found
}

/// The absolute path that a link at the absolute path `at` points to.
pub fn follow(at: &str, link: &str) -> String {
    let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
    let joined = if link.starts_with('/') { link.to_owned() } else { format!("{folder}/{link}") };
    let mut segments = Vec::new();
    for segment in joined.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_and_their_derivatives_are_known() {
        for (os_release, store) in [
            ("NAME=\"Alpine Linux\"\nID=alpine\n", Some(&DEBIAN)),
            ("ID=debian\n", Some(&DEBIAN)),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Some(&DEBIAN)),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some(&RED_HAT)),
            ("ID=FEDORA\n", Some(&RED_HAT)),
            ("ID=arch\n", None),
            ("", None),
        ] {
            assert_eq!(TrustStore::of(os_release), store, "{os_release}");
        }
    }

    #[test]
    fn a_bundle_falls_into_its_certificates() {
        let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";
        let two = "-----BEGIN CERTIFICATE-----\nBB==\n-----END CERTIFICATE-----";
        let bundle = format!("# first\n{one}\n\n# second\n{two}\ntrailing\n");
        assert_eq!(certificates(&bundle), [one, two]);
        let key = "-----BEGIN PRIVATE KEY-----\nCC==\n-----END PRIVATE KEY-----\n";
        assert_eq!(certificates(&format!("{key}{one}")), [one]);
        assert_eq!(certificates(&format!("{one}\n-----BEGIN CERTIFICATE-----\nDD")), [one]);
        assert!(certificates("no certificate").is_empty());
    }

    #[test]
    fn links_are_followed_within_the_container() {
        for (at, link, expect) in [
            ("/etc/os-release", "../usr/lib/os-release", "/usr/lib/os-release"),
            ("/etc/os-release", "os-release.real", "/etc/os-release.real"),
            ("/etc/os-release", "/lib/./os-release", "/lib/os-release"),
            ("/etc/os-release", "../../../../x", "/x"),
        ] {
            assert_eq!(follow(at, link), expect);
        }
    }
}
