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
