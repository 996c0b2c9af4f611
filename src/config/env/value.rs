//! How HaRP's variables are written: quotes, HAProxy's times and addresses, Python's numbers
//! (contract 5). Each reader takes the text of a variable and gives the TOML value that says the
//! same, or what was expected. Sans-io.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use toml::Value;

/// The longest time HAProxy accepts, milliseconds.
const LONGEST: u128 = 2_147_483_647;

/// Where HaRP starts for ever: HAProxy would refuse more.
const FOR_EVER: &str = "24d";

/// A value, or what was expected.
pub(super) type Read = Result<Value, String>;

/// Quotes as HaRP's start script strips them: at most one `"` from each end, then at most one `'`
/// from each end, whether they are pairs or not.
pub(super) fn unquote(text: &str) -> &str {
    let text = text.strip_prefix('"').unwrap_or(text);
    let text = text.strip_suffix('"').unwrap_or(text);
    let text = text.strip_prefix('\'').unwrap_or(text);
    text.strip_suffix('\'').unwrap_or(text)
}

/// Any text that is not empty.
pub(super) fn text(text: &str) -> Read {
    Ok(unquote(text).into())
}

/// An address of HAProxy's `bind` line, or frp's `host:port`.
pub(super) fn address(text: &str) -> Read {
    let expected = || {
        "one IP address and port such as \"0.0.0.0:8780\", \"*:8780\" or \"[::]:8780\", without \
         options behind it"
            .to_owned()
    };
    parse_address(unquote(text.trim()).trim()).map(|a| a.to_string().into()).ok_or_else(expected)
}

