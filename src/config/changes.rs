//! What a configuration file says, key by key, and where two of them differ. Sans-io.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

/// Every key of a file with its value as text. Where a key stands and how its value is spelled
/// makes no difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written(BTreeMap<String, String>);

impl Written {
    pub(super) fn new(table: &DeTable<'_>) -> Self {
        let mut keys = BTreeMap::new();
        collect(&mut keys, "", table);
        Self(keys)
    }

    /// The keys (`exapps.listen`, `vrrp[0].priority`) that are not the same in both, in order.
    pub fn differences<'w>(&'w self, other: &'w Self) -> Vec<&'w str> {
        let mut keys: Vec<_> = self
            .0
            .iter()
            .filter(|(key, value)| other.0.get(*key) != Some(*value))
            .chain(other.0.iter().filter(|(key, _)| !self.0.contains_key(*key)))
            .map(|(key, _)| key.as_str())
            .collect();
        keys.sort_unstable();
        keys
    }
}

fn collect(keys: &mut BTreeMap<String, String>, path: &str, table: &DeTable<'_>) {
    for (name, value) in table.iter() {
        let dot = if path.is_empty() { "" } else { "." };
        let key = format!("{path}{dot}{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(below) => collect(keys, &key, below),
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => {
                let tables = items.iter().filter_map(|item| item.get_ref().as_table());
                for (index, below) in tables.enumerate() {
                    collect(keys, &format!("{key}[{index}]"), below);
                }
            }
            value => {
                keys.insert(key, text(value));
            }
        }
    }
}

fn text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("{}:{}", number.radix(), number.as_str()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| text(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Table(table) => {
            let mut keys = BTreeMap::new();
            collect(&mut keys, "", table);
            format!("{keys:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(one: &str, two: &str) -> Vec<String> {
        let written = |text| Written::new(DeTable::parse(text).unwrap().get_ref());
        let (one, two) = (written(one), written(two));
        assert_eq!(one.differences(&two), two.differences(&one));
        one.differences(&two).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn keys_that_came_went_or_changed_are_named() {
        let one = "[exapps]\nlisten = 'a'\nban_count = 1\n[[vrrp]]\nvrid = 1\n";
        let two = "[exapps]\nlisten = 'b'\ntls_key = 'k'\n[[vrrp]]\nvrid = 1\n[[vrrp]]\nvrid = 2\n";
        assert_eq!(
            differences(one, two),
            ["exapps.ban_count", "exapps.listen", "exapps.tls_key", "vrrp[1].vrid"]
        );
    }

    #[test]
    fn places_comments_and_quotes_change_nothing() {
        let one = "[a]\nx = 'y'\nlist = ['p', 'q']\n[b]\nz = true\n";
        let two = "b = { z = true } # why\n[a]\nlist = [\n 'p',\n \"q\",\n]\n\nx = \"y\"\n";
        assert_eq!(differences(one, two), [""; 0]);
        assert_eq!(differences("l = ['p']", "l = ['p', 'q']"), ["l"]);
        assert_eq!(differences("l = '1'", "l = 1"), ["l"]);
    }
}
