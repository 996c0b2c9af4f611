//! Which version of Docker's API a request goes out in. Sans-io.
//!
//! AppAPI writes its version into the path (`/v1.44/…`, `/v1.41/…`), and an engine refuses what is
//! newer or older than it speaks: Debian 12's ends at 1.41, Docker 29 begins at 1.44.

use std::fmt;

/// A version of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u16,
    /// After it.
    pub minor: u16,
}

/// What an engine speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// The oldest.
    pub min: ApiVersion,
    /// The newest.
    pub max: ApiVersion,
}

impl ApiVersion {
    /// Reads `1.44`.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| {
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Supported {
    /// From an engine's own words; one that does not tell its oldest version speaks all.
    pub fn parse(min: Option<&str>, max: &str) -> Option<Self> {
        let max = ApiVersion::parse(max)?;
        let min = min.and_then(ApiVersion::parse).unwrap_or(ApiVersion { major: 1, minor: 0 });
        (min <= max).then_some(Self { min, max })
    }

    /// The version to ask this engine in when somebody wants `wanted`.
    pub fn nearest(self, wanted: ApiVersion) -> ApiVersion {
        wanted.clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_goes_out_in_the_nearest_version_the_engine_speaks() {
        for (min, max, wanted, expect) in [
            (Some("1.12"), "1.41", "1.44", "1.41"),
            (Some("1.12"), "1.41", "1.41", "1.41"),
            (Some("1.12"), "1.41", "1.30", "1.30"),
            (Some("1.44"), "1.52", "1.41", "1.44"),
            (Some("1.44"), "1.52", "1.9", "1.44"),
            (None, "1.41", "1.9", "1.9"),
            (Some("odd"), "1.41", "2.0", "1.41"),
        ] {
            let supported = Supported::parse(min, max).unwrap();
            let wanted = ApiVersion::parse(wanted).unwrap();
            assert_eq!(supported.nearest(wanted).to_string(), expect);
        }
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "1", "1.", ".4", "1.4.1", "1.+4", "v1.4", "1.99999", "1.x"] {
            assert_eq!(ApiVersion::parse(text), None, "{text}");
        }
        assert_eq!(Supported::parse(Some("1.50"), "1.44"), None, "upside down");
    }
}