fn parse_address(text: &str) -> Option<SocketAddr> {
    let (text, any) = match text.split_once('@') {
        Some(("ipv6", rest)) => (rest, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        Some(("ipv4", rest)) => (rest, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Some(_) => return None,
        None => (text, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
    };
    // HAProxy takes the last colon, so `:::8780` is an IPv6 address.
    let (host, port) = text.rsplit_once(':')?;
    let port = whole(port).filter(|port| (1..=65_535).contains(port))?;
    let ip = match host {
        "" | "*" => any,
        host => host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host)
            .parse()
            .ok()?,
    };
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

/// A time as HAProxy writes it: a number with `us`, `ms`, `s`, `m`, `h` or `d`; without a unit,
/// milliseconds.
pub(super) fn time(text: &str) -> Read {
    let expected = || {
        "a time such as \"500ms\", \"30s\", \"5m\", \"1h\" or \"30000\" (milliseconds), more than \
         nothing and at most 24 days"
            .to_owned()
    };
    let time = parse_time(unquote(text.trim())).filter(|time| !time.is_zero());
    time.map(|time| written(time).into()).ok_or_else(expected)
}

/// The same where nothing at all stands for ever.
pub(super) fn tunnel_time(text: &str) -> Read {
    match parse_time(unquote(text.trim())) {
        Some(time) if time.is_zero() => Ok(FOR_EVER.into()),
        _ => time(text),
    }
}

fn parse_time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let amount: u128 = text[..end].parse::<u64>().ok()?.into();
    let millis = match &text[end..] {
        "us" => amount.div_ceil(1000),
        "" | "ms" => amount,
        "s" => amount * 1000,
        "m" => amount * 60_000,
        "h" => amount * 3_600_000,
        "d" => amount * 86_400_000,
        _ => return None,
    };
    (millis <= LONGEST).then(|| u64::try_from(millis).ok().map(Duration::from_millis))?
}

/// Seconds with a fraction, from 0 to 10.
pub(super) fn lifetime(text: &str) -> Read {
    let seconds = unquote(text.trim()).parse::<f64>().ok();
    match seconds.filter(|seconds| (0.0..=10.0).contains(seconds)) {
        Some(seconds) => {
            let time = Duration::from_secs_f64(seconds);
            // Zero asks every time; less than a millisecond is not zero.
            let short = !time.is_zero() && time < Duration::from_millis(1);
            let time = if short { Duration::from_millis(1) } else { time };
            Ok(written(time).into())
        }
        None => Err("seconds from 0 to 10, such as \"3\" or \"0.5\"".into()),
    }
}

/// How many failures make a ban.
pub(super) fn count(text: &str) -> Read {
    let expected = || "a whole number, 1 or more (HaRP bans everybody at 0)".to_owned();
    let count = whole(unquote(text.trim())).filter(|count| *count > 0);
    count.and_then(|count| i64::try_from(count).ok()).map(Value::from).ok_or_else(expected)
}

/// Whole seconds.
pub(super) fn seconds(text: &str) -> Read {
    let seconds = whole(unquote(text.trim())).filter(|seconds| (1..=31_536_000).contains(seconds));
    match seconds {
        Some(seconds) => Ok(format!("{seconds}s").into()),
        None => Err("whole seconds, 1 or more, at most a year".into()),
    }
}

/// Validity of certificates.
pub(super) fn days(text: &str) -> Read {
    let days = whole(unquote(text.trim())).filter(|days| (1..=36_500).contains(days));
    match days.and_then(|days| i64::try_from(days).ok()) {
        Some(days) => Ok(days.into()),
        None => Err("whole days from 1 to 36500".into()),
    }
}

/// `HP_FRP_DISABLE_TLS`: only exactly `true` disables; a value that looks like it and does not is
/// told instead of being taken for `false`.
pub(super) fn tls(text: &str) -> Read {
    match text {
        "true" => Ok(false.into()),
        "false" => Ok(true.into()),
        _ => Err("exactly true or false (HaRP takes everything but true for false)".into()),
    }
}

/// A log level by its name in Python or HAProxy.
pub(super) fn level(text: &str) -> Read {
    let level = match unquote(text.trim()).to_ascii_uppercase().as_str() {
        "CRITICAL" | "FATAL" | "ERROR" => "error",
        "WARNING" | "WARN" => "warn",
        "INFO" => "info",
        "DEBUG" => "debug",
        "NOTSET" => "trace",
        _ => return Err("debug, info, warning, error or critical".into()),
    };
    Ok(level.into())
}

/// One entry of a list of proxies, and whether host bits had to be masked.
pub(super) fn network(entry: &str) -> Option<(IpNet, bool)> {
    const QUOTES: &[char] =
        &['"', '\'', '`', '“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›', '″', '′'];
    let entry = entry.trim().trim_matches(QUOTES).trim();
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some((address.into(), false));
    }
    let net = entry.parse::<IpNet>().ok()?;
    Some((net.trunc(), net != net.trunc()))
}

/// Digits only: Rust would take a plus sign as well.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// A duration as the configuration file writes it.
fn written(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        format!("{}s", time.as_secs())
    } else {
        format!("{}ms", time.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader makes of each text; `None` when it wants something else.
    fn table(read: fn(&str) -> Read, rows: &[(&str, Option<&str>)]) {
        for (text, expect) in rows {
            let read = read(text).ok();
            let read = read.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            assert_eq!(read.as_deref(), *expect, "{text:?}");
        }
    }

    #[test]
    fn one_quote_of_each_kind_goes_from_each_end() {
        for (text, expect) in [
            ("plain", "plain"),
            ("\"both\"", "both"),
            ("'both'", "both"),
            ("\"'nested'\"", "nested"),
            ("'\"inner\"'", "\"inner\""),
            ("\"left", "left"),
            ("right'", "right"),
            ("\"\"twice\"\"", "\"twice\""),
            ("it's", "it's"),
            ("\"", ""),
            ("", ""),
        ] {
            assert_eq!(unquote(text), expect, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_haproxys_bind_strings() {
        table(
            address,
            &[
                ("0.0.0.0:8780", Some("0.0.0.0:8780")),
                ("\"127.0.0.1:8780\"", Some("127.0.0.1:8780")),
                ("*:8780", Some("0.0.0.0:8780")),
                (":8780", Some("0.0.0.0:8780")),
                ("ipv4@:8780", Some("0.0.0.0:8780")),
                ("ipv6@*:8780", Some("[::]:8780")),
                ("[::]:8780", Some("[::]:8780")),
                (":::8780", Some("[::]:8780")),
                ("[2001:db8::1]:8780", Some("[2001:db8::1]:8780")),
                ("0.0.0.0", None),
                ("8780", None),
                ("0.0.0.0:0", None),
                ("0.0.0.0:+80", None),
                ("0.0.0.0:8780-8790", None),
                ("0.0.0.0:8780,127.0.0.1:1", None),
                ("0.0.0.0:8780 accept-proxy", None),
                ("0.0.0.0:8782:junk", None),
                ("localhost:8780", None),
                ("unix@/run/harp.sock", None),
                ("/run/harp.sock", None),
                ("", None),
            ],
        );
    }

    #[test]
    fn times_are_haproxys() {
        table(
            time,
            &[
                ("30s", Some("30s")),
                ("1800", Some("1800ms")),
                ("30000", Some("30s")),
                ("500ms", Some("500ms")),
                ("1500us", Some("2ms")),
                ("5m", Some("300s")),
                ("1h", Some("3600s")),
                ("2d", Some("172800s")),
                ("'10s'", Some("10s")),
                ("0", None),
                ("0s", None),
                ("25d", None),
                ("2147483647", Some("2147483647ms")),
                ("2147483648", None),
                ("18446744073709551616", None),
                ("1m30s", None),
                ("1.5s", None),
                ("30 s", None),
                ("-1s", None),
                ("s", None),
            ],
        );
        table(
            tunnel_time,
            &[("0", Some("24d")), ("0s", Some("24d")), ("0h", Some("24d")), ("1h", Some("3600s"))],
        );
        table(tunnel_time, &[("never", None), ("25d", None)]);
    }

    #[test]
    fn a_session_lives_for_zero_to_ten_seconds() {
        table(
            lifetime,
            &[
                ("3", Some("3s")),
                ("0", Some("0s")),
                ("0.5", Some("500ms")),
                ("1e1", Some("10s")),
                ("0.0001", Some("1ms")),
                ("2.9999", Some("2999ms")),
                ("10.1", None),
                ("-1", None),
                ("nan", None),
                ("inf", None),
                ("3s", None),
            ],
        );
    }

    #[test]
    fn numbers_are_whole_and_positive() {
        table(count, &[("10", Some("10")), ("0", None), ("-1", None), ("+5", None), ("ten", None)]);
        table(seconds, &[("300", Some("300s")), ("0", None), ("5m", None), ("99999999999", None)]);
        table(days, &[("5000", Some("5000")), ("0", None), ("1.5", None), ("36501", None)]);
    }

    #[test]
    fn only_exactly_true_disables_tls_and_lookalikes_are_told() {
        table(
            tls,
            &[
                ("true", Some("false")),
                ("false", Some("true")),
                ("True", None),
                ("1", None),
                ("\"true\"", None),
                ("yes", None),
            ],
        );
    }

    #[test]
    fn log_levels_have_pythons_names() {
        table(
            level,
            &[
                ("warning", Some("warn")),
                ("DEBUG", Some("debug")),
                ("Info", Some("info")),
                ("error", Some("error")),
                ("critical", Some("error")),
                ("\"info\"", Some("info")),
                ("verbose", None),
                ("20", None),
            ],
        );
    }

    #[test]
    fn networks_lose_quotes_of_any_script_and_host_bits() {
        for (entry, expect) in [
            ("192.0.2.1", Some(("192.0.2.1/32", false))),
            (" \"10.0.0.0/8\" ", Some(("10.0.0.0/8", false))),
            ("“10.0.0.0/8”", Some(("10.0.0.0/8", false))),
            ("„192.0.2.1“", Some(("192.0.2.1/32", false))),
            ("'2001:db8::1'", Some(("2001:db8::1/128", false))),
            ("10.1.2.3/8", Some(("10.0.0.0/8", true))),
            ("proxy.example.org", None),
            ("10.0.0.0/33", None),
            ("", None),
        ] {
            let read = network(entry).map(|(net, masked)| (net.to_string(), masked));
            let read = read.as_ref().map(|(net, masked)| (net.as_str(), *masked));
            assert_eq!(read, expect, "{entry:?}");
        }
    }
}
