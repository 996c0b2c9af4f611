//! A table of things that belong to a tenant each: what one Nextcloud calls by a name or port,
//! another may call by the same. Sans-io.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize};

use crate::record::Tenant;

/// Two levels, so that a lookup borrows both parts of its key. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct ByTenant<K: Ord + Clone, V: Clone>(OrdMap<Tenant, OrdMap<K, V>>);

impl<K: Ord + Clone, V: Clone> Default for ByTenant<K, V> {
    fn default() -> Self {
        Self(OrdMap::new())
    }
}

impl<K: Ord + Clone, V: Clone> ByTenant<K, V> {
    pub(super) fn get<Q>(&self, tenant: &Tenant, key: &Q) -> Option<&V>
    where
        Q: Ord + ?Sized,
        K: Borrow<Q>,
    {
        self.0.get(tenant)?.get(key)
    }

    pub(super) fn insert(&mut self, tenant: &Tenant, key: K, value: V) {
        self.0.entry(tenant.clone()).or_default().insert(key, value);
    }

    pub(super) fn remove<Q>(&mut self, tenant: &Tenant, key: &Q) -> Option<V>
    where
        Q: Ord + ?Sized,
        K: Borrow<Q>,
    {
        let table = self.0.get_mut(tenant)?;
        let removed = table.remove(key);
        if table.is_empty() {
            self.0.remove(tenant);
        }
        removed
    }

    /// Entries of all tenants; a walk over the tenants, of which there are few.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(OrdMap::len).sum()
    }

    /// Everything, by tenant and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Tenant, &K, &V)> {
        let of_one = |(tenant, table)| {
            let table: &OrdMap<K, V> = table;
            table.iter().map(move |(key, value)| (tenant, key, value))
        };
        self.0.iter().flat_map(of_one)
    }

    /// What one tenant has, by key.
    pub(super) fn of(&self, tenant: &Tenant) -> impl Iterator<Item = &V> {
        self.0.get(tenant).into_iter().flat_map(OrdMap::values)
    }
}

impl<'de, K, V> Deserialize<'de> for ByTenant<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    /// Not by imbl's own way of reading, which reserves memory for as many entries as the bytes
    /// claim, unchecked: nine bytes ended the process. Standard maps are read entry by entry.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = BTreeMap::<Tenant, BTreeMap<K, V>>::deserialize(deserializer)?;
        let tables = stored.into_iter().filter(|(_, table)| !table.is_empty());
        let ours = |(tenant, table): (Tenant, BTreeMap<K, V>)| {
            (tenant, table.into_iter().collect::<OrdMap<K, V>>())
        };
        Ok(Self(tables.map(ours).collect()))
    }
}
