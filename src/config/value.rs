//! Single values of the configuration file: how each type is written and what to tell when it
//! is not. Sans-io.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeValue;
use vrrp::VirtualAddress;

use super::keepalived::command;
use crate::exapps::upstream::HostPattern;
use crate::net::Target;
use crate::proxy::policy::StripSession;

/// A type that can stand in the configuration file.
pub trait Value: Sized {
    /// How the value is written, for the message when it is not.
    const EXPECTED: &'static str;

    /// Reads the value; `None` when it is something else.
    fn read(raw: &DeValue<'_>) -> Option<Self>;
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        raw.as_bool()
    }
}

macro_rules! whole_number {
    ($type:ty, $expected:literal) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(raw: &DeValue<'_>) -> Option<Self> {
                let number = raw.as_integer()?;
                Self::from_str_radix(number.as_str(), number.radix()).ok()
            }
        }
    };
}
whole_number!(u8, "a whole number from 0 to 255");
whole_number!(i16, "a whole number, with a minus sign or without");
whole_number!(u16, "a whole number from 0 to 65535");
whole_number!(u32, "a whole number from 0 to 4294967295");
whole_number!(u64, "a whole number, 0 or more");
whole_number!(usize, "a whole number, 0 or more");

macro_rules! parsed_text {
    ($type:ty, $expected:literal) => {
        impl Value for $type {
            const EXPECTED: &'static str = $expected;

            fn read(raw: &DeValue<'_>) -> Option<Self> {
                raw.as_str()?.parse().ok()
            }
        }
    };
}
parsed_text!(IpAddr, "an IP address such as \"192.0.2.10\"");
parsed_text!(
    VirtualAddress,
    "an address of one host, such as \"192.0.2.10\", \"192.0.2.10/24\" or \"2001:db8::10\""
);
parsed_text!(SocketAddr, "an address and port such as \"0.0.0.0:8780\" or \"[::]:8780\"");

impl Value for IpNet {
    const EXPECTED: &'static str = "an address or network such as \"192.0.2.1\" or \"10.0.0.0/8\"";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        let text = raw.as_str()?;
        text.parse::<Self>()
            .map(|net| net.trunc())
            .or_else(|_not_a_net| text.parse::<IpAddr>().map(Self::from))
            .ok()
    }
}

impl Value for Target {
    const EXPECTED: &'static str =
        "a host and port such as \"10.0.0.11:80\", \"[fd00::11]:80\" or \"web1.internal:80\"";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        let (host, port) = raw.as_str()?.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_good = match bracketed {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                !host.is_empty() && host.bytes().all(fine)
            }
        };
        is_good.then(|| Self::Tcp { host: bracketed.unwrap_or(host).into(), port })
    }
}

impl Value for HostPattern {
    const EXPECTED: &'static str = "a host name, an address or network, or \"*\" for every host";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        Self::parse(raw.as_str()?)
    }
}

impl Value for StripSession {
    const EXPECTED: &'static str = "true, false, or a list of ExApp ids such as [\"demo\"]";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        if let Some(all) = raw.as_bool() {
            return Some(if all { Self::Always } else { Self::Never });
        }
        let apps = raw.as_array()?.iter();
        let apps = apps.map(|app| app.get_ref().as_str().map(str::to_lowercase));
        apps.collect::<Option<_>>().map(Self::Apps)
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text in quotes, not empty";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        raw.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

/// A program and its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub Vec<String>);

impl Value for Command {
    const EXPECTED: &'static str = "a list of words such as [\"/usr/bin/check\", \"-q\"], or one \
                                    text that is split at blanks as keepalived does";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        let words = match raw.as_array() {
            Some(words) => {
                let words = words.iter().map(|word| word.get_ref().as_str().map(str::to_owned));
                words.collect::<Option<Vec<_>>>()?
            }
            None => command(raw.as_str()?),
        };
        words.first().is_some_and(|program| !program.is_empty()).then_some(Self(words))
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        raw.as_str().filter(|text| !text.is_empty()).map(Self::from)
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration with its unit, such as \"100ms\", \"3s\" or \"5m\"";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        duration(raw.as_str()?)
    }
}

