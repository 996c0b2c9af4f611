//! The text an operator carries from the cluster to a new machine. Sans-io.
//!
//! ```text
//! trg1.<52: SHA-256 of the authority's public key>.<8: id>.<26: secret, 130 bits>
//! ```
//! All three in base 32. The first part lets the machine recognise the cluster before it says
//! anything; the id stands in lists and logs; of the secret the cluster keeps only a hash.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::BASE32_NOPAD;

use crate::dice;
use crate::record::TokenId;
use crate::seal::Secret;

/// What a token begins with.
const PREFIX: &str = "trg1";

/// Characters of the secret.
const SECRET_LEN: usize = 26;

/// A token as it was made, secret included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// SHA-256 of the public key (SPKI) of the authority of the cluster.
    pub(crate) authority: [u8; 32],
    /// Names it.
    pub(crate) id: TokenId,
    /// 26 characters.
    pub(crate) secret: Secret,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected trg1. and three groups of 52, 8 and 26 characters, as `trigon token create` prints it"
)]
pub struct NotAToken;

impl JoinToken {
    /// A new one for the cluster of this authority.
    pub(crate) fn generate(authority: [u8; 32]) -> Self {
        let mut id = [0; 5];
        dice::fill(&mut id);
        let mut secret = [0; 17];
        dice::fill(&mut secret);
        let mut secret = BASE32_NOPAD.encode(&secret).to_ascii_lowercase();
        secret.truncate(SECRET_LEN);
        Self { authority, id: TokenId(id), secret: Secret::new(secret) }
    }

    /// Names it in lists and logs.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What goes to the terminal of whoever made it, and nowhere else.
    pub fn expose(&self) -> String {
        let authority = BASE32_NOPAD.encode(&self.authority).to_ascii_lowercase();
        let secret = String::from_utf8_lossy(self.secret.expose());
        format!("{PREFIX}.{authority}.{}.{secret}", self.id)
    }
}

/// What the cluster keeps of a secret.
pub(crate) fn hash(secret: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret).as_ref());
    hash
}

impl FromStr for JoinToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let mut parts = text.trim().split('.');
        let [prefix, authority, id, secret] = [(); 4].map(|()| parts.next().unwrap_or_default());
        let secret = secret.to_ascii_lowercase();
        let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
        if parts.next().is_some()
            || !prefix.eq_ignore_ascii_case(PREFIX)
            || secret.len() != SECRET_LEN
            || !secret.bytes().all(is_base32)
        {
            return Err(NotAToken);
        }
        let authority = BASE32_NOPAD.decode(authority.to_ascii_uppercase().as_bytes());
        let authority = authority.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NotAToken)?;
        let id = id.parse().map_err(|_| NotAToken)?;
        Ok(Self { authority, id, secret: Secret::new(secret) })
    }
}

impl fmt::Display for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.***.{}.***", self.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_survives_the_terminal() {
        let token = JoinToken::generate([7; 32]);
        let text = token.expose();
        let lengths: Vec<_> = text.split('.').map(str::len).collect();
        assert_eq!(lengths, [4, 52, 8, 26]);
        for typed in [text.clone(), text.to_ascii_uppercase(), format!(" {text}\n")] {
            assert_eq!(typed.parse(), Ok(token.clone()), "{typed:?}");
        }
        let shown = format!("{token} {token:?}");
        assert!(!shown.contains(text.rsplit('.').next().unwrap()), "{shown}");
        assert_ne!(JoinToken::generate([7; 32]).expose(), text);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let text = JoinToken::generate([7; 32]).expose();
        let table = [
            String::new(),
            "hello".to_owned(),
            text.replace("trg1", "trg2"),
            text[..text.len() - 1].to_owned(),
            format!("{text}a"),
            format!("{text}.a"),
            text.replacen('.', "", 1),
            text.replace('.', " "),
        ];
        for wrong in table {
            assert_eq!(wrong.parse::<JoinToken>(), Err(NotAToken), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,120}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
