//! Join tokens as an admin sees them: `/tokens` and `trigon token`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::{span, table};

/// What a new token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// What whoever joins with it becomes.
    pub role: cluster::Role,
    /// How long it is good for.
    pub for_seconds: u64,
    /// How many machines may join with it.
    pub uses: u16,
}

/// A token that was just made; the only moment at which it can be read.
#[derive(Clone, Deserialize, Serialize)]
pub struct Created {
    /// What `trigon join` wants. A secret.
    pub token: String,
    /// Its public part, as lists show it.
    pub id: String,
    /// What whoever joins with it becomes.
    pub role: cluster::Role,
    /// How long it is good for.
    pub ends_in_seconds: u64,
    /// How many machines may join with it.
    pub uses: u16,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created")
            .field("token", &"***")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Which token to revoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Its public part.
    pub id: String,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Whether there was such a token.
    pub found: bool,
}

/// A token somebody may still join with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: String,
    /// What whoever joins with it becomes.
    pub role: cluster::Role,
    /// Seconds until it ends.
    pub ends_in_seconds: u64,
    /// How many machines may still join with it.
    pub uses_left: u16,
}

/// The answer to `GET /tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tokens(pub Vec<Token>);

impl fmt::Display for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no token is good for joining now\n");
        }
        let rows = self.0.iter().map(|token| {
            let Token { id, role, ends_in_seconds, uses_left } = token;
            [id.clone(), role.to_string(), uses_left.to_string(), span(*ends_in_seconds)]
        });
        f.write_str(&table(["ID", "ROLE", "USES LEFT", "ENDS IN"], rows.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_everything_but_the_secret() {
        let token = Token {
            id: "abcd2345".into(),
            role: cluster::Role::Witness,
            ends_in_seconds: 3600,
            uses_left: 2,
        };
        let text = Tokens(vec![token]).to_string();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [Vec<&str>; 2] = [
            vec!["ID", "ROLE", "USES", "LEFT", "ENDS", "IN"],
            vec!["abcd2345", "witness", "2", "1h00m"],
        ];
        assert_eq!(lines, expected);
        assert!(Tokens(Vec::new()).to_string().contains("no token"));
    }

    #[test]
    fn a_new_token_never_gets_into_a_log() {
        let created = Created {
            token: "trg1.secret".into(),
            id: "abcd2345".into(),
            role: cluster::Role::Node,
            ends_in_seconds: 1,
            uses: 1,
        };
        assert!(!format!("{created:?}").contains("trg1"));
    }
}
