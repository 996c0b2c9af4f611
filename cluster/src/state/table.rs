//! Reading a persistent map that was stored. Sans-io.
//!
//! imbl's own way reserves memory for as many entries as postcard says a map has, which is what
//! the bytes claim, unchecked: nine bytes ended the process. A standard map is read entry by entry
//! and turned into ours.

use std::collections::BTreeMap;

use imbl::OrdMap;
use serde::{Deserialize, Deserializer};

/// For `#[serde(deserialize_with)]`.
pub(super) fn read<'de, D, K, V>(deserializer: D) -> Result<OrdMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Clone + Ord + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
}
