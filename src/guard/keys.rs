//! The shared keys, one for each Nextcloud: whoever offers one speaks for that Nextcloud. Sans-io.

use cluster::record::Tenant;

use crate::secret::Secret;

/// Every tenant with its key; the default tenant comes first.
#[derive(Clone, Debug)]
pub struct SharedKeys(Vec<(Tenant, Secret)>);

impl SharedKeys {
    /// The key of the default tenant.
    pub fn new(key: Secret) -> Self {
        Self(vec![(Tenant::default(), key)])
    }

    /// The same with the key of one more tenant.
    #[must_use]
    pub fn with(mut self, tenant: Tenant, key: Secret) -> Self {
        self.0.push((tenant, key));
        self
    }

    /// The tenant whose key `offered` is. All keys are compared, each in constant time, so that
    /// neither the time taken nor an early answer tells which one was nearly right.
    pub fn tenant_of(&self, offered: &[u8]) -> Option<&Tenant> {
        self.0.iter().fold(
            None,
            |found, (tenant, key)| {
                if key.matches(offered) { Some(tenant) } else { found }
            },
        )
    }

    /// Every tenant and its key.
    pub fn iter(&self) -> impl Iterator<Item = (&Tenant, &Secret)> {
        self.0.iter().map(|(tenant, key)| (tenant, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_known_by_their_keys() {
        let keys = SharedKeys::new(Secret::new("one")).with(Tenant::new("b"), Secret::new("two"));
        let found = |offered: &[u8]| keys.tenant_of(offered).map(Tenant::as_str);
        assert_eq!(found(b"one"), Some(""));
        assert_eq!(found(b"two"), Some("b"));
        for wrong in [&b""[..], b"on", b"onetwo", b"twoo"] {
            assert_eq!(found(wrong), None);
        }
    }
}
