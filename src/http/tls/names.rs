//! The names a certificate is for, and which of several a client means. Sans-io.
//!
//! Only subject alternative names count, as browsers have it since 2017. A wildcard stands for one
//! label (RFC 6125 section 6.4.3).

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The DNS names of a certificate, lower-cased.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<String>);

/// How well a certificate fits a name; better ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// By a wildcard.
    Wildcard,
    /// By the name itself.
    Exact,
}

impl Names {
    /// Those of a certificate in DER; none when it cannot be read.
    pub(super) fn of(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Self::default() };
        let Ok(Some(names)) = certificate.subject_alternative_name() else {
            return Self::default();
        };
        let dns = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        Self(dns.collect())
    }

    /// As they stand in the certificate.
    pub(super) fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// How well they fit the host `name`; none if not at all.
    pub(super) fn fit(&self, name: &str) -> Option<Fit> {
        let is_exact = |own: &String| own.eq_ignore_ascii_case(name);
        let parent = name.split_once('.').map(|(_, parent)| parent);
        let is_wildcard = |own: &String| {
            let own = own.strip_prefix("*.");
            own.is_some_and(|own| parent.is_some_and(|parent| own.eq_ignore_ascii_case(parent)))
        };
        if self.0.iter().any(is_exact) {
            return Some(Fit::Exact);
        }
        self.0.iter().any(is_wildcard).then_some(Fit::Wildcard)
    }
}

/// The one of `all` that fits `name` best; of equals the first.
pub(super) fn choose<'n>(all: impl Iterator<Item = &'n Names>, name: &str) -> Option<usize> {
    let fitting = all.enumerate().filter_map(|(at, names)| Some((names.fit(name)?, at)));
    fitting.max_by_key(|(fit, at)| (*fit, std::cmp::Reverse(*at))).map(|(_, at)| at)
}

/// When a certificate in DER ends, seconds since the Unix epoch.
pub(super) fn ends_at(der: &[u8]) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_chosen_by_its_own_names() {
        let all = [
            &["cloud.example", "www.cloud.example"][..],
            &["*.example"],
            &["office.example"],
            &["office.example", "*.deep.example"],
            &[],
        ];
        let all = all.map(|names| Names(names.iter().map(ToString::to_string).collect()));
        for (name, chosen) in [
            ("cloud.example", Some(0)),
            ("WWW.Cloud.Example", Some(0)),
            ("talk.example", Some(1)),
            ("office.example", Some(2)),
            ("a.deep.example", Some(3)),
            ("a.b.deep.example", None),
            ("example", None),
            ("cloud.example.evil", None),
            ("*.example", Some(1)),
            ("", None),
        ] {
            assert_eq!(choose(all.iter(), name), chosen, "{name}");
        }
    }

    #[test]
    fn names_come_out_of_the_certificate() {
        let names = ["Cloud.example".to_owned(), "*.example".to_owned(), "192.0.2.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        assert_eq!(Names::of(made.cert.der()).as_slice(), ["cloud.example", "*.example"]);
        assert!(ends_at(made.cert.der()).is_some_and(|end| end > 4_000_000_000));
        assert_eq!((Names::of(b"rubbish").as_slice(), ends_at(b"rubbish")), (&[][..], None));
    }
}
