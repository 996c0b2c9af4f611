//! The public listener as `trigon status` shows it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table::span;

/// The public listener of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// Where HTTPS is served.
    pub listen: String,
    /// Where plain HTTP is served, if it is.
    pub http_listen: Option<String>,
    /// What clients are shown; the first is for those that mean no name of them.
    pub certificates: Vec<Certificate>,
    /// Clients since the start that meant a host no certificate is for.
    pub unknown_names: u64,
    /// How certificates are ordered, if they are.
    pub orders: Option<Orders>,
}

/// The certificate that is ordered from an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// URL of the authority's directory.
    pub authority: String,
    /// The names it is for.
    pub names: Vec<String>,
    /// The node that orders one now.
    pub ordered_by: Option<u64>,
    /// What the authority may ask for now.
    pub challenges: usize,
    /// Why the last order came to nothing.
    pub failed: Option<String>,
}

/// A certificate of the public listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Its file; none when it was issued to the cluster.
    pub file: Option<String>,
    /// The names it is for.
    pub names: Vec<String>,
    /// Seconds until it ends, 0 once it has; none when it does not say.
    pub ends_in_seconds: Option<u64>,
    /// Why what its files hold now is not in force.
    pub trouble: Option<String>,
}

impl fmt::Display for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let http = self.http_listen.as_ref().map(|http| format!(" and {http}"));
        writeln!(f, "public   {}{}", self.listen, http.unwrap_or_default())?;
        for one in &self.certificates {
            let names = if one.names.is_empty() { "no name".into() } else { one.names.join(" ") };
            match one.ends_in_seconds {
                Some(0) => writeln!(f, "HAS ENDED: certificate for {names}")?,
                Some(left) => {
                    writeln!(f, "         certificate for {names} ends in {}", span(left))?
                }
                None => writeln!(f, "         certificate for {names}")?,
            }
            if let Some(trouble) = &one.trouble {
                writeln!(f, "NOT IN FORCE: {trouble}; the old certificate stays")?;
            }
        }
        if let Some(Orders { authority, names, ordered_by, failed, challenges: _ }) = &self.orders {
            let names = names.join(" ");
            if let Some(node) = ordered_by {
                writeln!(
                    f,
                    "         node {node} orders a certificate for {names} at {authority}"
                )?;
            }
            if let Some(failed) = failed {
                writeln!(f, "NOT ISSUED: certificate for {names}: {failed}")?;
            }
        }
        if self.unknown_names > 0 {
            let count = self.unknown_names;
            writeln!(f, "         {count} clients meant a host no certificate is for")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_in_force_stands_out() {
        let certificate = Certificate {
            file: Some("/etc/c.pem".into()),
            names: vec!["cloud.example".into()],
            ends_in_seconds: Some(86_400),
            trouble: Some("/etc/c.pem: is not PEM".into()),
        };
        let public = Public {
            listen: "0.0.0.0:443".into(),
            http_listen: Some("0.0.0.0:80".into()),
            certificates: vec![certificate],
            unknown_names: 3,
            orders: Some(Orders {
                names: vec!["a.example".into()],
                failed: Some("a.example: refused".into()),
                ..Orders::default()
            }),
        };
        let text = public.to_string();
        for part in [
            "443 and 0.0.0.0:80",
            "NOT IN FORCE: /etc/c.pem: is not PEM",
            "3 clients",
            "NOT ISSUED: certificate for a.example: a.example: refused",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
