//! Whether a login is accepted, and in which words it is refused. Sans-io.
//!
//! Two proofs are asked for: frp's privilege key, which in HaRP's set-up (empty `auth.token`)
//! proves nothing, and the shared key in `metas.token`, which HaRP checked through an frps
//! plug-in; here a token made from it for one ExApp will do as well. The texts are theirs (contract 3.1). Counting failures is the guard's part.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use md5::{Digest, Md5};

use super::entitlement::Proof;
use super::message::Login;

/// The frp version whose server behaviour this is, as told to clients. None of them uses it.
pub const VERSION: &str = "0.61.1";

/// Why a login is refused; the text goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The address has failed too often lately, and now again.
    #[error("banned")]
    Banned,
    /// `metas.token` is missing, or neither the shared key nor made from it.
    #[error("send Login request to plugin error")]
    WrongSharedKey,
    /// The privilege key does not fit `auth.token`.
    #[error("token in login doesn't match token from configuration")]
    WrongPrivilegeKey,
}

impl LoginError {
    /// What an operator has to know, which the client is not told.
    pub fn cause(self) -> &'static str {
        match self {
            Self::Banned => "the address has failed too often lately",
            Self::WrongSharedKey => {
                "metadatas.token is missing, or neither the shared key nor a token made from it"
            }
            Self::WrongPrivilegeKey => "auth.token is not the one configured here",
        }
    }

    /// A stable word for counters.
    pub fn word(self) -> &'static str {
        match self {
            Self::Banned => "banned",
            Self::WrongSharedKey => "wrong_shared_key",
            Self::WrongPrivilegeKey => "wrong_privilege_key",
        }
    }

    /// Whether the attempt counts against the address. One that is banned already does not
    /// prolong its ban by trying.
    pub fn is_strike(self) -> bool {
        self != Self::Banned
    }
}

/// Judges a login. `proof_of` must compare in constant time.
///
/// A ban does not keep out a client with the right key, as it does not keep out AppAPI: visitors
/// and tunnel clients may share one NAT address, and after a takeover every client has to get
/// back in (weakness W7).
///
/// # Errors
/// [`LoginError`], the first that applies.
pub fn verify(
    login: &Login,
    auth_token: &str,
    banned: bool,
    proof_of: impl FnOnce(&str) -> Option<Proof>,
) -> Result<Proof, LoginError> {
    let Some(proof) = login.metas.get("token").and_then(|token| proof_of(token)) else {
        return Err(if banned { LoginError::Banned } else { LoginError::WrongSharedKey });
    };
    let expected = privilege_key(auth_token, login.timestamp);
    verify_slices_are_equal(expected.as_bytes(), login.privilege_key.as_bytes())
        .map_err(|_unequal| LoginError::WrongPrivilegeKey)?;
    Ok(proof)
}

/// Lower-case hex of MD5 over token and decimal Unix seconds.
pub fn privilege_key(token: &str, timestamp: i64) -> String {
    let digest = Md5::new().chain_update(token).chain_update(timestamp.to_string()).finalize();
    hex(&digest)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster::record::Tenant;

    use crate::secret::Secret;

    fn login(token: Option<&str>, auth_token: &str) -> Login {
        let mut login = Login { timestamp: 1_795_381_035, ..Login::default() };
        login.privilege_key = privilege_key(auth_token, login.timestamp);
        if let Some(token) = token {
            login.metas.insert("token".into(), token.into());
        }
        login
    }

    #[test]
    fn privilege_keys_are_those_of_frp() {
        assert_eq!(privilege_key("", 1_795_381_035), "f9429a0d8e011606ef3eb1cff85dc748");
        assert_eq!(privilege_key("s3cret", 1_795_383_044), "29403c2aa94a31743c557368cf7c04ee");
    }

    #[test]
    fn logins_are_judged_in_harps_words_and_a_right_key_lifts_a_ban() {
        let key = Secret::new("shared");
        let banned = "banned";
        let plugin = "send Login request to plugin error";
        let privilege = "token in login doesn't match token from configuration";
        let cases = [
            (login(Some("shared"), "t"), false, None),
            (login(Some("shared"), "t"), true, None),
            (login(Some("shared"), "u"), true, Some(privilege)),
            (login(Some("wrong"), "t"), true, Some(banned)),
            (login(Some("wrong"), "t"), false, Some(plugin)),
            (login(Some(""), "t"), false, Some(plugin)),
            (login(None, "t"), false, Some(plugin)),
            (login(Some("wrong"), "u"), false, Some(plugin)),
            (login(Some("shared"), "u"), false, Some(privilege)),
            (
                Login { privilege_key: String::new(), ..login(Some("shared"), "t") },
                false,
                Some(privilege),
            ),
        ];
        for (login, is_banned, expected) in cases {
            let verdict = verify(&login, "t", is_banned, |offered| {
                key.matches(offered.as_bytes()).then(|| Proof::SharedKey(Tenant::default()))
            });
            assert_eq!(verdict.err().map(|error| error.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn trying_while_banned_does_not_prolong_the_ban() {
        assert!(!LoginError::Banned.is_strike());
        assert!(LoginError::WrongSharedKey.is_strike());
        assert!(LoginError::WrongPrivilegeKey.is_strike());
    }
}