/// A duration as it is written in the file and on the command line.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let amount: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "ms" => Some(Duration::from_millis(amount)),
        "s" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_secs(amount.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(amount.checked_mul(3600)?)),
        "d" => Some(Duration::from_secs(amount.checked_mul(86_400)?)),
        _ => None,
    }
}

impl Value for RangeInclusive<u16> {
    const EXPECTED: &'static str = "a port range in quotes, low to high, such as \"23000-23999\"";

    fn read(raw: &DeValue<'_>) -> Option<Self> {
        let (low, high) = raw.as_str()?.split_once('-')?;
        let range = low.trim().parse().ok()?..=high.trim().parse().ok()?;
        (*range.start() > 0 && !range.is_empty()).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Option<T> {
        T::read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, expect) in [
            ("'100ms'", Some(Duration::from_millis(100))),
            ("'3s'", Some(Duration::from_secs(3))),
            ("'5m'", Some(Duration::from_secs(300))),
            ("'2h'", Some(Duration::from_secs(7200))),
            ("'1d'", Some(Duration::from_secs(86_400))),
            ("'100'", None),
            ("'ms'", None),
            ("'1.5s'", None),
            ("'99999999999999999999s'", None),
            ("'18446744073709551615d'", None),
            ("100", None),
        ] {
            assert_eq!(read::<Duration>(text), expect, "{text}");
        }
    }

    #[test]
    fn port_ranges_run_upwards_from_one() {
        assert_eq!(read::<RangeInclusive<u16>>("'23000-23999'"), Some(23000..=23999));
        for wrong in ["'23999-23000'", "'0-10'", "'1-70000'", "'23000'", "23000"] {
            assert_eq!(read::<RangeInclusive<u16>>(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (text, expected) in [
            ("'10.0.0.11:80'", Some(("10.0.0.11", 80))),
            ("'web1.internal:8080'", Some(("web1.internal", 8080))),
            ("'[fd00::11]:80'", Some(("fd00::11", 80))),
            ("'fd00::11:80'", None),
            ("'[web1]:80'", None),
            ("'http://web1:80'", None),
            ("'web1'", None),
            ("':80'", None),
            ("'web1:0'", None),
            ("'web1:99999'", None),
        ] {
            let target = expected.map(|(host, port)| Target::Tcp { host: host.into(), port });
            assert_eq!(read::<Target>(text), target, "{text}");
        }
    }

    #[test]
    fn a_network_may_be_a_single_address_and_host_bits_are_masked() {
        assert_eq!(read::<IpNet>("'10.1.2.3/8'").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(read::<IpNet>("'192.0.2.1'").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(read::<IpNet>("'example.org'"), None);
    }

    #[test]
    fn a_command_is_a_list_of_words_or_split_into_one() {
        let words = |words: &[&str]| Some(Command(words.iter().map(ToString::to_string).collect()));
        for (text, expect) in [
            ("['/bin/x', 'a b']", words(&["/bin/x", "a b"])),
            ("\"/bin/x 'a b' c\"", words(&["/bin/x", "a b", "c"])),
            ("[]", None),
            ("['']", None),
            ("''", None),
            ("['x', 1]", None),
            ("1", None),
        ] {
            assert_eq!(read::<Command>(text), expect, "{text}");
        }
        assert_eq!(read::<i16>("-20"), Some(-20));
        assert_eq!(read::<i16>("40000"), None);
    }

    #[test]
    fn numbers_out_of_range_are_not_numbers_of_that_type() {
        assert_eq!(read::<u8>("255"), Some(255));
        assert_eq!(read::<u8>("256"), None);
        assert_eq!(read::<u16>("0x1f90"), Some(8080));
        assert_eq!(read::<u64>("-1"), None);
    }
}
